/* attn/nn.h: parameters, and a tape of fused operations with reverse-mode differentiation.
 *
 *     attn_var *x = attn_tape_input(tape, &tensor, false);
 *     attn_var *h = attn_tape_linear(tape, x, weight, bias, NULL, ATTN_TANH);
 *     attn_var *loss = attn_tape_cross_entropy(tape, h, targets, 0.1f, 1.0f / tokens, NULL);
 *     if (attn_tape_backward(tape, loss) != ATTN_OK) ...;      // fills weight->grad
 *     attn_tape_reset(tape);
 *
 * A model is written forward only. The first failure is kept by the tape: every later operation
 * on it returns NULL, and attn_tape_backward or attn_tape_status reports it. So a model's code
 * needs one check, at its end.
 *
 * Every attn_var belongs to its tape and lives until attn_tape_reset. Values are contiguous f32
 * unless a comment says otherwise. A tape made with record = false keeps nothing for backward.
 *
 * Gradients of a weight that is used at many time steps are gathered: the rows (x, dy) of all its
 * uses are stacked and multiplied once, when backward ends. Uses of 192 rows and more are worth a
 * product each. */
#ifndef ATTN_NN_H
#define ATTN_NN_H

#include <attn/attention.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- parameters --------------------------------------------------------------------------- */

typedef struct attn_parameters attn_parameters; /* an ordered set of named tensors */

typedef struct attn_parameter {
    const char *name;
    attn_tensor value;                /* f32, contiguous; data is NULL where it is kept as integers (attn/models.h) */
    attn_tensor grad;                 /* the same shape; data is NULL until the first backward */
    struct attn_packed *packed;       /* GEMM forms of the value; private, see attn_parameter_touch */
    struct attn_quantised *quantised; /* the value as integers, or NULL; private */
    bool frozen;                      /* set by the caller: linears, embeddings and norms make no gradient for it */
} attn_parameter;

typedef enum attn_init {
    ATTN_INIT_ZERO,
    ATTN_INIT_ONE,
    ATTN_INIT_NORMAL,     /* N(0, scale²) */
    ATTN_INIT_UNIFORM,    /* U(−scale, scale) */
    ATTN_INIT_XAVIER,     /* U(−a, a), a = scale · sqrt(6 / (fan_in + fan_out)); shape (out, in) */
    ATTN_INIT_ORTHOGONAL, /* each square block of rows orthogonal, times scale */
} attn_init;

/* An empty set; keeps ctx. seed: of the initial values. gives. */
ATTN_API attn_status attn_parameters_create(attn_parameters **gives, attn_context *ctx, uint64_t seed);
ATTN_API void attn_parameters_free(attn_parameters *set);
/* Adds a parameter; its initial values depend on (seed, name) alone. The set owns it. */
ATTN_API attn_status attn_parameters_add(attn_parameters *set, attn_parameter **out, const char *name, attn_init init,
                                         float scale, int rank, const size_t *shape);
ATTN_API size_t attn_parameters_count(const attn_parameters *set);
ATTN_API attn_parameter *attn_parameters_at(const attn_parameters *set, size_t index);
ATTN_API attn_parameter *attn_parameters_find(const attn_parameters *set, const char *name);
ATTN_API size_t attn_parameters_elements(const attn_parameters *set);
ATTN_API void attn_parameters_zero_grad(attn_parameters *set);
/* Says that a value was changed by hand or by an optimizer: packed forms are made anew. */
ATTN_API void attn_parameter_touch(attn_parameter *parameter);

/* ---- the tape ------------------------------------------------------------------------------ */

typedef struct attn_tape attn_tape;
typedef struct attn_var attn_var;

typedef enum attn_activation {
    ATTN_IDENTITY,
    ATTN_TANH,
    ATTN_SIGMOID,
    ATTN_RELU,
    ATTN_GELU,      /* exact, with erf */
    ATTN_GELU_TANH, /* tanh form (GPT-2) */
    ATTN_SILU,
} attn_activation;

