/* text_corpus.c: TSV, two files, compressed ones, stdin; what is wrong in a file is named with its line. */
#include "unit/text_support.h"

#include <fcntl.h>
#include <lzma.h>
#include <zlib.h>

#include "text/vocabulary.h"

static memory m;
static attn_context *ctx;

static int set_up(void **state) {
    (void)state;
    ctx = memory_context(&m);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    attn_context_free(ctx);
    assert_int_equal(m.live, 0);
    return 0;
}

static const char *const names[] = {"a.tsv", "b.txt", "c.tsv.xz", "d.tsv.gz", "e.txt"};

static int clean(void **state) {
    (void)state;
    scratch_remove(names, sizeof names / sizeof *names);
    return 0;
}

/* Writes text to the file and gives its path, which lives until the next test ends. */
static const char *file(const char *name, const char *text, size_t bytes) {
    static char paths[8][256];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, 256, "%s", scratch_path(name));
    write_file(path, text, bytes);
    return path;
}

#define FILE_OF(name, text) file(name, text, sizeof(text) - 1)

static attn_corpus *corpus_of(const char *path, const char *other, bool reverse, size_t limit) {
    attn_corpus *corpus;
    attn_corpus_options options = ATTN_CORPUS_OPTIONS_INIT;
    const char *const both[] = {path, other};
    options.reverse = reverse;
    options.limit = limit;
    CHECK_OK(ctx, attn_corpus_read(&corpus, ctx, both, other ? 2 : 1, &options));
    return corpus;
}

static void check_pair(const attn_corpus *corpus, size_t i, const char *source, const char *target, size_t line) {
    const attn_pair *pair = attn_corpus_at(corpus, i);
    assert_non_null(pair);
    assert_string_equal(pair->source, source);
    assert_string_equal(pair->target, target);
    assert_int_equal(pair->source_bytes, strlen(source));
    assert_int_equal(pair->target_bytes, strlen(target));
    assert_int_equal(pair->line, line);
}

static void test_tsv(void **state) {
    (void)state;
    const char *path = FILE_OF("a.tsv", "\xEF\xBB\xBFHallo!\tHi.\r\n\n \t \nLauf!\tRun!\tCC BY\r\nJa\tYes");
    attn_corpus *corpus = corpus_of(path, NULL, false, 0);
    assert_int_equal(attn_corpus_count(corpus), 3);
    check_pair(corpus, 0, "Hallo!", "Hi.", 1);
    check_pair(corpus, 1, "Lauf!", "Run!", 4);
    check_pair(corpus, 2, "Ja", "Yes", 5);
    assert_null(attn_corpus_at(corpus, 3));
    attn_corpus_free(corpus);
    corpus = corpus_of(path, NULL, true, 2);
    assert_int_equal(attn_corpus_count(corpus), 2);
    check_pair(corpus, 1, "Run!", "Lauf!", 4);
    attn_corpus_free(corpus);
    corpus = corpus_of(FILE_OF("a.tsv", ""), NULL, false, 0);
    assert_int_equal(attn_corpus_count(corpus), 0);
    attn_corpus_free(corpus);
    attn_corpus_free(NULL);
}

static void test_two_files(void **state) {
    (void)state;
    const char *a = FILE_OF("a.tsv", "eins\tx\n\nzwei\n"), *b = FILE_OF("b.txt", "\xEF\xBB\xBFone\n\ntwo");
    attn_corpus *corpus = corpus_of(a, b, false, 0);
    assert_int_equal(attn_corpus_count(corpus), 2);
    check_pair(corpus, 0, "eins\tx", "one", 1); /* a TAB is a character here */
    check_pair(corpus, 1, "zwei", "two", 3);
    attn_corpus_free(corpus);
}

static void refused(const char *path, const char *other, attn_status status, const char *words) {
    attn_corpus *corpus;
    const char *const both[] = {path, other};
    CHECK_FAILS(ctx, attn_corpus_read(&corpus, ctx, both, other ? 2 : 1, NULL), status, words);
    assert_null(corpus);
}

