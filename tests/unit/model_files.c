/* model_files.c: a model's folder: round trips in every dtype, and folders that are not what they should be. */
#include "support/allocator.h"
#include "support/translator.h"
#include <attn/io.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG                                                                                     \
    "{\"model_type\": \"bahdanau\", \"vocab_size\": 9, \"embedding_size\": 6, \"hidden_size\": 5," \
    " \"attention_size\": 4, \"tie_embeddings\": false, \"output_dropout\": 0.1}"

enum { PATH = 512, MAX_TENSORS = 64 };

typedef struct fixture {
    attn_context *ctx;
    attn_model *model;
    char folder[PATH / 2], weights[PATH], config[PATH];
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->ctx = test_context(1);
    f->model = test_model(f->ctx, CONFIG, 3, 1);
    strcpy(f->folder, "/tmp/attn-model-files-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->weights, sizeof f->weights, "%s/model.safetensors", f->folder);
    snprintf(f->config, sizeof f->config, "%s/config.json", f->folder);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    unlink(f->weights);
    unlink(f->config);
    assert_int_equal(rmdir(f->folder), 0); /* nothing else was left there */
    attn_model_free(f->model);
    attn_context_free(f->ctx);
    free(f);
    return 0;
}

static attn_model *load(fixture *f) {
    attn_model *model = NULL;
    if (attn_model_load(&model, f->ctx, f->folder) != ATTN_OK) fail_msg("%s", attn_error(f->ctx));
    assert_string_equal(attn_model_config(model), attn_model_config(f->model));
    assert_int_equal(attn_parameters_count(attn_model_parameters(model)),
                     attn_parameters_count(attn_model_parameters(f->model)));
    return model;
}

/* fn(original, loaded, of a row's largest element) for every element of both. */
typedef void compare_fn(float was, float is, float row_top, bool matrix);

static void compare(const fixture *f, const attn_model *model, compare_fn *fn) {
    attn_parameters *set = attn_model_parameters(f->model);
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        const attn_parameter *a = attn_parameters_at(set, i);
        const attn_parameter *b = attn_parameters_find(attn_model_parameters(model), a->name);
        assert_non_null(b);
        const float *x = a->value.data, *y = b->value.data;
        size_t n = attn_tensor_count(&a->value), columns = a->value.shape[a->value.rank - 1];
        for (size_t r = 0; r < n; r += columns) {
            float top = 0;
            for (size_t c = r; c < r + columns; c++) top = fmaxf(top, fabsf(x[c]));
            for (size_t c = r; c < r + columns; c++) fn(x[c], y[c], top, a->value.rank > 1);
        }
    }
}

static void same_bits(float was, float is, float row_top, bool matrix) {
    (void)row_top, (void)matrix;
    assert_memory_equal(&was, &is, sizeof was);
}

static void within_bf16(float was, float is, float row_top, bool matrix) {
    uint32_t bits;
    if (!matrix) same_bits(was, is, row_top, matrix);
    memcpy(&bits, &is, sizeof bits);
    if (matrix) assert_int_equal(bits & 0xffff, 0);
    assert_true(fabsf(was - is) <= fabsf(was) * 0x1p-8f); /* half a unit of 8 bits */
}

static void within_half_step(float was, float is, float row_top, bool matrix) {
    if (!matrix) same_bits(was, is, row_top, matrix);
    assert_true(fabs((double)was - (double)is) <= 0.5 * (double)row_top / 127 * (1 + 1e-5));
}

static void round_trip(fixture *f, attn_dtype dtype, compare_fn *fn) {
    assert_ok(attn_model_save(f->model, f->folder, dtype));
    attn_model *model = load(f);
    compare(f, model, fn);
    attn_model_free(model);
}

static void test_f32(void **state) { round_trip(*state, ATTN_F32, same_bits); }
static void test_bf16(void **state) { round_trip(*state, ATTN_BF16, within_bf16); }
static void test_i8(void **state) { round_trip(*state, ATTN_I8, within_half_step); }

static float *elements(const attn_model *model, const char *name) {
    attn_parameter *p = attn_parameters_find(attn_model_parameters(model), name);
    assert_non_null(p);
    attn_parameter_touch(p);
    return p->value.data;
}

