"""Attention, its gradients, its weights and its scores."""
import operator

import numpy as np

from . import _attn
from ._arrays import empty, give, options_of, shape_of


def attention(q, k, v, *, mask=None, mask_keeps=True, bias=None, causal=None, window=None, query_offset=None, scale=None,
              softcap=None, alibi=None, sinks=None, q_lengths=None, kv_lengths=None, cu_q=None, cu_k=None, segments=None,
              prefix=None, dropout=0.0, seed=0, offset=0, sequence_ids=None, precision=None, return_lse=False, out=None):
    """softmax(cap(scale · q kᵀ) + bias, over the visible keys) · v

    q (B, H, T, D), k (B, Hk, S, D), v (B, Hk, S, Dv) in float32, bfloat16 or float16, H a multiple of Hk. Packed, with
    cu_q and cu_k: q (H, total, D), k and v likewise.

    mask          bool, broadcast to (B, H, T, S); True: visible, or with mask_keeps=False hidden
    bias          added to the scores, broadcast to (B, H, T, S); -inf hides
    causal        "top-left" (key j ≤ query i), "bottom-right" (j ≤ i + S − T, real lengths), "offset" (j ≤ i + query_offset)
    window        (left, right) of the query's position; -1 is open
    query_offset  position of query 0 among the keys: an integer, or one for each sequence
    scale         of q kᵀ; 1/√D without it            softcap  c·tanh(x/c) before bias and masks
    alibi         a slope for each head               sinks    a logit for each head, without a value
    q_lengths, kv_lengths   of each sequence          prefix   keys before it are visible to all
    segments      (ids of queries, ids of keys): only equal ones see each other
    dropout       probability; seed, offset and sequence_ids fix what is dropped
    precision     "high" or "fast" for the softmax weights of 16-bit inputs

    Returns out (B, H, T, Dv), or (out, lse) with return_lse: lse (B, H, T) is the logarithm of the softmax's sum.
    A query that sees no key gives 0 and -inf. With out= the result is written there.
    """
    options = options_of(locals())
    q_shape, v_shape = shape_of(q, "q"), shape_of(v, "v")
    given = out is not None
    if not given:
        out = empty(q_shape[:-1] + v_shape[-1:], q)
    lse = empty(q_shape[:-1], q, "float32") if return_lse else None
    _attn.attention_fwd(out, lse, q, k, v, options)
    if not given:
        out = give(out, q)
    return (out, give(lse, q)) if return_lse else out


def attention_backward(dout, q, k, v, out, lse, *, dlse=None, mask=None, mask_keeps=True, bias=None, causal=None,
                       window=None, query_offset=None, scale=None, softcap=None, alibi=None, sinks=None, q_lengths=None,
                       kv_lengths=None, cu_q=None, cu_k=None, segments=None, prefix=None, dropout=0.0, seed=0, offset=0,
                       sequence_ids=None, precision=None):
    """Gradients of attention(), from that of out and, with dlse, that of lse.

    out, lse and the options are those of the forward call. Returns a dict: dq, dk, dv with the shapes and dtypes of q,
    k, v; dbias in float32 with the bias's shape, broadcast dimensions summed; dsinks in float32 (H). The last two are
    None where there was no bias, no sinks.
    """
    options = options_of(locals())
    grads = {"dq": empty(shape_of(q, "q"), q), "dk": empty(shape_of(k, "k"), q), "dv": empty(shape_of(v, "v"), q),
             "dbias": None, "dsinks": None}
    if bias is not None:
        grads["dbias"] = empty(shape_of(bias, "bias"), q, "float32")
    if sinks is not None:
        grads["dsinks"] = empty(shape_of(q, "q")[-3:-2], q, "float32")
    _attn.attention_bwd(*grads.values(), dout, dlse, q, k, v, out, lse, options)
    return {name: give(array, q) for name, array in grads.items()}


