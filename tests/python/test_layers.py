"""softmax, GELU, normalisations and GRU against naive double NumPy and PyTorch."""
import math

import numpy as np
import pytest

import attn


def close(found, expected, rtol=2e-6, atol=2e-6):
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


SHAPES = [(7,), (3, 5), (2, 3, 4), (2, 1, 3, 17), (4, 0), (0, 4), (3, 1000)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_and_gelu(shape, rng):
    x = (5 * rng.standard_normal(shape)).astype(np.float32)
    e = np.exp(x.astype(np.float64))
    total = e.sum(-1, keepdims=True)
    close(attn.softmax(x), e / np.where(total, total, 1))
    close(attn.log_softmax(x), x - np.log(np.where(total, total, 1)))
    erf = np.vectorize(math.erf, otypes=[np.float64])
    close(attn.gelu(x), x * (1 + erf(x / math.sqrt(2))) / 2)
    x64 = x.astype(np.float64)
    close(attn.gelu(x, approximate="tanh"), x64 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x64 + 0.044715 * x64**3))) / 2)


def test_any_strides(rng):
    x = rng.standard_normal((4, 6, 8), np.float32)

    def norm(x):
        return attn.rms_norm(x, np.ones(x.shape[-1], np.float32))

    for view in (x.swapaxes(0, 2), x[:, ::2, ::-1], x[:, :1].repeat(3, 1)[:, ::-1]):
        for function in (attn.softmax, attn.log_softmax, attn.gelu, norm):
            np.testing.assert_array_equal(function(view), function(np.ascontiguousarray(view)))


@pytest.mark.parametrize("over", [1, 2, 3])
def test_norms(over, rng):
    x = rng.standard_normal((2, 3, 4, 5), np.float32)
    gain, bias = (rng.standard_normal(x.shape[-over:], np.float32) for _ in range(2))
    x64, axes = x.astype(np.float64), tuple(range(-over, 0))
    mean, variance = x64.mean(axes, keepdims=True), x64.var(axes, keepdims=True)
    y, found_mean, found_rstd = attn.layer_norm(x, gain, bias, epsilon=0.1, return_stats=True)
    close(y, (x64 - mean) / np.sqrt(variance + 0.1) * gain + bias)
    close(found_mean, mean)
    close(found_rstd, 1 / np.sqrt(variance + 0.1))
    np.testing.assert_array_equal(attn.layer_norm(x, gain, bias, epsilon=0.1), y)
    close(attn.layer_norm(x, gain), (x64 - mean) / np.sqrt(variance + 1e-5) * gain)
    close(attn.rms_norm(x, gain), x64 / np.sqrt((x64**2).mean(axes, keepdims=True) + 1e-5) * gain)


