/* safetensors: what is written is read; anything else is refused; nothing crashes it. */
#include "support/allocator.h"
#include "base/base.h"
#include <attn/io.h>

#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

static char path[64];

static int make_path(void **state) {
    (void)state;
    strcpy(path, "/tmp/attn-test-st-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

static void write_bytes(const void *data, size_t bytes) {
    unlink(path); /* truncating an old file waits for the disk on some systems */
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

static size_t read_bytes(char *out, size_t room) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(out, 1, room, file);
    fclose(file);
    return n;
}

/* A file from a header's text and so many bytes of data. */
static void write_header(const char *json, size_t data_bytes) {
    static char file[1 << 16];
    size_t n = strlen(json);
    assert_true(n + data_bytes + 8 < sizeof file);
    for (int i = 0; i < 8; i++) file[i] = (char)(n >> (8 * i) & 255);
    memcpy(file + 8, json, n);
    memset(file + 8 + n, 1, data_bytes);
    write_bytes(file, 8 + n + data_bytes);
}

static const float matrix[6] = {1, 2, 3, 4, 5, -0.0f};
static const int8_t bytes3[3] = {-1, 0, 127};
static const double one = 3.5;
static const uint16_t halves[2] = {0x3f80, 0x7fc0};

static void save_sample(attn_context *ctx) {
    const attn_named_tensor tensors[] = {
        {"a \"quoted\" ü", attn_tensor_of((void *)(uintptr_t)bytes3, ATTN_I8, 1, (size_t[]){3})},
        {"matrix", attn_tensor_f32((void *)(uintptr_t)matrix, 2, (size_t)2, (size_t)3)},
        {"none", attn_tensor_of(NULL, ATTN_F32, 2, (size_t[]){0, 5})},
        {"halves", attn_tensor_of((void *)(uintptr_t)halves, ATTN_BF16, 1, (size_t[]){2})},
        {"scalar", attn_tensor_of((void *)(uintptr_t)&one, ATTN_F64, 0, NULL)},
    };
    const attn_key_value metadata[] = {{"format", "pt"}, {"a line\n", "tab\tand \"quotes\""}};
    assert_ok(attn_safetensors_save(ctx, path, tensors, 5, metadata, 2));
}

static void check_sample(const attn_safetensors *file) {
    assert_int_equal(attn_safetensors_count(file), 5);
    const attn_tensor *t = &attn_safetensors_find(file, "matrix")->tensor;
    assert_int_equal(t->dtype, ATTN_F32);
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[1], 3);
    assert_int_equal(t->stride[0], 3);
    assert_memory_equal(t->data, matrix, sizeof matrix);
    assert_memory_equal(attn_safetensors_find(file, "a \"quoted\" ü")->tensor.data, bytes3, 3);
    assert_memory_equal(attn_safetensors_find(file, "halves")->tensor.data, halves, 4);
    t = &attn_safetensors_find(file, "scalar")->tensor;
    assert_int_equal(t->rank, 0);
    assert_memory_equal(t->data, &one, 8);
    assert_int_equal(attn_tensor_count(&attn_safetensors_find(file, "none")->tensor), 0);
    assert_null(attn_safetensors_find(file, "other"));
    assert_null(attn_safetensors_at(file, 5));
    assert_string_equal(attn_safetensors_metadata(file, "format"), "pt");
    assert_string_equal(attn_safetensors_metadata(file, "a line\n"), "tab\tand \"quotes\"");
    assert_null(attn_safetensors_metadata(file, "nothing"));
}

static void test_round_trip(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    save_sample(ctx);
    char header[8];
    read_bytes(header, 8);
    assert_int_equal((8 + (unsigned char)header[0] + 256 * (unsigned char)header[1]) % 64, 0);
    attn_safetensors *file;
    assert_ok(attn_safetensors_open(&file, ctx, path));
    check_sample(file);
    attn_safetensors_close(file);
    attn_safetensors_close(NULL);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

/* The n-th allocation fails, for all n. */
static void test_out_of_memory(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    for (int saves = 1; saves >= 0; saves--)
        for (int n = 0;; n++) {
            assert_true(n < 200);
            attn_safetensors *file = NULL;
            attn_status status = ATTN_OK;
            const attn_named_tensor tensor = {"m", attn_tensor_f32((void *)(uintptr_t)matrix, 1, (size_t)6)};
            const attn_key_value metadata = {"k", "v"};
            if (!saves) save_sample(ctx);
            memory.fail_after = n;
            if (saves) status = attn_safetensors_save(ctx, path, &tensor, 1, &metadata, 1);
            else status = attn_safetensors_open(&file, ctx, path);
            memory.fail_after = -1;
            attn_safetensors_close(file);
            assert_int_equal(memory.alive, 1);
            if (status == ATTN_OK) break;
            assert_int_equal(status, ATTN_E_NOMEM);
        }
    attn_context_free(ctx);
}

static void test_refused(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
    static const struct {
        const char *json;
        size_t bytes;
        attn_status status;
        const char *says;
    } cases[] = {
        {"{}", 0, ATTN_OK, NULL},
        {"{}   ", 0, ATTN_OK, NULL},
        {"{\"a\":" T("F32", "[1]", "[0,4]") "}", 4, ATTN_OK, NULL},
        {"{ \"a\" : " T("F32", "[1]", "[0,4]") " \n}", 4, ATTN_OK, NULL},
        {"{\"b\":" T("U8", "[1]", "[0,1]") ",\"a\":" T("F32", "[1]", "[1,5]") "}", 5, ATTN_OK, NULL}, /* not aligned */
        {"{\"a\":" T("BOOL", "[2]", "[0,2]") "}", 2, ATTN_OK, NULL},
        {"{\"a\":" T("F32", "[0,99999999]", "[0,0]") "}", 0, ATTN_OK, NULL},
        {"{}", 1, ATTN_E_FORMAT, "data"},
        {"[]", 0, ATTN_E_FORMAT, "object"},
        {"{", 0, ATTN_E_FORMAT, "object"},
        {"{,}", 0, ATTN_E_FORMAT, "malformed"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",}", 4, ATTN_E_FORMAT, "malformed"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") "} x}", 4, ATTN_E_FORMAT, "malformed"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"a\":" T("F32", "[1]", "[4,8]") "}", 8, ATTN_E_FORMAT, "two tensors"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[0,4]") "}", 4, ATTN_E_FORMAT, "overlap"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") ",\"b\":" T("F32", "[1]", "[5,9]") "}", 9, ATTN_E_FORMAT, "hole"},
        {"{\"a\":" T("F32", "[1]", "[4,8]") "}", 8, ATTN_E_FORMAT, "hole"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") "}", 8, ATTN_E_FORMAT, "data"},
        {"{\"a\":" T("F32", "[1]", "[0,8]") "}", 8, ATTN_E_FORMAT, "expected 4"},
        {"{\"a\":" T("F32", "[1]", "[0,4]") "}", 3, ATTN_E_FORMAT, "within"},
        {"{\"a\":" T("F32", "[1]", "[4,0]") "}", 4, ATTN_E_FORMAT, "within"},
        {"{\"a\":" T("F32", "[-1]", "[0,4]") "}", 4, ATTN_E_FORMAT, "shape"},
        {"{\"a\":" T("F32", "[1.0]", "[0,4]") "}", 4, ATTN_E_FORMAT, "shape"},
        {"{\"a\":" T("F32", "1", "[0,4]") "}", 4, ATTN_E_FORMAT, "shape"},
        {"{\"a\":" T("F32", "[1]", "[0,4,8]") "}", 4, ATTN_E_FORMAT, "two sizes"},
        {"{\"a\":" T("F32", "[1]", "[0,\\\"4\\\"]") "}", 4, ATTN_E_FORMAT, "a"},
        {"{\"a\":" T("F32", "[4611686018427387904,4]", "[0,4]") "}", 4, ATTN_E_FORMAT, "overflows"},
        {"{\"a\":" T("F32", "[0,4611686018427387904,4]", "[0,0]") "}", 0, ATTN_E_FORMAT, "overflows"},
        {"{\"a\":" T("F32", "[99999999999999999999]", "[0,4]") "}", 4, ATTN_E_FORMAT, "a"},
        {"{\"a\":" T("F32", "[1,1,1,1,1,1]", "[0,4]") "}", 4, ATTN_E_UNSUPPORTED, "dimensions"},
        {"{\"a\":" T("F8_E4M3", "[4]", "[0,4]") "}", 4, ATTN_E_UNSUPPORTED, "F8_E4M3"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, ATTN_E_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, ATTN_E_FORMAT,
         "duplicate"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, ATTN_E_FORMAT, "dtype"},
        {"{\"a\":7}", 0, ATTN_E_FORMAT, "a"},
        {"{\"a\\u0000b\":" T("F32", "[1]", "[0,4]") "}", 4, ATTN_E_FORMAT, "name"},
        {"{\"a\xff\":" T("F32", "[1]", "[0,4]") "}", 4, ATTN_E_FORMAT, "name"},
        {"{\"__metadata__\":{\"k\":\"v\"}}", 0, ATTN_OK, NULL},
        {"{\"__metadata__\":{}}", 0, ATTN_OK, NULL},
        {"{\"__metadata__\":{\"k\":1}}", 0, ATTN_E_FORMAT, "value"},
        {"{\"__metadata__\":[]}", 0, ATTN_E_FORMAT, "object"},
        {"{\"__metadata__\":{\"k\":\"v\",\"k\":\"w\"}}", 0, ATTN_E_FORMAT, "two values"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, ATTN_E_FORMAT, "twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_header(cases[i].json, cases[i].bytes);
        attn_safetensors *file;
        attn_status status = attn_safetensors_open(&file, ctx, path);
        if (status != cases[i].status) fail_msg("%s: status %d, %s", cases[i].json, status, attn_error(ctx));
        if (cases[i].says && !strstr(attn_error(ctx), cases[i].says))
            fail_msg("%s: expected \"%s\" in: %s", cases[i].json, cases[i].says, attn_error(ctx));
        for (size_t t = 0; status == ATTN_OK && t < attn_safetensors_count(file); t++) {
            const attn_tensor *tensor = &attn_safetensors_at(file, t)->tensor;
            if (attn_tensor_count(tensor))
                assert_int_equal((uintptr_t)tensor->data % attn_dtype_size(tensor->dtype), 0);
        }
        attn_safetensors_close(file);
    }
    attn_safetensors *file;
    assert_int_equal(attn_safetensors_open(&file, ctx, "/nonexistent/file"), ATTN_E_IO);
    assert_int_equal(attn_safetensors_open(&file, ctx, "/tmp"), ATTN_E_IO);
    assert_null(file);
    attn_context_free(ctx);
}

