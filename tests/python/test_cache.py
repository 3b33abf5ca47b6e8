"""KVCache against arrays that say what it should hold, and what is refused."""
import os
import re
import threading

import numpy as np
import pytest
from attention import Attention

import attn

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import strategies as st  # noqa: E402

B, HK, H, D, DV = 3, 2, 4, 24, 20
NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "int8": "float32"}


def dtype_of(name):
    return pytest.importorskip("ml_dtypes").bfloat16 if NAMES[name] == "bfloat16" else np.dtype(NAMES[name])


class Mirror:
    """What a cache should hold: for each sequence arrays (Hk, n, D) and (Hk, n, Dv)."""

    def __init__(self, rng, dtype="f32", **options):
        self.rng, self.kind, self.options = rng, dtype_of(dtype), options
        self.cache = attn.KVCache(B, HK, D, DV, dtype=dtype, **options)
        self.k, self.v = [np.zeros((HK, 0, D), self.kind)] * B, [np.zeros((HK, 0, DV), self.kind)] * B

    def numbers(self, *shape):
        return self.rng.standard_normal(shape).astype(self.kind)

    def append(self, n):
        """n[b] keys to sequence b."""
        most = max(n)
        k, v = self.numbers(B, HK, most, D), self.numbers(B, HK, most, DV)
        self.cache.append(k, v, None if min(n) == most else n)
        for b in range(B):
            self.k[b] = np.concatenate([self.k[b], k[b, :, : n[b]]], axis=1)
            self.v[b] = np.concatenate([self.v[b], v[b, :, : n[b]]], axis=1)

    def fork(self, src, dst, n):
        self.cache.fork(src, dst, n)
        self.k[dst], self.v[dst] = self.k[src][:, :n], self.v[src][:, :n]

    def rollback(self, b, n):
        self.cache.rollback(b, n)
        keep = self.k[b].shape[1] - n
        self.k[b], self.v[b] = self.k[b][:, :keep], self.v[b][:, :keep]

    def reset(self, b):
        self.cache.reset(b)
        self.k[b], self.v[b] = self.k[b][:, :0], self.v[b][:, :0]

    @property
    def lengths(self):
        return [x.shape[1] for x in self.k]

    def whole(self):
        """(B, Hk, S, D), (B, Hk, S, Dv)"""
        most = max(self.lengths)
        return tuple(np.stack([np.pad(x, ((0, 0), (0, most - x.shape[1]), (0, 0))) for x in part])
                     for part in (self.k, self.v))

    def check(self, steps=1, **options):
        """The newest `steps` tokens' queries: the bits of attention() with the same keys."""
        assert self.cache.lengths == self.lengths
        q = self.numbers(B, H, steps, D)
        q_lengths = [min(steps, n) for n in self.lengths]
        options = {"causal": "bottom-right", "q_lengths": q_lengths, **options}
        out, lse = self.cache.attend(q, return_lse=True, **options)
        if self.options.get("window") is not None:
            options["window"] = (self.options["window"], -1)
        k, v = self.whole()
        same = attn.attention(q, k, v, kv_lengths=self.lengths, return_lse=True, **options)
        np.testing.assert_array_equal(out.view(np.uint8), same[0].view(np.uint8))
        np.testing.assert_array_equal(lse, same[1])
        return q, out, lse, options


@pytest.mark.parametrize("page", [None, 16, 32])
@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_pieces_are_the_whole(dtype, page, rng):
    m = Mirror(rng, dtype, capacity=300, page=page)
    for n in ([70, 70, 70], [1, 1, 1], [0, 5, 64], [1, 0, 0], [100, 3, 0]):
        m.append(n)
        m.check()
        m.check(7)
        q, out, lse, options = m.check(2, softcap=2.0, sinks=[0, 1, 2, 3])
    expected = Attention(q, *m.whole(), kv_lengths=m.lengths, **options)
    bound = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2}[dtype]
    np.testing.assert_allclose(out.astype(np.float64), expected.out, rtol=bound, atol=bound)
    np.testing.assert_allclose(lse, expected.lse, rtol=1e-5, atol=1e-5)


def rounded(x):
    """As int8 with a scale for each row."""
    x = np.asarray(x, np.float64)
    scale = np.abs(x).max(-1, keepdims=True) / 127
    return np.round(x / np.where(scale > 0, scale, 1)) * scale


