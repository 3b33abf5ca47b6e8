/* gpt_names.c: what the weights of the language models are called in files.
 *
 * GPT-2's matrices are stored as (in, out), and its queries, keys and values as one of (C, 3C). Files come with and
 * without the prefix of the model inside the model ("transformer.", "model."), with masks and angles among the weights,
 * and with the head beside the embeddings that it is tied to. "Raschka" are the names of Build a Large Language Model
 * (From Scratch): linears as (out, in), always with a head. GGUF has its own names, linears as (out, in); it and Meta's
 * files have the rows of Llama's queries and keys in rotary pairs. */
#include "model/gpt.h"
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

enum { GPT2, LLAMA, GEMMA, RASCHKA, META, GGUF, GGUF_GPT2, COLUMNS };

static const struct {
    const char *layer_prefix, *head; /* head: without the model's prefix */
    size_t otherwise;              /* the column that has the names which this one leaves out; itself: there is none */
    bool transposes, joins, pairs; /* matrices (in, out); queries, keys and values as one; rotary pairs (Llama) */
} columns[COLUMNS] = {
    [GPT2] = {"h.", "lm_head.weight", GPT2, true, true, false},
    [LLAMA] = {"layers.", "lm_head.weight", LLAMA, false, false, false},
    [GEMMA] = {"layers.", "lm_head.weight", LLAMA, false, false, false},
    [RASCHKA] = {"trf_blocks.", "out_head.weight", RASCHKA, false, false, false},
    [META] = {"layers.", "output.weight", META, false, false, true},
    [GGUF] = {"blk.", "output.weight", GGUF, false, false, true},
    [GGUF_GPT2] = {"blk.", "output.weight", GGUF, false, true, false},
};

/* A row's names; NULL: the column has no such weight, or has it from another column. Those of a layer follow its own
 * prefix. */
typedef struct name_row {
    const char *own, *stored[COLUMNS];
    size_t part; /* where queries, keys and values are one: of three */
} name_row;

static const name_row model_rows[] = {
    {"tokens.weight",
     {"wte.weight", "embed_tokens.weight", NULL, "tok_emb.weight", "tok_embeddings.weight", "token_embd.weight"},
     0},
    {"positions.weight", {"wpe.weight", NULL, NULL, "pos_emb.weight", NULL, "position_embd.weight"}, 0},
    {"final_norm.weight",
     {"ln_f.weight", "norm.weight", NULL, "final_norm.scale", "norm.weight", "output_norm.weight"},
     0},
    {"final_norm.bias", {"ln_f.bias", NULL, NULL, "final_norm.shift", NULL, "output_norm.bias"}, 0},
};
static const char score_name[] = "score.weight"; /* the head of a classifier */

static const name_row layer_rows[] = {
    {"input_norm.weight",
     {"ln_1.weight", "input_layernorm.weight", NULL, "norm1.scale", "attention_norm.weight", "attn_norm.weight"},
     0},
    {"input_norm.bias", {"ln_1.bias", NULL, NULL, "norm1.shift", NULL, "attn_norm.bias"}, 0},
    {"query.weight",
     {"attn.c_attn.weight", "self_attn.q_proj.weight", NULL, "att.W_query.weight", "attention.wq.weight",
      "attn_q.weight", "attn_qkv.weight"},
     0},
    {"key.weight",
     {"attn.c_attn.weight", "self_attn.k_proj.weight", NULL, "att.W_key.weight", "attention.wk.weight", "attn_k.weight",
      "attn_qkv.weight"},
     1},
    {"value.weight",
     {"attn.c_attn.weight", "self_attn.v_proj.weight", NULL, "att.W_value.weight", "attention.wv.weight",
      "attn_v.weight", "attn_qkv.weight"},
     2},
    {"query.bias",
     {"attn.c_attn.bias", "self_attn.q_proj.bias", NULL, "att.W_query.bias", NULL, "attn_q.bias", "attn_qkv.bias"},
     0},
    {"key.bias",
     {"attn.c_attn.bias", "self_attn.k_proj.bias", NULL, "att.W_key.bias", NULL, "attn_k.bias", "attn_qkv.bias"},
     1},
    {"value.bias",
     {"attn.c_attn.bias", "self_attn.v_proj.bias", NULL, "att.W_value.bias", NULL, "attn_v.bias", "attn_qkv.bias"},
     2},
    {"query_norm.weight", {NULL, "self_attn.q_norm.weight", NULL, NULL, NULL, "attn_q_norm.weight"}, 0},
    {"key_norm.weight", {NULL, "self_attn.k_norm.weight", NULL, NULL, NULL, "attn_k_norm.weight"}, 0},
    {"out.weight",
     {"attn.c_proj.weight", "self_attn.o_proj.weight", NULL, "att.out_proj.weight", "attention.wo.weight",
      "attn_output.weight"},
     0},
    {"out.bias", {"attn.c_proj.bias", "self_attn.o_proj.bias", NULL, "att.out_proj.bias", NULL, "attn_output.bias"}, 0},
    {"attention_out_norm.weight",
     {NULL, NULL, "post_attention_layernorm.weight", NULL, NULL, "post_attention_norm.weight"},
     0},
    {"mlp_norm.weight",
     {"ln_2.weight", "post_attention_layernorm.weight", "pre_feedforward_layernorm.weight", "norm2.scale",
      "ffn_norm.weight", "ffn_norm.weight"},
     0},
    {"mlp_norm.bias", {"ln_2.bias", NULL, NULL, "norm2.shift", NULL, "ffn_norm.bias"}, 0},
    {"gate.weight", {NULL, "mlp.gate_proj.weight", NULL, NULL, "feed_forward.w1.weight", "ffn_gate.weight"}, 0},
    {"gate.bias", {NULL, "mlp.gate_proj.bias", NULL, NULL, NULL, "ffn_gate.bias"}, 0},
    {"up.weight",
     {"mlp.c_fc.weight", "mlp.up_proj.weight", NULL, "ff.layers.0.weight", "feed_forward.w3.weight", "ffn_up.weight"},
     0},
    {"up.bias", {"mlp.c_fc.bias", "mlp.up_proj.bias", NULL, "ff.layers.0.bias", NULL, "ffn_up.bias"}, 0},
    {"down.weight",
     {"mlp.c_proj.weight", "mlp.down_proj.weight", NULL, "ff.layers.2.weight", "feed_forward.w2.weight",
      "ffn_down.weight"},
     0},
    {"down.bias", {"mlp.c_proj.bias", "mlp.down_proj.bias", NULL, "ff.layers.2.bias", NULL, "ffn_down.bias"}, 0},
    {"mlp_out_norm.weight", {NULL, NULL, "post_feedforward_layernorm.weight", NULL, NULL, "post_ffw_norm.weight"}, 0},
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
    return name ? name : row->stored[columns[column].otherwise];
}

