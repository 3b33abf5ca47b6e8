/* generate_together.c: several texts that go on, one pass through the model for a token of each.
 *
 * The weights are read once for all of them. A row's bits do not depend on the rows beside it (docs/numerics.md), so
 * each text is the one that it would be alone. Texts may begin and end at any time; each has its own cache. */
#include "infer/generator.h"
#include "nn/tape.h"

#include <string.h>

/* The last tokens of texts whose caches have all others. */
static attn_status run_rows(attn_generator *const *g, size_t n) {
    attn_tape *tape = g[0]->tape;
    const attn_gpt *m = g[0]->m;
    attn_tape_reset(tape);
    int32_t *id = attn_tape_memory(tape, n, sizeof *id);
    int64_t *position = attn_tape_memory(tape, n, sizeof *position);
    attn_kv_cache ***cache = attn_tape_memory(tape, n, sizeof *cache);
    if (!id || !position || !cache) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++)
        id[i] = g[i]->id[g[i]->cached], position[i] = (int64_t)g[i]->cached, cache[i] = g[i]->cache;
    const attn_gpt_rows rows = {.count = n, .id = id, .position = position, .sequences = n, .caches = cache};
    const attn_var *logits = attn_gpt_logits(m, tape, attn_gpt_states(m, tape, &rows));
    ATTN_TRY(attn_tape_status(tape));
    const float *row = attn_var_value(logits)->data;
    for (size_t i = 0; i < n; i++, row += m->config.vocab_size) {
        memcpy(g[i]->logits, row, m->config.vocab_size * sizeof *row);
        g[i]->cached++;
    }
    return ATTN_OK;
}

/* Whether the text needs a pass; the part of it before its last token is in the cache then. */
static attn_status prepare(attn_generator *g, bool *waits) {
    *waits = false;
    if (g->count == 0 || g->end != ATTN_GENERATE_GOES_ON) return ATTN_OK;
    ATTN_TRY(attn_generator_make_room(g));
    if (g->end != ATTN_GENERATE_GOES_ON || g->cached == g->count) return ATTN_OK;
    *waits = true;
    return attn_generator_catch_up(g, 1);
}

attn_status attn_generators_advance(attn_generator *const *generators, size_t n) {
    if (n == 0) return ATTN_OK;
    attn_context *ctx = generators[0]->ctx;
    attn_generator **waiting = attn_alloc(ctx, n, sizeof(attn_generator *));
    size_t count = 0;
    attn_status status = waiting ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        bool waits = false, twice = false;
        for (size_t j = 0; j < i; j++) twice = twice || generators[j] == generators[i];
        if (twice) status = attn_fail(ctx, ATTN_E_ARGUMENT, "generating together: text %zu is there twice", i);
        else if (generators[i]->m != generators[0]->m)
            status = attn_fail(ctx, ATTN_E_ARGUMENT, "generating together: text %zu is of another model", i);
        else status = prepare(generators[i], &waits);
        if (waits) waiting[count++] = generators[i];
    }
    if (count && status == ATTN_OK && (status = run_rows(waiting, count)) != ATTN_OK)
        for (size_t i = 0; i < count; i++) status = attn_generator_forget(waiting[i], status);
    attn_release(ctx, waiting);
    return status;
}
