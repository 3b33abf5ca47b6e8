"""attention_weights and attention_scores against naive double NumPy, with every option, and what is refused."""
import math
import re

import numpy as np
import pytest
from attention import Attention
from options import DV, HK, B, D, H, S, T, name, random_options

import attn

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402


@pytest.fixture
def qkv(rng):
    return tuple(rng.standard_normal(shape, np.float32) for shape in [(B, H, T, D), (B, HK, S, D), (B, HK, S, DV)])


def entropy(p):
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


def same_top(values, keys, p, rtol=1e-5):
    """The largest of each row of p, and where they are."""
    n = values.shape[-1]
    ordered = -np.sort(-p, axis=-1)[..., :n]
    ordered = np.concatenate([ordered, np.zeros((*p.shape[:-1], n - ordered.shape[-1]))], axis=-1)
    np.testing.assert_allclose(values, ordered, rtol=rtol, atol=1e-7)
    assert ((keys >= 0) == (values > 0)).all()
    if p.shape[-1]:
        at = np.take_along_axis(p, np.maximum(keys, 0).astype(np.int64), axis=-1)
        np.testing.assert_allclose(np.where(keys >= 0, at, 0), values, rtol=rtol, atol=1e-7)


def check_all(q, k, lse, p, look, options, rtol=1e-5, atol=1e-6):
    """Everything that can be asked about the weights p, of the heads and rows of `look`."""
    def ask(**wanted):
        return attn.attention_weights(q, k, lse, **look, **wanted, **options)

    np.testing.assert_allclose(ask(), p, rtol=rtol, atol=atol)
    np.testing.assert_allclose(ask(reduce="column_sum"), p.sum(-2), rtol=rtol, atol=atol * max(1, p.shape[-2]))
    np.testing.assert_allclose(ask(reduce="entropy"), entropy(p), rtol=4 * rtol, atol=10 * atol)
    same_top(*ask(top_k=3), p, rtol)
    best = ask(reduce="argmax")
    same_top(ask(top_k=1)[0], best[..., None], p, rtol)
    blocks = ask(reduce="block_max", block=(4, 5))
    rows, keys = -(-p.shape[2] // 4), -(-p.shape[3] // 5)
    assert blocks.shape == (*p.shape[:2], rows, keys)
    for i in range(rows):
        for j in range(keys):
            most = p[:, :, 4 * i : 4 * i + 4, 5 * j : 5 * j + 5].max(axis=(2, 3), initial=0)
            np.testing.assert_allclose(blocks[:, :, i, j], most, rtol=rtol, atol=atol)


@pytest.mark.parametrize("options", list(random_options()), ids=name)
def test_weights(options, qkv):
    p = Attention(*qkv, **options).p
    lse = attn.attention(*qkv, **options, return_lse=True)[1]
    check_all(*qkv[:2], lse, p, {}, options)
    check_all(*qkv[:2], lse, p[:, [1, 3]][:, :, [0, 2, 9]], {"heads": [1, 3], "rows": np.array([0, 2, 9])}, options)
    if "q_lengths" not in options:
        check_all(*qkv[:2], lse, p[:, 2:3][:, :, [-4, -1]], {"heads": 2, "rows": (-4, -1)}, options)
        check_all(*qkv[:2], lse, p[:, :, 5:6], {"rows": np.int64(5)}, options)


@pytest.mark.parametrize("options", list(random_options()), ids=name)
def test_scores(options, qkv):
    q, k, v = qkv
    wide = np.repeat(k, H // HK, axis=1).astype(np.float64)
    scaled = options.get("scale", 1 / math.sqrt(D)) * np.einsum("bhtd,bhsd->bhts", q, wide)
    cap = options.get("softcap")
    capped = cap * np.tanh(scaled / cap) if cap else scaled
    np.testing.assert_allclose(attn.attention_scores(q, k, **options), scaled, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(attn.attention_scores(q, k, stage=1, **options), capped, rtol=1e-5, atol=1e-5)
    plain = {key: value for key, value in options.items() if key != "sinks"}
    biased, seen = attn.attention_scores(q, k, stage=2, **options), Attention(q, k, v, **plain)
    assert (np.isneginf(biased) == (seen.p == 0)).all()
    with np.errstate(invalid="ignore"):
        logits = np.where(seen.p > 0, np.log(np.where(seen.p > 0, seen.p, 1)) + seen.lse[..., None], 0)
    np.testing.assert_allclose(np.where(seen.p > 0, biased, 0), logits, rtol=1e-5, atol=2e-5)
    p = Attention(q, k, v, **options).p
    np.testing.assert_allclose(attn.attention_scores(q, k, stage=3, **options), p, rtol=1e-5, atol=1e-6)


def test_rows_sum_to_one(rng):
    q, k = rng.standard_normal((2, 3, 300, 40), np.float32), rng.standard_normal((2, 3, 500, 40), np.float32)
    for options in ({}, {"causal": "top-left"}, {"window": (100, 3), "causal": "bottom-right"}):
        lse = attn.attention(q, k, k, return_lse=True, **options)[1]
        weights = attn.attention_weights(q, k, lse, **options)
        np.testing.assert_allclose(weights.sum(-1, dtype=np.float64), 1, rtol=2e-6)
        np.testing.assert_allclose(attn.attention_weights(q, k, lse, reduce="column_sum", **options),
                                   weights.sum(-2, dtype=np.float64), rtol=1e-6, atol=1e-7)


def test_packed(qkv):
    lengths_q, lengths_k = [11, 0, 4], [13, 6, 2]
    cu = {"cu_q": np.cumsum([0, *lengths_q]), "cu_k": np.cumsum([0, *lengths_k])}
    q, k, v = (np.concatenate([x[b, :, :n] for b, n in enumerate(lengths)], axis=1)
               for x, lengths in zip(qkv, (lengths_q, lengths_k, lengths_k), strict=True))
    lse = attn.attention(q, k, v, **cu, return_lse=True)[1]
    p = Attention(*qkv, q_lengths=lengths_q, kv_lengths=lengths_k).p
    check_all(q, k, lse, p, {}, cu)
    np.testing.assert_allclose(attn.attention_scores(q, k, stage=3, **cu), p, rtol=1e-5, atol=1e-6)


def test_kinds(qkv):
    q, k, v = qkv
    lse = attn.attention(q, k, v, return_lse=True)[1]
    expected = attn.attention_weights(q, k, lse)
    values, keys = attn.attention_weights(q, k, lse, top_k=2)
    assert expected.dtype == values.dtype == np.float32 and keys.dtype == np.int32
    half = attn.attention_weights(q.astype(np.float16), k.astype(np.float16), lse)
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, expected, rtol=2e-2, atol=2e-3)
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(x) for x in (q, k, lse)]
    found = attn.attention_weights(*tensors, heads=torch.arange(H), rows=torch.arange(T))
    assert isinstance(found, torch.Tensor) and found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)
    top = attn.attention_weights(*tensors, top_k=2)
    assert top[1].dtype == torch.int32
    np.testing.assert_array_equal(top[1].numpy(), keys)
    scores = attn.attention_scores(tensors[0].bfloat16(), tensors[1].bfloat16(), stage=3)
    assert scores.dtype == torch.float32
    np.testing.assert_allclose(scores.numpy(), expected, rtol=6e-2, atol=6e-3)


