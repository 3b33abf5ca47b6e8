/* gpt_names.c: what the weights of the language models are called in files.
 *
 * GPT-2's matrices are stored as (in, out), and its queries, keys and values as one of (C, 3C). Files come with and
 * without the prefix of the model inside the model ("transformer.", "model."), with masks and angles among the weights,
 * and with the head beside the embeddings that it is tied to. "Raschka" are the names of Build a Large Language Model
 * (From Scratch): linears as (out, in), always with a head. */
#include "model/gpt.h"
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

enum { GPT2, LLAMA, GEMMA, RASCHKA, COLUMNS };

/* A row's names; NULL: the column has no such weight, or (GEMMA) the same as LLAMA. Those of a layer follow its own
 * prefix. */
typedef struct name_row {
    const char *own, *stored[COLUMNS];
    size_t part; /* GPT2: of three */
    bool matrix; /* GPT2: transposed */
} name_row;

static const name_row model_rows[] = {
    {"tokens.weight", {"wte.weight", "embed_tokens.weight", NULL, "tok_emb.weight"}, 0, false},
    {"positions.weight", {"wpe.weight", NULL, NULL, "pos_emb.weight"}, 0, false},
    {"final_norm.weight", {"ln_f.weight", "norm.weight", NULL, "final_norm.scale"}, 0, false},
    {"final_norm.bias", {"ln_f.bias", NULL, NULL, "final_norm.shift"}, 0, false},
};
static const char *const head_names[COLUMNS] = {"lm_head.weight", "lm_head.weight", "lm_head.weight",
                                                "out_head.weight"}; /* without the prefix */

static const char *const layer_prefix[COLUMNS] = {"h.", "layers.", "layers.", "trf_blocks."};
static const name_row layer_rows[] = {
    {"input_norm.weight", {"ln_1.weight", "input_layernorm.weight", NULL, "norm1.scale"}, 0, false},
    {"input_norm.bias", {"ln_1.bias", NULL, NULL, "norm1.shift"}, 0, false},
    {"query.weight", {"attn.c_attn.weight", "self_attn.q_proj.weight", NULL, "att.W_query.weight"}, 0, true},
    {"key.weight", {"attn.c_attn.weight", "self_attn.k_proj.weight", NULL, "att.W_key.weight"}, 1, true},
    {"value.weight", {"attn.c_attn.weight", "self_attn.v_proj.weight", NULL, "att.W_value.weight"}, 2, true},
    {"query.bias", {"attn.c_attn.bias", "self_attn.q_proj.bias", NULL, "att.W_query.bias"}, 0, false},
    {"key.bias", {"attn.c_attn.bias", "self_attn.k_proj.bias", NULL, "att.W_key.bias"}, 1, false},
    {"value.bias", {"attn.c_attn.bias", "self_attn.v_proj.bias", NULL, "att.W_value.bias"}, 2, false},
    {"query_norm.weight", {NULL, "self_attn.q_norm.weight", NULL, NULL}, 0, false},
    {"key_norm.weight", {NULL, "self_attn.k_norm.weight", NULL, NULL}, 0, false},
    {"out.weight", {"attn.c_proj.weight", "self_attn.o_proj.weight", NULL, "att.out_proj.weight"}, 0, true},
    {"out.bias", {"attn.c_proj.bias", "self_attn.o_proj.bias", NULL, "att.out_proj.bias"}, 0, false},
    {"attention_out_norm.weight", {NULL, NULL, "post_attention_layernorm.weight", NULL}, 0, false},
    {"mlp_norm.weight",
     {"ln_2.weight", "post_attention_layernorm.weight", "pre_feedforward_layernorm.weight", "norm2.scale"},
     0,
     false},
    {"mlp_norm.bias", {"ln_2.bias", NULL, NULL, "norm2.shift"}, 0, false},
    {"gate.weight", {NULL, "mlp.gate_proj.weight", NULL, NULL}, 0, true},
    {"gate.bias", {NULL, "mlp.gate_proj.bias", NULL, NULL}, 0, false},
    {"up.weight", {"mlp.c_fc.weight", "mlp.up_proj.weight", NULL, "ff.layers.0.weight"}, 0, true},
    {"up.bias", {"mlp.c_fc.bias", "mlp.up_proj.bias", NULL, "ff.layers.0.bias"}, 0, false},
    {"down.weight", {"mlp.c_proj.weight", "mlp.down_proj.weight", NULL, "ff.layers.2.weight"}, 0, true},
    {"down.bias", {"mlp.c_proj.bias", "mlp.down_proj.bias", NULL, "ff.layers.2.bias"}, 0, false},
    {"mlp_out_norm.weight", {NULL, NULL, "post_feedforward_layernorm.weight", NULL}, 0, false},
};

