/* gguf.c: GGUF files: what the package gguf writes is read, its dequantised numbers are ours bit for bit; anything else
 * is refused (scripts/make_gguf_goldens.py makes the file). */
#include "unit/text_support.h"

#include <attn/gguf.h>
#include <math.h>

static memory m;
static attn_context *ctx;
static char *sample;
static size_t sample_bytes;

static int set_up(void **state) {
    (void)state;
    ctx = memory_context(&m);
    FILE *file = fopen(source_path("tests/golden/blocks.gguf"), "rb");
    assert_non_null(file);
    sample = malloc(1 << 20);
    sample_bytes = fread(sample, 1, 1 << 20, file);
    fclose(file);
    assert_true(sample_bytes > 1000 && sample_bytes < 1 << 20);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(sample);
    attn_context_free(ctx);
    assert_int_equal(m.live, 0);
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    static const char *const names[] = {"x.gguf"};
    scratch_remove(names, 1);
    return 0;
}

static attn_status open_bytes(attn_gguf **file, const char *data, size_t bytes) {
    unlink(scratch_path("x.gguf"));
    write_file(scratch_path("x.gguf"), data, bytes);
    return attn_gguf_open(file, ctx, scratch_path("x.gguf"));
}

static void test_metadata(void **state) {
    (void)state;
    attn_gguf *file;
    const char *text;
    size_t bytes;
    int64_t integer;
    double number;
    CHECK_OK(ctx, open_bytes(&file, sample, sample_bytes));
    assert_true(attn_gguf_text(file, "text", &text, &bytes));
    assert_int_equal(bytes, 7);
    assert_memory_equal(text,
                        "Gr\xC3\xBC\xC3\x9F"
                        "e",
                        7);
    assert_true(attn_gguf_integer(file, "negative", &integer) && integer == -7);
    assert_true(attn_gguf_integer(file, "yes", &integer) && integer == 1);
    assert_true(attn_gguf_integer(file, "large", &integer) && integer == (int64_t)1 << 40);
    assert_false(attn_gguf_integer(file, "third", &integer));
    assert_true(attn_gguf_number(file, "third", &number) && number == (double)(1.0f / 3));
    assert_true(attn_gguf_number(file, "negative", &number) && number == -7);
    assert_false(attn_gguf_number(file, "text", &number) || attn_gguf_text(file, "yes", &text, &bytes));
    assert_false(attn_gguf_text(file, "absent", &text, &bytes));
    assert_int_equal(attn_gguf_array(file, "words"), 3);
    assert_int_equal(attn_gguf_array(file, "text"), 0);
    assert_true(attn_gguf_array_text(file, "words", 2, &text, &bytes) && bytes == 2 && !memcmp(text, "\xC3\xBC", 2));
    assert_true(attn_gguf_array_text(file, "words", 1, &text, &bytes) && bytes == 0);
    assert_false(attn_gguf_array_text(file, "words", 3, &text, &bytes));
    assert_false(attn_gguf_array_number(file, "words", 0, &number));
    assert_true(attn_gguf_array_number(file, "numbers", 1, &number) && number == -2);
    assert_true(attn_gguf_array_number(file, "flags", 0, &number) && number == 1);
    assert_false(attn_gguf_array_number(file, "numbers", 2, &number));
    assert_string_equal(attn_gguf_key(file, 0), "general.architecture");
    assert_null(attn_gguf_key(file, 9));
    attn_gguf_close(file);
}

static void test_tensors(void **state) {
    (void)state;
    attn_gguf *file;
    size_t compared = 0;
    CHECK_OK(ctx, open_bytes(&file, sample, sample_bytes));
    const attn_gguf_tensor *plain = attn_gguf_find(file, "plain");
    assert_non_null(plain);
    assert_int_equal(plain->rank, 2);
    assert_int_equal(plain->shape[0], 2);
    assert_int_equal(plain->shape[1], 3);
    assert_int_equal(plain->bytes, 24);
    assert_null(attn_gguf_find(file, "plai"));
    for (size_t i = 0; i < attn_gguf_count(file); i++) {
        const attn_gguf_tensor *t = attn_gguf_at(file, i);
        char name[64];
        float ours[1024];
        size_t elements, bytes;
        snprintf(name, sizeof name, "%s.expected", t->name);
        const attn_gguf_tensor *expected = attn_gguf_find(file, name);
        if (!expected) continue;
        assert_string_equal(attn_gguf_type_name(t->type), t->name);
        assert_true(attn_gguf_type_block(t->type, &elements, &bytes));
        assert_int_equal(t->count, 1024);
        assert_int_equal(t->bytes, 1024 / elements * bytes);
        attn_gguf_dequantise(ours, t, 0, 1024);
        assert_memory_equal(ours, expected->data, sizeof ours);
        attn_gguf_dequantise(ours, t, 512, 512); /* a row by itself */
        assert_memory_equal(ours, (const float *)expected->data + 512, 512 * sizeof *ours);
        compared++;
    }
    assert_int_equal(compared, 9);
    assert_null(attn_gguf_type_name((attn_gguf_type)5));
    attn_gguf_close(file);
}