/* keeps ctx. With record false nothing is kept for backward and dropout is the identity. */
ATTN_API attn_status attn_tape_create(attn_tape **gives, attn_context *ctx, bool record);
ATTN_API void attn_tape_free(attn_tape *tape);
ATTN_API void attn_tape_reset(attn_tape *tape); /* drops all variables and the failure, keeps the memory */
/* Dropout masks depend on (seed, step, position of the operation on the tape) alone. */
ATTN_API void attn_tape_seed(attn_tape *tape, uint64_t seed, uint64_t step);
/* What products with weights multiply (linear layers and GRUs, their gradients too): ATTN_F32, as at first, or
 * ATTN_BF16. Then both sides of a product are rounded to bf16 on the way; sums, and everything that is kept (weights,
 * values, gradients), stay f32. Twice as fast where the processor multiplies pairs of bf16 (AMX, AVX512_BF16), and
 * slower elsewhere. Before the first operation or after a reset; stays. */
ATTN_API attn_status attn_tape_precision(attn_tape *tape, attn_dtype dtype);
/* y = part(tape, arg, x), where y has as many elements as x[0]; n ≤ 4 inputs. After attn_tape_recompute(tape, true) a
 * recording tape keeps x and y alone, and backward runs the part again: the memory of one part instead of all of them
 * for the time of one more forward pass (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"), and the
 * same bits, but for the gradient of a weight that several parts use with fewer than 192 rows. So a part reads no
 * variables but x, leaves none, does the same both times, and what arg points to stays until backward ends. */
typedef attn_var *attn_tape_part(attn_tape *tape, void *arg, attn_var *const *x);
ATTN_API attn_var *attn_tape_run(attn_tape *tape, attn_tape_part *part, void *arg, attn_var *const *x, size_t n);
ATTN_API void attn_tape_recompute(attn_tape *tape, bool on); /* stays */
ATTN_API attn_status attn_tape_status(const attn_tape *tape);
/* Ends what follows with a failure of the model's own; the text goes to the context. */
ATTN_API attn_var *attn_tape_fail(attn_tape *tape, attn_status status, const char *format, ...) ATTN_PRINTF(3, 4);

/* Lives as long as var; NULL for NULL. */
ATTN_API const attn_tensor *attn_var_value(const attn_var *var);
/* After backward; data NULL if none reached it. Lasting for inputs with needs_grad and for parameters; backward reuses
 * the memory of other variables' gradients on its way. */
ATTN_API const attn_tensor *attn_var_grad(const attn_var *var);

/* Adds d(loss)/d(parameter) to every parameter's grad. loss holds one element. Once per tape; after a failure the
 * gradients are incomplete. */
ATTN_API attn_status attn_tape_backward(attn_tape *tape, attn_var *loss);
/* The tape's next backward replaces the gradients of set: as attn_parameters_zero_grad before it, without the time to
 * write zeros and to add to them. What it does not reach becomes 0. Set and parameters stay until then. */
ATTN_API void attn_tape_replaces_grad(attn_tape *tape, attn_parameters *set);

/* borrows nothing but the data: keeps the pointer until reset. needs_grad: attn_var_grad is wanted. */
ATTN_API attn_var *attn_tape_input(attn_tape *tape, const attn_tensor *tensor, bool needs_grad);
ATTN_API attn_var *attn_tape_zeros(attn_tape *tape, int rank, const size_t *shape);
ATTN_API attn_var *attn_tape_parameter(attn_tape *tape, attn_parameter *parameter); /* its value as a variable */

/* ---- operations ----------------------------------------------------------------------------- */

/* y = act(x Wᵀ + b + residual). x (…, K), W (N, K), b (N) or NULL, residual (…, N) or NULL; y (…, N). */
ATTN_API attn_var *attn_tape_linear(attn_tape *tape, attn_var *x, attn_parameter *w, attn_parameter *b,
                                    attn_var *residual, attn_activation act);
/* y[i] = table[ids[i]]. ids: count of them, copied; table (V, E); y (shape…, E) with rank ≤ 3 leading dims. */
ATTN_API attn_var *attn_tape_embedding(attn_tape *tape, attn_parameter *table, const int32_t *ids, int rank,
                                       const size_t *shape);