@pytest.mark.parametrize("reset_after", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_gru(reset_after, reverse, whole, rng):
    steps, batch, width, size = 6, 4, 5, 3
    x, w, u, b, c, h0 = (rng.standard_normal(shape, np.float32) for shape in (
        (steps, batch, width), (3 * size, width), (3 * size, size), (3 * size,), (3 * size,), (batch, size)))
    lengths = None if whole else [6, 0, 3, 1]
    if not whole:
        x[3:, 2] = np.nan  # is not read

    def one(i, biased):
        """Sequence i alone."""
        n = steps if whole else lengths[i]
        y, h = np.zeros((steps, size)), h0[i].astype(np.float64) if biased else np.zeros(size)
        for t in range(n, steps):
            y[t] = h if reverse else 0
        for t in range(n - 1, -1, -1) if reverse else range(n):
            gx, gh = w @ x[t, i].astype(np.float64) + (b if biased else 0), u @ h + (c if biased else 0)
            r, z = (1 / (1 + np.exp(-(gx[p] + gh[p]))) for p in (slice(0, size), slice(size, 2 * size)))
            last = slice(2 * size, 3 * size)
            inner = r * gh[last] if reset_after else u[last] @ (r * h) + (c[last] if biased else 0)
            h = (1 - z) * np.tanh(gx[last] + inner) + z * h
            y[t] = h
        if not reverse:
            y[n:] = h
        return y

    for arrays, biased in (((b, c, h0), True), ((), False)):
        y = attn.gru(x, w, u, *arrays, lengths=lengths, reverse=reverse, reset_after=reset_after)
        close(y, np.stack([one(i, biased) for i in range(batch)], axis=1), rtol=1e-5)
    turned = np.ascontiguousarray(x.swapaxes(0, 2)).swapaxes(0, 2)
    np.testing.assert_array_equal(attn.gru(turned, w, u, lengths=lengths), attn.gru(x, w, u, lengths=lengths))
    assert attn.gru(x[:0], w, u).shape == (0, batch, size) and attn.gru(x[:, :0], w, u).shape == (steps, 0, size)


def test_gru_of_torch(rng):
    torch = pytest.importorskip("torch")
    layer = torch.nn.GRU(5, 3)
    x = torch.randn(6, 4, 5)
    with torch.no_grad():
        expected = layer(x)[0]
    y = attn.gru(x, *(p.detach() for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)))
    assert isinstance(y, torch.Tensor)
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_layers_of_torch(rng):
    torch = pytest.importorskip("torch")
    x, gain, bias = torch.randn(3, 4, 10), torch.randn(10), torch.randn(10)
    f = torch.nn.functional
    for found, expected in [(attn.softmax(x), x.softmax(-1)), (attn.log_softmax(x), x.log_softmax(-1)),
                            (attn.gelu(x), f.gelu(x)),
                            (attn.gelu(x, approximate="tanh"), f.gelu(x, approximate="tanh")),
                            (attn.layer_norm(x, gain, bias), f.layer_norm(x, (10,), gain, bias)),
                            (attn.rms_norm(x, gain), f.rms_norm(x, (10,), gain, 1e-5))]:
        assert isinstance(found, torch.Tensor)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_refused(rng):
    x, gain = rng.standard_normal((3, 4), np.float32), np.ones(4, np.float32)
    w, u = np.zeros((6, 4), np.float32), np.zeros((6, 2), np.float32)
    steps = np.zeros((5, 3, 4), np.float32)
    for call, error, text in [
            (lambda: attn.softmax(x.astype(np.float16)), TypeError, "x is float16, expected float32"),
            (lambda: attn.softmax([1.0]), TypeError, "x is a list"),
            (lambda: attn.gelu(x, approximate="erf"), ValueError, 'approximate is \'erf\', expected "none" or "tanh"'),
            (lambda: attn.layer_norm(x, gain[:3]), ValueError, "gain has 1 dimensions that are not the last ones of x"),
            (lambda: attn.layer_norm(x, gain, gain[:3]), ValueError, "bias has another shape than gain"),
            (lambda: attn.layer_norm(x, np.ones((1, 3, 4), np.float32)), ValueError, "gain has 3 dimensions"),
            (lambda: attn.rms_norm(x, gain.astype(np.float64)), TypeError, "gain is float64, expected float32"),
            (lambda: attn.rms_norm(x[:, :0], gain[:0]), ValueError, "rows of x are empty"),
            (lambda: attn.gru(x, w, u), ValueError, "x has 2 dimensions, expected 3"),
            (lambda: attn.gru(steps, w, u[:5]), ValueError, "u .*is not"),
            (lambda: attn.gru(steps, w[:5], u), ValueError, r"w: expected \(3H, E\) with H = 2, B = 3, E = 4"),
            (lambda: attn.gru(steps, w, u, np.zeros(5, np.float32)), ValueError, r"b: expected \(3H\)"),
            (lambda: attn.gru(steps, w, u, h0=np.zeros((2, 2), np.float32)), ValueError, r"h0: expected \(B, H\)"),
            (lambda: attn.gru(steps, w, u, lengths=[1, 2]), ValueError, "lengths has 2 elements, expected 3"),
            (lambda: attn.gru(steps, w, u, lengths=[1, 2, 6]), ValueError, r"lengths\[2\] is 6, expected 0 to 5")]:
        with pytest.raises(error, match=text):
            call()