@pytest.mark.parametrize("page", [None, 16])
def test_int8(page, rng):
    m = Mirror(rng, "int8", capacity=200, page=page)
    m.append([90, 90, 90])
    m.append([1, 0, 40])
    for steps in (1, 9):
        q = m.numbers(B, H, steps, D)
        k, v = (rounded(x) for x in m.whole())
        expected = Attention(rounded(q), k, v, kv_lengths=m.lengths, causal="bottom-right")
        out, lse = m.cache.attend(q, causal="bottom-right", return_lse=True)
        assert out.dtype == np.float32
        # A tie in the rounding may go the other way in f32: one step of one element of a key.
        np.testing.assert_allclose(out, expected.out, rtol=1e-3, atol=2e-4)
        np.testing.assert_allclose(lse, expected.lse, rtol=1e-3, atol=1e-3)
    assert m.cache.nbytes < 0.5 * B * HK * 200 * (D + DV) * 4


@pytest.mark.parametrize("page", [None, 16])
def test_int8_parts_of_four(page, rng):
    """Values lie by fours of keys: a ring that wraps within one, rollbacks into one, forks of one."""
    m = Mirror(rng, "int8", capacity=70, window=50, page=page)

    def compare():
        q = m.numbers(B, H, 1, D)
        k, v = (rounded(x) for x in m.whole())
        expected = Attention(rounded(q), k, v, kv_lengths=m.lengths, causal="bottom-right", window=(50, -1))
        np.testing.assert_allclose(m.cache.attend(q, causal="bottom-right"), expected.out, rtol=1e-3, atol=2e-4)

    for i in range(40):
        m.append([1 + i % 3, 3, 5 - i % 2])
        if i % 4 == 3:
            m.rollback(1, 1 + i % 3)
        if i % 10 == 7:
            m.fork(2, 0, m.lengths[2] - i % 4)
        compare()


@pytest.mark.parametrize("page", [None, 16])
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_ring(page, dtype, rng):
    m = Mirror(rng, dtype, capacity=96, window=40, page=page)
    assert m.cache.window == 40
    for i in range(30):
        m.append([7, 7, 7 if i % 3 else 0])
        m.check(3)
    assert m.cache.lengths == [210, 210, 140]
    ring = 96 if page else 128  # without pages whole tiles of 64
    assert all(0 < length - first <= ring for first, length in zip(m.cache.first, m.cache.lengths, strict=True))
    m.rollback(0, 5)
    m.check(2)
    with pytest.raises(ValueError, match="sees key 0, the ring holds those from"):
        m.cache.attend(m.numbers(B, H, 1, D), query_offset=[1, 1, 1], causal="offset")


@pytest.mark.parametrize("page", [None, 16, 32])
def test_fork_rollback_reset(page, rng):
    m = Mirror(rng, capacity=500, page=page)
    m.append([100, 10, 1])
    before = m.cache.nbytes
    m.fork(0, 1, 80)
    m.fork(0, 2, 100)
    if page:  # whole pages are shared, no more than one is copied
        assert m.cache.nbytes - before <= 2 * page * HK * (D + DV) * 4 + 3 * 128
    m.check()
    m.append([3, 4, 5])
    m.check(4)
    m.rollback(0, 60)
    m.rollback(2, 0)
    m.append([1, 2, 200])
    m.check(2)
    m.reset(0)
    assert m.cache.lengths[0] == 0
    m.check()
    m.fork(1, 0, 33)
    m.check()
    for b in range(B):
        m.reset(b)
    assert m.cache.nbytes == 0 and m.cache.lengths == [0] * B
    out, lse = m.cache.attend(m.numbers(B, H, 1, D), return_lse=True)
    assert (out == 0).all() and np.isneginf(lse).all()


@pytest.mark.parametrize("dtype", list(NAMES))
def test_save_and_load(dtype, rng, tmp_path):
    m = Mirror(rng, dtype, capacity=100, page=16)
    m.append([50, 3, 0])
    m.fork(0, 2, 40)
    path = tmp_path / "cache"
    m.cache.save(path)
    assert os.listdir(tmp_path) == ["cache"]
    back = attn.KVCache.load(path)
    for name in ("batch", "kv_heads", "head_dim", "v_head_dim", "capacity", "dtype", "page", "window", "lengths", "first",
                 "nbytes"):
        assert getattr(back, name) == getattr(m.cache, name)
    q = m.numbers(B, H, 1, D)
    np.testing.assert_array_equal(back.attend(q), m.cache.attend(q))
    assert back.state() == m.cache.state() == attn.KVCache.from_state(bytearray(m.cache.state())).state()
    m.append([1, 1, 1])
    m.cache.save(path)  # over the old one
    assert attn.KVCache.load(str(path)).lengths == m.lengths
    data = bytearray(m.cache.state())
    for change in range(0, len(data), max(1, len(data) // 200)):
        data[change] ^= 16
        with pytest.raises(ValueError, match="state of a cache: "):
            attn.KVCache.from_state(data)
        data[change] ^= 16
    for bad in (b"", bytes(data[:-1]), bytes(data) + b"\0", os.urandom(100)):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=re.escape(str(path)) + ": state of a cache: "):
            attn.KVCache.load(path)
    with pytest.raises(FileNotFoundError):
        attn.KVCache.load(tmp_path / "nothing")
    with pytest.raises(OSError):
        m.cache.save(tmp_path / "no" / "folder")
    with pytest.raises(TypeError):
        attn.KVCache.from_state("text")


def test_kinds(rng):
    m = Mirror(rng, capacity=20)
    m.append([9, 9, 9])
    q = m.numbers(B, H, 1, D)
    expected, lse = m.cache.attend(q, return_lse=True)
    out = np.empty_like(expected)
    assert m.cache.attend(q, out=out) is out
    np.testing.assert_array_equal(out, expected)
    torch = pytest.importorskip("torch")
    cache = attn.KVCache(B, HK, D, DV, capacity=20)
    cache.append(*(torch.from_numpy(x) for x in m.whole()), lengths=torch.tensor([9, 9, 9]))
    found = cache.attend(torch.from_numpy(q), return_lse=True)
    np.testing.assert_array_equal(found[0].numpy(), expected)
    np.testing.assert_array_equal(found[1].numpy(), lse)
    half = attn.KVCache(B, HK, D, DV, capacity=20, dtype="bf16")
    half.append(*(torch.from_numpy(x).bfloat16() for x in m.whole()))
    found = half.attend(torch.from_numpy(q).bfloat16())
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.float().numpy(), expected, rtol=5e-2, atol=5e-2)


