/* gguf_config.c: the config.json that a GGUF file's metadata make.
 *
 * Keys begin with general.architecture ("llama.context_length"); what they leave out, the file's tensors say. Rotary
 * positions scaled as Llama 3.1 does are in a GGUF file a tensor of factors, from which the four numbers that made them
 * are found again. */
#include "model/gguf_keys.h"
#include "model/gpt.h"
#include "model/weights.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY = 96, MOST_SIZE = 1 << 24 };

static const attn_gguf_setting gpt2_keys[] = {
    {"context_length", "n_positions", ATTN_GGUF_NEEDED_SIZE},
    {"embedding_length", "n_embd", ATTN_GGUF_NEEDED_SIZE},
    {"block_count", "n_layer", ATTN_GGUF_NEEDED_SIZE},
    {"attention.head_count", "n_head", ATTN_GGUF_NEEDED_SIZE},
    {"feed_forward_length", "n_inner", ATTN_GGUF_SIZE},
    {"attention.layer_norm_epsilon", "layer_norm_epsilon", ATTN_GGUF_NUMBER},
};
#define LLAMA_KEYS                                                                \
    {"context_length", "max_position_embeddings", ATTN_GGUF_NEEDED_SIZE},         \
        {"embedding_length", "hidden_size", ATTN_GGUF_NEEDED_SIZE},               \
        {"block_count", "num_hidden_layers", ATTN_GGUF_NEEDED_SIZE},              \
        {"attention.head_count", "num_attention_heads", ATTN_GGUF_NEEDED_SIZE},   \
        {"feed_forward_length", "intermediate_size", ATTN_GGUF_NEEDED_SIZE},      \
        {"attention.head_count_kv", "num_key_value_heads", ATTN_GGUF_SIZE},       \
        {"attention.layer_norm_rms_epsilon", "rms_norm_eps", ATTN_GGUF_NUMBER}, { \
        "rope.freq_base", "rope_theta", ATTN_GGUF_NUMBER                          \
    }
static const attn_gguf_setting llama_keys[] = {LLAMA_KEYS};
static const attn_gguf_setting gemma_keys[] = {
    LLAMA_KEYS,
    {"attention.sliding_window", "sliding_window", ATTN_GGUF_SIZE},
    {"attn_logit_softcapping", "attn_logit_softcapping", ATTN_GGUF_NUMBER},
    {"final_logit_softcapping", "final_logit_softcapping", ATTN_GGUF_NUMBER},
};

#define KEYS(table) table, ATTN_COUNT(table)
const attn_gguf_architecture attn_gguf_architectures[] = {
    {"gpt2", "gpt2", true, false, 0, KEYS(gpt2_keys)},
    {"llama", "llama", false, false, 0, KEYS(llama_keys)},
    {"qwen2", "qwen2", false, false, 0, KEYS(llama_keys)},
    {"qwen3", "qwen3", false, false, 0, KEYS(llama_keys)},
    {"gemma2", "gemma2", false, true, 46, KEYS(gemma_keys)},
    {"gemma3", "gemma3_text", false, true, 62, KEYS(gemma_keys)},
    {NULL, NULL, false, false, 0, NULL, 0},
};

typedef struct reader {
    attn_context *ctx;
    const attn_gguf *file;
    const char *path;
    const attn_gguf_architecture *architecture;
    json_t *root;
} reader;

#define FAIL(r, status, ...) attn_fail((r)->ctx, status, __VA_ARGS__)

static const char *full_key(const reader *r, char out[KEY], const char *key) {
    snprintf(out, KEY, "%s.%s", r->architecture->stored, key);
    return out;
}

static bool find_integer(const reader *r, const char *key, int64_t *value) {
    char full[KEY];
    return attn_gguf_integer(r->file, full_key(r, full, key), value);
}

static bool is_text(const attn_gguf *file, const char *key, const char *expected) {
    const char *text;
    size_t bytes;
    return attn_gguf_text(file, key, &text, &bytes) && bytes == strlen(expected) && !memcmp(text, expected, bytes);
}

static attn_status find_architecture(reader *r) {
    attn_buffer list = ATTN_BUFFER_INIT(r->ctx);
    const char *text = "none";
    size_t bytes = 4;
    attn_gguf_text(r->file, "general.architecture", &text, &bytes);
    for (const attn_gguf_architecture *a = attn_gguf_architectures; a->stored; a++) {
        if (is_text(r->file, "general.architecture", a->stored)) r->architecture = a;
        attn_buffer_printf(&list, "%s%s", a == attn_gguf_architectures ? "" : ", ", a->stored);
    }
    attn_status status = ATTN_OK;
    if (!r->architecture)
        status = FAIL(r, ATTN_E_UNSUPPORTED, "%s: general.architecture: expected one of %s, found \"%.*s\"", r->path,
                      list.data ? list.data : "(none)", (int)ATTN_MIN(bytes, (size_t)40), text);
    attn_buffer_free(&list);
    return status;
}

