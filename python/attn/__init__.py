"""Attention on CPUs, forward and backward, with every option beside every other.

    out, lse = attn.attention(q, k, v, causal="top-left", return_lse=True)
    grads = attn.attention_backward(dout, q, k, v, out, lse, causal="top-left")

Arrays are NumPy's, or anything's with DLPack (torch, bfloat16 too); they are not copied, and results are of q's kind.
Options are those of the C header attn/attention.h, and so are the errors' sentences.
"""
import os
import sys

import numpy as np

from . import _attn
from ._attn import cpu_level, set_cpu_level, set_num_threads

__all__ = ["attention", "attention_backward", "rotary_embedding", "set_num_threads", "cpu_level", "set_cpu_level"]
__version__ = _attn.version

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_attn.after_fork)


# ---- arrays of the caller's kind ----------------------------------------------------------------------


def _is_torch(array):
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def _shape(array, name):
    shape = getattr(array, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) else _attn.describe(array, name)[0]


def _empty(shape, like, dtype=None):
    """A new array of like's kind, and of its dtype or of the one named; anything's but NumPy's and torch's is made as
    Memory, which _give() hands over."""
    if isinstance(like, np.ndarray):
        return np.empty(shape, dtype or like.dtype)
    if _is_torch(like):
        return like.new_empty(shape, dtype=dtype and getattr(sys.modules["torch"], dtype), requires_grad=False)
    if hasattr(like, "__dlpack__"):
        return _attn.Memory(tuple(shape), dtype or _attn.describe(like, "array")[1])
    return np.empty(shape, dtype or _attn.describe(like, "array")[1])


def _give(array, like):
    """Memory as an array of like's kind; the others are what they should be already."""
    if not isinstance(array, _attn.Memory):
        return array
    if hasattr(like, "__array_namespace__"):
        namespace = like.__array_namespace__()
    else:
        namespace = sys.modules[type(like).__module__.partition(".")[0]]
    return namespace.from_dlpack(array)


# ---- options ------------------------------------------------------------------------------------------

_OPTIONS = ("mask", "mask_keeps", "bias", "causal", "window", "query_offset", "scale", "softcap", "alibi", "sinks",
            "q_lengths", "kv_lengths", "cu_q", "cu_k", "segments", "prefix", "dropout", "seed", "offset",
            "sequence_ids", "precision")


def _options(arguments):
    """The options among a function's arguments, which its locals() are when it begins."""
    return {name: arguments[name] for name in _OPTIONS if arguments[name] is not None}


# ---- operations ---------------------------------------------------------------------------------------


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
    options = _options(locals())
    q_shape, v_shape = _shape(q, "q"), _shape(v, "v")
    given = out is not None
    if not given:
        out = _empty(q_shape[:-1] + v_shape[-1:], q)
    lse = _empty(q_shape[:-1], q, "float32") if return_lse else None
    _attn.attention_fwd(out, lse, q, k, v, options)
    if not given:
        out = _give(out, q)
    return (out, _give(lse, q)) if return_lse else out


def attention_backward(dout, q, k, v, out, lse, *, dlse=None, mask=None, mask_keeps=True, bias=None, causal=None,
                       window=None, query_offset=None, scale=None, softcap=None, alibi=None, sinks=None, q_lengths=None,
                       kv_lengths=None, cu_q=None, cu_k=None, segments=None, prefix=None, dropout=0.0, seed=0, offset=0,
                       sequence_ids=None, precision=None):
    """Gradients of attention(), from that of out and, with dlse, that of lse.

    out, lse and the options are those of the forward call. Returns a dict: dq, dk, dv with the shapes and dtypes of q,
    k, v; dbias in float32 with the bias's shape, broadcast dimensions summed; dsinks in float32 (H). The last two are
    None where there was no bias, no sinks.
    """
    options = _options(locals())
    grads = {"dq": _empty(_shape(q, "q"), q), "dk": _empty(_shape(k, "k"), q), "dv": _empty(_shape(v, "v"), q),
             "dbias": None, "dsinks": None}
    if bias is not None:
        grads["dbias"] = _empty(_shape(bias, "bias"), q, "float32")
    if sinks is not None:
        grads["dsinks"] = _empty(_shape(q, "q")[-3:-2], q, "float32")
    _attn.attention_bwd(tuple(grads.values()), dout, dlse, q, k, v, out, lse, options)
    return {name: _give(array, q) for name, array in grads.items()}


def rotary_embedding(x, cos, sin, *, positions=None, interleaved=False, rotary_dim=None):
    """x (B, H, T, D) with the pairs of its first rotary_dim elements turned by their positions' angles.

    cos and sin have a row of rotary_dim/2 for each position: (P, rotary_dim/2) with positions (B, T) or (T), else
    (T, rotary_dim/2) or (B, T, rotary_dim/2). A pair is (i, i + rotary_dim/2), or with interleaved (2i, 2i + 1). The
    gradient is the same call on dy with -sin.
    """
    y = _empty(_shape(x, "x"), x)
    _attn.rotary_embedding(y, x, cos, sin, positions, rotary_dim or 0, interleaved, False)
    return _give(y, x)