/* x · Bernoulli(1 − p) / (1 − p) */
ATTN_API attn_var *attn_tape_dropout(attn_tape *tape, attn_var *x, float p);
ATTN_API attn_var *attn_tape_add(attn_tape *tape, attn_var *a, attn_var *b);    /* same shapes */
ATTN_API attn_var *attn_tape_scale(attn_tape *tape, attn_var *x, float factor); /* factor · x */
ATTN_API attn_var *attn_tape_activation(attn_tape *tape, attn_var *x, attn_activation act);
ATTN_API attn_var *attn_tape_maxout(attn_tape *tape, attn_var *x); /* (…, 2N) → (…, N), pairs of neighbours */
ATTN_API attn_var *attn_tape_concat(attn_tape *tape, attn_var *const *parts, size_t n); /* along the last dimension */
ATTN_API attn_var *attn_tape_stack(attn_tape *tape, attn_var *const *parts, size_t n);  /* n × (…) → (n, …) */
ATTN_API attn_var *attn_tape_row(attn_tape *tape, attn_var *x, size_t index); /* x[index] of the first dimension */
ATTN_API attn_var *attn_tape_slice(attn_tape *tape, attn_var *x, size_t first,
                                   size_t count); /* of the last dimension */
/* The n pieces index[i] of dimension dim, of x of any rank; for dim 1: x (T, B, C) → (T, n, C), y[:, i] = x[:,
 * index[i]] (beams). */
ATTN_API attn_var *attn_tape_select(attn_tape *tape, attn_var *x, int dim, const int32_t *index, size_t n);
/* The same elements under another shape, without a copy. */
ATTN_API attn_var *attn_tape_reshape(attn_tape *tape, attn_var *x, int rank, const size_t *shape);
/* x (T, B, C) → (B, C): x[lengths[b] − 1, b], zeros where the length is 0. */
ATTN_API attn_var *attn_tape_last(attn_tape *tape, attn_var *x, const int32_t *lengths);

/* One direction of a GRU over a whole sequence (Cho et al. 2014), as one operation.
 *     z = σ(W_z x + b_z + U_z h + c_z)      r = σ(W_r x + b_r + U_r h + c_r)
 *     n = tanh(W_n x + b_n + r ∘ (U_n h + c_n))          reset_after true (PyTorch, cuDNN)
 *     n = tanh(W_n x + b_n + U_n (r ∘ h) + c_n)          reset_after false (the paper)
 *     h' = (1 − z) ∘ n + z ∘ h
 * gates are ordered r, z, n (as PyTorch). x (T, B, E); w (3H, E); u (3H, H); b, c (3H) or NULL;
 * h0 (B, H) or NULL for zeros; lengths B ints, copied: past its length a sequence keeps its state
 * (reverse runs from the sequence's own end; y past it is the state it starts from). y (T, B, H). */
typedef struct attn_gru_weights {
    attn_parameter *w, *u, *b, *c;
} attn_gru_weights;
ATTN_API attn_var *attn_tape_gru(attn_tape *tape, attn_var *x, const attn_gru_weights *weights, attn_var *h0,
                                 const int32_t *lengths, bool reverse, bool reset_after);
/* One step. gx (…, 3H) = W x + b (the caller's linear, whatever x is made of); h (…, H); h' (…, H). */
ATTN_API attn_var *attn_tape_gru_cell(attn_tape *tape, attn_var *gx, attn_var *h, attn_parameter *u, attn_parameter *c,
                                      bool reset_after);

/* Bahdanau's attention, one fused operation. Never T×S×A memory.
 *     e_ij = vᵀ tanh(sq_i + hk_j)    α = softmax over j < lengths[b]    c_i = Σ_j α_ij h_j
 * sq (B, A) for one step or (T, B, A); hk (S, B, A); v (A); h (S, B, C); lengths B ints, copied, or NULL.
 * c (B, C) or (T, B, C). *alignment (NULL: not wanted) gets α (B, S) or (T, B, S) and *energy e, both
 * without gradient. A sequence of length 0 gives zeros. */