static void test_save_refused(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    attn_named_tensor two[2] = {{"a", attn_tensor_f32((void *)(uintptr_t)matrix, 1, (size_t)6)},
                                {"a", attn_tensor_f32((void *)(uintptr_t)matrix, 1, (size_t)6)}};
    write_bytes("old", 3);
    assert_int_equal(attn_safetensors_save(ctx, path, two, 2, NULL, 0), ATTN_E_ARGUMENT);
    two[1].name = "\xff";
    assert_int_equal(attn_safetensors_save(ctx, path, two, 2, NULL, 0), ATTN_E_ARGUMENT);
    two[1].name = "__metadata__";
    assert_int_equal(attn_safetensors_save(ctx, path, two, 2, NULL, 0), ATTN_E_ARGUMENT);
    two[1].name = "b";
    two[1].tensor.stride[0] = 2;
    assert_int_equal(attn_safetensors_save(ctx, path, two, 2, NULL, 0), ATTN_E_SHAPE);
    char content[8];
    assert_int_equal(read_bytes(content, sizeof content), 3);
    attn_context_free(ctx);
}

/* ---- hostile files: an error or a valid file, and little memory ------------------------------------- */

struct peak {
    size_t now, most;
};

static void *peak_allocate(void *user, size_t bytes, size_t alignment) {
    struct peak *peak = user;
    size_t *block = NULL;
    (void)alignment;
    if (posix_memalign((void **)&block, 64, bytes + 64)) return NULL;
    *block = bytes;
    peak->now += bytes;
    peak->most = ATTN_MAX(peak->most, peak->now);
    return (char *)block + 64;
}

