/* page.c: every head there is, for a page or for arrays (arrays.c). See picture.h, gallery.h. */
#include "gallery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const side_names[SIDES] = {"source", "target read", "target"};
static const char *const kind_names[] = {"encoder", "decoder", "cross"};

static void gallery_free(gallery *g) {
    for (int i = 0; i < TEXTS * SIDES; i++) {
        side *s = &g->side[i / SIDES][i % SIDES];
        axis_free(&s->tokens), axis_free(&s->words);
    }
    for (size_t i = 0; i < TEXTS; i++) free(g->text[i]);
    for (size_t i = 0; i < VIEWS; i++) free(g->weights[i]), free(g->vectors[i]);
}

static bool make_side(const command *c, side *s, const attn_tokenizer *k, const char *text, const attn_token *token,
                      size_t n, const char *name, bool start) {
    if (!axis_make(&s->tokens, k, text, token, n, start, false) ||
        !axis_make(&s->words, k, text, token, n, start, true))
        return cli_fail_memory(c) == EXIT_DONE;
    s->text = text, s->token = token, s->start = start;
    s->axis = (attn_page_axis){.name = name,
                               .tokens = (const char *const *)s->tokens.label,
                               .n = n,
                               .words = (const char *const *)s->words.label,
                               .word = s->words.group,
                               .n_words = s->words.groups};
    return true;
}

/* Room for so many numbers of each head of a view, which count `times`: it is counted before they are computed. */
static float *add_room(const command *c, gallery *g, const attn_page_view *view, size_t of_head, size_t times) {
    const size_t heads = view->layers * view->heads; /* lengths are those of texts in memory */
    if (of_head > (ATTN_PAGE_WEIGHTS - g->all) / heads / times) {
        cli_fail(c,
                 "%s: %zu heads on %zu and %zu tokens: found more than %d weights in all, expected fewer: --layer N "
                 "takes one layer, --head N one head",
                 view->name, heads, view->rows->n, view->columns->n, ATTN_PAGE_WEIGHTS);
        return NULL;
    }
    float *room = malloc(heads * of_head * sizeof *room + 1);
    if (!room) return cli_fail_memory(c), NULL;
    g->all += heads * of_head * times;
    return room;
}

static float *add_view(const command *c, gallery *g, const attn_page_view *view) {
    float *weights = add_room(c, g, view, view->rows->n * view->columns->n, 1);
    if (!weights) return NULL;
    g->view[g->n] = *view;
    g->view[g->n].weights = g->weights[g->n] = weights;
    g->n++;
    return weights;
}

/* What is read: weights of one layer's heads, or of one head, and what a layer's heads compare (attn_text_free). */
typedef struct reading {
    attn_status (*weights)(const void *of, float **got, attn_look where);
    attn_status (*vectors)(const void *of, attn_look_vectors *got, attn_look where);
    const void *of;
} reading;

/* Layer l of the view; the first makes room for all. */
static bool take_vectors(const command *c, gallery *g, size_t l, const attn_look_vectors *x, size_t head) {
    attn_page_view *v = &g->view[g->n - 1];
    const size_t of_queries = x->rows * x->head_size, of_keys = x->columns * x->head_size;
    if (!l) {
        float *room = add_room(c, g, v, of_queries + of_keys, 2);
        if (!room) return false;
        v->queries = g->vectors[g->n - 1] = room;
        v->key_heads = head ? 1 : x->key_heads, v->head_size = x->head_size;
        v->scale = x->scale, v->softcap = x->softcap;
        v->keys = room + v->layers * v->heads * of_queries;
    }
    const size_t first = head ? head - 1 : 0, first_key = first * x->key_heads / x->heads;
    float *queries = g->vectors[g->n - 1] + l * v->heads * of_queries;
    float *keys = g->vectors[g->n - 1] + v->layers * v->heads * of_queries + l * v->key_heads * of_keys;
    memcpy(queries, x->queries + first * of_queries, v->heads * of_queries * sizeof *queries);
    memcpy(keys, x->keys + first_key * of_keys, v->key_heads * of_keys * sizeof *keys);
    return true;
}