ATTN_API attn_var *attn_tape_additive_attention(attn_tape *tape, attn_var *sq, attn_var *hk, attn_parameter *v,
                                                attn_var *h, const int32_t *lengths, attn_var **alignment,
                                                attn_var **energy);
/* Luong's dot score: e_ij = scale · q_i · k_j. q (B, C) or (T, B, C); k (S, B, C); h (S, B, Cv). "general" projects
 * k or q by a linear before; "concat" is the additive form. Same outputs. */
ATTN_API attn_var *attn_tape_dot_attention(attn_tape *tape, attn_var *q, attn_var *k, attn_var *h, float scale,
                                           const int32_t *lengths, attn_var **alignment, attn_var **energy);

/* Scaled dot-product attention (attn/attention.h: the formula, every option), on what linears give, without copies:
 *     y = softmax(cap(scale · q kᵀ) + bias, over the visible keys) · v        for each head
 * q (B, T, H·D), k (B, S, Hk·D), v (B, S, Hk·Dv), y (B, T, H·Dv): columns h·D … h·D+D−1 are head h. With options->cu_q
 * packed sequences: q (ΣT, H·D), k (ΣS, Hk·D), v (ΣS, Hk·Dv). q, k, v may be one variable.
 * options NULL: the defaults. Its arrays of one element a sequence or head are copied; the data of mask, tree, segments
 * and a constant bias is kept until reset. seed, offset and workspace are the tape's own, and a tape that does not
 * record drops nothing. *lse (NULL: not wanted) gets the log-sum-exp (B, H, T), packed (H, ΣT), without gradient:
 * weights are e^(score − lse). Never T×S memory: for backward LSE is kept, and nothing else. */
typedef struct attn_attention_inputs {
    attn_var *q, *k, *v;
    size_t heads, key_heads; /* H; Hk, 0: as many */
    attn_var *bias;          /* with a gradient; rank 4, (B, H, T, S) or 1 in any; NULL: that of the options */
    attn_var *sinks;         /* with a gradient; (H); NULL: those of the options */
} attn_attention_inputs;
ATTN_API attn_var *attn_tape_attention(attn_tape *tape, const attn_attention_inputs *inputs,
                                       const attn_attention_options *options, attn_var **lse);

/* Teaches a head of cross-attention where to look (Chen et al. 2016; Garg et al. 2019): of packed q (ΣT, H·D) and
 * k (ΣS, H·D), as attn_tape_attention reads them with cu_q and cu_k,
 *     loss = −scale · Σ over linked queries i of the mean over their links (i, j) of log α_ij,   one element
 * α of `head` (from 0) with scores of scale 1/√D. Link n is (query[n], key[n]), rows of q and k, sorted by query; they
 * are of the same sequence, or ATTN_E_ARGUMENT. The arrays are copied. */
typedef struct attn_guided_alignment {
    attn_var *q, *k;
    size_t heads, head;
    const int32_t *cu_q, *cu_k; /* (sequences + 1) */
    size_t sequences;
    const int32_t *query, *key; /* (links) */
    size_t links;
} attn_guided_alignment;
ATTN_API attn_var *attn_tape_guided_alignment(attn_tape *tape, const attn_guided_alignment *guided, float scale);
/* Angles of rotary positions, as attn_rotary_embedding takes them (attn/attention.h): cos and sin (P, rotary_dim/2). */
typedef struct attn_rotary {
    attn_tensor cos, sin;
    size_t rotary_dim; /* 0: the whole head */
    bool interleaved;
} attn_rotary;
/* Each head of each row of x (…, H·D) turned by the angles of the row's position (Su et al. 2021). positions: one a
 * row, 0 … P−1, copied; the data of the tables is kept until reset. */
ATTN_API attn_var *attn_tape_rotary(attn_tape *tape, attn_var *x, size_t heads, const attn_rotary *table,
                                    const int64_t *positions);
/* y = act(gate) ∘ x, of one shape; with SiLU or GELU and linears before it, SwiGLU or GeGLU (Shazeer 2020). */
ATTN_API attn_var *attn_tape_gate(attn_tape *tape, attn_var *gate, attn_var *x, attn_activation act);