def test_masks(rng):
    m = Mirror(rng, capacity=40)
    m.append([20, 30, 10])
    for shape in ((B, 1, 1, 30), (H, 2, 30), (2, 1)):
        m.check(2, mask=rng.random(shape) < 0.5)
    m.check(2, mask=rng.random((2, 30)) < 0.5, mask_keeps=False, bias=rng.standard_normal((1, H, 1, 30), np.float32))
    m.check(1, alibi=[0.1, 0.2, 0.3, 0.4], prefix=[3, 4, 5])
    m.check(1, causal=None, window=(5, 5), query_offset=[4, 5, 6])


def test_constructor_is_refused():
    good = {"batch": 1, "kv_heads": 1, "head_dim": 8, "capacity": 16}
    for change, error, text in [
            ({"dtype": "f64"}, ValueError, "dtype is 'f64', expected \"f32\", \"bf16\", \"f16\", \"int8\""),
            ({"page": 8}, ValueError, "page is 8, expected 0, 16 or 32"),
            ({"page": -16}, ValueError, "page is -16, expected 0 or more"),
            ({"batch": 0}, ValueError, "0 sequences and 1 key heads"),
            ({"batch": -1}, ValueError, "batch is -1, expected 0 or more"),
            ({"head_dim": 577}, ValueError, "head sizes are 577 and 577, expected 1 to 576"),
            ({"head_dim": 2**70}, ValueError, "head sizes are 9223372036854775807"),
            ({"capacity": 0}, ValueError, "capacity is 0, expected 1 to"),
            ({"capacity": 2**40}, ValueError, "capacity is 1099511627776"),
            ({"window": 16}, ValueError, "window is 16, expected -1 or less than the capacity, 16"),
            ({"capacity": 1.5}, TypeError, "'float' object cannot be interpreted as an integer")]:
        with pytest.raises(error, match=re.escape(text)):
            attn.KVCache(**{**good, **change})


@pytest.mark.parametrize("page", [None, 16])
def test_refused_and_unchanged(page, rng):
    m = Mirror(rng, capacity=64, page=page)
    m.append([60, 20, 0])
    state = m.cache.state()
    k, v, q = m.numbers(B, HK, 5, D), m.numbers(B, HK, 5, DV), m.numbers(B, H, 1, D)
    for call, error, text in [
            (lambda c: c.append(k, v), ValueError, "attn_kv_cache_append: .*capacity"),
            (lambda c: c.append(k, v[:, :, :4]), ValueError, "v has shape"),
            (lambda c: c.append(k[..., :3], v), ValueError, "k has shape"),
            (lambda c: c.append(k.astype(np.float16), v.astype(np.float16)), ValueError, "k is F16"),
            (lambda c: c.append(k.astype(np.float64), v), TypeError, "k is float64, expected float32, bfloat16 or float16"),
            (lambda c: c.append(k, v, [1, 2]), ValueError, "lengths has 2 elements, expected 3"),
            (lambda c: c.append(k, v, [1, 2, 6]), ValueError, "lengths"),
            (lambda c: c.append(k, v, [0, -1, 0]), ValueError, "lengths"),
            (lambda c: c.rollback(1, 21), ValueError, "attn_kv_cache_rollback"),
            (lambda c: c.rollback(3, 0), ValueError, "sequence is 3"),
            (lambda c: c.rollback(-1, 0), ValueError, "sequence is -1, expected 0 or more"),
            (lambda c: c.rollback(0, 1.0), TypeError, "integer"),
            (lambda c: c.fork(1, 0, 21), ValueError, "attn_kv_cache_fork"),
            (lambda c: c.fork(2, 0, 1), ValueError, "attn_kv_cache_fork"),
            (lambda c: c.fork(0, 3, 1), ValueError, "attn_kv_cache_fork"),
            (lambda c: c.reset(3), ValueError, "attn_kv_cache_reset"),
            (lambda c: c.attend(q[:2]), ValueError, "q has 2 sequences, the cache 3"),
            (lambda c: c.attend(q.astype(np.float16)), ValueError, "q is F16, the cache F32"),
            (lambda c: c.attend(q, causal="left"), ValueError, "causal is 'left'"),
            (lambda c: c.attend(q, kv_lengths=[1, 2, 3]), TypeError, "kv_lengths"),
            (lambda c: c.attend(q[..., :3]), ValueError, "q has a head size of 3, the cache 24"),
            (lambda c: c.attend(None), TypeError, "q is a NoneType"),
            (lambda c: c.attend(q, mask=np.ones((1, 1, 1, 61), bool)), ValueError, "mask has 61")]:
        with pytest.raises(error, match=text):
            call(m.cache)
        assert m.cache.state() == state


