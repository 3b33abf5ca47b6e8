/* hugging_face.c: a transformer as a folder that package transformers and CTranslate2's converter read.
 *
 * norm "pre" is M2M100 (Fan et al. 2021), norm "post" Marian (Junczys-Dowmunt et al. 2018): the same equations and the
 * same numbers under other names. What neither of them can say is refused by the key's name. */
#include "io/file.h"
#include "model/weights.h"
#include <attn/io.h>

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 160 };

/* ---- names -------------------------------------------------------------------------------------------- */

/* Parts of our names and theirs; the longest that fits is taken. */
static const struct {
    const char *ours, *theirs;
} parts[] = {
    {"self.norm.", "self_attn_layer_norm."},
    {"cross.norm.", "encoder_attn_layer_norm."},
    {"feed_forward.norm.", "final_layer_norm."},
    {"self.query.", "self_attn.q_proj."},
    {"self.key.", "self_attn.k_proj."},
    {"self.value.", "self_attn.v_proj."},
    {"self.out.", "self_attn.out_proj."},
    {"cross.query.", "encoder_attn.q_proj."},
    {"cross.key.", "encoder_attn.k_proj."},
    {"cross.value.", "encoder_attn.v_proj."},
    {"cross.out.", "encoder_attn.out_proj."},
    {"feed_forward.in.", "fc1."},
    {"feed_forward.out.", "fc2."},
};

/* "decoder.0.self.query.weight" → "model.decoder.layers.0.self_attn.q_proj.weight". */
static bool their_name(char out[NAME], const char *ours) {
    char side[16];
    unsigned layer;
    int at = 0;
    if (!strcmp(ours, "embedding.weight")) return snprintf(out, NAME, "model.shared.weight") < NAME;
    if (sscanf(ours, "%15[a-z].norm.%n", side, &at) == 1 && at)
        return snprintf(out, NAME, "model.%s.layer_norm.%s", side, ours + at) < NAME;
    if (sscanf(ours, "%15[a-z].%u.%n", side, &layer, &at) != 2 || !at) return false;
    for (size_t i = 0; i < ATTN_COUNT(parts); i++) {
        const size_t bytes = strlen(parts[i].ours);
        if (!strncmp(ours + at, parts[i].ours, bytes))
            return snprintf(out, NAME, "model.%s.layers.%u.%s%s", side, layer, parts[i].theirs, ours + at + bytes) <
                   NAME;
    }
    return false;
}

/* ---- configuration -------------------------------------------------------------------------------------- */

static const char *text_of(const json_t *config, const char *key) {
    const char *text = json_string_value(json_object_get(config, key));
    return text ? text : "";
}

static attn_status check(attn_context *ctx, const json_t *config) {
    if (strcmp(text_of(config, "positions"), "sinusoidal") != 0)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED,
                         "config: \"positions\": \"%s\" has no form there, expected \"sinusoidal\"",
                         text_of(config, "positions"));
    if (!json_is_true(json_object_get(config, "tie_embeddings")))
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "config: \"tie_embeddings\": false has no form there, expected true");
    if (!strcmp(text_of(config, "activation"), "swiglu"))
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "config: \"activation\": \"swiglu\" has no form there");
    return ATTN_OK;
}

static const char *activation_name(const char *ours) { return !strcmp(ours, "gelu_tanh") ? "gelu_pytorch_tanh" : ours; }

static json_t *config_json(const json_t *config, bool pre, size_t vocab_size) {
    static const struct {
        const char *theirs, *ours;
    } same[] = {
        {"d_model", "model_size"},
        {"encoder_layers", "encoder_layers"},
        {"decoder_layers", "decoder_layers"},
        {"encoder_attention_heads", "heads"},
        {"decoder_attention_heads", "heads"},
        {"encoder_ffn_dim", "feed_forward_size"},
        {"decoder_ffn_dim", "feed_forward_size"},
        {"max_position_embeddings", "max_positions"},
        {"dropout", "dropout"},
        {"attention_dropout", "attention_dropout"},
        {"activation_dropout", "activation_dropout"},
    };
    json_t *out = json_pack(
        "{s:[s], s:s, s:i, s:i, s:i, s:i, s:b, s:b, s:b, s:s, s:i, s:s, s:s, s:i, s:i}", "architectures",
        pre ? "M2M100ForConditionalGeneration" : "MarianMTModel", "model_type", pre ? "m2m_100" : "marian",
        "bos_token_id", (int)ATTN_ID_BOS, "pad_token_id", (int)ATTN_ID_PAD, "eos_token_id", (int)ATTN_ID_EOS,
        "decoder_start_token_id", (int)ATTN_ID_EOS, "scale_embedding", 1, "is_encoder_decoder", 1,
        "tie_word_embeddings", 1, "activation_function", activation_name(text_of(config, "activation")), "vocab_size",
        (int)vocab_size, "torch_dtype", "float32", "dtype", "float32", "encoder_layerdrop", 0, "decoder_layerdrop", 0);
    for (size_t i = 0; i < ATTN_COUNT(same); i++)
        json_object_set(out, same[i].theirs, json_object_get(config, same[i].ours));
    if (pre) return out;
    json_object_set_new(out, "decoder_vocab_size", json_integer((json_int_t)vocab_size));
    json_object_set_new(out, "share_encoder_decoder_embeddings", json_true());
    json_object_set_new(out, "static_position_embeddings", json_true());
    json_object_set_new(out, "normalize_before", json_false());
    json_object_set_new(out, "normalize_embedding", json_false());
    json_object_set_new(out, "add_final_layer_norm", json_false());
    json_object_set_new(out, "add_bias_logits", json_false());
    return out;
}