/* Rows of zeros, of numbers near the least and the largest float, and ties. */
static void test_extremes(void **state) {
    fixture *f = *state;
    static const float rows[5][6] = {{0, -0.0f, 0, 0, 0, 0},
                                     {1e-40f, -1e-42f, 0, 1e-45f, 5e-41f, 0},
                                     {3e38f, -3e38f, 1, 0, 1e38f, -1e37f},
                                     {127, 0.5f, 1.5f, 2.5f, -0.5f, -126.5f},
                                     {1e-37f, 1e-37f, -1e-37f, 3e-39f, 0, 0}};
    memcpy(elements(f->model, "output.weight"), rows, sizeof rows);
    assert_ok(attn_model_save(f->model, f->folder, ATTN_I8));
    attn_model *model = load(f);
    const float *is = elements(model, "output.weight");
    for (size_t r = 0; r < 5; r++) {
        float top = 0;
        for (size_t c = 0; c < 6; c++) top = fmaxf(top, fabsf(rows[r][c]));
        /* a scale below the normal numbers is itself rounded, to a multiple of 2⁻¹⁴⁹ */
        double bound = 0.5 * (double)top / 127 * (1 + 1e-5) + (top < 1e-35f ? 127 * 0x1p-149 : 0);
        for (size_t c = 0; c < 6; c++) assert_true(fabs((double)rows[r][c] - (double)is[r * 6 + c]) <= bound);
    }
    attn_model_free(model);
    /* halves go to the even neighbour; the largest finite float would round up to infinity */
    elements(f->model, "output.weight")[1] = 1 + 0x1p-8f;
    elements(f->model, "output.weight")[2] = 1 + 3 * 0x1p-8f;
    elements(f->model, "output.weight")[0] = 3.4028235e38f;
    assert_ok(attn_model_save(f->model, f->folder, ATTN_BF16));
    model = load(f);
    assert_true(elements(model, "output.weight")[0] > 3.38e38f);
    assert_true(elements(model, "output.weight")[1] == 1);
    assert_true(elements(model, "output.weight")[2] == 1 + 0x1p-6f);
    attn_model_free(model);
}

static void test_same_output(void **state) {
    fixture *f = *state;
    attn_token token[TEST_SOURCE_MAX];
    attn_tokens source = test_source(token, (int32_t[]){4, 5, 6, 2}, 4);
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    attn_search a = {.source = &source}, b = {.source = &source};
    assert_ok(attn_model_save(f->model, f->folder, ATTN_F32));
    attn_model *model = load(f);
    assert_ok(test_search(f->model, &a, 1, &options));
    assert_ok(test_search(model, &b, 1, &options));
    test_same_search(&a, &b);
    test_search_clear(f->ctx, &a);
    test_search_clear(f->ctx, &b);
    attn_model_free(model);
}

/* ---- folders that are wrong ------------------------------------------------------------------------ */

static void refused(fixture *f, attn_status status, const char *sentence) {
    attn_model *model = (attn_model *)f;
    assert_fails(f->ctx, attn_model_load(&model, f->ctx, f->folder), status, sentence);
    assert_null(model);
}

/* All tensors of the saved file, to be changed and written again. */
typedef struct edited {
    attn_safetensors *file;
    attn_named_tensor tensor[MAX_TENSORS];
    size_t count;
} edited;

static void edit(fixture *f, edited *e, attn_dtype dtype) {
    assert_ok(attn_model_save(f->model, f->folder, dtype));
    assert_ok(attn_safetensors_open(&e->file, f->ctx, f->weights));
    e->count = attn_safetensors_count(e->file);
    assert_true(e->count + 1 < MAX_TENSORS);
    for (size_t i = 0; i < e->count; i++) e->tensor[i] = *attn_safetensors_at(e->file, i);
}

static attn_named_tensor *tensor_of(edited *e, const char *name) {
    for (size_t i = 0; i < e->count; i++)
        if (!strcmp(e->tensor[i].name, name)) return &e->tensor[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static void write_edited(fixture *f, edited *e) {
    assert_ok(attn_safetensors_save(f->ctx, f->weights, e->tensor, e->count, NULL, 0));
    attn_safetensors_close(e->file);
}

static void test_missing_tensor(void **state) {
    fixture *f = *state;
    edited e;
    edit(f, &e, ATTN_F32);
    *tensor_of(&e, "attention.v") = e.tensor[--e.count];
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "model.safetensors: tensor \"attention.v\" is missing");
}

static void test_extra_tensor(void **state) {
    fixture *f = *state;
    edited e;
    static float four[4];
    edit(f, &e, ATTN_F32);
    e.tensor[e.count++] = (attn_named_tensor){"more.weight", attn_tensor_f32(four, 1, (size_t)4)};
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "tensor \"more.weight\" does not belong to this bahdanau model");
    /* a scale belongs to I8 alone */
    edit(f, &e, ATTN_F32);
    e.tensor[e.count++] = (attn_named_tensor){"attention.v.scale", attn_tensor_f32(four, 1, (size_t)4)};
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "tensor \"attention.v.scale\" does not belong");
}

