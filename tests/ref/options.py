"""Calls of attention() that between them use every option, all on one shape."""
import numpy as np

B, H, HK, T, S, D, DV = 3, 4, 2, 11, 13, 8, 10


def random_options():
    rng = np.random.default_rng(2)
    mask = rng.random((B, H, T, S)) < 0.7
    bias = rng.standard_normal((B, H, T, S), np.float32)
    hidden = np.where(mask, bias, -np.inf).astype(np.float32)
    yield {}
    yield {"scale": 0.3}
    yield {"scale": -0.3}
    yield {"softcap": 1.5}
    for causal in ("top-left", "bottom-right", "offset"):
        yield {"causal": causal}
        yield {"causal": causal, "window": (3, -1)}
        yield {"causal": causal, "prefix": [0, 5, 13]}
    yield {"prefix": [0, 5, 13]}
    yield {"window": (2, 1)}
    yield {"window": (2, 1), "query_offset": 3}
    yield {"causal": "offset", "query_offset": -2}
    yield {"causal": "offset", "query_offset": [5, -4, 0], "window": (np.int64(4), -1)}
    yield {"causal": "offset", "query_offset": np.array([5, -4, 0], np.int16)}
    yield {"q_lengths": [11, 0, 4], "kv_lengths": (13, 5, 0)}
    yield {"kv_lengths": np.array([1, 2, 3], np.uint64), "causal": "bottom-right"}
    yield {"q_lengths": np.array([9, 9, 1])[::-1], "causal": "bottom-right"}
    yield {"mask": mask}
    yield {"mask": mask, "mask_keeps": False}
    yield {"mask": mask[0]}
    yield {"mask": mask[0, 0]}
    yield {"mask": mask[0, 0, 0]}
    yield {"mask": mask[0, 0, :, :1]}
    yield {"mask": mask[:, :, :, :1]}
    yield {"mask": np.bool_(False).reshape(1)}
    yield {"mask": mask[:, :1, :, :]}
    yield {"mask": np.ascontiguousarray(mask.swapaxes(2, 3)).swapaxes(2, 3)}
    yield {"mask": mask[::-1, :, ::-1, ::-1]}
    yield {"bias": bias}
    yield {"bias": bias[0, 0]}
    yield {"bias": bias[:, :1, :, :1]}
    yield {"bias": hidden}
    yield {"bias": bias[:, :, :, ::-1].astype(np.float16)}
    yield {"alibi": [0.5, 0.25, 0.125, 0.0625], "causal": "top-left"}
    yield {"alibi": np.array([0.5, 0.25, -0.1, 0]), "causal": "bottom-right"}
    yield {"alibi": np.float16([0.5, 2**-24, 1, 0.1]), "query_offset": [1, 2, 3]}
    yield {"sinks": [0.0, 1.0, -1.0, 5.0]}
    yield {"sinks": np.array([0, 1, -1, 5], np.float32), "kv_lengths": [0, 1, 13], "q_lengths": [11, 3, 0]}
    yield {"segments": (rng.integers(0, 3, (B, T)), rng.integers(0, 3, (B, S)).astype(np.int32))}
    yield {"segments": (rng.integers(0, 3, (B, T))[:, ::-1], rng.integers(0, 3, (S, B)).T), "causal": "top-left"}
    yield {"mask": mask, "bias": hidden, "causal": "bottom-right", "window": (6, 2), "softcap": 2.0, "sinks": [1, 2, 3, 4],
           "alibi": [0.1, 0.2, 0.3, 0.4], "kv_lengths": [13, 7, 9], "prefix": [1, 2, 3], "scale": 0.5}


def name(options):
    return "-".join(options) or "none"
