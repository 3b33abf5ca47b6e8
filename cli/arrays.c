/* arrays.c: heads as arrays for other programs. See gallery.h. */
#include "gallery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A name that can be one in Python; that of a second text ends in _2. */
static void python_name(char out[32], const char *name, const char *what, size_t text) {
    snprintf(out, 32, "%s%s%s", name, what, text ? "-2" : "");
    for (char *at = out; *at; at++)
        if (*at == ' ' || *at == '-') *at = '_';
}

typedef struct arrays {
    attn_named_tensor tensor[3 * VIEWS];
    attn_named_words words[TEXTS * SIDES];
    char name[3 * VIEWS + TEXTS * SIDES][32];
    size_t n, n_words, text; /* text: of which those are that come */
} arrays;

static void add_array(arrays *a, const char *view, const char *what, float *data, int rank, const size_t *shape) {
    python_name(a->name[a->n], view, what, a->text);
    a->tensor[a->n] = (attn_named_tensor){a->name[a->n], attn_tensor_of(data, ATTN_F32, rank, shape)};
    a->n++;
}

/* The alignment is of no layer. */
static bool has_layers(const attn_page_view *v) { return strcmp(v->name, "alignment") != 0; }

static void add_arrays(arrays *a, const attn_page_view *v, float *weights, float *vectors) {
    const size_t shape[] = {v->layers, v->heads, v->rows->n, v->columns->n};
    add_array(a, v->name, "", weights, has_layers(v) ? 4 : 2, has_layers(v) ? shape : shape + 2);
    if (!vectors) return;
    const size_t queries[] = {v->layers, v->heads, v->rows->n, v->head_size};
    const size_t keys[] = {v->layers, v->key_heads, v->columns->n, v->head_size};
    add_array(a, v->name, "-queries", vectors, 4, queries);
    add_array(a, v->name, "-keys", vectors + queries[0] * queries[1] * queries[2] * queries[3], 4, keys);
}

static void add_all(arrays *a, const gallery *g) {
    for (size_t i = 0; i < g->n; i++) {
        a->text = i / (g->n / g->texts);
        add_arrays(a, &g->view[i], g->weights[i], g->vectors[i]);
    }
}

bool gallery_write_arrays(const command *c, const gallery *g, const char *file) {
    arrays a = {0};
    add_all(&a, g);
    for (size_t i = 0; i < TEXTS * SIDES; i++) {
        const attn_page_axis *axis = &g->side[i / SIDES][i % SIDES].axis;
        if (!axis->name) continue;
        char *name = a.name[3 * VIEWS + a.n_words];
        python_name(name, axis->name, "", i / SIDES);
        a.words[a.n_words++] = (attn_named_words){name, axis->tokens, axis->n};
    }
    return attn_npz_save(cli_context(), file, a.tensor, a.n, a.words, a.n_words) == ATTN_OK ||
           cli_fail_status(c) == EXIT_DONE;
}

/* ---- a capture: the arrays in a safetensors file, what they are in its metadata ------------------------------- */

/* A byte that is not of UTF-8 makes all above ASCII <0xE2>. */
static json_t *text_json(const char *text) {
    json_t *whole = json_string(text);
    if (whole) return whole;
    char *out = malloc(6 * strlen(text) + 1), *to = out;
    for (const char *at = text; out && *at; at++)
        to += *at & 0x80 ? sprintf(to, "<0x%02X>", (unsigned)(unsigned char)*at) : sprintf(to, "%c", *at);
    whole = out ? json_stringn(out, (size_t)(to - out)) : NULL;
    free(out);
    return whole;
}

typedef struct capture {
    arrays a;
    attn_named_tensor tensor[3 * VIEWS + 2 * TEXTS * SIDES];
    char name[2 * TEXTS * SIDES][40];
    int32_t *numbers[TEXTS * SIDES]; /* ids, then spans; malloc'd */
    size_t n;
} capture;

/* Ids (n) and spans (n, 2) of a side's tokens: bytes of its text. */
static bool add_tokens(capture *x, const side *s, const char *name, size_t at) {
    const size_t n = s->axis.n, spans[] = {n, 2};
    int32_t *ids = x->numbers[at] = malloc((3 * n + 1) * sizeof *ids);
    if (!ids) return false;
    for (size_t i = 0; i < n; i++) {
        const attn_token start = {ATTN_ID_EOS, 0, 0, -1}, *t = !s->start ? &s->token[i] : i ? &s->token[i - 1] : &start;
        ids[i] = t->id;
        ids[n + 2 * i] = (int32_t)t->first, ids[n + 2 * i + 1] = (int32_t)t->end;
    }
    snprintf(x->name[2 * at], sizeof *x->name, "%s_ids", name);
    snprintf(x->name[2 * at + 1], sizeof *x->name, "%s_spans", name);
    x->tensor[x->n++] = (attn_named_tensor){x->name[2 * at], attn_tensor_of(ids, ATTN_I32, 1, spans)};
    x->tensor[x->n++] = (attn_named_tensor){x->name[2 * at + 1], attn_tensor_of(ids + n, ATTN_I32, 2, spans)};
    return true;
}