static void test_errors(void **state) {
    (void)state;
    refused(FILE_OF("a.tsv", "a\tb\nno tab\n"), NULL, ATTN_E_FORMAT,
            "a.tsv:2: found a line without a TAB, expected source TAB");
    refused(FILE_OF("a.tsv", "a\tb\n\nc\t\n"), NULL, ATTN_E_FORMAT,
            "a.tsv:3: found nothing but white space behind the TAB");
    refused(FILE_OF("a.tsv", "a\tb\n \td\n"), NULL, ATTN_E_FORMAT,
            "a.tsv:2: found nothing but white space before the TAB");
    refused(FILE_OF("a.tsv", "a\tb\nc\txy\xFFz\n"), NULL, ATTN_E_FORMAT,
            "a.tsv:2: found 0xFF as byte 5 of the line, expected UTF-8");
    refused(FILE_OF("a.tsv", "a\tb\nc\0d\te\n"), NULL, ATTN_E_FORMAT, "a.tsv:2: found a NUL as byte 2");
    const char *a = FILE_OF("a.tsv", "eins\nzwei\n"), *b = FILE_OF("b.txt", "one\n"), *e = FILE_OF("e.txt", "one\n \n");
    refused(a, b, ATTN_E_FORMAT, "b.txt:2: found the end of the file, expected a line as in");
    refused(b, a, ATTN_E_FORMAT, "b.txt:2: found the end");
    refused(a, e, ATTN_E_FORMAT, "e.txt:2: found nothing but white space");
    refused("/nonexistent/x.tsv", NULL, ATTN_E_IO, "/nonexistent/x.tsv: cannot open: No such file");
    refused("/tmp", NULL, ATTN_E_IO, "Is a directory");
    refused("-", "-", ATTN_E_ARGUMENT, "stdin twice");
    attn_corpus *corpus;
    CHECK_FAILS(ctx, attn_corpus_read(&corpus, ctx, &a, 0, NULL), ATTN_E_ARGUMENT, "0 files");
    attn_corpus_options options = {0};
    CHECK_FAILS(ctx, attn_corpus_read(&corpus, ctx, &a, 1, &options), ATTN_E_VERSION, "struct_size");
}

/* A line of ten million bytes is a line. */
static void test_long_line(void **state) {
    (void)state;
    enum { BYTES = 10000000 };
    char *text = malloc(BYTES + 4);
    memset(text, 'x', BYTES);
    memcpy(text + BYTES, "\ty\n", 4);
    attn_corpus *corpus = corpus_of(file("a.tsv", text, BYTES + 3), NULL, false, 0);
    assert_int_equal(attn_corpus_at(corpus, 0)->source_bytes, BYTES);
    attn_corpus_free(corpus);
    free(text);
}

static void test_stdin(void **state) {
    (void)state;
    int saved = dup(0), fd = open(FILE_OF("a.tsv", "a\tb\nc"), O_RDONLY);
    dup2(fd, 0);
    close(fd);
    refused("-", NULL, ATTN_E_FORMAT, "(stdin):2: found a line without a TAB");
    lseek(0, 0, SEEK_SET);
    char *text;
    size_t bytes;
    CHECK_OK(ctx, attn_read_text(ctx, &text, &bytes, "-"));
    assert_int_equal(bytes, 5);
    assert_string_equal(text, "a\tb\nc");
    attn_text_free(ctx, text);
    dup2(saved, 0);
    close(saved);
}

/* ---- compressed ----------------------------------------------------------------------------- */

static unsigned char *xz_of(const void *text, size_t bytes, size_t *out_bytes) {
    size_t room = lzma_stream_buffer_bound(bytes);
    unsigned char *out = malloc(room);
    *out_bytes = 0;
    assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, text, bytes, out, out_bytes, room), LZMA_OK);
    return out;
}

