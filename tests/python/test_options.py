"""Every option of attention() against naive double NumPy, and what is refused."""
import re

import numpy as np
import pytest
from attention import Attention
from options import DV, HK, B, D, H, S, T, name, random_options

import attn


@pytest.fixture
def qkv(rng):
    return tuple(rng.standard_normal(shape, np.float32) for shape in [(B, H, T, D), (B, HK, S, D), (B, HK, S, DV)])


@pytest.mark.parametrize("options", list(random_options()), ids=name)
def test_forward(options, qkv):
    expected = Attention(*qkv, **options)
    out, lse = attn.attention(*qkv, **options, return_lse=True)
    np.testing.assert_allclose(out, expected.out, rtol=1e-5, atol=5e-6)
    np.testing.assert_allclose(lse, expected.lse, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("with_dlse", [False, True])
@pytest.mark.parametrize("options", list(random_options()), ids=name)
def test_backward(options, with_dlse, qkv, rng):
    forward = Attention(*qkv, **options)
    out, lse = attn.attention(*qkv, **options, return_lse=True)
    dout = rng.standard_normal(out.shape, np.float32)
    dlse = rng.standard_normal(lse.shape, np.float32) if with_dlse else None
    expected = forward.backward(dout, dlse)
    found = attn.attention_backward(dout, *qkv, out, lse, dlse=dlse, **options)
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        if gradient is None:
            assert found[key] is None
            continue
        assert found[key].dtype == np.float32 and found[key].shape == gradient.shape
        np.testing.assert_allclose(found[key], gradient, rtol=2e-5, atol=2e-5, err_msg=key)


@pytest.mark.parametrize("options", list(random_options()), ids=name)
def test_options_of_torch(options, qkv):
    torch = pytest.importorskip("torch")

    def tensor(x):
        if isinstance(x, np.ndarray):
            x = x.astype(np.int64) if x.dtype.kind == "u" else x
            return torch.from_numpy(x.copy())
        return tuple(tensor(y) for y in x) if isinstance(x, tuple) and not isinstance(x[0], np.integer) else x

    out = attn.attention(*(torch.from_numpy(x) for x in qkv), **{key: tensor(x) for key, x in options.items()})
    np.testing.assert_array_equal(out.numpy(), attn.attention(*qkv, **options))


def test_packed(qkv):
    lengths_q, lengths_k = [11, 0, 4], [13, 6, 2]
    cu_q, cu_k = np.cumsum([0, *lengths_q]), np.cumsum([0, *lengths_k])
    q, k, v = (np.concatenate([x[b, :, :n] for b, n in enumerate(lengths)], axis=1)
               for x, lengths in zip(qkv, (lengths_q, lengths_k, lengths_k), strict=True))
    for options in ({}, {"causal": "bottom-right"}, {"query_offset": [1, 2, 3], "causal": "offset"},
                    {"mask": np.arange(T * S).reshape(T, S) % 3 != 0}, {"mask": np.arange(T)[:, None] % 2 == 0}):
        out, lse = attn.attention(q, k, v, cu_q=cu_q, cu_k=list(cu_k), return_lse=True, **options)
        same, same_lse = attn.attention(*qkv, q_lengths=lengths_q, kv_lengths=lengths_k, return_lse=True, **options)
        assert out.shape == (H, 15, DV) and lse.shape == (H, 15)
        for b, (first, n) in enumerate(zip(cu_q, lengths_q, strict=False)):
            np.testing.assert_array_equal(out[:, first : first + n], same[b, :, :n])
            np.testing.assert_array_equal(lse[:, first : first + n], same_lse[b, :, :n])


def test_packed_backward(qkv, rng):
    lengths_q, lengths_k = [11, 0, 4], [13, 6, 2]
    cu_q, cu_k = np.cumsum([0, *lengths_q]), np.cumsum([0, *lengths_k])
    q, k, v = (np.concatenate([x[b, :, :n] for b, n in enumerate(lengths)], axis=1)
               for x, lengths in zip(qkv, (lengths_q, lengths_k, lengths_k), strict=True))
    out, lse = attn.attention(q, k, v, cu_q=cu_q, cu_k=cu_k, causal="bottom-right", return_lse=True)
    dout, whole = rng.standard_normal(out.shape, np.float32), np.zeros((B, H, T, DV), np.float32)
    for b, (first, n) in enumerate(zip(cu_q, lengths_q, strict=False)):
        whole[b, :, :n] = dout[:, first : first + n]
    grads = attn.attention_backward(dout, q, k, v, out, lse, cu_q=cu_q, cu_k=cu_k, causal="bottom-right")
    options = {"q_lengths": lengths_q, "kv_lengths": lengths_k, "causal": "bottom-right"}
    out, lse = attn.attention(*qkv, return_lse=True, **options)
    same = attn.attention_backward(whole, *qkv, out, lse, **options)
    for key, cu, lengths in (("dq", cu_q, lengths_q), ("dk", cu_k, lengths_k), ("dv", cu_k, lengths_k)):
        for b, (first, n) in enumerate(zip(cu, lengths, strict=False)):
            np.testing.assert_array_equal(grads[key][:, first : first + n], same[key][b, :, :n])


def test_backward_is_refused(qkv):
    out, lse = attn.attention(*qkv, return_lse=True)
    for arguments, keywords, error, text in [
            ((out, *qkv, out, None), {}, TypeError, "lse is a NoneType"),
            ((None, *qkv, out, lse), {}, TypeError, "dout is a NoneType"),
            ((out[:, :1], *qkv, out, lse), {}, ValueError, "dout has shape"),
            ((out.astype(np.float16), *qkv, out, lse), {}, ValueError, "dout is F16, expected F32"),
            ((out, *qkv, out, lse[:1]), {}, ValueError, "lse has shape"),
            ((out, *qkv, out, lse), {"dlse": lse.astype(np.float64)}, TypeError, "dlse is float64, expected float32"),
            ((out, *qkv, out, lse), {"dropout": 2}, ValueError, "attn_attention_bwd: dropout is 2"),
            ((out, *qkv, out, lse), {"sinks": [1]}, ValueError, "dsinks has shape|sinks has 1 elements")]:
        with pytest.raises(error, match=text):
            attn.attention_backward(*arguments, **keywords)


def test_dropout(qkv):
    q, k, _ = qkv
    v = np.broadcast_to(np.eye(S, dtype=np.float32), (B, HK, S, S))
    whole = attn.attention(q, k, v)
    some = attn.attention(q, k, v, dropout=0.25, seed=2**64 - 1, offset=3)
    kept = some != 0
    assert 0.7 < kept.mean() < 0.8
    np.testing.assert_allclose(some[kept], whole[kept] / 0.75, rtol=1e-5)
    np.testing.assert_array_equal(some, attn.attention(q, k, v, dropout=0.25, seed=2**64 - 1, offset=3))
    for other in ({"seed": 1, "offset": 3}, {"seed": 2**64 - 1, "offset": 4}):
        assert ((attn.attention(q, k, v, dropout=0.25, **other) != 0) != kept).any()
    out, lse = attn.attention(q, k, v, dropout=0.25, seed=5, return_lse=True)
    grads = attn.attention_backward(np.ones_like(out), q, k, v, out, lse, dropout=0.25, seed=5)
    weights = out.reshape(B, HK, H // HK, T, S).sum(axis=(2, 3))  # what each key gave to all queries of its group
    np.testing.assert_allclose(grads["dv"], np.broadcast_to(weights[..., None], v.shape), rtol=1e-4)
    last = attn.attention(q[2:], k[2:], v[2:], dropout=0.25, seed=2**64 - 1, offset=3, sequence_ids=[2])
    np.testing.assert_array_equal(last[0], some[2])


def test_precision(qkv):
    half = [x.astype(np.float16) for x in qkv]
    for precision in (None, "high", "fast"):
        np.testing.assert_allclose(attn.attention(*half, precision=precision).astype(np.float64), Attention(*half).out,
                                   rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize(("options", "error", "text"), [
    ({"causal": "both"}, ValueError, 'causal is \'both\', expected None, "top-left", "bottom-right" or "offset"'),
    ({"causal": True}, TypeError, "causal is True, expected None"),
    ({"precision": "low"}, ValueError, "precision is 'low', expected None, \"high\" or \"fast\""),
    ({"window": 3}, TypeError, "window is 3, expected integers"),
    ({"window": (1, 2, 3)}, ValueError, "window has 3 elements, expected 2"),
    ({"window": (1.5, 2)}, TypeError, "window: 1.5 is not an integer"),
    ({"window": (-2, 0)}, ValueError, "window is -2, 0, expected -1 (open) or more"),
    ({"scale": "big"}, TypeError, "scale is 'big', expected a number"),
    ({"scale": float("inf")}, ValueError, "scale is inf"),
    ({"softcap": -1}, ValueError, "softcap is -1, expected 0 or more"),
    ({"dropout": -0.5}, ValueError, "dropout is -0.5"),
    ({"seed": -1}, ValueError, "seed is -1, expected 0 to 2**64 - 1"),
    ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
    ({"seed": 0.5}, TypeError, "integer"),
    ({"q_lengths": [1, 2]}, ValueError, "q_lengths has 2 elements, expected 3 (B)"),
    ({"q_lengths": [1, 2, 12]}, ValueError, "q_lengths[2] is 12, expected 0 to 11"),
    ({"kv_lengths": [1, -2, 12]}, ValueError, "kv_lengths[1] is -2, expected 0 to 13"),
    ({"kv_lengths": [1, 2, 2**31]}, ValueError, "kv_lengths[2] is 2147483648, expected 32 bits"),
    ({"kv_lengths": [1, 2, 2**70]}, ValueError, "kv_lengths: 1180591620717411303424 is too large"),
    ({"kv_lengths": np.array([1, 2, 2**64 - 1], np.uint64)}, ValueError, "is too large"),
    ({"kv_lengths": [1, 2, 3.0]}, TypeError, "kv_lengths: 3.0 is not an integer"),
    ({"kv_lengths": np.array([1.0, 2.0, 3.0])}, TypeError, "kv_lengths is float64, expected integers"),
    ({"kv_lengths": 3}, TypeError, "kv_lengths is 3, expected integers"),
    ({"query_offset": [1]}, ValueError, "query_offset has 1 elements, expected 3 (B)"),
    ({"sequence_ids": [1]}, ValueError, "sequence_ids has 1 elements, expected 3 (B)"),
    ({"alibi": [1, 2]}, ValueError, "alibi has 2 elements, expected 4 (H)"),
    ({"alibi": np.zeros(5, np.float32)}, ValueError, "alibi has 5 elements, expected 4 (H)"),
    ({"sinks": [1, 2, 3, "x"]}, TypeError, "str"),
    ({"sinks": 1.0}, TypeError, "sinks is 1.0, expected numbers"),
    ({"mask": np.ones((T, S), np.uint8)}, TypeError, "mask is uint8, expected bool"),
    ({"mask": [[True]]}, TypeError, "mask is a list"),
    ({"mask": np.ones((1, B, H, T, S), bool)}, ValueError, "mask has 5 dimensions, expected at most 4"),
    ({"mask": np.ones((T, S - 1), bool)}, ValueError, "mask has 12 for dimension 3, expected 13"),
    ({"mask": np.ones((2, 1, T, S), bool)}, ValueError, "mask has 2 for dimension 0, expected 3 or 1"),
    ({"bias": np.ones((T, S))}, TypeError, "bias is float64, expected float32, bfloat16 or float16"),
    ({"bias": np.ones((T + 1, S), np.float32)}, ValueError, "bias has 12 for dimension 2, expected 11 or 1"),
    ({"segments": np.zeros((B, T), int)}, TypeError, "segments: expected a tuple"),
    ({"segments": (np.zeros((B, T)), np.zeros((B, S)))}, TypeError, "segments[0] is float64, expected integers"),
    ({"segments": (np.zeros((B, T), int), np.zeros((B, T), int))}, ValueError, "segments_k has shape"),
    ({"cu_q": [0, 3]}, ValueError, "cu_q has 2 elements and cu_k has 0"),
    ({"cu_q": [0, 3], "cu_k": [0, 3]}, ValueError, "q has 4 dimensions, expected 3 beside cu_q and cu_k"),
], ids=lambda x: name(x) if isinstance(x, dict) else "")
def test_refused(options, error, text, qkv):
    with pytest.raises(error, match=re.escape(text)):
        attn.attention(*qkv, **options)


def test_refused_packing(rng):
    q = rng.standard_normal((4, 10, 8), np.float32)
    for cu, text in [([0, 5, 4, 10], "cu_q[2] is 4, expected at least cu_q[1], 5"), ([1, 10], "cu_q[0] is 1, expected 0"),
                     ([0, 9], "cu_q ends at 9"), ([], "cu_q has 0 elements")]:
        with pytest.raises(ValueError, match=re.escape(text)):
            attn.attention(q, q, q, cu_q=cu, cu_k=cu)


def test_unknown_keyword(qkv):
    with pytest.raises(TypeError, match="is_causal"):
        attn.attention(*qkv, is_causal=True)
