/* gpt_files.c: folders of language models: saved and read again, and what is refused. */
#include "support/translator.h"
#include <attn/generate.h>
#include <attn/io.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const variants[] = {"gpt2",    "gpt2_old", "raschka", "llama",  "llama3_old",
                                       "mistral", "qwen2",    "qwen3",   "gemma2", "gemma3"};

enum { PATH = 1024, MOST = 64 };

typedef struct fixture {
    attn_context *ctx;
    char folder[PATH / 2], weights[PATH], config[PATH], index[PATH];
} fixture;

static int set_up(void **state) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->ctx = test_context(1);
    strcpy(f->folder, "/tmp/attn-gpt-files-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->weights, PATH, "%s/model.safetensors", f->folder);
    snprintf(f->config, PATH, "%s/config.json", f->folder);
    snprintf(f->index, PATH, "%s/model.safetensors.index.json", f->folder);
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    fixture *f = *state;
    unlink(f->weights);
    unlink(f->config);
    unlink(f->index);
    assert_int_equal(rmdir(f->folder), 0);
    attn_context_free(f->ctx);
    free(f);
    return 0;
}

static void golden_path(char path[PATH], const char *name) {
    const char *source = getenv("ATTN_TEST_SOURCE");
    snprintf(path, PATH, "%s/tests/golden/gpt/%s", source ? source : ".", name);
}

static attn_model *golden(const fixture *f, const char *name) {
    char path[PATH];
    attn_model *model;
    golden_path(path, name);
    if (attn_model_load(&model, f->ctx, path) != ATTN_OK) fail_msg("%s", attn_error(f->ctx));
    return model;
}

static void same_parameters(const attn_model *a, const attn_model *b, double tolerance) {
    attn_parameters *set = attn_model_parameters(a);
    assert_int_equal(attn_parameters_count(set), attn_parameters_count(attn_model_parameters(b)));
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        const attn_parameter *p = attn_parameters_at(set, i);
        const attn_parameter *q = attn_parameters_find(attn_model_parameters(b), p->name);
        assert_non_null(q);
        const float *x = p->value.data, *y = q->value.data;
        for (size_t k = 0; k < attn_tensor_count(&p->value); k++)
            assert_true(fabs((double)x[k] - (double)y[k]) <= tolerance);
    }
}

/* Saved and read again: the same config, the same weights. A gain that is stored less 1 has lost what 1 + x rounds. */
static void test_round_trip(void **state) {
    fixture *f = *state;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        attn_model *model = golden(f, variants[i]), *again;
        assert_true(attn_model_is_language_model(model));
        assert_int_equal(attn_model_context_length(model), strstr(attn_model_type(model), "gpt2") ? 128 : 160);
        static const struct {
            attn_dtype dtype;
            double tolerance;
        } forms[] = {{ATTN_F32, 0}, {ATTN_BF16, 4 * 0x1p-8}, {ATTN_I8, 4 / 127.0}};
        for (size_t k = 0; k < 3; k++) {
            assert_ok(attn_model_save(model, f->folder, forms[k].dtype));
            if (attn_model_load(&again, f->ctx, f->folder) != ATTN_OK)
                fail_msg("%s: %s", variants[i], attn_error(f->ctx));
            assert_string_equal(attn_model_config(model), attn_model_config(again));
            same_parameters(model, again, forms[k].tolerance);
            attn_model_free(again);
        }
        attn_model_free(model);
    }
}

/* ---- weights that are not what they should be ----------------------------------------------------------- */

static void refused(fixture *f, attn_status status, const char *text) {
    attn_model *model;
    assert_fails(f->ctx, attn_model_load(&model, f->ctx, f->folder), status, text);
    assert_null(model);
}

static void write_text(fixture *f, const char *path, const char *text) {
    assert_ok(attn_file_write(f->ctx, path, text, strlen(text)));
}