static void test_misshaped_tensor(void **state) {
    fixture *f = *state;
    edited e;
    edit(f, &e, ATTN_F32);
    attn_tensor *t = &tensor_of(&e, "attention.key.weight")->tensor;
    *t = attn_tensor_f32(t->data, 2, (size_t)10, (size_t)4);
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "tensor \"attention.key.weight\": expected shape (4, 10), found (10, 4)");
    edit(f, &e, ATTN_F32);
    t = &tensor_of(&e, "attention.v")->tensor;
    *t = attn_tensor_f32(t->data, 2, (size_t)4, (size_t)1);
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "tensor \"attention.v\": expected shape (4), found (4, 1)");
}

static void test_other_dtypes(void **state) {
    fixture *f = *state;
    edited e;
    edit(f, &e, ATTN_BF16);
    tensor_of(&e, "attention.key.weight")->tensor.dtype = ATTN_U8;
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "tensor \"attention.key.weight\": expected F32, BF16, F16 or I8, found U8");
    edit(f, &e, ATTN_I8);
    *tensor_of(&e, "attention.key.weight.scale") = e.tensor[--e.count];
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "tensor \"attention.key.weight.scale\": expected F32 of shape (4), found none");
    edit(f, &e, ATTN_I8);
    attn_tensor *t = &tensor_of(&e, "attention.key.weight.scale")->tensor;
    *t = attn_tensor_f32(t->data, 1, (size_t)3);
    write_edited(f, &e);
    refused(f, ATTN_E_FORMAT, "expected F32 of shape (4), found another dtype or shape");
    assert_fails(f->ctx, attn_model_save(f->model, f->folder, ATTN_F16), ATTN_E_UNSUPPORTED,
                 "weights are saved as F32, BF16 or I8, not F16");
}

static void test_not_finite(void **state) {
    fixture *f = *state;
    edited e;
    static float bad[4] = {0, 0, NAN, 0};
    edit(f, &e, ATTN_F32);
    tensor_of(&e, "attention.v")->tensor.data = bad;
    write_edited(f, &e);
    refused(f, ATTN_E_NUMERIC, "tensor \"attention.v\": element 2 is not a finite number");
    edit(f, &e, ATTN_I8);
    bad[1] = INFINITY; /* times 0 or 127: NaN or infinite */
    tensor_of(&e, "attention.key.weight.scale")->tensor.data = bad;
    write_edited(f, &e);
    refused(f, ATTN_E_NUMERIC, "tensor \"attention.key.weight\": element 1");
    /* What could not be loaded is not saved, and the old files stay. */
    assert_ok(attn_model_save(f->model, f->folder, ATTN_F32));
    elements(f->model, "attention.v")[1] = INFINITY;
    for (int dtype = 0; dtype < 3; dtype++)
        assert_fails(f->ctx, attn_model_save(f->model, f->folder, (attn_dtype[]){ATTN_F32, ATTN_BF16, ATTN_I8}[dtype]),
                     ATTN_E_NUMERIC, "tensor \"attention.v\": element 1 is not a finite number");
    attn_model_free(load(f));
}

static void test_truncated(void **state) {
    fixture *f = *state;
    struct stat info;
    assert_ok(attn_model_save(f->model, f->folder, ATTN_F32));
    assert_int_equal(stat(f->weights, &info), 0);
    for (off_t bytes = info.st_size - 1; bytes >= 0; bytes = bytes > 600 ? bytes - 97 : bytes - 1) {
        assert_int_equal(truncate(f->weights, bytes), 0);
        refused(f, ATTN_E_FORMAT, "model.safetensors");
    }
    assert_ok(attn_model_save(f->model, f->folder, ATTN_F32));
    assert_int_equal(stat(f->config, &info), 0);
    for (off_t bytes = info.st_size - 3; bytes >= 0; bytes--) {
        assert_int_equal(truncate(f->config, bytes), 0);
        refused(f, ATTN_E_FORMAT, "config.json: config: line ");
    }
}

static void test_missing_files(void **state) {
    fixture *f = *state;
    refused(f, ATTN_E_IO, "config.json");
    assert_ok(attn_file_write(f->ctx, f->config, CONFIG, strlen(CONFIG)));
    refused(f, ATTN_E_IO, "model.safetensors");
    char path[5000];
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    attn_model *model;
    assert_fails(f->ctx, attn_model_load(&model, f->ctx, path), ATTN_E_ARGUMENT, "longer than 4095 bytes");
}