/* Over the last dimension, of C elements:
 *     layer_norm   y = gain ∘ (x − mean) / sqrt(variance + ε) + bias      Ba, Kiros & Hinton 2016
 *     rms_norm     y = gain ∘ x / sqrt(mean of x² + ε)                    Zhang & Sennrich 2019
 * x (…, C); gain (C); bias (C), NULL for zeros; y as x. */
ATTN_API attn_var *attn_tape_layer_norm(attn_tape *tape, attn_var *x, attn_parameter *gain, attn_parameter *bias,
                                        float epsilon);
ATTN_API attn_var *attn_tape_rms_norm(attn_tape *tape, attn_var *x, attn_parameter *gain, float epsilon);
ATTN_API attn_var *attn_tape_log_softmax(attn_tape *tape, attn_var *x); /* over the last dimension */
ATTN_API attn_var *attn_tape_softmax(attn_tape *tape, attn_var *x);

/* What a cross entropy saw; losses in nats. */
typedef struct attn_loss_stats {
    double loss;    /* sum over tokens, with label smoothing */
    double nll;     /* sum over tokens of −log p(target), without */
    size_t tokens;  /* targets ≥ 0 */
    size_t correct; /* argmax equals target (the lowest index wins a tie) */
} attn_loss_stats;
/* logits (…, V); targets: one per row, copied; negative ones are padding.
 * loss = Σ [(1−ε)·(−log p_target) + ε · mean_v(−log p_v)] · grad_scale, one element.
 * *stats (NULL: not wanted) is added to. On a recording tape logits that come straight from a linear or an add are
 * replaced by their gradient: no operation may use them afterwards. */
ATTN_API attn_var *attn_tape_cross_entropy(attn_tape *tape, attn_var *logits, const int32_t *targets,
                                           float label_smoothing, float grad_scale, attn_loss_stats *stats);

/* Which of two answers is the better one (Rafailov et al. 2023, (7)). Rows cu[b] … cu[b+1]−1 of logits are the tokens
 * of answer b; 2i and 2i + 1 are the chosen and the rejected answer of one prompt. With l and k the log-probabilities
 * of an answer, now and by the reference (both sums over its tokens),
 *     loss = −grad_scale · Σ_i log σ(beta ((l_2i − k_2i) − (l_2i+1 − k_2i+1))),   one element
 * *stats (NULL: not wanted) is added to: losses, in `tokens` the pairs, in `correct` those with l_2i > l_2i+1. Logits
 * are used up as by attn_tape_cross_entropy. */
typedef struct attn_preference_rows {
    const int32_t *cu; /* (sequences + 1) */
    size_t sequences;
    const float *reference; /* (sequences) k; NULL: as l */
    float beta;
    float *log_prob; /* (sequences) out: l; NULL: not wanted */
} attn_preference_rows;
ATTN_API attn_var *attn_tape_preferences(attn_tape *tape, attn_var *logits, const int32_t *targets,
                                         const attn_preference_rows *rows, float grad_scale, attn_loss_stats *stats);

/* ---- layers of attention ------------------------------------------------------------------------ */

/* Raschka, Build a Large Language Model (From Scratch), chapter 3. X (B, T, d_in) has a token's embedding in each row;
 * row i of Z, the context vector of token i, is a mean of all rows with weights that are made of the rows themselves.
 *     3.3  simplified     S = X Xᵀ              A = softmax(S)              Z = A X
 *     3.4  trainable      Q = X W_qᵀ (+ b_q), K and V alike, W (d_out, d_in):
 *                         S = Q Kᵀ              A = softmax(S / √d_out)     Z = A V
 *     3.5  causal         S_ij = −∞ for j > i; dropout on A
 *     3.6  multi-head     head h: columns h·D … h·D+D−1 of Q, K and V, D = d_out / H, each as in 3.5;
 *                         Y = [Z_1 … Z_H] W_oᵀ + b_o
 * All of them are one attn_tape_attention between linears. */

