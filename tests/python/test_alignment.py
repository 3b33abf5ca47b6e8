"""Additive and dot attention against naive double NumPy, their gradients against PyTorch's, and what is refused."""
import re

import numpy as np
import pytest

import attn

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

B, T, S, A, C = 3, 5, 9, 7, 6


def hide(energies, lengths):
    if lengths is None:
        return energies
    return np.where(np.arange(energies.shape[-1]) < np.asarray(lengths)[:, None, None], energies, -np.inf)


def truth(energies, h):
    """c, lse, α of energies (B, T, S)."""
    most = energies.max(-1, keepdims=True, initial=-1e300)
    e = np.exp(energies - most)
    total = e.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (most + np.log(total))[..., 0]
    p = np.where(total > 0, e / np.where(total > 0, total, 1), 0)
    return p @ np.where((p > 0).any(1)[:, :, None], h, 0), np.where(total[..., 0] > 0, lse, -np.inf), p


def backward(dc, energies_bwd, h, p):
    """dh, and what energies_bwd makes of dE."""
    dp = dc @ h.swapaxes(1, 2)
    de = p * (dp - (p * dp).sum(-1, keepdims=True))
    return {**energies_bwd(de), "dh": p.swapaxes(1, 2) @ dc}


def additive(sq, hk, v, h, dc, lengths):
    sq, hk, v, h, dc = (np.asarray(x).astype(np.float64) for x in (sq, hk, v, h, dc))
    t = np.tanh(sq[:, :, None] + hk[:, None])
    c, lse, p = truth(hide(t @ v, lengths), h)

    def energies_bwd(de):
        d = de[..., None] * v * (1 - t * t)
        return {"dsq": d.sum(2), "dhk": d.sum(1), "dv": np.einsum("bts,btsa->a", de, t)}

    return c, lse, p, backward(dc, energies_bwd, h, p)


def dot(q, k, h, dc, scale, lengths):
    q, k, h, dc = (np.asarray(x).astype(np.float64) for x in (q, k, h, dc))
    c, _, p = truth(hide(scale * q @ k.swapaxes(1, 2), lengths), h)

    def energies_bwd(de):
        return {"dq": scale * de @ k, "dk": scale * de.swapaxes(1, 2) @ q}

    return c, p, backward(dc, energies_bwd, h, p)


def arrays(rng, b=B, t=T, s=S, a=A, c=C):
    """sq, hk, v, h, dc"""
    return [rng.standard_normal(shape, np.float32) for shape in ((b, t, a), (b, s, a), (a,), (b, s, c), (b, t, c))]


def check_additive(inputs, lengths, rtol, atol, to=lambda x: x, back=lambda x: np.asarray(x).astype(np.float64)):
    sq, hk, v, h, dc = (to(x) for x in inputs)
    c, lse, p, grads = additive(*(back(x) for x in (sq, hk, v, h, dc)), lengths)
    found = attn.additive_attention(sq, hk, v, h, kv_lengths=lengths, return_lse=True, return_alignment=True)
    for name, array, expected in zip(("c", "lse", "alignment"), found, (c, lse, p), strict=True):
        np.testing.assert_allclose(back(array), expected, rtol=rtol, atol=atol, err_msg=name)
    for keywords in ({}, {"alignment": found[2]}):
        dx = attn.additive_attention_backward(dc, sq, hk, v, h, *found[:2], kv_lengths=lengths, **keywords)
        assert list(dx) == ["dsq", "dhk", "dv", "dh"]
        for name, array in dx.items():
            assert type(array) is type(sq) and array.dtype == sq.dtype
            size = max(1, np.abs(grads[name]).max(initial=0))
            np.testing.assert_allclose(back(array), grads[name], rtol=rtol, atol=4 * atol * size, err_msg=name)


