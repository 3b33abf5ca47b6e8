/* attention_case.h: random calls of the attention operator: sizes, options and tensors of any layout, all from one
 * number.
 *
 *     struct attention_case c;
 *     case_make(&c, seed, &case_any);
 *     ref_attention r = case_reference(&c);
 *     case_results(&c, LAYOUT_RANDOM);
 *     assert_ok(ctx, case_run(ctx, &c));
 *     …
 *     case_release();                              // all memory of all cases
 *
 * Every array ends where a forbidden page begins. Copying the struct shares inputs and options; what points from the
 * options is never changed in place.                                                                              */
#ifndef ATTN_TESTS_KERN_ATTENTION_CASE_H
#define ATTN_TESTS_KERN_ATTENTION_CASE_H

#include "kern/guard.h"
#include "ref/attention.h"

#define CASE_RESULTS(X) X(OUT, out) X(LSE, lse) X(DQ, dq) X(DK, dk) X(DV, dv) X(DBIAS, dbias) X(DSINKS, dsinks)
enum case_result {
#define CASE_ENUM(name, field) CASE_##name,
    CASE_RESULTS(CASE_ENUM)
#undef CASE_ENUM
        CASE_RESULT_COUNT
};
extern const char *const case_result_names[];

struct attention_case {
    uint64_t seed;
    bool packed;
    size_t b, h, hk, t, s, d, dv; /* b: sequences; t, s: of the tensors, packed ΣT and ΣS */
    size_t longest_t, longest_s;  /* of a sequence, padding included */
    attn_tensor q, k, v, dout, dlse;
    attn_tensor result[CASE_RESULT_COUNT];
    bool wanted[CASE_RESULT_COUNT];                       /* no gradient wanted: forward only */
    bool with_dlse, accumulate, workspace, shared_inputs; /* shared_inputs: strides of 0 */
    attn_dtype dtype[CASE_RESULT_COUNT];
    int threads;
    attn_attention_options options;
};

/* What a case may have. */
struct case_limits {
    double budget; /* B·H·T·S·(D+Dv) */
    bool packed, lengths, dropout, sixteen_bits, strides, tree, offset, broadcast_bias;
    bool junk;            /* NaN and infinities where nothing is visible */
    bool visible_nan;     /* in few cases, NaN in a key or value that some queries see */
    bool doubles;         /* F64 instead of the dtypes, and few distinct sinks: for differences of the reference */
    bool all_wanted;      /* every gradient, written */
    size_t min_sequences; /* 0: 1 */
};
extern const struct case_limits case_any;

enum case_layout { LAYOUT_PLAIN, LAYOUT_RANDOM };

void case_make(struct attention_case *c, uint64_t seed, const struct case_limits *limits);
/* Fresh tensors for the results, in new memory that holds NaN, or with `accumulate` numbers. */
void case_results(struct attention_case *c, enum case_layout layout);
/* Plants NaN and infinities into all that is visible to nobody. */
void case_plant_junk(struct attention_case *c);
void case_release(void);

/* Runs forward, and backward if a gradient is wanted. */
attn_status case_run(attn_context *ctx, struct attention_case *c);
ref_attention case_reference(const struct attention_case *c); /* has run; the caller frees */

/* NULL, or what is wrong with the results, in memory that the next call uses again. `level` is the text's beginning;
 * before: the results as they were made (with accumulate), else NULL. worst: error / bound, at most; or NULL. */
const char *case_compare(const struct attention_case *c, const ref_attention *r, double *const before[], double *worst);
/* Writing past elements of a result, into gaps between rows. */
const char *case_check_gaps(const struct attention_case *c);
double *case_values(const attn_tensor *t); /* row-major; free it */
/* The call as text, in memory that the next call uses again. */
const char *case_text(const struct attention_case *c);

/* A context of each CPU level for a number of threads; they live until the end. */
attn_context *case_context(const char *level, int threads);

/* ---- tensors ------------------------------------------------------------------------------------------- */

attn_tensor case_tensor(uint64_t *random, attn_dtype dtype, int rank, const size_t *shape, enum case_layout layout);
attn_tensor case_copy(const attn_tensor *t, uint64_t *random, enum case_layout layout);
/* The same in guarded memory of its own, for options. */
const attn_tensor *case_keep(attn_tensor t);
void *case_array(const void *from, size_t count, size_t size); /* from NULL: zeros */
/* Elements first … first+count−1 of a dimension. */
attn_tensor case_part(const attn_tensor *t, int dim, size_t first, size_t count);
/* NULL, or where two tensors of one shape and dtype differ in a bit. */
const char *case_same_bits(const char *what, const attn_tensor *a, const attn_tensor *b);

static inline uint64_t case_next(uint64_t *random) { /* splitmix64 */
    uint64_t z = *random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static inline size_t case_below(uint64_t *random, size_t n) { return (size_t)((case_next(random) >> 32) % n); }
static inline bool case_chance(uint64_t *random, double p) { return (double)(case_next(random) >> 11) * 0x1p-53 < p; }
double case_normal(uint64_t *random);

#endif