/* ---- keys --------------------------------------------------------------------------------------------------- */

static attn_status take_key(const reader *r, const attn_gguf_setting *row) {
    char key[KEY];
    int64_t size = 0;
    double number = 0;
    full_key(r, key, row->stored);
    if (row->kind == ATTN_GGUF_NUMBER) {
        if (!attn_gguf_number(r->file, key, &number)) return ATTN_OK;
        if (!isfinite(number)) return FAIL(r, ATTN_E_FORMAT, "%s: \"%s\": expected a finite number", r->path, key);
        json_object_set_new(r->root, row->key, json_real(number));
        return ATTN_OK;
    }
    const bool found = attn_gguf_integer(r->file, key, &size);
    if (!found && (row->kind == ATTN_GGUF_NEEDED_SIZE || attn_gguf_array(r->file, key)))
        return FAIL(r, ATTN_E_FORMAT, "%s: \"%s\": expected an integer, found %s", r->path, key,
                    attn_gguf_array(r->file, key) ? "an array" : "none");
    if (found && (size < 1 || size > MOST_SIZE))
        return FAIL(r, ATTN_E_FORMAT, "%s: \"%s\": expected 1 to %d, found %lld", r->path, key, MOST_SIZE,
                    (long long)size);
    if (found) json_object_set_new(r->root, row->key, json_integer(size));
    return ATTN_OK;
}

static attn_status take_keys(const reader *r) {
    for (size_t i = 0; i < r->architecture->key_count; i++) ATTN_TRY(take_key(r, &r->architecture->key[i]));
    return ATTN_OK;
}

/* What would change the result and is not computed here. */
static attn_status check_other_keys(const reader *r) {
    int64_t value = 0, size = 0;
    if (find_integer(r, "expert_count", &value) && value > 0)
        return FAIL(r, ATTN_E_UNSUPPORTED, "%s: \"%s.expert_count\": expected none, found %lld", r->path,
                    r->architecture->stored, (long long)value);
    if (!find_integer(r, "attention.key_length", &size)) {
        size = json_integer_value(json_object_get(r->root, "hidden_size"));
        size /= ATTN_MAX(json_integer_value(json_object_get(r->root, "num_attention_heads")), 1);
    }
    static const char *const same[] = {"attention.value_length", "rope.dimension_count"};
    for (size_t i = 0; i < ATTN_COUNT(same); i++)
        if (find_integer(r, same[i], &value) && value != size)
            return FAIL(r, ATTN_E_UNSUPPORTED, "%s: \"%s.%s\": expected %lld as the heads' size, found %lld", r->path,
                        r->architecture->stored, same[i], (long long)size, (long long)value);
    if (size < 1 || size > MOST_SIZE)
        return FAIL(r, ATTN_E_FORMAT, "%s: \"%s.attention.key_length\": expected 1 to %d, found %lld", r->path,
                    r->architecture->stored, MOST_SIZE, (long long)size);
    json_object_set_new(r->root, "head_dim", json_integer(size));
    return ATTN_OK;
}

/* Gemma's scores are scaled by the heads' size, but for the largest models. */
static void take_query_scalar(const reader *r) {
    const json_int_t layers = json_integer_value(json_object_get(r->root, "num_hidden_layers"));
    json_int_t scalar = json_integer_value(json_object_get(r->root, "head_dim"));
    if (layers == r->architecture->odd_layers)
        scalar = json_integer_value(json_object_get(r->root, "hidden_size")) /
                 json_integer_value(json_object_get(r->root, "num_attention_heads"));
    json_object_set_new(r->root, "query_pre_attn_scalar", json_integer(scalar));
}

/* ---- rotary positions ------------------------------------------------------------------------------------------ */

double attn_gguf_llama3_divisor(double theta, double factor, double original, size_t i, size_t half) {
    const double wave = 2 * 3.14159265358979323846 * pow(theta, (double)i / (double)half), low = 1, high = 4;
    if (wave < original / high) return 1;
    if (wave > original / low) return factor;
    const double smooth = (original / wave - low) / (high - low);
    return 1 / ((1 - smooth) / factor + smooth);
}