/* The golden model's file with one tensor taken out, renamed or turned. */
static void write_edited(fixture *f, const char *name, const char *missing, const char *extra, const char *turned) {
    char path[PATH];
    attn_safetensors *file;
    attn_named_tensor tensors[MOST];
    size_t n = 0;
    attn_model *model = golden(f, name);
    assert_ok(attn_file_write(f->ctx, f->config, attn_model_config(model), strlen(attn_model_config(model))));
    attn_model_free(model);
    golden_path(path, name);
    strcat(path, "/model.safetensors");
    assert_ok(attn_safetensors_open(&file, f->ctx, path));
    for (size_t i = 0; i < attn_safetensors_count(file); i++) {
        attn_named_tensor t = *attn_safetensors_at(file, i);
        if (missing && !strcmp(t.name, missing)) continue;
        if (turned && !strcmp(t.name, turned)) {
            size_t shape[2] = {t.tensor.shape[1], t.tensor.shape[0]};
            t.tensor = attn_tensor_of(t.tensor.data, ATTN_F32, 2, shape);
        }
        tensors[n++] = t;
    }
    float one = 1;
    if (extra) tensors[n++] = (attn_named_tensor){extra, attn_tensor_f32(&one, 1, (size_t)1)};
    assert_ok(attn_safetensors_save(f->ctx, f->weights, tensors, n, NULL, 0));
    attn_safetensors_close(file);
}

static void test_tensors(void **state) {
    fixture *f = *state;
    write_edited(f, "gpt2", "transformer.h.1.mlp.c_fc.bias", NULL, NULL);
    refused(f, ATTN_E_FORMAT, "model.safetensors: tensor \"transformer.h.1.mlp.c_fc.bias\" is missing");
    write_edited(f, "gpt2", "transformer.wte.weight", NULL, NULL);
    refused(f, ATTN_E_FORMAT, "tensor \"transformer.wte.weight\" is missing");
    write_edited(f, "gpt2", NULL, NULL, "transformer.h.0.attn.c_attn.weight");
    refused(f, ATTN_E_FORMAT, "tensor \"transformer.h.0.attn.c_attn.weight\": expected shape (12, 36), found (36, 12)");
    write_edited(f, "gpt2", NULL, "transformer.h.2.ln_1.weight", NULL);
    refused(f, ATTN_E_FORMAT, "tensor \"transformer.h.2.ln_1.weight\" does not belong to this gpt2 model");
    write_edited(f, "llama", NULL, NULL, "model.layers.0.self_attn.k_proj.weight");
    refused(f, ATTN_E_FORMAT, "\"model.layers.0.self_attn.k_proj.weight\": expected shape (8, 16), found (16, 8)");
    write_edited(f, "llama", "lm_head.weight", NULL, NULL);
    refused(f, ATTN_E_FORMAT, "tensor \"lm_head.weight\" is missing");
}

/* ---- Build a Large Language Model (From Scratch) ---------------------------------------------------------- */

