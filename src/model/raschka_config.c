/* raschka_config.c: GPT-2's config.json for models of Build a Large Language Model (From Scratch): from the settings
 * that the book has ("emb_dim", "n_heads" …), or, without any, from the tensors' shapes. */
#include "model/weights.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { HEAD_SIZE = 64 }; /* of GPT-2 in all its sizes, if only shapes are there */

/* Several keys where one setting is for several. */
static const struct {
    const char *theirs, *ours[3];
} keys[] = {
    {"vocab_size", {"vocab_size"}}, {"context_length", {"n_positions"}},
    {"emb_dim", {"n_embd"}},        {"n_layers", {"n_layer"}},
    {"n_heads", {"n_head"}},        {"drop_rate", {"embd_pdrop", "attn_pdrop", "resid_pdrop"}},
    {"qkv_bias", {NULL}}, /* the tensors say it */
};

static attn_status translate(attn_context *ctx, json_t *out, const json_t *settings) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)settings, key, value) {
        size_t row = 0;
        while (row < ATTN_COUNT(keys) && strcmp(keys[row].theirs, key) != 0) row++;
        if (row == ATTN_COUNT(keys)) return attn_fail(ctx, ATTN_E_FORMAT, "config: unknown key \"%.60s\"", key);
        for (size_t i = 0; i < ATTN_COUNT(keys[row].ours) && keys[row].ours[i]; i++)
            json_object_set(out, keys[row].ours[i], value);
    }
    return ATTN_OK;
}

attn_status attn_raschka_settings(attn_context *ctx, char **json) {
    json_t *settings = json_loads(*json, JSON_REJECT_DUPLICATES, NULL);
    if (!json_object_get(settings, "emb_dim") || json_object_get(settings, "model_type")) {
        json_decref(settings);
        return ATTN_OK;
    }
    json_t *root = json_pack("{s:s, s:b}", "model_type", "gpt2", "tie_word_embeddings", 0);
    attn_status status =
        root ? translate(ctx, root, settings) : attn_fail(ctx, ATTN_E_NOMEM, "out of memory: a config");
    json_decref(settings);
    attn_release(ctx, *json);
    *json = NULL;
    if (status == ATTN_OK) return attn_json_text(ctx, json, root);
    json_decref(root);
    return status;
}

/* The size of a tensor's dimension; 0: there is no such tensor of that rank. */
static json_int_t size_of(const attn_weights *weights, const char *name, int rank, size_t dimension) {
    attn_stored stored;
    if (!attn_weights_find(weights, &stored, name) || stored.tensor.rank != rank) return 0;
    return (json_int_t)stored.tensor.shape[dimension];
}

attn_status attn_raschka_guess(attn_context *ctx, char **json, const attn_weights *weights) {
    const json_int_t vocabulary = size_of(weights, "tok_emb.weight", 2, 0),
                     width = size_of(weights, "tok_emb.weight", 2, 1),
                     context = size_of(weights, "pos_emb.weight", 2, 0);
    json_int_t layers = 0;
    char name[64];
    *json = NULL;
    if (!vocabulary || !context)
        return attn_fail(ctx, ATTN_E_FORMAT,
                         "there is no config.json; without one, only tensors with the names of Build a Large Language "
                         "Model (From Scratch) are read, and \"tok_emb.weight\" or \"pos_emb.weight\" is missing");
    if (width % HEAD_SIZE)
        return attn_fail(
            ctx, ATTN_E_FORMAT,
            "there is no config.json; heads are taken to have %d columns without one, as GPT-2's have, but "
            "\"tok_emb.weight\" has %lld: write one with \"emb_dim\" and \"n_heads\"",
            HEAD_SIZE, (long long)width);
    do snprintf(name, sizeof name, "trf_blocks.%lld.att.W_query.weight", (long long)layers++);
    while (attn_weights_find(weights, NULL, name));
    return attn_json_text(ctx, json,
                          json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "model_type", "gpt2", "vocab_size",
                                    vocabulary, "n_positions", context, "n_embd", width, "n_layer", layers - 1,
                                    "n_head", width / HEAD_SIZE, "tie_word_embeddings", 0));
}