static unsigned char *gz_of(const void *text, size_t bytes, size_t *out_bytes) {
    z_stream stream = {0};
    size_t room = bytes + 1000;
    unsigned char *out = malloc(room);
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (unsigned char *)(uintptr_t)text, stream.avail_in = (unsigned)bytes;
    stream.next_out = out, stream.avail_out = (unsigned)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    *out_bytes = stream.total_out;
    deflateEnd(&stream);
    return out;
}

/* The file, then the file twice (two streams), then every truncation and every bit flip of it. */
static void check_compressed(const char *name, unsigned char *data, size_t bytes) {
    unsigned char *twice = malloc(2 * bytes);
    memcpy(twice, data, bytes);
    memcpy(twice + bytes, data, bytes);
    for (size_t times = 1; times <= 2; times++) {
        attn_corpus *corpus = corpus_of(file(name, (char *)twice, times * bytes), NULL, false, 0);
        assert_int_equal(attn_corpus_count(corpus), 2 * times);
        check_pair(corpus, 2 * times - 1, "Lauf!", "Run!", 2 * times);
        attn_corpus_free(corpus);
    }
    for (size_t n = 0; n < bytes; n++) refused(file(name, (char *)data, n), NULL, ATTN_E_FORMAT, "found the end after");
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        attn_corpus *corpus;
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        const char *path = file(name, (char *)data, bytes);
        attn_status status = attn_corpus_read(&corpus, ctx, &path, 1, NULL);
        assert_true(status == ATTN_OK || status == ATTN_E_FORMAT);
        attn_corpus_free(corpus);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(twice);
    free(data);
}

static const char two_pairs[] = "Hallo!\tHi.\nLauf!\tRun!\n";

static void test_xz(void **state) {
    (void)state;
    size_t bytes;
    unsigned char *data = xz_of(two_pairs, sizeof two_pairs - 1, &bytes);
    check_compressed("c.tsv.xz", data, bytes);
}

static void test_gz(void **state) {
    (void)state;
    size_t bytes;
    unsigned char *data = gz_of(two_pairs, sizeof two_pairs - 1, &bytes);
    check_compressed("d.tsv.gz", data, bytes);
}

/* A few kilobytes that unpack to thirty-two megabytes are refused before they have. */
static void test_bombs(void **state) {
    (void)state;
    enum { BYTES = 32 << 20 };
    char *zeros = calloc(BYTES, 1);
    size_t bytes;
    unsigned char *data = xz_of(zeros, BYTES, &bytes);
    m.peak = 0;
    refused(file("c.tsv.xz", (char *)data, bytes), NULL, ATTN_E_FORMAT, "compressed ones, expected at most 256 times");
    assert_true(m.peak < (100 << 20));
    free(data);
    data = gz_of(zeros, BYTES, &bytes);
    refused(file("d.tsv.gz", (char *)data, bytes), NULL, ATTN_E_FORMAT, "compressed ones, expected at most 256 times");
    free(data);
    free(zeros);
}

/* A dictionary of 1.5 GiB is asked for; an encoder needs it not for the header alone. */
static void test_dictionary(void **state) {
    (void)state;
    lzma_options_lzma options;
    assert_false(lzma_lzma_preset(&options, 0));
    lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    unsigned char data[512];
    size_t bytes = 0;
    assert_int_equal(lzma_stream_buffer_encode(filters, LZMA_CHECK_NONE, NULL, (const uint8_t *)two_pairs,
                                               sizeof two_pairs - 1, data, &bytes, sizeof data),
                     LZMA_OK);
    /* Block header: size, flags, perhaps sizes, filter id 0x21, 1 byte of properties: the dictionary; then a CRC32. */
    unsigned char *header = data + 12, *filter = memchr(header, 0x21, 20);
    assert_non_null(filter);
    assert_int_equal(filter[1], 1);
    filter[2] = 39;
    size_t header_bytes = ((size_t)header[0] + 1) * 4;
    uint32_t crc = lzma_crc32(header, header_bytes - 4, 0);
    for (int i = 0; i < 4; i++) header[header_bytes - 4 + (size_t)i] = (unsigned char)(crc >> 8 * i);
    refused(file("c.tsv.xz", (char *)data, bytes), NULL, ATTN_E_FORMAT, "dictionary of more than 256 MiB");
}

