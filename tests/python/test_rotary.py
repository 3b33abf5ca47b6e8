"""rotary_embedding against complex numbers, which it is."""
import numpy as np
import pytest

import attn

B, H, T, D = 2, 3, 5, 12


def turned(x, angle, rotary_dim, interleaved):
    """x (B, H, T, D), angle (B, T, rotary_dim / 2)."""
    y = x.astype(np.float64)
    half = rotary_dim // 2
    first, second = (slice(0, rotary_dim, 2), slice(1, rotary_dim, 2)) if interleaved else (slice(0, half), slice(half, rotary_dim))
    z = (y[..., first] + 1j * y[..., second]) * np.exp(1j * angle)[:, None]
    y[..., first], y[..., second] = z.real, z.imag
    return y


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("rotary_dim", [None, 8])
def test_all_forms_of_tables(interleaved, rotary_dim, rng):
    x = rng.standard_normal((B, H, T, D), np.float32)
    size = rotary_dim or D
    table = rng.uniform(-3, 3, (20, size // 2))
    positions = rng.integers(0, 20, (B, T))

    def check(angle, cos, sin, **keywords):
        y = attn.rotary_embedding(x, cos, sin, interleaved=interleaved, rotary_dim=rotary_dim, **keywords)
        np.testing.assert_allclose(y, turned(x, angle, size, interleaved), rtol=1e-5, atol=1e-6)

    for angle, keywords in [(table, {"positions": positions}), (table, {"positions": positions.tolist()[0]}),
                            (table[:T], {}), (np.stack([table[:T], table[T : 2 * T]]), {})]:
        full = table[np.broadcast_to(keywords["positions"], (B, T))] if keywords else np.broadcast_to(angle, (B, *angle.shape[-2:]))
        if keywords and not isinstance(keywords["positions"], np.ndarray):
            keywords = {"positions": np.array(keywords["positions"], np.int32)}
        check(full, np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32), **keywords)
        check(full, np.cos(angle), np.sin(angle), **keywords)  # float64 tables too
        check(full, np.asfortranarray(np.cos(angle)), np.cos(angle - np.pi / 2)[..., ::-1][..., ::-1], **keywords)


def test_kinds(rng):
    x = rng.standard_normal((B, H, T, D), np.float32)
    angle = rng.uniform(-3, 3, (T, D // 2)).astype(np.float32)
    cos, sin = np.cos(angle), np.sin(angle)
    expected = attn.rotary_embedding(x, cos, sin)
    swapped = np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)
    np.testing.assert_array_equal(attn.rotary_embedding(swapped, cos, sin), expected)
    np.testing.assert_allclose(attn.rotary_embedding(expected, cos, -sin), x, rtol=1e-5, atol=1e-6)
    half = attn.rotary_embedding(x.astype(np.float16), cos, sin)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, expected, rtol=4e-3, atol=4e-3)
    torch = pytest.importorskip("torch")
    t = attn.rotary_embedding(torch.from_numpy(x), torch.from_numpy(cos), torch.from_numpy(sin),
                              positions=torch.arange(T))
    assert isinstance(t, torch.Tensor)
    np.testing.assert_array_equal(t.numpy(), expected)
    low = attn.rotary_embedding(torch.from_numpy(x).bfloat16(), torch.from_numpy(cos).bfloat16(), torch.from_numpy(sin))
    assert low.dtype == torch.bfloat16
    np.testing.assert_allclose(low.float().numpy(), expected, rtol=3e-2, atol=3e-2)


def test_refused(rng):
    x = rng.standard_normal((B, H, T, D), np.float32)
    table = np.zeros((T, D // 2), np.float32)
    for arguments, keywords, error, text in [
            ((x, table, table), {"positions": [0, 1, 2]}, ValueError, "positions has 3 elements, expected 10"),
            ((x, table, table), {"positions": [0, 1, 2, 3, 5]}, ValueError, r"positions\[4\] is 5, expected 0 to 4"),
            ((x, table, table), {"rotary_dim": 7}, ValueError, "rotary_dim is 7, expected an even number up to D, 12"),
            ((x, table[:3], table), {}, ValueError, "cos has shape"),
            ((x, table, table[:, :3]), {}, ValueError, "sin has shape"),
            ((x.astype(int), table, table), {}, TypeError, "x is int64"),
            ((x[0], table, table), {}, ValueError, "x has rank 3, expected 4"),
            ((x, table.astype(int), table), {}, TypeError, "cos is int64")]:
        with pytest.raises(error, match=text):
            attn.rotary_embedding(*arguments, **keywords)
