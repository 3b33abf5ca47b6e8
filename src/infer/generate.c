/* generate.c: a text that goes on, token by token.
 *
 * Keys and values of the tokens so far are in a cache for each layer (attn/cache.h), so that a token costs one row.
 * Long prompts go through the model in chunks; chunks, steps and the whole text at once give the same
 * bits. What is handed out is text that later tokens cannot change: characters whose bytes are all there, and nothing
 * that may be the beginning of a stop string. */
#include "infer/generator.h"
#include "nn/tape.h"

#include <stdio.h>
#include <string.h>

enum { BEFORE = 6 }; /* tokens before a new one that its spelling may depend on */

/* ---- beginning and end ------------------------------------------------------------------------------- */

static attn_status check_options(attn_context *ctx, const attn_generate_options *o) {
    if (o->struct_size != sizeof *o)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_generate_options: found struct_size %zu, expected %zu",
                         o->struct_size, sizeof *o);
    const struct {
        const char *name;
        float value, low, high;
    } ranges[] = {{"temperature", o->temperature, 0, 1000},
                  {"top_p", o->top_p, 0, 1},
                  {"min_p", o->min_p, 0, 1},
                  {"repetition_penalty", o->repetition_penalty, 0.01f, 100}};
    for (size_t i = 0; i < ATTN_COUNT(ranges); i++)
        if (!(ranges[i].value >= ranges[i].low && ranges[i].value <= ranges[i].high))
            return attn_fail(ctx, ATTN_E_ARGUMENT, "generating: %s is %g, expected %g to %g", ranges[i].name,
                             (double)ranges[i].value, (double)ranges[i].low, (double)ranges[i].high);
    for (size_t i = 0; i < o->stops; i++)
        if (!o->stop[i] || !*o->stop[i]) return attn_fail(ctx, ATTN_E_ARGUMENT, "generating: stop %zu is empty", i);
    return ATTN_OK;
}

static attn_status copy_stops(attn_generator *g) {
    const size_t n = g->options.stops;
    g->stop = attn_alloc_zero(g->ctx, n, sizeof *g->stop);
    if (!g->stop) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++)
        if (!(g->stop[i] = attn_copy_text(g->ctx, g->options.stop[i], strlen(g->options.stop[i])))) return ATTN_E_NOMEM;
    g->ends = attn_alloc(g->ctx, g->options.end_count, sizeof *g->ends);
    if (!g->ends) return ATTN_E_NOMEM;
    if (g->options.end_count) memcpy(g->ends, g->options.ends, g->options.end_count * sizeof *g->ends);
    return ATTN_OK;
}

static attn_status create(attn_generator *g, const attn_generate_options *options) {
    const attn_gpt_config *c = &g->m->config;
    ATTN_TRY(check_options(g->ctx, options));
    const size_t tokens = attn_tokenizer_size(g->tokenizer);
    if (tokens > c->vocab_size)
        return attn_fail(g->ctx, ATTN_E_SHAPE, "the tokenizer has %zu tokens, the model's vocab_size is %zu", tokens,
                         c->vocab_size);
    g->options = *options;
    g->context = options->context ? ATTN_MIN(options->context, c->context) : c->context;
    ATTN_TRY(copy_stops(g));
    ATTN_TRY(attn_sampler_create(&g->sampler, g->ctx, c->vocab_size, options->seed));
    ATTN_TRY(attn_tape_create(&g->tape, g->ctx, false));
    g->logits = attn_alloc(g->ctx, c->vocab_size, sizeof *g->logits);
    return g->logits ? attn_caches_create(&g->cache, g->m, g->context, options->cache) : ATTN_E_NOMEM;
}

attn_status attn_generator_create(attn_generator **gives, const attn_model *model, const attn_tokenizer *tokenizer,
                                  const attn_generate_options *options) {
    static const attn_generate_options defaults = ATTN_GENERATE_OPTIONS_INIT;
    *gives = NULL;
    const attn_gpt *m = attn_gpt_of(model);
    if (!m) return ATTN_E_ARGUMENT;
    attn_generator *g = attn_alloc_zero(model->ctx, 1, sizeof *g);
    if (!g) return ATTN_E_NOMEM;
    g->ctx = model->ctx, g->m = m, g->tokenizer = tokenizer;
    g->text = (attn_buffer)ATTN_BUFFER_INIT(g->ctx);
    attn_status status = create(g, options ? options : &defaults);
    if (status == ATTN_OK) *gives = g;
    else attn_generator_free(g);
    return status;
}

void attn_generator_free(attn_generator *g) {
    if (!g) return;
    attn_context *ctx = g->ctx;
    attn_caches_free(g->m, g->cache);
    for (size_t i = 0; g->stop && i < g->options.stops; i++) attn_release(ctx, g->stop[i]);
    if (g->sampler.ctx) attn_sampler_free(&g->sampler);
    attn_tape_free(g->tape);
    attn_buffer_free(&g->text);
    attn_release(ctx, g->stop);
    attn_release(ctx, g->ends);
    attn_release(ctx, g->logits);
    attn_release(ctx, g->id);
    attn_release(ctx, g);
}

