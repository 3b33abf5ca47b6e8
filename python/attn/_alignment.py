"""Attention with additive (Bahdanau's) and dot (Luong's) scores, on projected inputs."""
from . import _attn
from ._arrays import empty, give, shape_of


def _sizes(q, q_name, k, k_name, h):
    """((B, T), (B, S), C) as far as the arrays have them; the library checks the rest."""
    q_shape, k_shape, h_shape = shape_of(q, q_name), shape_of(k, k_name), shape_of(h, "h")
    for name, shape in ((q_name, q_shape), (k_name, k_shape), ("h", h_shape)):
        if len(shape) != 3:
            raise ValueError(f"{name} has {len(shape)} dimensions, expected 3")
    return q_shape[:2], k_shape[:2], h_shape[2]


def additive_attention(sq, hk, v, h, *, kv_lengths=None, return_lse=False, return_alignment=False):
    """Bahdanau's attention: c_i = Σ_j α_ij h_j with α = softmax of vᵀ tanh(sq_i + hk_j) over the visible j.

    sq (B, T, A) are the projected states, W s + b; hk (B, S, A) the projected annotations, U h, the same at every step
    of a decoder; v (A); h (B, S, C). float32 or bfloat16, all the same. With kv_lengths, of B sequences, what lies past
    them is hidden; a sequence of length 0 gives 0 and -inf. Nothing of the size T · S · A is made.

    Returns c (B, T, C), or a tuple: with return_lse lse (B, T) follows, the logarithm of the softmax's sum; with
    return_alignment α (B, T, S), which backward can use. Both are float32.
    """
    rows, keys, width = _sizes(sq, "sq", hk, "hk", h)
    c = empty((*rows, width), sq)
    lse = empty(rows, sq, "float32") if return_lse else None
    alignment = empty((*rows, keys[1]), sq, "float32") if return_alignment else None
    _attn.additive_fwd(c, lse, alignment, sq, hk, v, h, kv_lengths)
    found = tuple(give(array, sq) for array in (c, lse, alignment) if array is not None)
    return found if return_lse or return_alignment else found[0]


def additive_attention_backward(dc, sq, hk, v, h, c=None, lse=None, *, kv_lengths=None, alignment=None):
    """Gradients of additive_attention() from that of c: a dict of dsq, dhk, dv, dh, with their inputs' dtype.

    c and lse are those of the forward call, and may be left out: nothing is read of them. With its alignment the
    energies are not computed again.
    """
    if alignment is None:
        alignment = additive_attention(sq, hk, v, h, kv_lengths=kv_lengths, return_alignment=True)[1]
    inputs = {"dsq": (sq, "sq"), "dhk": (hk, "hk"), "dv": (v, "v"), "dh": (h, "h")}
    grads = {name: empty(shape_of(*of), sq) for name, of in inputs.items()}
    _attn.additive_bwd(*grads.values(), dc, sq, hk, v, h, alignment, kv_lengths)
    return {name: give(array, sq) for name, array in grads.items()}


def dot_attention(q, k, h, *, scale=1.0, kv_lengths=None, return_alignment=False):
    """Luong's dot score: c_i = Σ_j α_ij h_j with α = softmax of scale · q_i · k_j over the visible j.

    q (B, T, C), k (B, S, C), h (B, S, Cv), float32 or bfloat16. "general" projects q or k before, "concat" is
    additive_attention. kv_lengths and what is returned are as there: c (B, T, Cv), or (c, α (B, T, S)).
    """
    rows, keys, width = _sizes(q, "q", k, "k", h)
    c = empty((*rows, width), q)
    alignment = empty((*rows, keys[1]), q, "float32") if return_alignment else None
    _attn.dot_fwd(c, alignment, q, k, h, scale, kv_lengths)
    return (give(c, q), give(alignment, q)) if return_alignment else give(c, q)


def dot_attention_backward(dc, q, k, h, *, scale=1.0, kv_lengths=None, alignment=None):
    """Gradients of dot_attention() from that of c: a dict of dq, dk, dh. alignment, if it was kept, spares a forward."""
    if alignment is None:
        alignment = dot_attention(q, k, h, scale=scale, kv_lengths=kv_lengths, return_alignment=True)[1]
    grads = {"dq": empty(shape_of(q, "q"), q), "dk": empty(shape_of(k, "k"), q), "dh": empty(shape_of(h, "h"), q)}
    _attn.dot_bwd(*grads.values(), dc, q, k, h, alignment, scale, kv_lengths)
    return {name: give(array, q) for name, array in grads.items()}