/* 3.3; x (B, T, C), and so is the result. lse as above, (B, 1, T). */
ATTN_API attn_var *attn_tape_simplified_attention(attn_tape *tape, attn_var *x, attn_var **lse);

/* Borrowed from the set of parameters; names follow the prefix given at creation, as in the book's models. A struct of
 * pointers to parameters that are there (a loaded model's, shared ones) is as good as a created one. */
typedef struct attn_multi_head_attention {
    attn_parameter *w_query, *w_key, *w_value; /* W_query.weight (H·D, d_in); W_key.weight, W_value.weight (Hk·D, …) */
    attn_parameter *b_query, *b_key, *b_value; /* W_query.bias (H·D) …, or NULL */
    attn_parameter *w_out, *b_out;             /* out_proj.weight (d_out, H·D), out_proj.bias (d_out), or NULL */
    size_t heads, key_heads;                   /* H, Hk */
    size_t context_length;                     /* T and S at most; 0: any */
    attn_causal causal;                        /* what is used where the options of a call say ATTN_CAUSAL_NONE */
    float dropout;                             /* of attention weights, while recording */
} attn_multi_head_attention;

typedef struct attn_multi_head_attention_options {
    size_t struct_size;
    size_t d_in, d_out;    /* columns of x and of the result; d_out = H·D */
    size_t d_context;      /* columns of what keys and values are made of; 0: d_in */
    size_t heads;          /* divides d_out */
    size_t key_heads;      /* divides heads: groups of heads share keys and values (Ainslie et al. 2023); 0: heads */
    size_t context_length; /* 0: any */
    float dropout;
    bool qkv_bias, out_bias; /* zeros at first */
    attn_causal causal;
    attn_init init; /* of the weights */
    float init_scale;
} attn_multi_head_attention_options;
#define ATTN_MULTI_HEAD_ATTENTION_OPTIONS_INIT                                                  \
    {                                                                                           \
        .struct_size = sizeof(attn_multi_head_attention_options), .heads = 1, .out_bias = true, \
        .init = ATTN_INIT_XAVIER, .init_scale = 1                                               \
    }

/* Add the layer's parameters to the set (which owns them), names beginning with prefix ("trf_blocks.0.att."). *layer is
 * written on success. 3.4: one head, no output projection; 3.5 the same, causal from the top left; 3.6: */
ATTN_API attn_status attn_self_attention_create(attn_multi_head_attention *layer, attn_parameters *set,
                                                const char *prefix, size_t d_in, size_t d_out, bool qkv_bias);
ATTN_API attn_status attn_causal_attention_create(attn_multi_head_attention *layer, attn_parameters *set,
                                                  const char *prefix, size_t d_in, size_t d_out, size_t context_length,
                                                  float dropout, bool qkv_bias);
ATTN_API attn_status attn_multi_head_attention_create(attn_multi_head_attention *layer, attn_parameters *set,
                                                      const char *prefix,
                                                      const attn_multi_head_attention_options *options);

/* Keys and values (B, S, Hk·D) of a sequence: made once, used by every query of it, or by every step of a decoder
 * (whose last T steps see all keys before them with options of ATTN_CAUSAL_BOTTOM_RIGHT). */
typedef struct attn_keys_values {
    attn_var *k, *v;
} attn_keys_values;
ATTN_API attn_keys_values attn_tape_keys_values(attn_tape *tape, const attn_multi_head_attention *layer,
                                                attn_var *context);
/* y = attention of x (B, T, d_in) to `context`, which is another sequence's (cross-attention) or NULL: x's own.
 * residual (B, T, d_out), NULL: none, is added to the result; it needs an output projection. options, NULL: none, as in
 * attn_tape_attention: lengths, masks, windows, scale …; its dropout is to be 0, the layer has its own. Packed
 * sequences too. y (B, T, d_out); lse as above. */
ATTN_API attn_var *attn_tape_multi_head_attention(attn_tape *tape, const attn_multi_head_attention *layer, attn_var *x,
                                                  const attn_keys_values *context,
                                                  const attn_attention_options *options, attn_var *residual,
                                                  attn_var **lse);

#ifdef __cplusplus
}
#endif
#endif