static attn_corpus *shipped(const char *language, const char *split, size_t expected) {
    char name[128];
    snprintf(name, sizeof name, "data/tatoeba/%s-en.%s.tsv.xz", language, split);
    attn_corpus *corpus = corpus_of(source_path(name), NULL, false, 0);
    assert_int_equal(attn_corpus_count(corpus), expected);
    return corpus;
}

static size_t shared_sentences(const attn_vocabulary *const seen[2], const attn_corpus *corpus) {
    size_t shared = 0;
    for (size_t i = 0; i < attn_corpus_count(corpus); i++) {
        const attn_pair *pair = attn_corpus_at(corpus, i);
        shared += attn_vocabulary_find(seen[0], pair->source, pair->source_bytes) >= 0;
        shared += attn_vocabulary_find(seen[1], pair->target, pair->target_bytes) >= 0;
    }
    return shared;
}

/* What ships: how many pairs, and no sentence of either language on both sides of a split. */
static void test_shipped(void **state) {
    (void)state;
    static const struct {
        const char *language;
        size_t train;
    } sets[] = {{"de", 162305}, {"fr", 159307}};
    for (size_t s = 0; s < 2; s++) {
        attn_vocabulary source = ATTN_VOCABULARY_INIT(ctx), target = ATTN_VOCABULARY_INIT(ctx);
        const attn_vocabulary *const seen[] = {&source, &target};
        attn_corpus *train = shipped(sets[s].language, "train", sets[s].train);
        attn_corpus *valid = shipped(sets[s].language, "valid", 2000), *test = shipped(sets[s].language, "test", 2000);
        for (size_t i = 0; i < attn_corpus_count(train); i++) {
            const attn_pair *pair = attn_corpus_at(train, i);
            int32_t id;
            CHECK_OK(ctx, attn_vocabulary_add(&source, pair->source, pair->source_bytes, &id));
            CHECK_OK(ctx, attn_vocabulary_add(&target, pair->target, pair->target_bytes, &id));
        }
        assert_int_equal(shared_sentences(seen, valid), 0);
        assert_int_equal(shared_sentences(seen, test), 0);
        assert_int_equal(shared_sentences(seen, train), 2 * attn_corpus_count(train));
        if (s == 0) {
            attn_corpus *few = shipped("de", "sample.train", 20000), *fewer = shipped("de", "sample.valid", 1000);
            assert_int_equal(shared_sentences(seen, few), 40000);
            assert_int_equal(shared_sentences(seen, fewer), 0);
            attn_corpus_free(few);
            attn_corpus_free(fewer);
        }
        attn_corpus_free(train);
        attn_corpus_free(valid);
        attn_corpus_free(test);
        attn_vocabulary_free(&source);
        attn_vocabulary_free(&target);
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    size_t bytes;
    unsigned char *xz = xz_of(two_pairs, sizeof two_pairs - 1, &bytes);
    const char *const paths[] = {FILE_OF("a.tsv", "a\tb\nc\td\n"), file("c.tsv.xz", (char *)xz, bytes)};
    size_t live = m.live;
    for (size_t p = 0; p < 2; p++)
        for (long left = 0;; left++) {
            attn_corpus *corpus;
            m.left = left;
            attn_status status = attn_corpus_read(&corpus, ctx, paths + p, 1, NULL);
            m.left = -1;
            attn_corpus_free(corpus);
            assert_int_equal(m.live, live);
            if (status == ATTN_OK) break;
            assert_int_equal(status, ATTN_E_NOMEM);
            assert_true(left < 1000);
        }
    free(xz);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_tsv),       TEST(test_two_files),     TEST(test_errors),
        TEST(test_long_line), TEST(test_stdin),         TEST(test_xz),
        TEST(test_gz),        TEST(test_bombs),         TEST(test_dictionary),
        TEST(test_shipped),   TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, clean);
}
