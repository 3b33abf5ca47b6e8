"""Against PyTorch: random calls, forward and backward, and errors beside its own. Truth is float64 with autograd."""
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

import attn  # noqa: E402


def truth(q, k, v, *, causal=None, mask=None, bias=None, window=None, softcap=None, scale=None, sinks=None, alibi=None,
          dout=None, dlse=None):
    """out, lse and the gradients, by autograd in float64, and bounds of their errors in f32; mask True: visible."""
    leaves = {"dq": q, "dk": k, "dv": v, "dbias": bias, "dsinks": sinks}
    leaves = {name: x.double().requires_grad_() for name, x in leaves.items() if x is not None}
    q, k, v = leaves["dq"], leaves["dk"], leaves["dv"]
    t, s, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    wide_k, wide_v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    x = q @ wide_k.mT * scale
    size = (q.abs() @ wide_k.abs().mT * abs(scale)).detach()  # what a score's rounding errors are relative to
    if softcap:
        x = softcap * torch.tanh(x / softcap)
    if bias is not None:
        x, size = x + leaves["dbias"], size + bias.double().abs()
    i, j = torch.arange(t)[:, None], torch.arange(s)[None, :]
    position = i + (s - t if causal == "bottom-right" else 0)
    if alibi is not None:
        far = alibi.double()[:, None, None] * (position - j).abs()
        x, size = x - far, size + far.abs()
    seen = torch.ones(t, s, dtype=torch.bool)
    if causal:
        seen = seen & (j <= position)
    if window:
        seen = seen & ((window[0] < 0) | (j >= position - window[0])) & ((window[1] < 0) | (j <= position + window[1]))
    seen = (seen if mask is None else seen & mask).expand(x.shape)
    x = x.masked_fill(~seen, -math.inf)
    if sinks is not None:
        x = torch.cat([x, leaves["dsinks"][:, None, None].expand(x.shape[0], -1, t, 1)], -1)
    empty = ~seen.any(-1) if sinks is None else torch.zeros(x.shape[:3], dtype=torch.bool)
    x = x.masked_fill(empty[..., None], 0)
    lse = torch.logsumexp(x, -1).masked_fill(empty, -math.inf)
    p = torch.softmax(x, -1).masked_fill(empty[..., None], 0)[..., :s]
    out = p @ wide_v
    grads, bounds = {}, {"out": p @ wide_v.abs(), "lse": 1 + lse.abs()}
    if dout is not None:
        loss = (out * dout.double()).sum()
        if dlse is not None:
            loss = loss + (lse.masked_fill(empty, 0) * dlse.double()).sum()
        grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        # The same sums with every term positive.
        dout = dout.double().abs()
        delta = (dout * bounds["out"]).sum(-1, keepdim=True) + (0 if dlse is None else dlse.double().abs()[..., None])
        ds = p * (dout @ wide_v.abs().mT + delta)

        def groups(x):
            return x.unflatten(1, (-1, group)).sum(2)

        bounds |= {"dq": abs(scale) * ds @ wide_k.abs(), "dk": abs(scale) * groups(ds.mT @ q.abs()), "dv": groups(p.mT @ dout)}
        if bias is not None:
            bounds["dbias"] = ds.sum_to_size(bias.shape)
        if sinks is not None:
            bounds["dsinks"] = (torch.exp(sinks.double()[:, None] - lse)[..., None] * delta).sum((0, 2, 3))
    # A weight's relative error: that of an exponential, and of the scores it is made of.
    unit = 2.0**-20 + 2.0**-21 * size.masked_fill(~seen, 0).amax().item() if size.numel() else 0
    return out.detach(), lse.detach(), grads, {name: unit * x.detach() for name, x in bounds.items()}


def rms(x):
    return x.double().square().mean().sqrt().item() if x.numel() else 0.0


# ---- random calls -------------------------------------------------------------------------------------


class Call(dict):
    """Arguments of attention(), shown by their shapes."""

    def __repr__(self):
        return str({name: tuple(x.shape) if torch.is_tensor(x) else x for name, x in self.items()})