/* ---- through the model --------------------------------------------------------------------------------- */

/* Tokens cached … cached+n−1; with `last` the logits after them are kept. */
static attn_status run_chunk(attn_generator *g, size_t n, bool last) {
    attn_tape_reset(g->tape);
    attn_var *states = attn_caches_run(g->m, g->tape, g->cache, g->id, g->cached, n);
    if (states && last) {
        const attn_var *logits = attn_gpt_logits(g->m, g->tape, attn_tape_row(g->tape, states, n - 1));
        if (logits) memcpy(g->logits, attn_var_value(logits)->data, g->m->config.vocab_size * sizeof(float));
    }
    ATTN_TRY(attn_tape_status(g->tape));
    g->cached += n;
    return ATTN_OK;
}

attn_status attn_generator_forget(attn_generator *g, attn_status status) {
    char text[512];
    snprintf(text, sizeof text, "%s", attn_error(g->ctx));
    attn_caches_reset(g->m, g->cache);
    g->cached = 0;
    return attn_fail(g->ctx, status, "%s", text);
}

attn_status attn_generator_catch_up(attn_generator *g, size_t but) {
    attn_status status = ATTN_OK;
    while (g->cached + but < g->count && status == ATTN_OK) {
        const size_t n = ATTN_MIN((size_t)ATTN_CHUNK, g->count - but - g->cached);
        status = run_chunk(g, n, g->cached + n == g->count);
    }
    return status == ATTN_OK ? ATTN_OK : attn_generator_forget(g, status);
}

static attn_status add_ids(attn_generator *g, const int32_t *ids, size_t n) {
    ATTN_TRY(attn_grow(g->ctx, &g->id, &g->capacity, g->count + n, g->count, sizeof *g->id));
    if (n) memcpy(g->id + g->count, ids, n * sizeof *ids);
    g->count += n;
    return ATTN_OK;
}

/* ---- prompts ----------------------------------------------------------------------------------------------- */

attn_status attn_generator_prompt_ids(attn_generator *g, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= g->m->config.vocab_size)
            return attn_fail(g->ctx, ATTN_E_ARGUMENT, "generating: id %zu of the prompt is %d, expected 0 to %zu", i,
                             (int)ids[i], g->m->config.vocab_size - 1);
    if (n > g->context - ATTN_MIN(g->count, g->context))
        return attn_fail(g->ctx, ATTN_E_SHAPE,
                         "the prompt has %zu tokens%s, the context length is %zu: shorten it, or take a model with a "
                         "longer context",
                         g->count + n, g->count ? " with the text before" : "", g->context);
    ATTN_TRY(add_ids(g, ids, n));
    g->read = g->count;
    g->spelled = g->count - ATTN_MIN(g->count, (size_t)BEFORE);
    g->text.bytes = g->given = 0;
    g->generated = 0;
    g->end = ATTN_GENERATE_GOES_ON;
    return ATTN_OK;
}

attn_status attn_generator_prompt(attn_generator *g, const char *text, size_t bytes) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    attn_status status = g->count ? attn_tokenize(g->tokenizer, &tokens, text, bytes, false)
                                  : attn_language_tokenize(g->tokenizer, &tokens, text, bytes);
    int32_t *ids = status == ATTN_OK ? attn_alloc(g->ctx, tokens.count, sizeof *ids) : NULL;
    if (status == ATTN_OK && !ids) status = ATTN_E_NOMEM;
    for (size_t i = 0; ids && i < tokens.count; i++) ids[i] = tokens.token[i].id;
    if (status == ATTN_OK) status = attn_generator_prompt_ids(g, ids, tokens.count);
    attn_release(g->ctx, ids);
    attn_tokens_free(g->ctx, &tokens);
    return status;
}

/* ---- spelling ---------------------------------------------------------------------------------------------- */

static bool ends_incomplete(const char *text, size_t bytes) {
    return bytes >= 3 && !memcmp(text + bytes - 3, "\xEF\xBF\xBD", 3);
}

static attn_status spell_ids(const attn_generator *g, char **text, size_t *bytes, size_t first, size_t end) {
    const size_t known = attn_tokenizer_size(g->tokenizer);
    int32_t *ids = attn_alloc(g->ctx, end - first, sizeof *ids);
    if (!ids) return ATTN_E_NOMEM;
    size_t n = 0; /* a padded vocabulary has ids without a token */
    for (size_t i = first; i < end; i++)
        if ((size_t)g->id[i] < known) ids[n++] = g->id[i];
    attn_status status = attn_detokenize(g->tokenizer, text, bytes, ids, n, NULL);
    attn_release(g->ctx, ids);
    return status;
}