def test_settings_may_change(rng):
    """A cache outlives the context that made it."""
    m = Mirror(rng, capacity=200, page=16)
    m.append([50, 60, 70])
    level = attn.cpu_level()
    try:
        for threads, name in ((1, "scalar"), (3, level)):
            attn.set_num_threads(threads)
            attn.set_cpu_level(name)
            m.append([5, 6, 7])
            m.check(3)
    finally:
        attn.set_num_threads(os.cpu_count() or 1)
        attn.set_cpu_level(level)


def test_many_python_threads(rng):
    """Appends of several threads wait for each other, and none is lost."""
    cache = attn.KVCache(1, 1, 4, capacity=4000, page=16)
    one = np.ones((1, 1, 1, 4), np.float32)

    def work():
        for _ in range(200):
            cache.append(one, one)
            np.testing.assert_allclose(cache.attend(one), 1, rtol=1e-6)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.lengths == [800]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_child_of_fork(rng):
    m = Mirror(rng, capacity=64, page=16)
    m.append([9, 9, 9])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            m.append([3, 0, 1])
            m.check(2)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    m.check(2)


def test_memory_is_let_go():
    resident = []
    x = np.ones((1, 8, 1000, 64), np.float32)
    for i in range(40):
        cache = attn.KVCache(1, 8, 64, capacity=1000)
        cache.append(x, x)
        cache.state()
        with pytest.raises(ValueError, match="capacity"):
            cache.append(x, x)
        if i % 10 == 9:
            with open("/proc/self/statm", encoding="ascii") as file:
                resident.append(int(file.read().split()[1]) * 4096)
    assert resident[-1] - resident[0] < 3 * x.nbytes


# ---- random histories ---------------------------------------------------------------------------------


@st.composite
def histories(draw):
    window = draw(st.sampled_from([None, None, 0, 20]))
    options = {"dtype": draw(st.sampled_from(["f32", "f16"])), "page": draw(st.sampled_from([None, 16, 32])),
               "window": window, "capacity": draw(st.integers(max(1, (window or 0) + 1), 150))}
    sequence = st.integers(0, B - 1)
    step = st.one_of(st.tuples(st.just("append"), st.lists(st.integers(0, 40), min_size=B, max_size=B)),
                     st.tuples(st.just("rollback"), sequence, st.integers(0, 30)),
                     st.tuples(st.just("fork"), sequence, sequence, st.integers(0, 100)),
                     st.tuples(st.just("reset"), sequence))
    return options, draw(st.lists(step, max_size=14)), draw(st.integers(0, 2**32 - 1))


@hypothesis.given(histories())
def test_random_histories(history):
    """Each step does what it says, or raises and changes nothing; then attention is that of plain arrays, bit for bit."""
    options, steps, seed = history
    m = Mirror(np.random.default_rng(seed), **options)
    for name, *arguments in steps:
        before, lengths = m.cache.state(), m.lengths
        try:
            getattr(m, name)(*arguments)
        except ValueError:
            assert m.cache.state() == before and m.lengths == lengths
            source = lengths[arguments[0]] if name != "append" else 0
            full = name == "append" and max(a + b for a, b in zip(lengths, arguments[0], strict=True)) > options["capacity"]
            assert options["window"] is not None or full or name == "fork" and arguments[0] == arguments[1] or \
                name in ("fork", "rollback") and arguments[-1] > source, (name, arguments)
        m.check(1)