def test_dropout_does_not_count(qkv):
    q, k, v = qkv
    lse = attn.attention(q, k, v, return_lse=True)[1]
    weights, p = attn.attention_weights(q, k, lse), attn.attention_scores(q, k, stage=3)
    np.testing.assert_array_equal(attn.attention_weights(q, k, lse, dropout=0.3, seed=4), weights)
    np.testing.assert_array_equal(attn.attention_scores(q, k, stage=3, dropout=0.3), p)


@pytest.mark.parametrize(("keywords", "error", "text"), [
    ({"heads": [0, 4]}, ValueError, "heads[1] is 4"),
    ({"heads": [1, 1]}, ValueError, "heads[1] is 1"),
    ({"heads": [0.5]}, TypeError, "heads: 0.5 is not an integer"),
    ({"heads": "ab"}, TypeError, "heads: 'a' is not an integer"),
    ({"rows": [11]}, ValueError, "rows[0] is 11"),
    ({"rows": [-1, 0]}, ValueError, "rows"),
    ({"rows": 2**40}, ValueError, "rows[0] is 1099511627776"),
    ({"top_k": 0}, ValueError, "top_k is 0, expected 1 or more"),
    ({"top_k": "3"}, TypeError, "'str' object cannot be interpreted as an integer"),
    ({"top_k": 3, "reduce": "argmax"}, ValueError, "top_k is 3 and reduce is 'argmax', expected one of them"),
    ({"reduce": "mean"}, ValueError, "reduce is 'mean', expected None, \"column_sum\""),
    ({"reduce": "block_max", "block": (0, 4)}, ValueError, "block is (0, 4), expected two numbers from 1"),
    ({"causal": "left"}, ValueError, "causal is 'left'"),
    ({"dropout": 2}, ValueError, "attn_attention_weights: dropout is 2"),
    ({"kv_lengths": [14, 1, 1]}, ValueError, "kv_lengths"),
])
def test_refused(keywords, error, text, qkv):
    lse = attn.attention(*qkv, return_lse=True)[1]
    with pytest.raises(error, match=re.escape(text)):
        attn.attention_weights(*qkv[:2], lse, **keywords)