/* Adds to the text what the tokens from `read` on spell, if later tokens cannot change it, or at the end. */
static attn_status spell(attn_generator *g, bool all) {
    char *before = NULL, *after = NULL;
    size_t before_bytes = 0, after_bytes = 0;
    attn_status status = spell_ids(g, &before, &before_bytes, g->spelled, g->read);
    if (status == ATTN_OK) status = spell_ids(g, &after, &after_bytes, g->spelled, g->count);
    if (status == ATTN_OK && after_bytes > before_bytes && (all || !ends_incomplete(after, after_bytes))) {
        size_t first = before_bytes; /* of a character: bytes that make none may have changed those before */
        while (first < after_bytes && ((unsigned char)after[first] & 0xC0) == 0x80) first++;
        attn_buffer_add(&g->text, after + first, after_bytes - first);
        status = g->text.status;
        g->spelled = g->count - ATTN_MIN(g->count, (size_t)BEFORE);
        g->read = g->count;
    }
    attn_text_free(g->ctx, before);
    attn_text_free(g->ctx, after);
    return status;
}

/* The earliest stop string in the text; the length of what no stop string may begin in. */
static bool find_stop(const attn_generator *g, size_t *safe) {
    const size_t n = g->text.bytes;
    size_t first = SIZE_MAX;
    *safe = n;
    for (size_t i = 0; i < g->options.stops; i++) {
        const size_t length = strlen(g->stop[i]);
        const char *found = n ? memmem(g->text.data, n, g->stop[i], length) : NULL;
        if (found) first = ATTN_MIN(first, (size_t)(found - g->text.data));
        for (size_t part = ATTN_MIN(length - 1, n); part > 0; part--)
            if (!memcmp(g->text.data + n - part, g->stop[i], part)) {
                *safe = ATTN_MIN(*safe, n - part);
                break;
            }
    }
    if (first != SIZE_MAX) *safe = first;
    return first != SIZE_MAX;
}

/* ---- the next token ------------------------------------------------------------------------------------------ */

attn_status attn_generator_make_room(attn_generator *g) {
    if (g->options.max_tokens && g->generated >= g->options.max_tokens) g->end = ATTN_GENERATE_MAX_TOKENS;
    if (g->end != ATTN_GENERATE_GOES_ON) return ATTN_OK;
    if (g->count < g->context) return ATTN_OK;
    if (!g->options.slide) {
        g->end = ATTN_GENERATE_CONTEXT;
        return ATTN_OK;
    }
    const size_t kept = ATTN_MAX(g->context / 2, 1), gone = g->count - kept;
    memmove(g->id, g->id + gone, kept * sizeof *g->id);
    g->count = kept;
    g->read -= ATTN_MIN(g->read, gone);
    g->spelled -= ATTN_MIN(g->spelled, gone);
    g->cached = 0;
    return attn_caches_reset(g->m, g->cache);
}

static bool is_end(const attn_generator *g, int32_t id) {
    for (size_t i = 0; i < g->m->config.end_count; i++)
        if (g->m->config.ends[i] == id) return true;
    for (size_t i = 0; i < g->options.end_count; i++)
        if (g->ends[i] == id) return true;
    return false;
}

static attn_status generate(attn_generator *g) {
    int32_t id;
    if (g->count == 0) return attn_fail(g->ctx, ATTN_E_ARGUMENT, "generating: there is no prompt");
    ATTN_TRY(attn_generator_make_room(g));
    if (g->end != ATTN_GENERATE_GOES_ON) return ATTN_OK;
    ATTN_TRY(attn_generator_catch_up(g, 0));
    ATTN_TRY(attn_sample(&g->sampler, &id, g->logits, g->id, g->count, &g->options));
    g->generated++;
    if (is_end(g, id)) g->end = ATTN_GENERATE_END_TOKEN;
    return is_end(g, id) ? ATTN_OK : add_ids(g, &id, 1);
}

attn_status attn_generator_next(attn_generator *g, const char **text, size_t *bytes) {
    size_t safe = 0;
    *text = "";
    *bytes = 0;
    if (g->given) {
        memmove(g->text.data, g->text.data + g->given, g->text.bytes - g->given);
        g->text.bytes -= g->given;
        g->given = 0;
    }
    while (safe == 0 && g->end == ATTN_GENERATE_GOES_ON) {
        ATTN_TRY(generate(g));
        ATTN_TRY(spell(g, g->end != ATTN_GENERATE_GOES_ON));
        if (find_stop(g, &safe)) {
            g->end = ATTN_GENERATE_STOP;
            g->text.bytes = safe;
        } else if (g->end != ATTN_GENERATE_GOES_ON) safe = g->text.bytes;
    }
    if (g->end != ATTN_GENERATE_GOES_ON) safe = g->text.bytes; /* once, then nothing */
    g->given = safe;
    if (safe) *text = g->text.data;
    *bytes = safe;
    return ATTN_OK;
}

attn_generate_end attn_generator_end(const attn_generator *g) { return g->end; }

const int32_t *attn_generator_ids(const attn_generator *g, size_t *count) {
    *count = g->count;
    return g->id;
}