/* The same weights by the book's settings, by the shapes alone, and in one file; biases of q, k, v may be absent. */
static void test_raschka(void **state) {
    fixture *f = *state;
    attn_model *model = golden(f, "raschka"), *again;
    write_edited(f, "raschka", NULL, NULL, NULL);
    static const char settings[] =
        "{\"vocab_size\": 29, \"context_length\": 128, \"emb_dim\": 12, \"n_heads\": 3, \"n_layers\": 1, "
        "\"drop_rate\": 0.25, \"qkv_bias\": true}";
    write_text(f, f->config, settings);
    assert_ok(attn_model_load(&again, f->ctx, f->folder));
    same_parameters(model, again, 0);
    assert_non_null(strstr(attn_model_config(again), "\"resid_pdrop\": 0.25"));
    attn_model_free(again);
    assert_ok(attn_model_load(&again, f->ctx, f->weights)); /* config.json lies beside it */
    same_parameters(model, again, 0);
    attn_model_free(again);
    attn_model_free(model);

    write_text(f, f->config, "{\"emb_dim\": 12, \"n_kv_groups\": 2}");
    refused(f, ATTN_E_FORMAT, "config.json: config: unknown key \"n_kv_groups\"");
    unlink(f->config);
    refused(f, ATTN_E_FORMAT,
            "heads are taken to have 64 columns without one, as GPT-2's have, but \"tok_emb.weight\" has 12");
    attn_model *none;
    write_edited(f, "llama", NULL, NULL, NULL);
    unlink(f->config);
    refused(f, ATTN_E_FORMAT, "there is no config.json; without one, only tensors with the names of Build a Large");
    unlink(f->weights);
    assert_fails(f->ctx, attn_model_load(&none, f->ctx, f->folder), ATTN_E_IO, "config.json: cannot open");

    static const char wide[] =
        "{\"vocab_size\": 8, \"context_length\": 4, \"emb_dim\": 64, \"n_heads\": 1, \"n_layers\": 1}";
    static const struct {
        const char *name;
        int rank;
        size_t shape[2];
    } tensors[] = {
        {"tok_emb.weight", 2, {8, 64}},
        {"pos_emb.weight", 2, {4, 64}},
        {"final_norm.scale", 1, {64}},
        {"final_norm.shift", 1, {64}},
        {"out_head.weight", 2, {8, 64}},
        {"trf_blocks.0.att.W_query.weight", 2, {64, 64}},
        {"trf_blocks.0.att.W_key.weight", 2, {64, 64}},
        {"trf_blocks.0.att.W_value.weight", 2, {64, 64}},
        {"trf_blocks.0.att.out_proj.weight", 2, {64, 64}},
        {"trf_blocks.0.att.out_proj.bias", 1, {64}},
        {"trf_blocks.0.ff.layers.0.weight", 2, {256, 64}},
        {"trf_blocks.0.ff.layers.0.bias", 1, {256}},
        {"trf_blocks.0.ff.layers.2.weight", 2, {64, 256}},
        {"trf_blocks.0.ff.layers.2.bias", 1, {64}},
        {"trf_blocks.0.norm1.scale", 1, {64}},
        {"trf_blocks.0.norm1.shift", 1, {64}},
        {"trf_blocks.0.norm2.scale", 1, {64}},
        {"trf_blocks.0.norm2.shift", 1, {64}},
    };
    enum { COUNT = sizeof tensors / sizeof tensors[0] };
    attn_named_tensor list[COUNT];
    float *numbers = calloc(256 * 64, sizeof *numbers);
    assert_non_null(numbers);
    for (size_t i = 0; i < 256 * 64; i++) numbers[i] = (float)(i % 11) / 11;
    for (size_t i = 0; i < COUNT; i++)
        list[i] =
            (attn_named_tensor){tensors[i].name, attn_tensor_of(numbers, ATTN_F32, tensors[i].rank, tensors[i].shape)};
    assert_ok(attn_safetensors_save(f->ctx, f->weights, list, COUNT, NULL, 0));
    assert_ok(attn_model_load(&model, f->ctx, f->folder));
    const attn_parameter *bias = attn_parameters_find(attn_model_parameters(model), "layers.0.key.bias");
    assert_non_null(bias);
    for (size_t i = 0; i < 64; i++) assert_true(((const float *)bias->value.data)[i] == 0);
    write_text(f, f->config, wide);
    assert_ok(attn_model_load(&again, f->ctx, f->folder));
    assert_int_equal(attn_model_context_length(again), 4);
    same_parameters(model, again, 0);
    attn_model_free(again);
    attn_model_free(model);
    assert_ok(attn_safetensors_save(f->ctx, f->weights, list, COUNT - 1, NULL, 0));
    refused(f, ATTN_E_FORMAT, "tensor \"trf_blocks.0.norm2.shift\" is missing");
    free(numbers);
}

/* ---- shards ---------------------------------------------------------------------------------------------- */

static void test_index(void **state) {
    fixture *f = *state;
    write_edited(f, "llama", NULL, NULL, NULL);
    assert_int_equal(unlink(f->weights), 0);
    refused(f, ATTN_E_IO, "model.safetensors");
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"{\"weight_map\": {\"x\": \"../model.safetensors\"}}", "expected the name of a file beside it"},
        {"{\"weight_map\": {\"x\": 3}}", "expected the name of a file beside it, found another value"},
        {"{\"weight_map\": {}}", "expected an object \"weight_map\""},
        {"[1", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_text(f, f->index, cases[i].text);
        refused(f, ATTN_E_FORMAT, cases[i].said);
    }
    write_text(f, f->index, "{\"weight_map\": {\"x\": \"none.safetensors\"}}");
    refused(f, ATTN_E_IO, "none.safetensors");
}