static void test_hostile_config(void **state) {
    fixture *f = *state;
    static const char nul[] = CONFIG "\0{\"model_type\"";
    assert_ok(attn_model_save(f->model, f->folder, ATTN_F32));
    assert_ok(attn_file_write(f->ctx, f->config, nul, sizeof nul));
    refused(f, ATTN_E_FORMAT, "expected text, found a NUL byte");
    size_t many = (1 << 20) + 1;
    char *spaces = malloc(many);
    assert_non_null(spaces);
    memset(spaces, ' ', many);
    assert_ok(attn_file_write(f->ctx, f->config, spaces, many));
    refused(f, ATTN_E_FORMAT, "expected at most 1048576 bytes, found 1048577");
    free(spaces);
    assert_ok(attn_file_write(f->ctx, f->config, "{\"model_type\": \"rnn\", \"x\": 1}", 29));
    refused(f, ATTN_E_FORMAT, "config.json: config: unknown key \"x\"");
    unlink(f->config);
    assert_int_equal(mkfifo(f->config, 0600), 0); /* must not be waited for */
    refused(f, ATTN_E_IO, "expected a file");
}

/* A config that asks for terabytes costs nothing where the file does not hold them. */
static void test_config_without_weights(void **state) {
    fixture *f = *state;
    static const char huge[] = "{\"model_type\": \"rnn\", \"vocab_size\": 16777216, \"embedding_size\": 65536,"
                               " \"hidden_size\": 65536, \"tie_embeddings\": false}";
    assert_ok(attn_model_save(f->model, f->folder, ATTN_F32));
    assert_ok(attn_file_write(f->ctx, f->config, huge, strlen(huge)));
    refused(f, ATTN_E_FORMAT, "tensor \"encoder.embedding.weight\": expected shape (16777216, 65536), found (9, 6)");
}

static void test_cannot_write(void **state) {
    fixture *f = *state;
    char inside[PATH * 2];
    assert_ok(attn_file_write(f->ctx, f->config, "x", 1));
    snprintf(inside, sizeof inside, "%s/folder", f->config); /* a file is in the way */
    assert_int_equal(attn_model_save(f->model, inside, ATTN_F32), ATTN_E_IO);
    assert_non_null(strstr(attn_error(f->ctx), "config.json"));
    assert_int_equal(attn_model_save(f->model, "/proc/attn", ATTN_F32), ATTN_E_IO);
    assert_int_equal(attn_model_save(f->model, "", ATTN_F32), ATTN_E_ARGUMENT);
    if (geteuid() != 0) {
        assert_int_equal(chmod(f->folder, 0500), 0);
        assert_int_equal(attn_model_save(f->model, f->folder, ATTN_F32), ATTN_E_IO);
        assert_int_equal(chmod(f->folder, 0700), 0);
    }
}

/* Every allocation fails once: a clean error each time, nothing lost, and the folder whole. */
static void test_no_memory(void **state) {
    fixture *f = *state;
    static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_I8};
    for (size_t d = 0; d < ATTN_COUNT(dtypes); d++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, 1);
        assert_ok(attn_model_save(f->model, f->folder, ATTN_F32));
        attn_status status = ATTN_E_NOMEM;
        long before = memory.alive, n = 0;
        for (; status != ATTN_OK; n++) {
            attn_model *model = NULL;
            memory.fail_after = n;
            status = attn_model_load(&model, ctx, f->folder);
            if (status == ATTN_OK) status = attn_model_save(model, f->folder, dtypes[d]);
            memory.fail_after = -1;
            attn_model_free(model);
            assert_true(status == ATTN_OK || status == ATTN_E_NOMEM);
            assert_int_equal(memory.alive, before);
            attn_model_free(load(f));
            assert_true(n < 10000);
        }
        assert_true(n > 50);
        attn_context_free(ctx);
        assert_int_equal(memory.alive, 0);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(f32),
        TEST(bf16),
        TEST(i8),
        TEST(extremes),
        TEST(same_output),
        TEST(missing_tensor),
        TEST(extra_tensor),
        TEST(misshaped_tensor),
        TEST(other_dtypes),
        TEST(not_finite),
        TEST(truncated),
        TEST(missing_files),
        TEST(hostile_config),
        TEST(config_without_weights),
        TEST(cannot_write),
        TEST(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