static json_t *generation_json(const json_t *config) {
    json_t *out =
        json_pack("{s:i, s:i, s:i, s:i, s:i}", "bos_token_id", (int)ATTN_ID_BOS, "pad_token_id", (int)ATTN_ID_PAD,
                  "eos_token_id", (int)ATTN_ID_EOS, "decoder_start_token_id", (int)ATTN_ID_EOS, "num_beams", 5);
    json_object_set(out, "max_length", json_object_get(config, "max_positions"));
    return out;
}

static json_t *tokenizer_json(const json_t *config) {
    json_t *out =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "tokenizer_class", "PreTrainedTokenizerFast", "bos_token", "<s>",
                  "pad_token", "<pad>", "eos_token", "</s>", "unk_token", "<unk>", "clean_up_tokenization_spaces", 0);
    json_object_set(out, "model_max_length", json_object_get(config, "max_positions"));
    return out;
}

/* Takes root. */
static attn_status write_json(attn_context *ctx, const char *folder, const char *file, json_t *root) {
    char path[ATTN_MODEL_PATH];
    char *text;
    attn_status status = attn_json_text(ctx, &text, root);
    if (status != ATTN_OK) return status;
    status = attn_model_path(ctx, path, folder, file);
    if (status == ATTN_OK) status = attn_file_write(ctx, path, text, strlen(text));
    attn_release(ctx, text);
    return status;
}

/* ---- weights ---------------------------------------------------------------------------------------------- */

static attn_status write_weights(const attn_model *model, const char *folder, bool pre) {
    attn_context *ctx = model->ctx;
    const size_t n = attn_parameters_count(model->parameters);
    attn_named_tensor *tensors = attn_alloc_zero(ctx, n + 1, sizeof *tensors);
    char(*names)[NAME] = attn_alloc(ctx, n, sizeof *names), path[ATTN_MODEL_PATH];
    float *no_bias = attn_alloc_zero(ctx, model->vocab_size, sizeof *no_bias); /* Marian's bias of the output */
    attn_status status = tensors && names && no_bias ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        const attn_parameter *p = attn_parameters_at(model->parameters, i);
        if (!their_name(names[i], p->name))
            status = attn_fail(ctx, ATTN_E_UNSUPPORTED, "tensor \"%s\" has no name there", p->name);
        tensors[i] = (attn_named_tensor){names[i], p->value};
    }
    const attn_key_value metadata = {"format", "pt"};
    if (status == ATTN_OK) status = attn_model_path(ctx, path, folder, "model.safetensors");
    if (status == ATTN_OK) {
        tensors[n] =
            (attn_named_tensor){"final_logits_bias", attn_tensor_f32(no_bias, 2, (size_t)1, model->vocab_size)};
        status = attn_safetensors_save(ctx, path, tensors, pre ? n : n + 1, &metadata, 1);
    }
    attn_release(ctx, tensors);
    attn_release(ctx, names);
    attn_release(ctx, no_bias);
    return status;
}

attn_status attn_model_save_hugging_face(const attn_model *model, const attn_tokenizer *tokenizer, const char *folder) {
    attn_context *ctx = model->ctx;
    char path[ATTN_MODEL_PATH];
    if (model->class != &attn_class_transformer)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "model_type \"%s\" has no form there, expected \"transformer\"",
                         model->class->type);
    json_t *config = json_loads(model->config, 0, NULL);
    if (!config) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: config.json");
    const bool pre = !strcmp(text_of(config, "norm"), "pre");
    attn_status status = check(ctx, config);
    if (status == ATTN_OK) status = attn_folder_make(ctx, folder);
    if (status == ATTN_OK) status = write_weights(model, folder, pre);
    if (status == ATTN_OK) status = write_json(ctx, folder, "config.json", config_json(config, pre, model->vocab_size));
    if (status == ATTN_OK) status = write_json(ctx, folder, "generation_config.json", generation_json(config));
    if (status == ATTN_OK) status = write_json(ctx, folder, "tokenizer_config.json", tokenizer_json(config));
    if (status == ATTN_OK) status = attn_model_path(ctx, path, folder, "tokenizer.json");
    if (status == ATTN_OK) status = attn_tokenizer_save(tokenizer, path);
    json_decref(config);
    return status;
}