/* The column that a family's models are written with, and its prefix. */
static size_t own_column(const attn_gpt *m) {
    return m->family->layer_norm ? GPT2 : m->family->outer_norms ? GEMMA : LLAMA;
}
static const char *own_prefix(const attn_gpt *m) { return m->family->layer_norm ? "transformer." : "model."; }

static const name_row *find_row(const name_row *rows, size_t n, const char *own) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(rows[i].own, own)) return &rows[i];
    return NULL;
}

static const char *in_column(const name_row *row, size_t column) {
    const char *name = row->stored[column];
    return !name && column == GEMMA ? row->stored[LLAMA] : name;
}

void attn_gpt_stored_form(const attn_model *model, attn_stored_form *form, const char *name) {
    const attn_gpt *m = (const attn_gpt *)model;
    const bool reading = model->stored != NULL;
    const size_t column = reading ? m->names : own_column(m);
    const char *prefix = reading ? m->prefix : own_prefix(m), *rest = strchr(name, '.');
    *form = (attn_stored_form){.parts = 1};
    const name_row *row;
    if (!strcmp(name, "head.weight")) {
        snprintf(form->name, sizeof form->name, "%s", head_names[column]);
        return;
    }
    if (!strncmp(name, "layers.", 7) && rest && (rest = strchr(rest + 1, '.'))) {
        row = find_row(layer_rows, ATTN_COUNT(layer_rows), rest + 1);
        const char *stored = row ? in_column(row, column) : NULL;
        snprintf(form->name, sizeof form->name, "%s%s%.*s.%s", prefix, layer_prefix[column], (int)(rest - name - 7),
                 name + 7, stored ? stored : rest + 1);
    } else {
        row = find_row(model_rows, ATTN_COUNT(model_rows), name);
        const char *stored = row ? in_column(row, column) : NULL;
        snprintf(form->name, sizeof form->name, "%s%s", prefix, stored ? stored : name);
    }
    if (row && column == GPT2) {
        form->transposed = row->matrix;
        if (!strncmp(row->stored[GPT2], "attn.c_attn", 11)) form->part = row->part, form->parts = 3;
    }
    const size_t bytes = strlen(name);
    if (m->family->gain_from_one && bytes > 12 && !strcmp(name + bytes - 12, "_norm.weight")) form->offset = 1;
}

attn_status attn_gpt_recognise(attn_model *model, const attn_weights *weights) {
    attn_gpt *m = (attn_gpt *)model;
    const size_t own = own_column(m), columns[] = {own, own, m->family->layer_norm ? RASCHKA : own};
    const char *const prefixes[] = {own_prefix(m), "", ""};
    m->names = own, m->prefix = own_prefix(m);
    for (size_t i = 0; i < ATTN_COUNT(columns); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefixes[i], in_column(&model_rows[0], columns[i]));
        if (!attn_weights_find(weights, name, NULL)) continue;
        m->names = columns[i], m->prefix = prefixes[i];
        if (columns[i] != RASCHKA) return ATTN_OK;
        m->config.tie = !attn_weights_find(weights, head_names[RASCHKA], NULL);
        return attn_gpt_write_config(m);
    }
    return ATTN_OK;
}

static bool ends_with(const char *text, const char *end) {
    const size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

bool attn_gpt_ignores(const attn_model *model, const char *stored) {
    const attn_gpt *m = (const attn_gpt *)model;
    if (m->config.tie && !strcmp(stored, head_names[m->names])) return true;
    if (m->names == GPT2) return ends_with(stored, ".attn.bias") || ends_with(stored, ".attn.masked_bias");
    if (m->names == RASCHKA) return ends_with(stored, ".att.mask");
    return ends_with(stored, ".rotary_emb.inv_freq");
}