def check_dot(inputs, scale, lengths, rtol, atol, to=lambda x: x, back=lambda x: np.asarray(x).astype(np.float64)):
    q, k, _, h, dc = (to(x) for x in inputs)
    c, p, grads = dot(*(back(x) for x in (q, k, h, dc)), scale, lengths)
    found = attn.dot_attention(q, k, h, scale=scale, kv_lengths=lengths, return_alignment=True)
    np.testing.assert_allclose(back(found[0]), c, rtol=rtol, atol=atol)
    np.testing.assert_allclose(back(found[1]), p, rtol=rtol, atol=atol)
    for keywords in ({}, {"alignment": found[1]}):
        dx = attn.dot_attention_backward(dc, q, k, h, scale=scale, kv_lengths=lengths, **keywords)
        assert list(dx) == ["dq", "dk", "dh"]
        for name, array in dx.items():
            assert type(array) is type(q) and array.dtype == q.dtype
            size = max(1, np.abs(grads[name]).max(initial=0))
            np.testing.assert_allclose(back(array), grads[name], rtol=rtol, atol=4 * atol * size, err_msg=name)


LENGTHS = [None, [S, 0, 4], np.array([1, 2, 3], np.uint8)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=["whole", "list", "array"])
def test_against_double(lengths, rng):
    check_additive(arrays(rng), lengths, 2e-5, 2e-6)
    check_dot(arrays(rng), 0.4, lengths, 2e-5, 2e-6)


@pytest.mark.parametrize("lengths", LENGTHS, ids=["whole", "list", "array"])
def test_bfloat16(lengths, rng):
    kinds = [pytest.importorskip("ml_dtypes").bfloat16]
    check_additive(arrays(rng), lengths, 1e-2, 1e-2, lambda x: x.astype(kinds[0]))
    check_dot(arrays(rng), 0.4, lengths, 1e-2, 1e-2, lambda x: x.astype(kinds[0]))
    torch = pytest.importorskip("torch")
    check_additive(arrays(rng), lengths, 1e-2, 1e-2, lambda x: torch.from_numpy(x).bfloat16(), lambda x: x.double().numpy())
    check_dot(arrays(rng), 0.4, lengths, 1e-2, 1e-2, lambda x: torch.from_numpy(x).bfloat16(), lambda x: x.double().numpy())


