"""Arrays of the caller's kind, and the options that attention, its weights and its scores share."""
import sys

import numpy as np

from . import _attn


def is_torch(array):
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor)


def shape_of(array, name):
    shape = getattr(array, "shape", None)
    return tuple(shape) if isinstance(shape, tuple) else _attn.describe(array, name)[0]


def empty(shape, like, dtype=None):
    """A new array of like's kind, and of its dtype or of the one named; anything's but NumPy's and torch's is made as
    Memory, which give() hands over."""
    if isinstance(like, np.ndarray):
        return np.empty(shape, dtype or like.dtype)
    if is_torch(like):
        return like.new_empty(shape, dtype=dtype and getattr(sys.modules["torch"], dtype), requires_grad=False)
    if hasattr(like, "__dlpack__"):
        return _attn.Memory(tuple(shape), dtype or _attn.describe(like, "array")[1])
    return np.empty(shape, dtype or _attn.describe(like, "array")[1])


def give(array, like):
    """Memory as an array of like's kind; the others are what they should be already."""
    if not isinstance(array, _attn.Memory):
        return array
    if hasattr(like, "__array_namespace__"):
        namespace = like.__array_namespace__()
    else:
        namespace = sys.modules[type(like).__module__.partition(".")[0]]
    return namespace.from_dlpack(array)


OPTIONS = ("mask", "mask_keeps", "bias", "causal", "window", "query_offset", "scale", "softcap", "alibi", "sinks",
           "q_lengths", "kv_lengths", "cu_q", "cu_k", "segments", "prefix", "dropout", "seed", "offset", "sequence_ids",
           "precision")


def options_of(arguments):
    """The options among a function's arguments, which its locals() are when it begins."""
    return {name: arguments[name] for name in OPTIONS if arguments.get(name) is not None}