/* The factor is the last divisor; the length before scaling is one of those that such models have had. */
static attn_status take_rope_factors(const reader *r, const attn_gguf_tensor *t) {
    float divisor[288];
    const size_t half = t->count;
    if (t->rank != 1 || t->type != ATTN_GGUF_F32 || half > ATTN_COUNT(divisor))
        return FAIL(r, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32 numbers, half as many as a head has columns",
                    r->path, t->name);
    attn_gguf_dequantise(divisor, t, 0, half);
    const json_t *base = json_object_get(r->root, "rope_theta");
    const double theta = base ? json_real_value(base) : 1e4;
    for (int64_t original = ATTN_GGUF_LEAST_ORIGINAL; original <= ATTN_GGUF_MOST_ORIGINAL; original *= 2) {
        bool same = true;
        for (size_t i = 0; i < half; i++) {
            const double expected =
                attn_gguf_llama3_divisor(theta, (double)divisor[half - 1], (double)original, i, half);
            same = same && fabs((double)divisor[i] - expected) <= 1e-4 * expected;
        }
        if (!same) continue;
        json_object_set_new(r->root, "rope_scaling",
                            json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor",
                                      (double)divisor[half - 1], "low_freq_factor", 1.0, "high_freq_factor", 4.0,
                                      "original_max_position_embeddings", (json_int_t)original));
        return ATTN_OK;
    }
    return FAIL(r, ATTN_E_UNSUPPORTED, "%s: tensor \"%s\": expected factors as Llama 3.1 scales positions", r->path,
                t->name);
}

static attn_status take_rope(const reader *r) {
    const attn_gguf_tensor *factors = attn_gguf_find(r->file, "rope_freqs.weight");
    char key[KEY];
    const char *type;
    size_t bytes;
    double factor = 1;
    full_key(r, key, "rope.scaling.type");
    if (attn_gguf_text(r->file, key, &type, &bytes) && !is_text(r->file, key, "linear") &&
        !is_text(r->file, key, "none"))
        return FAIL(r, ATTN_E_UNSUPPORTED, "%s: \"%s\": expected \"none\" or \"linear\", found \"%.*s\"", r->path, key,
                    (int)ATTN_MIN(bytes, (size_t)40), type);
    if (factors) return take_rope_factors(r, factors);
    if (is_text(r->file, key, "none")) return ATTN_OK;
    if (!attn_gguf_number(r->file, full_key(r, key, "rope.scaling.factor"), &factor))
        attn_gguf_number(r->file, full_key(r, key, "rope.scale_linear"), &factor);
    if (factor == 1 || factor == 0) return ATTN_OK;
    json_object_set_new(r->root, "rope_scaling", json_pack("{s:s, s:f}", "rope_type", "linear", "factor", factor));
    return ATTN_OK;
}

/* ---- what tensors and tokens say -------------------------------------------------------------------------------- */

static void take_ends(const reader *r) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    json_t *ends = json_array();
    int64_t id;
    if (attn_gguf_integer(r->file, "tokenizer.ggml.bos_token_id", &id))
        json_object_set_new(r->root, "bos_token_id", json_integer(id));
    for (size_t i = 0; i < ATTN_COUNT(keys); i++)
        if (attn_gguf_integer(r->file, keys[i], &id)) json_array_append_new(ends, json_integer(id));
    json_object_set_new(r->root, "eos_token_id", ends);
}

static attn_status take_tensors(const reader *r) {
    const attn_gguf_tensor *tokens = attn_gguf_find(r->file, "token_embd.weight");
    if (!tokens || tokens->rank != 2)
        return FAIL(r, ATTN_E_FORMAT, "%s: tensor \"token_embd.weight\" %s", r->path,
                    tokens ? "has other than 2 dimensions" : "is missing");
    if (tokens->shape[0] > MOST_SIZE)
        return FAIL(r, ATTN_E_FORMAT, "%s: tensor \"token_embd.weight\": expected at most %d rows, found %zu", r->path,
                    MOST_SIZE, tokens->shape[0]);
    json_object_set_new(r->root, "vocab_size", json_integer((json_int_t)tokens->shape[0]));
    json_object_set_new(r->root, "tie_word_embeddings", json_boolean(!attn_gguf_find(r->file, "output.weight")));
    if (strcmp(r->architecture->stored, "llama") != 0) return ATTN_OK;
    json_object_set_new(r->root, "attention_bias", json_boolean(attn_gguf_find(r->file, "blk.0.attn_q.bias")));
    json_object_set_new(r->root, "mlp_bias", json_boolean(attn_gguf_find(r->file, "blk.0.ffn_gate.bias")));
    return ATTN_OK;
}

static attn_status read_all(reader *r) {
    json_object_set_new(r->root, "model_type", json_string(r->architecture->type));
    ATTN_TRY(take_tensors(r));
    take_ends(r);
    ATTN_TRY(take_keys(r));
    if (r->architecture->gpt2) return ATTN_OK;
    ATTN_TRY(check_other_keys(r));
    if (r->architecture->gemma) take_query_scalar(r);
    return take_rope(r);
}

attn_status attn_gguf_config(attn_context *ctx, char **json, const attn_gguf *file, const char *path) {
    reader r = {.ctx = ctx, .file = file, .path = path};
    *json = NULL;
    ATTN_TRY(find_architecture(&r));
    r.root = json_object();
    if (!r.root) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: a config");
    attn_status status = read_all(&r);
    if (status == ATTN_OK) return attn_json_text(ctx, json, r.root);
    json_decref(r.root);
    return status;
}