static void peak_release(void *user, void *pointer) {
    size_t *block = (size_t *)(void *)((char *)pointer - 64);
    ((struct peak *)user)->now -= *block;
    free(block);
}

/* The JSON reader's memory counts too. */
static struct peak *json_peak;
static void *json_allocate(size_t bytes) { return peak_allocate(json_peak, bytes, 64); }
static void json_release(void *pointer) {
    if (pointer) peak_release(json_peak, pointer);
}

static attn_context *peak_context(struct peak *peak) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.allocator = (attn_allocator){peak, peak_allocate, peak_release};
    options.threads = 1;
    attn_context *ctx = NULL;
    assert_ok(attn_context_create(&ctx, &options));
    json_peak = peak;
    json_set_alloc_funcs(json_allocate, json_release);
    return ctx;
}

static void peak_end(attn_context *ctx) {
    attn_context_free(ctx);
    json_set_alloc_funcs(malloc, free);
}

static void try_file(attn_context *ctx, struct peak *peak, size_t file_bytes) {
    attn_safetensors *file = NULL;
    size_t base = peak->now;
    peak->most = base;
    attn_status status = attn_safetensors_open(&file, ctx, path);
    assert_true(peak->most - base <= 4 * file_bytes + (1 << 20));
    assert_int_equal(status == ATTN_OK, file != NULL);
    volatile unsigned char sum = 0;
    for (size_t i = 0; file && i < attn_safetensors_count(file); i++) { /* all data can be read */
        const attn_named_tensor *entry = attn_safetensors_at(file, i);
        const unsigned char *data = entry->tensor.data;
        size_t bytes = attn_tensor_count(&entry->tensor) * attn_dtype_size(entry->tensor.dtype);
        for (size_t k = 0; k < bytes; k++) sum = (unsigned char)(sum + data[k]);
        assert_ptr_equal(attn_safetensors_find(file, entry->name), entry);
    }
    attn_safetensors_close(file);
    assert_int_equal(peak->now, base);
}