@st.composite
def calls(draw):
    """A Call in float32, dout and dlse."""
    t, s = draw(st.integers(1, 140)), draw(st.integers(1, 140))
    batch, group, key_heads = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3, 7])), draw(st.integers(1, 2))
    heads, d, dv = group * key_heads, draw(st.sampled_from([1, 3, 8, 16, 40, 64, 65])), draw(st.sampled_from([1, 4, 16, 64, 72]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    def broadcast(shape):
        ones = draw(st.sampled_from([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (1, 1, 1), (0, 0, 1)]))
        return tuple(1 if one else size for one, size in zip((*ones, 0), shape, strict=True))

    options = Call()
    options["causal"] = draw(st.sampled_from([None, None, "top-left", "bottom-right"]))
    if draw(st.booleans()):
        options["window"] = (draw(st.integers(-1, 50)), draw(st.integers(-1, 50)))
    if draw(st.booleans()):
        options["mask"] = torch.rand(broadcast((batch, heads, t, s)), generator=generator) < draw(st.sampled_from([0.05, 0.7]))
    if draw(st.booleans()):
        options["bias"] = normal(*broadcast((batch, heads, t, s)))
    if draw(st.sampled_from([True, False, False])):
        options["softcap"] = draw(st.sampled_from([0.5, 5.0, 30.0]))
    if draw(st.sampled_from([True, False, False])):
        options["scale"] = draw(st.sampled_from([0.05, 0.5, -0.2]))
    if draw(st.sampled_from([True, False, False])):
        options["sinks"] = normal(heads)
    if draw(st.sampled_from([True, False, False])):
        options["alibi"] = normal(heads) / 8
    options |= {"q": normal(batch, heads, t, d), "k": normal(batch, key_heads, s, d), "v": normal(batch, key_heads, s, dv)}
    dlse = normal(batch, heads, t) if draw(st.booleans()) else None
    return options, Call(dout=normal(batch, heads, t, dv), dlse=dlse)


@hypothesis.given(calls())
def test_random_calls(call):
    options, incoming = call
    out, lse, grads, bounds = truth(**options, **incoming)
    found, found_lse = attn.attention(**options, return_lse=True)
    own = attn.attention_backward(**options, **incoming, out=found, lse=found_lse)
    assert (torch.isneginf(found_lse) == torch.isneginf(lse)).all()
    expected = {"out": out, "lse": lse.masked_fill(torch.isneginf(lse), 0), **grads}
    own |= {"out": found, "lse": found_lse.masked_fill(torch.isneginf(lse), 0)}
    for name, x in expected.items():
        excess = (own[name] - x).abs() - bounds[name]
        assert excess.numel() == 0 or excess.max() <= 1e-30, name


@hypothesis.given(calls())
def test_random_weights(call):
    """The weights are the output for values that are the rows of 1."""
    options, _ = call
    lse = attn.attention(**options, return_lse=True)[1]
    v = options.pop("v")
    keys = v.shape[2]
    p, _, _, bounds = truth(**options, v=torch.eye(keys).expand(*v.shape[:2], keys, keys))
    found = attn.attention_weights(**options, lse=lse)
    assert ((found - p).abs() <= 2 * bounds["out"] + 1e-37).all()
    values, indices = attn.attention_weights(**options, lse=lse, top_k=min(5, keys))
    assert ((values - p.topk(min(5, keys)).values).abs() <= 2 * bounds["out"].amax(-1, keepdim=True) + 1e-37).all()
    assert torch.equal(found.gather(-1, indices.clamp(min=0).long()).where(indices >= 0, 0), values)


# ---- errors beside PyTorch's --------------------------------------------------------------------------

SHAPES = [(2, 4, 4, 128, 128, 64), (1, 8, 2, 300, 300, 128), (1, 4, 4, 257, 511, 32), (2, 2, 1, 64, 1000, 96),
          (1, 2, 2, 600, 600, 80)]


def tensors(shape, dtype, seed=7):
    batch, heads, key_heads, t, s, d = shape
    generator = torch.Generator().manual_seed(seed)
    q, k, v, dout = (torch.randn(x, generator=generator).to(dtype)
                     for x in [(batch, heads, t, d), (batch, key_heads, s, d), (batch, key_heads, s, d), (batch, heads, t, d)])
    return q, k, v, dout


def of_torch(q, k, v, dout, causal, backend):
    """out and (dq, dk, dv) of PyTorch in the dtype of q."""
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    with sdpa_kernel(backend):
        out = scaled_dot_product_attention(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), is_causal=causal)
    return out.detach(), torch.autograd.grad(out, (q, k, v), dout)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_errors_no_worse(dtype, causal):
    """Out and each gradient against PyTorch's flash attention in the same run. Where both round the same things, either has
    the smaller error by chance: worse is a mean ratio of the errors more than three of its standard errors above 1."""
    ratios = {}
    for shape in SHAPES:
        for seed in range(2):
            q, k, v, dout = tensors(shape, dtype, seed)
            options = {"causal": "top-left"} if causal else {}
            out, _, grads, _ = truth(q, k, v, **options, dout=dout)
            found, lse = attn.attention(q, k, v, **options, return_lse=True)
            own = {"out": found, **attn.attention_backward(dout, q, k, v, found, lse, **options)}
            flash_out, flash_grads = of_torch(q, k, v, dout, causal, SDPBackend.FLASH_ATTENTION)
            flash = {"out": flash_out, **dict(zip(("dq", "dk", "dv"), flash_grads, strict=True))}
            for name, x in {"out": out, **grads}.items():
                ratios.setdefault(name, []).append(math.log(rms(own[name] - x) / rms(flash[name] - x)))
    for name, logs in ratios.items():
        assert np.mean(logs) <= 3 * np.std(logs, ddof=1) / math.sqrt(len(logs)), f"{name}: {np.exp(logs).round(3)}"


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_f32_bound(shape):
    q, k, v, _ = tensors(shape, torch.float32)
    out, *_ = truth(q, k, v)
    found = attn.attention(q, k, v)
    assert rms(found - out) <= 3.5e-7 * rms(out)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_high_precision_is_an_ulp(dtype):
    for shape in SHAPES:
        q, k, v, _ = tensors(shape, dtype)
        out, *_ = truth(q, k, v)
        found = attn.attention(q, k, v, precision="high").double()
        ulp = 2.0 ** (torch.floor(torch.log2(out.abs().clamp_min(1e-30))) - (7 if dtype is torch.bfloat16 else 10))
        ulp = ulp.clamp_min(2.0**-24) if dtype is torch.float16 else ulp
        assert ((found - out).abs() <= ulp + 4e-6 * out.abs().max()).all()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["high", "fast"])
def test_no_bias(precision):
    """The mean of the signed error, with V all positive, is far below its spread."""
    q, k, v, _ = tensors((2, 8, 8, 256, 700, 64), torch.bfloat16)
    v = v.abs()
    out, *_ = truth(q, k, v)
    error = (attn.attention(q, k, v, precision=precision).double() - out) / out
    assert error.mean().abs() < 5 * error.std() / math.sqrt(error.numel() / 64)