/* ---- configs ----------------------------------------------------------------------------------------------- */

#define TINY "\"vocab_size\": 8, \"hidden_size\": 8, \"intermediate_size\": 8, \"num_hidden_layers\": 1"

static void test_configs(void **state) {
    fixture *f = *state;
    static const struct {
        const char *config, *said;
    } cases[] = {
        {"{\"model_type\": \"gpt2\", \"n_embed\": 12}", "unknown key \"n_embed\""},
        {"{\"model_type\": \"gpt2\", \"n_embd\": 10, \"n_head\": 3}",
         "\"n_embd\" is 10, expected a multiple of \"n_head\", 3"},
        {"{\"model_type\": \"gpt2\", \"scale_attn_by_inverse_layer_idx\": true}",
         "expected false, found another value"},
        {"{\"model_type\": \"gpt2\", \"activation_function\": \"mish\"}", "\"activation_function\": expected one of"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 1e9}", "\"n_layer\": expected an integer"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 100000000}", "\"n_layer\": expected 1 to 1024"},
        {"{\"model_type\": \"llama\", " TINY ", \"num_attention_heads\": 4, \"num_key_value_heads\": 3}",
         "\"num_attention_heads\" is 4, expected a multiple of \"num_key_value_heads\", 3"},
        {"{\"model_type\": \"llama\", " TINY ", \"num_attention_heads\": 8}", "heads have 1 columns, expected an even"},
        {"{\"model_type\": \"llama\", " TINY ", \"num_attention_heads\": 2, \"rope_scaling\": {\"type\": \"yarn\"}}",
         "\"rope_type\": expected \"default\", \"linear\" or \"llama3\", found \"yarn\""},
        {"{\"model_type\": \"llama\", " TINY ", \"num_attention_heads\": 2, \"rope_scaling\": {\"type\": \"linear\"}}",
         "\"factor\": expected a number above 0"},
        {"{\"model_type\": \"llama\", " TINY ", \"num_attention_heads\": 2, \"quantization_config\": {}}",
         "\"quantization_config\": expected null"},
        {"{\"model_type\": \"qwen3\", " TINY ", \"num_attention_heads\": 2, \"layer_types\": [\"full_attention\", 1]}",
         "\"layer_types\": expected an array of 1 names, found 2"},
        {"{\"model_type\": \"qwen3\", " TINY ", \"num_attention_heads\": 2, \"layer_types\": [\"linear_attention\"]}",
         "found \"linear_attention\""},
        {"{\"model_type\": \"opt\"}", "\"gemma3_text\", found \"opt\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        attn_model *model;
        const attn_status status = attn_model_create(&model, f->ctx, cases[i].config, 1);
        assert_true(status == ATTN_E_FORMAT || status == ATTN_E_UNSUPPORTED);
        if (!strstr(attn_error(f->ctx), cases[i].said))
            fail_msg("found \"%s\", expected \"%s\"", attn_error(f->ctx), cases[i].said);
        assert_null(model);
    }
}

static void test_logits_refused(void **state) {
    fixture *f = *state;
    attn_model *model = golden(f, "llama");
    float logits[2 * 29];
    const int32_t ids[2] = {28, 29}, first[1] = {3};
    assert_ok(attn_language_logits(model, logits, ids, 1, 1, NULL));
    assert_fails(f->ctx, attn_language_logits(model, logits, ids, 1, 2, NULL), ATTN_E_ARGUMENT, "29");
    assert_fails(f->ctx, attn_language_logits(model, logits, ids, 1, 2, first), ATTN_E_ARGUMENT, "first[0] is 3");
    assert_fails(f->ctx, attn_language_logits(model, logits, ids, 1, 161, NULL), ATTN_E_SHAPE, "context length is 160");
    attn_model_free(model);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_round_trip), TEST(test_tensors), TEST(test_index),
                                       TEST(test_raschka),    TEST(test_configs), TEST(test_logits_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