/* An error with a sentence, or a file of which every byte is there. */
static void try_bytes(const char *data, size_t bytes) {
    attn_gguf *file;
    size_t live = m.live, before = m.bytes;
    m.peak = m.bytes;
    if (open_bytes(&file, data, bytes) == ATTN_OK) {
        volatile unsigned char sink = 0;
        for (size_t i = 0; i < attn_gguf_count(file); i++) {
            const attn_gguf_tensor *t = attn_gguf_at(file, i);
            for (size_t k = 0; k < t->bytes; k++) sink = (unsigned char)(sink + ((const unsigned char *)t->data)[k]);
        }
        attn_gguf_close(file);
    } else assert_true(*attn_error(ctx) != '\0');
    assert_true(m.peak - before <= 4 * bytes + (1 << 20));
    assert_int_equal(m.live, live);
}

/* The bytes before the first tensor's data. */
static size_t header_bytes(void) {
    attn_gguf *file;
    size_t first = SIZE_MAX;
    CHECK_OK(ctx, open_bytes(&file, sample, sample_bytes));
    const attn_gguf_tensor *plain = attn_gguf_find(file, "plain");
    for (size_t at = 0; at + 24 <= sample_bytes && first == SIZE_MAX; at++)
        if (!memcmp(sample + at, plain->data, 24)) first = at;
    attn_gguf_close(file);
    assert_in_range(first, 100, 4000);
    return first;
}

/* Written and read again: what the type can hold stays, all else is near; Q8_0's blocks are the package's. */
static void test_quantise(void **state) {
    (void)state;
    enum { N = 64 };
    float x[N], y[N];
    unsigned char data[4 * N];
    for (int i = 0; i < N; i++) x[i] = (float)((i * 37) % 64 - 31) * 0.37f * powf(2, (float)(i % 5));
    x[5] = 65519, x[6] = -0x1p-24f, x[7] = 0x1.8p-25f, x[8] = 65520, x[9] = 0x1.ffcp-15f, x[10] = -0.0f;
    static const struct {
        attn_gguf_type type;
        double off;
    } cases[] = {{ATTN_GGUF_F32, 0}, {ATTN_GGUF_F16, 0x1p-11}, {ATTN_GGUF_BF16, 0x1p-8}, {ATTN_GGUF_Q8_0, 0}};
    for (size_t c = 0; c < 4; c++) {
        attn_gguf_tensor t = {.name = "x", .type = cases[c].type, .rank = 1, .shape = {N}, .count = N, .data = data};
        assert_true(attn_gguf_quantise(data, x, N, t.type));
        attn_gguf_dequantise(y, &t, 0, N);
        for (int i = 0; i < N && t.type != ATTN_GGUF_Q8_0; i++)
            if (i != 8 && !(fabs((double)y[i] - (double)x[i]) <=
                            fmax(cases[c].off * fabs((double)x[i]), t.type == ATTN_GGUF_F16 ? 0x1p-25 : 0)))
                fail_msg("type %d: %g became %g", (int)t.type, (double)x[i], (double)y[i]);
        if (t.type == ATTN_GGUF_F16)
            assert_true(y[5] == 65504 && y[6] == -0x1p-24f && y[7] == 0x1p-24f && isinf(y[8]) && signbit(y[10]));
        for (int i = 0; i < N && t.type == ATTN_GGUF_Q8_0; i++) {
            float top = 0;
            for (int k = i / 32 * 32; k < i / 32 * 32 + 32; k++) top = fmaxf(top, fabsf(x[k]));
            assert_true(fabsf(y[i] - x[i]) <= top / 254 + top * 0x1.1p-11f);
        }
        unsigned char again[4 * N];
        float z[N];
        memcpy(z, y, sizeof z); /* what is read is written as it was */
        z[8] = y[8];
        assert_true(attn_gguf_quantise(again, z, N, t.type));
        size_t elements, bytes;
        assert_true(attn_gguf_type_block(t.type, &elements, &bytes));
        assert_memory_equal(again, data, N / elements * bytes);
    }
    assert_false(attn_gguf_quantise(data, x, N, ATTN_GGUF_Q4_0));
}

static void test_damaged(void **state) {
    (void)state;
    size_t header = header_bytes();
    attn_gguf *file;
    for (size_t n = 0; n < header; n += 3) {
        if (n) assert_int_not_equal(open_bytes(&file, sample, n), ATTN_OK);
        else CHECK_FAILS(ctx, open_bytes(&file, sample, 0), ATTN_E_FORMAT, "first bytes");
    }
    CHECK_FAILS(ctx, open_bytes(&file, sample, sample_bytes - 64), ATTN_E_FORMAT, "within the");
    for (size_t at = 0; at < header; at++) {
        int bit = (int)(at * 5 % 8);
        sample[at] = (char)(sample[at] ^ 1 << bit);
        try_bytes(sample, sample_bytes);
        sample[at] = (char)(sample[at] ^ 1 << bit);
    }
}

