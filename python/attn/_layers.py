"""What stands around attention in a model: softmax, GELU, normalisations, GRU. Forward, float32."""
from . import _attn
from ._arrays import empty, give, shape_of


def softmax(x):
    """Over the last dimension."""
    y = empty(shape_of(x, "x"), x)
    _attn.softmax(y, x, False)
    return give(y, x)


def log_softmax(x):
    """Over the last dimension."""
    y = empty(shape_of(x, "x"), x)
    _attn.softmax(y, x, True)
    return give(y, x)


def gelu(x, *, approximate="none"):
    """x · Φ(x) with the error function, or approximate="tanh" (GPT-2)."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f'approximate is {approximate!r}, expected "none" or "tanh"')
    y = empty(shape_of(x, "x"), x)
    _attn.gelu(y, x, approximate == "tanh")
    return give(y, x)


def layer_norm(x, gain, bias=None, *, epsilon=1e-5, return_stats=False):
    """gain ∘ (x − mean) / √(variance + ε) + bias over the last dimensions of x, which are those of gain and bias.

    With return_stats (y, mean, rstd): 1/√(variance + ε) and the mean, with 1 in place of those dimensions.
    """
    return _norm(x, gain, bias, epsilon, return_stats, False)


def rms_norm(x, gain, *, epsilon=1e-5):
    """gain ∘ x / √(mean of x² + ε) over the last dimensions of x, which are those of gain."""
    return _norm(x, gain, None, epsilon, False, True)


def _norm(x, gain, bias, epsilon, return_stats, rms):
    shape, over = shape_of(x, "x"), len(shape_of(gain, "gain"))
    y, stats = empty(shape, x), (None, None)
    if return_stats:
        stats = tuple(empty(shape[: max(len(shape) - over, 0)] + (1,) * over, x) for _ in range(2))
    _attn.norm(y, *stats, x, gain, bias, epsilon, rms)
    return (give(y, x), *(give(array, x) for array in stats)) if return_stats else give(y, x)


def gru(x, w, u, b=None, c=None, h0=None, *, lengths=None, reverse=False, reset_after=True):
    """One direction of a GRU over sequences: y (T, B, H), the state after each step.

        r = σ(W_r x + b_r + U_r h + c_r)      z likewise      h' = (1 − z) ∘ n + z ∘ h
        n = tanh(W_n x + b_n + r ∘ (U_n h + c_n))             reset_after: PyTorch, cuDNN
        n = tanh(W_n x + b_n + U_n (r ∘ h) + c_n)             without: Cho et al. 2014

    x (T, B, E), w (3H, E), u (3H, H), b and c (3H), h0 (B, H), gates in the order r, z, n. Past its length a sequence
    keeps its state; reverse begins at the sequence's own end.
    """
    steps, size = shape_of(x, "x")[:2], shape_of(u, "u")[-1:]
    y = empty(steps + size, x)
    _attn.gru(y, x, w, u, b, c, h0, lengths, reverse, reset_after)
    return give(y, x)