def attention_weights(q, k, lse, *, heads=None, rows=None, top_k=None, reduce=None, block=(64, 64), mask=None,
                      mask_keeps=True, bias=None, causal=None, window=None, query_offset=None, scale=None, softcap=None,
                      alibi=None, sinks=None, q_lengths=None, kv_lengths=None, cu_q=None, cu_k=None, segments=None,
                      prefix=None, dropout=0.0, seed=0, offset=0, sequence_ids=None, precision=None):
    """The softmax weights of an attention() call with the same q, k and options, from the lse it returned.

    Memory is linear in what is asked for: (T, S) numbers are made only if neither top_k nor reduce is given. Weights
    are float32 and before dropout; what is hidden has weight 0; with a sink a row sums to less than 1.

    heads         query heads to look at, increasing; without it all: H' of them
    rows          queries of each sequence, increasing, all ≥ 0 or all negative (-1 is the last); without it all: R
    top_k         (values, keys): the largest of each row, each (B, H', R, top_k); keys are int32, -1 where there are
                  fewer
    reduce        "column_sum"  (B, H', S)   sum over the rows
                  "entropy"     (B, H', R)   −Σ p ln p
                  "argmax"      (B, H', R)   the key of the largest weight, int32; -1 where no key is visible
                  "block_max"   (B, H', ⌈R / block[0]⌉, ⌈S / block[1]⌉)

    Returns the weights (B, H', R, S) without top_k and reduce. Packed, with cu_q and cu_k: B, T and S are the number of
    sequences and their longest lengths.
    """
    options = options_of(locals())
    if top_k is not None and reduce is not None:
        raise ValueError(f"top_k is {top_k!r} and reduce is {reduce!r}, expected one of them")
    heads, rows = _choice(heads), _choice(rows)
    shape = _attn.look_shape(q, k, heads, rows, options)
    wanted = _look(shape, top_k, reduce, block)
    found = {name: empty(size, q, dtype) for name, (size, dtype) in wanted.items()}
    _attn.attention_weights(*(found.get(name) for name in _LOOKS), q, k, lse, heads, rows, *_block(block), options)
    found = tuple(give(array, q) for array in found.values())
    return found if top_k is not None else found[0]


_LOOKS = ("weights", "top_values", "top_keys", "argmax", "entropy", "column_sum", "block_max")


def _choice(indices):
    return [indices] if isinstance(indices, (int, np.integer)) else indices


def _block(block):
    rows, keys = (operator.index(size) for size in block)
    if rows < 1 or keys < 1:
        raise ValueError(f"block is {block!r}, expected two numbers from 1: rows, keys")
    return rows, keys


def _look(shape, top_k, reduce, block):
    """Name in _LOOKS, shape and dtype of each output."""
    batch, heads, rows, keys = shape
    if top_k is not None:
        n = operator.index(top_k)
        if n < 1:
            raise ValueError(f"top_k is {n}, expected 1 or more")
        return {"top_values": ((batch, heads, rows, n), "float32"), "top_keys": ((batch, heads, rows, n), "int32")}
    block_rows, block_keys = _block(block)
    kinds = {None: ("weights", shape, "float32"),
             "column_sum": ("column_sum", (batch, heads, keys), "float32"),
             "entropy": ("entropy", (batch, heads, rows), "float32"),
             "argmax": ("argmax", (batch, heads, rows), "int32"),
             "block_max": ("block_max", (batch, heads, -(-rows // block_rows), -(-keys // block_keys)), "float32")}
    if reduce not in kinds:
        raise ValueError(f"reduce is {reduce!r}, expected None, " + ", ".join(f'"{name}"' for name in kinds if name))
    name, size, dtype = kinds[reduce]
    return {name: (size, dtype)}


def attention_scores(q, k, *, stage=0, mask=None, mask_keeps=True, bias=None, causal=None, window=None,
                     query_offset=None, scale=None, softcap=None, alibi=None, sinks=None, q_lengths=None,
                     kv_lengths=None, cu_q=None, cu_k=None, segments=None, prefix=None, dropout=0.0, seed=0, offset=0,
                     sequence_ids=None, precision=None):
    """The scores of all pairs of a small call, float32 (B, H, T, S), as they are at a stage of attention():

    0  scale · q kᵀ, of all pairs, visible or not
    1  and capped
    2  with bias and slopes; -inf where not visible
    3  softmax of it, before dropout
    """
    options = options_of(locals())
    scores = empty(_attn.look_shape(q, k, None, None, options), q, "float32")
    _attn.attention_scores(scores, q, k, stage, options)
    return give(scores, q)


def rotary_embedding(x, cos, sin, *, positions=None, interleaved=False, rotary_dim=None):
    """x (B, H, T, D) with the pairs of its first rotary_dim elements turned by their positions' angles.

    cos and sin have a row of rotary_dim/2 for each position: (P, rotary_dim/2) with positions (B, T) or (T), else
    (T, rotary_dim/2) or (B, T, rotary_dim/2). A pair is (i, i + rotary_dim/2), or with interleaved (2i, 2i + 1). The
    gradient is the same call on dy with -sin.
    """
    y = empty(shape_of(x, "x"), x)
    _attn.rotary_embedding(y, x, cos, sin, positions, rotary_dim or 0, interleaved, False)
    return give(y, x)