/* A file of one key, then one tensor, from words of 4 bytes; 8 bytes where the format has them. */
typedef struct writer {
    char data[512];
    size_t bytes;
} writer;

static void put(writer *w, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) w->data[w->bytes++] = (char)(value >> (8 * i));
}

static void put_text(writer *w, const char *text) {
    put(w, strlen(text), 8);
    memcpy(w->data + w->bytes, text, strlen(text));
    w->bytes += strlen(text);
}

typedef struct numbers {
    uint64_t version, tensors, entries, kind, alignment, rank, columns, rows, type, offset;
} numbers;

static attn_status open_numbers(attn_gguf **file, numbers n) {
    writer w = {.bytes = 0};
    put(&w, 0x46554747, 4);
    put(&w, n.version, 4);
    put(&w, n.tensors, 8);
    put(&w, n.entries, 8);
    put_text(&w, "general.alignment");
    put(&w, n.kind, 4);
    put(&w, n.alignment, 4);
    put_text(&w, "t");
    put(&w, n.rank, 4);
    put(&w, n.columns, 8);
    put(&w, n.rows, 8);
    put(&w, n.type, 4);
    put(&w, n.offset, 8);
    while (w.bytes < 256) put(&w, 0, 1);
    return open_bytes(file, w.data, w.bytes);
}

static void test_refused(void **state) {
    (void)state;
    const numbers good = {3, 1, 1, 4, 32, 2, 32, 1, 2, 0};
    attn_gguf *file;
    CHECK_OK(ctx, open_numbers(&file, good));
    attn_gguf_close(file);
    static const struct {
        numbers n;
        attn_status status;
        const char *words;
    } cases[] = {
        {{1, 1, 1, 4, 32, 2, 32, 1, 2, 0}, ATTN_E_UNSUPPORTED, "version 1"},
        {{3, UINT64_MAX, 1, 4, 32, 2, 32, 1, 2, 0}, ATTN_E_FORMAT, "tensors"},
        {{3, 1, UINT64_MAX, 4, 32, 2, 32, 1, 2, 0}, ATTN_E_FORMAT, "keys"},
        {{3, 1, 1, 13, 32, 2, 32, 1, 2, 0}, ATTN_E_FORMAT, "found 13"},
        {{3, 1, 1, 4, 33, 2, 32, 1, 2, 0}, ATTN_E_FORMAT, "power of 2"},
        {{3, 1, 1, 4, 0, 2, 32, 1, 2, 0}, ATTN_E_FORMAT, "power of 2"},
        {{3, 1, 1, 4, 32, 5, 32, 1, 2, 0}, ATTN_E_FORMAT, "dimensions"},
        {{3, 1, 1, 4, 32, 2, 0, 1, 2, 0}, ATTN_E_FORMAT, "shape"},
        {{3, 1, 1, 4, 32, 2, 1ull << 40, 1ull << 40, 0, 0}, ATTN_E_FORMAT, "shape"},
        {{3, 1, 1, 4, 32, 2, 48, 1, 2, 0}, ATTN_E_FORMAT, "whole blocks"},
        {{3, 1, 1, 4, 32, 2, 32, 1, 10, 0}, ATTN_E_UNSUPPORTED, "type 10"},
        {{3, 1, 1, 4, 32, 2, 32, 1, 2, 8}, ATTN_E_FORMAT, "multiple of 32"},
        {{3, 1, 1, 4, 32, 2, 32, 1, 2, 1 << 20}, ATTN_E_FORMAT, "offset 1048576"},
        {{3, 1, 1, 4, 32, 2, 32, 1, 2, UINT64_MAX - 31}, ATTN_E_FORMAT, "offset"},
        {{3, 1, 1, 4, 32, 2, 320, 10, 2, 0}, ATTN_E_FORMAT, "expected 1800 bytes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_FAILS(ctx, open_numbers(&file, cases[i].n), cases[i].status, cases[i].words);
    CHECK_FAILS(ctx, attn_gguf_open(&file, ctx, "/nonexistent.gguf"), ATTN_E_IO, "nonexistent");
    assert_null(file);
}

static void test_out_of_memory(void **state) {
    (void)state;
    attn_status status = ATTN_E_NOMEM;
    for (long left = 0; status != ATTN_OK; left++) {
        attn_gguf *file;
        m.left = left;
        status = open_bytes(&file, sample, sample_bytes);
        m.left = -1;
        attn_gguf_close(file);
        assert_true(status == ATTN_OK || status == ATTN_E_NOMEM);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_metadata), TEST(test_tensors), TEST(test_quantise),
        TEST(test_damaged),  TEST(test_refused), TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