/* How the column stores it, beside its name. */
static void set_form(const attn_gpt *m, attn_stored_form *form, const name_row *row, size_t column) {
    const bool query = !strncmp(row->own, "query.", 6), key = !strncmp(row->own, "key.", 4);
    const bool projects = query || key || !strncmp(row->own, "value.", 6), bias = strstr(row->own, ".bias") != NULL;
    form->transposed = columns[column].transposes && !bias;
    if (columns[column].joins && projects) form->part = row->part, form->parts = 3;
    form->optional = column == RASCHKA && projects && bias; /* by his "qkv_bias" */
    if (columns[column].pairs && (query || key) && !strcmp(m->family->type, "llama"))
        form->paired = m->config.head_size;
}

static void form_in(const attn_gpt *m, attn_stored_form *form, const char *name, size_t column, const char *prefix) {
    const char *rest = strchr(name, '.');
    *form = (attn_stored_form){.parts = 1};
    if (!strcmp(name, "head.weight")) {
        snprintf(form->name, sizeof form->name, "%s", m->labels ? score_name : columns[column].head);
        return;
    }
    if (!strncmp(name, "layers.", 7) && rest && (rest = strchr(rest + 1, '.'))) {
        const name_row *row = find_row(layer_rows, ATTN_COUNT(layer_rows), rest + 1);
        const char *stored = row ? in_column(row, column) : NULL;
        snprintf(form->name, sizeof form->name, "%s%s%.*s.%s", prefix, columns[column].layer_prefix,
                 (int)(rest - name - 7), name + 7, stored ? stored : rest + 1);
        if (row) set_form(m, form, row, column);
    } else {
        const name_row *row = find_row(model_rows, ATTN_COUNT(model_rows), name);
        const char *stored = row ? in_column(row, column) : NULL;
        snprintf(form->name, sizeof form->name, "%s%s", prefix, stored ? stored : name);
    }
    const size_t bytes = strlen(name);
    const bool from_one = m->family->gain_from_one && column != GGUF; /* its writer adds the 1 */
    if (from_one && bytes > 12 && !strcmp(name + bytes - 12, "_norm.weight")) form->offset = 1;
}

void attn_gpt_stored_form(const attn_model *model, attn_stored_form *form, const char *name) {
    const attn_gpt *m = (const attn_gpt *)model;
    if (model->stored) form_in(m, form, name, m->names, m->prefix);
    else form_in(m, form, name, own_column(m), own_prefix(m));
}

static size_t gguf_column(const attn_gpt *m) { return m->family->layer_norm ? GGUF_GPT2 : GGUF; }

void attn_gpt_gguf_form(const attn_model *model, attn_stored_form *form, const char *name) {
    const attn_gpt *m = (const attn_gpt *)model;
    form_in(m, form, name, gguf_column(m), "");
}

attn_status attn_gpt_recognise(attn_model *model, const attn_weights *weights) {
    attn_gpt *m = (attn_gpt *)model;
    const size_t own = own_column(m), known[] = {own, own, m->family->layer_norm ? RASCHKA : own};
    const char *const prefixes[] = {own_prefix(m), "", ""};
    m->names = own, m->prefix = own_prefix(m);
    if (weights->gguf || weights->llama2c) {
        m->names = weights->llama2c ? META : gguf_column(m);
        m->prefix = "";
        return ATTN_OK;
    }
    for (size_t i = 0; i < ATTN_COUNT(known); i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefixes[i], in_column(&model_rows[0], known[i]));
        if (!attn_weights_find(weights, NULL, name)) continue;
        m->names = known[i], m->prefix = prefixes[i];
        if (known[i] != RASCHKA) return ATTN_OK;
        m->config.tie = !m->labels && !attn_weights_find(weights, NULL, columns[RASCHKA].head);
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
    if ((m->config.tie || m->labels) && !strcmp(stored, columns[m->names].head)) return true;
    switch (m->names) {
    case GPT2: return ends_with(stored, ".attn.bias") || ends_with(stored, ".attn.masked_bias");
    case RASCHKA: return ends_with(stored, ".att.mask");
    case GGUF: return !strcmp(stored, "rope_freqs.weight"); /* the config has it */
    default: return ends_with(stored, ".rotary_emb.inv_freq");
    }
}