def test_arrays_that_do_not_fit(qkv):
    q, k, v = qkv
    lse = attn.attention(q, k, v, return_lse=True)[1]
    for arguments, error, text in [
            ((q, k, lse[:, :1]), ValueError, "lse has shape"),
            ((q, k, None), TypeError, "lse is a NoneType"),
            ((q, k[..., :4], lse), ValueError, "k has shape"),
            ((q[0], k, lse), ValueError, "q has 3 dimensions"),
            ((q, k[0], lse), ValueError, "k has 3 dimensions, expected 4"),
            ((q, k, lse.astype(np.float64)), TypeError, "lse is float64")]:
        with pytest.raises(error, match=text):
            attn.attention_weights(*arguments)
    for stage in (-1, 4):
        with pytest.raises(ValueError, match=f"stage is {stage}, expected 0 to 3"):
            attn.attention_scores(q, k, stage=stage)
    with pytest.raises(ValueError, match="k has shape"):
        attn.attention_scores(q, k[..., :4])


# ---- random calls -------------------------------------------------------------------------------------


@st.composite
def calls(draw):
    batch, kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    t, s, d = draw(st.integers(0, 70)), draw(st.integers(0, 140)), draw(st.sampled_from([1, 3, 8, 17, 64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    heads = kv_heads * group
    shapes = (batch, heads, t, d), (batch, kv_heads, s, d), (batch, kv_heads, s, 1)
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    options = {}
    if draw(st.booleans()):
        options["causal"] = draw(st.sampled_from(["top-left", "bottom-right"]))
    if draw(st.booleans()):
        options["window"] = (draw(st.integers(-1, 40)), draw(st.integers(-1, 40)))
    if draw(st.booleans()):
        options["mask"] = rng.random((1, heads, t, s)) < draw(st.sampled_from([0.1, 0.9]))
    if draw(st.booleans()):
        options["bias"] = rng.standard_normal((batch, 1, t, s)).astype(np.float32)
    if draw(st.booleans()):
        options["softcap"] = draw(st.sampled_from([0.5, 20.0]))
    if draw(st.booleans()):
        options["sinks"] = rng.standard_normal(heads)
    if draw(st.booleans()):
        options["kv_lengths"] = rng.integers(0, s + 1, batch)
    look = {}
    if draw(st.booleans()):
        look["heads"] = np.flatnonzero(rng.random(heads) < 0.5)
    if draw(st.booleans()):
        look["rows"] = np.flatnonzero(rng.random(t) < 0.2)
    return arrays, options, look


@hypothesis.given(calls())
def test_random_calls(call):
    (q, k, v), options, look = call
    lse = attn.attention(q, k, v, return_lse=True, **options)[1]
    p = Attention(q, k, v, **options).p
    p = p[:, look.get("heads", slice(None))][:, :, look.get("rows", slice(None))]
    check_all(q, k, lse, p, look, options, rtol=3e-5, atol=2e-6)