static void test_hostile(void **state) {
    (void)state;
    struct peak peak = {0, 0};
    attn_context *ctx = peak_context(&peak);
    save_sample(ctx);
    static char good[4096], copy[4096];
    size_t n = read_bytes(good, sizeof good);
    for (size_t end = 0; end < n; end++) { /* every truncation is refused */
        write_bytes(good, end);
        try_file(ctx, &peak, end);
        attn_safetensors *file;
        assert_int_not_equal(attn_safetensors_open(&file, ctx, path), ATTN_OK);
    }
    for (size_t bit = 0; bit < 8 * n; bit++) { /* every bit flip */
        memcpy(copy, good, n);
        copy[bit / 8] ^= (char)(1 << bit % 8);
        write_bytes(copy, n);
        try_file(ctx, &peak, n);
    }
    srand(3);
    for (int round = 0; round < 3000; round++) { /* several bytes replaced */
        static const char letters[] = "{}[]\",:\\019 u-.e\xff";
        memcpy(copy, good, n);
        for (int k = rand() % 6; k >= 0; k--) copy[8 + rand() % (int)(n - 8)] = letters[rand() % (int)sizeof letters];
        write_bytes(copy, n);
        try_file(ctx, &peak, n);
    }
    peak_end(ctx);
}

/* What costs a JSON reader most: many tiny things. */
static void test_amplification(void **state) {
    (void)state;
    struct peak peak = {0, 0};
    attn_context *ctx = peak_context(&peak);
    enum { ROOM = 4 << 20 };
    char *file = malloc(ROOM);
    for (int kind = 0; kind < 5; kind++) {
        static const char *const begin[] = {"{\"a\":", "{\"a\":[", "{", "{\"__metadata__\":{", "{\"a\":"};
        static const char *const end[] = {"}", "0]}", "}", "\"z\":\"\"}}", "}"};
        size_t at = 8;
        at += (size_t)sprintf(file + at, "%s", begin[kind]);
        for (int i = 0; at < ROOM - 256; i++) switch (kind) {
            case 0: file[at++] = '['; break;
            case 1: memcpy(file + at, "0,", 2), at += 2; break;
            case 2:
                at += (size_t)sprintf(file + at, "%s\"%x\":" T("U8", "[0]", "[0,0]"), i ? "," : "", (unsigned)i);
                break;
            case 3: at += (size_t)sprintf(file + at, "\"%x\":\"\",", (unsigned)i); break;
            default: file[at++] = i ? 'x' : '"'; break;
            }
        at += (size_t)sprintf(file + at, "%s", end[kind]);
        for (int i = 0; i < 8; i++) file[i] = (char)((at - 8) >> (8 * i) & 255);
        write_bytes(file, at);
        try_file(ctx, &peak, at);
    }
    free(file);
    peak_end(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_save_refused), cmocka_unit_test(test_hostile),       cmocka_unit_test(test_amplification),
    };
    return cmocka_run_group_tests(tests, make_path, remove_path);
}