static json_t *words_json(const char *const *word, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, text_json(word[i]));
    return list;
}

/* The sides, each by its name; adds their tokens. NULL without memory. */
static json_t *sides_json(capture *x, const gallery *g) {
    json_t *all = json_object();
    for (size_t i = 0; i < TEXTS * SIDES; i++) {
        const side *s = &g->side[i / SIDES][i % SIDES];
        char name[32];
        if (!s->axis.name) continue;
        python_name(name, s->axis.name, "", i / SIDES);
        if (!add_tokens(x, s, name, i)) return json_decref(all), NULL;
        json_object_set_new(
            all, name,
            json_pack("{s:o, s:o}", "text", text_json(s->text), "tokens", words_json(s->axis.tokens, s->axis.n)));
    }
    return all;
}

static json_t *axis_name(const attn_page_axis *axis, size_t text) {
    char name[32];
    python_name(name, axis->name, "", text);
    return json_string(name);
}

static json_t *views_json(const gallery *g) {
    json_t *all = json_array();
    for (size_t i = 0; i < g->n; i++) {
        const attn_page_view *v = &g->view[i];
        const size_t text = i / (g->n / g->texts);
        char name[3][32];
        python_name(name[0], v->name, "", text);
        python_name(name[1], v->name, "-queries", text);
        python_name(name[2], v->name, "-keys", text);
        json_t *one = json_pack("{s:s, s:s, s:o, s:o}", "weights", name[0], "kind", g->kind[i], "rows",
                                axis_name(v->rows, text), "columns", axis_name(v->columns, text));
        if (has_layers(v)) {
            json_object_set_new(one, "first_layer", json_integer((json_int_t)(v->first_layer ? v->first_layer : 1)));
            json_object_set_new(one, "first_head", json_integer((json_int_t)(v->first_head ? v->first_head : 1)));
        }
        if (v->queries) {
            json_object_set_new(one, "queries", json_string(name[1]));
            json_object_set_new(one, "keys", json_string(name[2]));
            json_object_set_new(one, "scale", json_real((double)v->scale));
            json_object_set_new(one, "softcap", json_real((double)v->softcap));
        }
        json_array_append_new(all, one);
    }
    return all;
}

bool gallery_write_capture(const command *c, const gallery *g, const gallery_choice *choice, const char *file) {
    capture *x = calloc(1, sizeof *x);
    if (!x) return cli_fail_memory(c) == EXIT_DONE;
    add_all(&x->a, g);
    for (; x->n < x->a.n; x->n++) x->tensor[x->n] = x->a.tensor[x->n];
    const bool two = choice->model[1] != NULL;
    json_t *sides = sides_json(x, g), *views = views_json(g), *line = text_json(choice->command);
    json_t *model[2] = {text_json(choice->model[0]), two ? text_json(choice->model[1]) : NULL};
    char *about_sides = sides ? json_dumps(sides, JSON_COMPACT) : NULL, *about_views = json_dumps(views, JSON_COMPACT);
    const attn_key_value metadata[] = {{"format", "attn.capture.1"},
                                       {"command", json_string_value(line)},
                                       {"views", about_views},
                                       {"sides", about_sides},
                                       {"model_type", choice->type[0]},
                                       {"model", json_string_value(model[0])},
                                       {"model_type_2", choice->type[1]},
                                       {"model_2", json_string_value(model[1])}};
    const size_t n = sizeof metadata / sizeof *metadata - (two ? 0 : 2);
    bool fine =
        (about_sides && about_views && line && model[0] && (model[1] || !two)) || cli_fail_memory(c) == EXIT_DONE;
    if (fine)
        fine = attn_safetensors_save(cli_context(), file, x->tensor, x->n, metadata, n) == ATTN_OK ||
               cli_fail_status(c) == EXIT_DONE;
    for (size_t i = 0; i < TEXTS * SIDES; i++) free(x->numbers[i]);
    free(about_sides);
    free(about_views);
    json_decref(sides);
    json_decref(views);
    json_decref(line);
    for (size_t i = 0; i < 2; i++) json_decref(model[i]);
    free(x);
    return fine;
}