static bool add_vectors(const command *c, gallery *g, size_t l, const reading *r, attn_look where) {
    attn_look_vectors x;
    if (r->vectors(r->of, &x, where) != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
    const bool fine = take_vectors(c, g, l, &x, where.head == ATTN_EVERY_HEAD ? 0 : where.head);
    attn_text_free(cli_context(), x.queries);
    return fine;
}

/* All chosen heads of a kind, layer by layer. */
static bool add_kind(const command *c, gallery *g, const translator *t, const gallery_choice *choice,
                     attn_look_kind kind, const char *name, const side *rows, const side *columns, const reading *r) {
    size_t layers, heads;
    attn_model_heads(t->model, kind, &layers, &heads);
    if (!layers && (choice->kind || choice->neurons))
        return cli_fail(c, "the %s model has no heads to look at", attn_model_type(t->model)) == EXIT_DONE;
    if (!layers) return true;
    if (choice->layer > layers || choice->head > heads)
        return cli_fail(c, "layer %zu, head %zu: the model has %zu layers of %zu heads", choice->layer, choice->head,
                        layers, heads) == EXIT_DONE;
    const attn_page_view view = {.name = name,
                                 .rows = &rows->axis,
                                 .columns = &columns->axis,
                                 .layers = choice->layer ? 1 : layers,
                                 .heads = choice->head ? 1 : heads,
                                 .first_layer = choice->layer,
                                 .first_head = choice->head,
                                 .whole = !choice->layer && !choice->head};
    float *out = add_view(c, g, &view);
    if (out) g->kind[g->n - 1] = kind_names[kind];
    const size_t bytes = view.heads * rows->axis.n * columns->axis.n * sizeof *out;
    for (size_t l = 0; l < view.layers && out; l++) {
        const attn_look where = {kind, choice->layer ? choice->layer - 1 : l,
                                 choice->head ? choice->head : ATTN_EVERY_HEAD};
        float *got = NULL;
        if (r->weights(r->of, &got, where) != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
        memcpy((char *)out + l * bytes, got, bytes);
        attn_text_free(cli_context(), got);
        if (choice->neurons && !add_vectors(c, g, l, r, where)) return false;
    }
    return out != NULL;
}

/* malloc'd; NULL: no memory. */
static char *joined(const char *a, const char *between, const char *b) {
    const size_t bytes = strlen(a) + strlen(between) + strlen(b) + 1;
    char *out = malloc(bytes);
    if (out) snprintf(out, bytes, "%s%s%s", a, between, b);
    return out;
}

static bool write_page(const command *c, const gallery *g, const gallery_choice *choice, const char *file) {
    const bool two = g->texts == 2;
    const size_t of_text = g->n / g->texts;
    char *title = choice->title ? strdup(choice->title) : joined(g->text[0], two ? " | " : "", two ? g->text[1] : "");
    const attn_page page = {
        title, choice->about, g->view, g->n, of_text - 1, two ? of_text : 0, {g->text[0], g->text[1]}};
    char *html = NULL;
    size_t bytes;
    bool fine = title || cli_fail_memory(c) == EXIT_DONE;
    if (fine && attn_page_html(cli_context(), &html, &bytes, &page) != ATTN_OK) fine = cli_fail_status(c) == EXIT_DONE;
    if (fine) fine = cli_write(c, file, html, bytes);
    attn_text_free(cli_context(), html);
    free(title);
    return fine;
}

static bool write_gallery(const command *c, const gallery *g, const gallery_choice *choice, const char *file) {
    if (cli_ends_with(file, ".npz")) return gallery_write_arrays(c, g, file);
    if (cli_ends_with(file, ".safetensors")) return gallery_write_capture(c, g, choice, file);
    return write_page(c, g, choice, file);
}

/* What stands above a text: itself, its translation or NULL, and its model where there are two. */
static bool put_caption(const command *c, gallery *g, const gallery_choice *choice, const char *text,
                        const char *translation) {
    const char *model = choice->model[1] ? choice->model[g->texts] : NULL;
    char *whole = joined(text, translation ? " → " : "", translation ? translation : "");
    char *named = whole && model ? joined(whole, " · ", model) : NULL;
    if (model) free(whole), whole = named;
    g->text[g->texts] = whole;
    return whole || cli_fail_memory(c) == EXIT_DONE;
}

/* Two texts have the same views. */
static bool check_alike(const command *c, const gallery *g, const translator *t) {
    const size_t n = g->n / g->texts;
    bool alike = n * g->texts == g->n;
    for (size_t i = n; i < g->n && alike; i++) {
        const attn_page_view *a = &g->view[i - n], *b = &g->view[i];
        alike = !strcmp(a->name, b->name) && a->layers == b->layers && a->heads == b->heads;
    }
    return alike || cli_fail(c,
                             "--beside-model: found a %s model with other layers or heads than the %s model has, "
                             "expected as many of each kind",
                             attn_model_type(t[1].model), attn_model_type(t[0].model)) == EXIT_DONE;
}

/* Writes it where all texts are in it, and frees it. */
static bool give_gallery(const command *c, gallery *g, const translator *t, const gallery_choice *choice,
                         const char *file, bool complete) {
    const bool fine = complete && check_alike(c, g, t) && write_gallery(c, g, choice, file);
    gallery_free(g);
    return fine;
}

/* ---- a translation -------------------------------------------------------------------------------------------- */

typedef struct pair {
    const attn_model *model;
    int32_t *source;
    size_t count;
    const attn_hypothesis *h;
} pair;

static attn_status look_at_pair(const void *of, float **got, attn_look where) {
    const pair *p = of;
    size_t rows, columns;
    return attn_look_at_pair(p->model, got, &rows, &columns, &where, p->source, p->count, p->h->id, p->h->count);
}

static attn_status pair_vectors(const void *of, attn_look_vectors *got, attn_look where) {
    const pair *p = of;
    return attn_look_at_pair_vectors(p->model, got, where.kind, where.layer, p->source, p->count, p->h->id,
                                     p->h->count);
}

/* What the translator says looked at what, which needs no other look. */
static bool add_alignment(const command *c, gallery *g, const side *sides, const attn_hypothesis *h) {
    const side *rows = &sides[TARGET], *columns = &sides[SOURCE];
    const attn_page_view view = {
        .name = "alignment", .rows = &rows->axis, .columns = &columns->axis, .layers = 1, .heads = 1, .whole = true};
    float *out = add_view(c, g, &view);
    if (out) g->kind[g->n - 1] = view.name;
    if (out) memcpy(out, h->alignment, rows->axis.n * columns->axis.n * sizeof *out);
    return out != NULL;
}

/* The next text: one translation. */
static bool add_pair(const command *c, gallery *g, const translator *t, const attn_translation *tr,
                     const gallery_choice *choice) {
    static const struct { int rows, columns; } kinds[] = {{SOURCE, SOURCE}, {READ, READ}, {TARGET, SOURCE}};
    side *sides = g->side[g->texts];
    pair p = {t->model, picture_ids(c, &tr->source), tr->source.count, tr->hypothesis};
    const reading r = {look_at_pair, pair_vectors, &p};
    bool fine = p.source != NULL;
    for (int i = 0; i < SIDES && fine; i++)
        fine = i == SOURCE
                   ? make_side(c, &sides[i], t->tokenizer, tr->source.text, tr->source.token, p.count, side_names[i],
                               false)
                   : make_side(c, &sides[i], t->tokenizer, p.h->text, p.h->span, p.h->count, side_names[i], i == READ);
    for (attn_look_kind k = ATTN_LOOK_ENCODER; k <= ATTN_LOOK_CROSS && fine; k++)
        if (!choice->kind || *choice->kind == k)
            fine = add_kind(c, g, t, choice, k, kind_names[k], &sides[kinds[k].rows], &sides[kinds[k].columns], &r);
    if (fine && !choice->kind) fine = add_alignment(c, g, sides, p.h);
    free(p.source);
    return fine;
}

bool gallery_of_pairs(const command *c, const translator *t, const attn_translation *tr, size_t n,
                      const gallery_choice *choice, const char *file) {
    gallery g = {0};
    bool fine = true;
    for (; g.texts < n && fine; g.texts++) {
        const attn_translation *own = &tr[g.texts];
        fine = put_caption(c, &g, choice, own->source.text, n > 1 ? own->hypothesis->text : NULL) &&
               add_pair(c, &g, &t[g.texts], own, choice);
    }
    return give_gallery(c, &g, t, choice, file, fine);
}

/* ---- one text ------------------------------------------------------------------------------------------------- */

typedef struct text {
    const attn_model *model;
    int32_t *id;
    size_t count;
} text;

static attn_status look_at_text(const void *of, float **got, attn_look where) {
    const text *x = of;
    return attn_look_at_text(x->model, got, where.layer, where.head, x->id, NULL, x->count);
}

static attn_status text_vectors(const void *of, attn_look_vectors *got, attn_look where) {
    const text *x = of;
    return attn_look_at_text_vectors(x->model, got, where.layer, x->id, NULL, x->count);
}

static bool add_text(const command *c, gallery *g, const translator *t, const attn_tokens *tokens,
                     const gallery_choice *choice) {
    text x = {t->model, picture_ids(c, tokens), tokens->count};
    const reading r = {look_at_text, text_vectors, &x};
    side *own = g->side[g->texts];
    const bool fine = x.id && make_side(c, own, t->tokenizer, tokens->text, tokens->token, x.count, "text", false) &&
                      add_kind(c, g, t, choice, attn_model_is_encoder(t->model) ? ATTN_LOOK_ENCODER : ATTN_LOOK_DECODER,
                               "self-attention", own, own, &r);
    free(x.id);
    return fine;
}

bool gallery_of_texts(const command *c, const translator *t, const attn_tokens *tokens, size_t n,
                      const gallery_choice *choice, const char *file) {
    gallery g = {0};
    bool fine = true;
    for (; g.texts < n && fine; g.texts++) {
        fine = put_caption(c, &g, choice, tokens[g.texts].text, NULL) &&
               add_text(c, &g, &t[g.texts], &tokens[g.texts], choice);
    }
    return give_gallery(c, &g, t, choice, file, fine);
}
