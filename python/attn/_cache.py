"""Keys and values of sequences that grow, and attention that reads them where they lie."""
import os
import threading

from . import _attn
from ._arrays import empty, give, options_of, shape_of

_DTYPES = {"f32": "F32", "bf16": "BF16", "f16": "F16", "int8": "I8"}


class KVCache:
    """Keys and values of `batch` sequences.

        cache = attn.KVCache(batch=1, kv_heads=8, head_dim=128, capacity=4096, dtype="bf16", page=16)
        cache.append(k, v)                                # of a whole prompt, then of a step
        out = cache.attend(q, causal="bottom-right")      # queries are the newest tokens

    A row of attend() has the bits that attention() gives for the same keys, however they came in. What fails raises and
    leaves the cache as it was.

    capacity   keys of a sequence          v_head_dim   of the values, without it head_dim
    dtype      "f32", "bf16", "f16", or "int8": rounded, with a scale for each token and head
    page       16 or 32: memory comes in pages of so many keys, which forks share; without it a sequence's capacity is
               one piece
    window     queries see no key more than this left of their own position, and the capacity, which is greater, is a
               ring: a sequence grows on, and the oldest keys go
    """

    def __init__(self, batch, kv_heads, head_dim, v_head_dim=None, *, capacity, dtype="f32", page=None, window=None):
        if dtype not in _DTYPES:
            raise ValueError(f"dtype is {dtype!r}, expected " + ", ".join(f'"{name}"' for name in _DTYPES))
        self._cache = _attn.Cache(batch, kv_heads, head_dim, v_head_dim or 0, capacity, list(_DTYPES).index(dtype),
                                  page or 0, -1 if window is None else window)
        self._read_options()

    def _read_options(self):
        (self.batch, self.kv_heads, self.head_dim, self.v_head_dim, self.capacity, dtype, page,
         window) = self._cache.options()
        self.dtype = next(name for name, text in _DTYPES.items() if text == dtype)
        self.page, self.window = page or None, None if window < 0 else window

    def append(self, k, v, lengths=None):
        """Adds keys (B, Hk, T, D) and values (B, Hk, T, Dv), with lengths only the first lengths[b] of sequence b.

        They have the cache's dtype; for "int8" float32, bfloat16 or float16.
        """
        self._cache.append(k, v, lengths)

    def attend(self, q, *, mask=None, mask_keeps=True, bias=None, causal=None, window=None, query_offset=None,
               scale=None, softcap=None, alibi=None, sinks=None, q_lengths=None, segments=None, prefix=None,
               dropout=0.0, seed=0, offset=0, sequence_ids=None, precision=None, return_lse=False, out=None):
        """attention() with the keys that are here: q (B, H, T, D) gives (B, H, T, Dv); S is the longest length.

        The newest T_b tokens of a sequence, with q_lengths where they differ, are causal="bottom-right".
        """
        options = options_of(locals())
        shape, given = shape_of(q, "q"), out is not None
        if not given:
            out = empty(shape[:-1] + (self.v_head_dim,), q)
        lse = empty(shape[:-1], q, "float32") if return_lse else None
        self._cache.attend(out, lse, q, options)
        if not given:
            out = give(out, q)
        return (out, give(lse, q)) if return_lse else out

    def fork(self, src, dst, n):
        """Sequence dst becomes the first n keys of src. Whole pages are shared, no more than one is copied."""
        self._cache.fork(src, dst, n)

    def rollback(self, sequence, n):
        """Takes the last n keys of a sequence away."""
        self._cache.rollback(sequence, n)

    def reset(self, sequence):
        """Empties a sequence and returns its memory."""
        self._cache.reset(sequence)

    @property
    def lengths(self):
        """Keys that each sequence has seen, a list."""
        return self._cache.sizes()[0]

    @property
    def first(self):
        """The first key of each sequence that is still there: not 0 only in a ring."""
        return self._cache.sizes()[1]

    @property
    def nbytes(self):
        """Memory of keys and values."""
        return self._cache.sizes()[2]

    def state(self):
        """Everything as bytes, with a checksum; from_state() makes an equal cache of them, on any machine."""
        return self._cache.state()

    @classmethod
    def from_state(cls, data):
        """A cache of what state() gave; ValueError for anything else."""
        cache = cls.__new__(cls)
        cache._cache = _attn.Cache(data)
        cache._read_options()
        return cache

    def save(self, path):
        """state() in a file, which is whole or not there: what was at `path` stays until the new file is complete."""
        path, data = os.fspath(path), self.state()
        temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
        with open(temporary, "xb") as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @classmethod
    def load(cls, path):
        """The cache that save() wrote; ValueError with the file's name for anything else."""
        with open(path, "rb") as file:
            data = file.read()
        try:
            return cls.from_state(data)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from None