def test_what_is_returned(rng):
    sq, hk, v, h, _ = arrays(rng)
    whole = attn.additive_attention(sq, hk, v, h, return_lse=True, return_alignment=True)
    np.testing.assert_array_equal(attn.additive_attention(sq, hk, v, h), whole[0])
    np.testing.assert_array_equal(attn.additive_attention(sq, hk, v, h, return_lse=True)[1], whole[1])
    np.testing.assert_array_equal(attn.additive_attention(sq, hk, v, h, return_alignment=True)[1], whole[2])
    np.testing.assert_allclose(whole[2].sum(-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(attn.dot_attention(sq, hk, h), attn.dot_attention(sq, hk, h, return_alignment=True)[0])


def test_padding_is_not_read(rng):
    """NaN past the lengths reaches nothing, and gets gradients of 0."""
    sq, hk, v, h, dc = arrays(rng)
    lengths = [4, 0, 9]
    clean = attn.additive_attention(sq, hk, v, h, kv_lengths=lengths)
    for b, n in enumerate(lengths):
        hk[b, n:] = h[b, n:] = np.nan
    np.testing.assert_array_equal(attn.additive_attention(sq, hk, v, h, kv_lengths=lengths), clean)
    grads = attn.additive_attention_backward(dc, sq, hk, v, h, kv_lengths=lengths)
    for b, n in enumerate(lengths):
        assert (grads["dhk"][b, n:] == 0).all() and (grads["dh"][b, n:] == 0).all()
    assert all(np.isfinite(gradient).all() for gradient in grads.values())


def test_any_strides(rng):
    sq, hk, v, h, dc = arrays(rng)
    expected = attn.additive_attention_backward(dc, sq, hk, v, h)

    def swapped(x):
        return np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1) if x.ndim == 3 else x

    def reversed_last(x):
        return np.ascontiguousarray(x[..., ::-1])[..., ::-1]

    for change in (swapped, reversed_last):
        found = attn.additive_attention_backward(*(change(x) for x in (dc, sq, hk, v, h)))
        for name, gradient in expected.items():
            np.testing.assert_array_equal(found[name], gradient)


@pytest.mark.parametrize(("change", "error", "text"), [
    ({"sq": np.zeros((B, T, A))}, TypeError, "sq is float64, expected float32 or bfloat16"),
    ({"sq": np.zeros((B, T, A), np.float16)}, TypeError, "sq is float16, expected float32 or bfloat16"),
    ({"sq": np.zeros((T, A), np.float32)}, ValueError, "sq has 2 dimensions, expected 3"),
    ({"hk": np.zeros((B, S, A + 1), np.float32)}, ValueError, "hk has"),
    ({"hk": np.zeros((B + 1, S, A), np.float32)}, ValueError, "hk has"),
    ({"v": np.zeros(A + 1, np.float32)}, ValueError, "v has shape"),
    ({"h": np.zeros((B, S + 1, C), np.float32)}, ValueError, "h has"),
    ({"h": [1.0]}, TypeError, "h is a list"),
    ({"kv_lengths": [1, 2]}, ValueError, "kv_lengths has 2 elements, expected 3 (B)"),
    ({"kv_lengths": [1, 2, S + 1]}, ValueError, f"lengths[2] is {S + 1}"),
    ({"kv_lengths": [1, 2, -1]}, ValueError, "lengths[2] is -1"),
    ({"kv_lengths": 3}, TypeError, "kv_lengths is 3, expected integers"),
])
def test_refused(change, error, text, rng):
    inputs = dict(zip(("sq", "hk", "v", "h"), arrays(rng), strict=False))
    with pytest.raises(error, match=re.escape(text)):
        attn.additive_attention(**{**inputs, **change})


def test_backward_is_refused(rng):
    sq, hk, v, h, dc = arrays(rng)
    for arguments, keywords, error, text in [
            ((dc[:1], sq, hk, v, h), {}, ValueError, "dc has"),
            ((dc, sq, hk, v, h), {"alignment": np.zeros((B, T, S + 1), np.float32)}, ValueError, "alignment has"),
            ((None, sq, hk, v, h), {}, TypeError, "dc is a NoneType")]:
        with pytest.raises(error, match=text):
            attn.additive_attention_backward(*arguments, **keywords)
    with pytest.raises(ValueError, match="dc has"):
        attn.dot_attention_backward(dc[..., :1], sq, hk, h)
    with pytest.raises(TypeError, match="must be real number"):
        attn.dot_attention(sq, hk, h, scale="2")


# ---- random calls -------------------------------------------------------------------------------------


@st.composite
def calls(draw):
    b, t, s, a, c = (draw(st.integers(low, high)) for low, high in ((1, 4), (0, 20), (0, 40), (1, 70), (1, 40)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lengths = rng.integers(0, s + 1, b) if draw(st.booleans()) else None
    return arrays(rng, b, t, s, a, c), lengths


@hypothesis.given(calls(), st.sampled_from([1.0, 0.1, -0.5]))
def test_random_calls(call, scale):
    inputs, lengths = call
    check_additive(inputs, lengths, 3e-5, 4e-6)
    width = max(inputs[0].shape[-1], 1)
    check_dot(inputs, scale / np.sqrt(width), lengths, 3e-5, 4e-6)


@hypothesis.given(calls())
def test_beside_torch(call):
    """Gradients by autograd in float64."""
    torch = pytest.importorskip("torch")
    inputs, lengths = call
    leaves = [torch.from_numpy(x).double().requires_grad_() for x in inputs[:4]]
    sq, hk, v, h = leaves
    e = torch.tanh(sq[:, :, None] + hk[:, None]) @ v
    if lengths is not None:
        e = e.masked_fill(torch.arange(h.shape[1]) >= torch.from_numpy(lengths)[:, None, None], -torch.inf)
    empty = torch.isneginf(e).all(-1, keepdim=True)
    p = torch.softmax(e.masked_fill(empty, 0), -1).masked_fill(empty, 0)
    c = p @ h
    expected = torch.autograd.grad((c * torch.from_numpy(inputs[4])).sum(), leaves)
    ours = attn.additive_attention(*inputs[:4], kv_lengths=lengths)
    np.testing.assert_allclose(ours, c.detach().numpy(), rtol=3e-5, atol=4e-6)
    found = attn.additive_attention_backward(inputs[4], *inputs[:4], kv_lengths=lengths)
    for gradient, truth_of_it in zip(found.values(), expected, strict=True):
        size = max(1.0, truth_of_it.abs().max().item() if truth_of_it.numel() else 0)
        np.testing.assert_allclose(gradient, truth_of_it.numpy(), rtol=3e-5, atol=2e-5 * size)
