"""Arrays go in as they are and come back as their own kind."""
import ast
import inspect
import pathlib
import re
import sys

import numpy as np
import pytest
from attention import Attention

import attn

KINDS = ["numpy", "torch", "dlpack"]


class Other:
    """An array of a library that knows DLPack and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __array_namespace__(self):
        return sys.modules[__name__]


def from_dlpack(x):  # of the namespace above
    return Other(np.from_dlpack(x))


def of_kind(kind, array):
    if kind == "torch":
        return pytest.importorskip("torch").from_numpy(array)
    return Other(array) if kind == "dlpack" else array


def numpy_of(x):
    return x.array if isinstance(x, Other) else np.asarray(x)


@pytest.fixture
def qkv(rng):
    return tuple(rng.standard_normal(shape, np.float32) for shape in [(2, 4, 7, 16), (2, 2, 9, 16), (2, 2, 9, 24)])


@pytest.mark.parametrize("kind", KINDS)
def test_own_kind(kind, qkv):
    expected = Attention(*qkv)
    arrays = [of_kind(kind, x) for x in qkv]
    out, lse = attn.attention(*arrays, return_lse=True)
    assert type(out) is type(arrays[0]) and type(lse) is type(arrays[0])
    np.testing.assert_allclose(numpy_of(out), expected.out, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(numpy_of(lse), expected.lse, rtol=1e-5, atol=1e-5)
    assert numpy_of(out).dtype == numpy_of(lse).dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_own_kind(kind, qkv, rng):
    bias, sinks = rng.standard_normal((9,), np.float32), np.zeros(4, np.float32)
    arrays = [of_kind(kind, x) for x in qkv]
    out, lse = attn.attention(*arrays, bias=of_kind(kind, bias), sinks=of_kind(kind, sinks), return_lse=True)
    grads = attn.attention_backward(out, *arrays, out, lse, bias=of_kind(kind, bias), sinks=of_kind(kind, sinks))
    expected = Attention(*qkv, bias=bias, sinks=sinks).backward(numpy_of(out))
    for name, gradient in expected.items():
        assert type(grads[name]) is type(arrays[0])
        np.testing.assert_allclose(numpy_of(grads[name]), gradient, rtol=2e-5, atol=2e-5, err_msg=name)


def test_gradients_of_half_precision(qkv):
    torch = pytest.importorskip("torch")
    for dtype in (torch.float16, torch.bfloat16):
        q, k, v = (torch.from_numpy(x).to(dtype) for x in qkv)
        bias = torch.zeros(9, dtype=dtype)
        out, lse = attn.attention(q, k, v, bias=bias, return_lse=True)
        grads = attn.attention_backward(out.sum().expand(out.shape), q, k, v, out, lse, bias=bias)
        assert [grads[name].dtype for name in ("dq", "dk", "dv", "dbias")] == [dtype] * 3 + [torch.float32]
        assert grads["dsinks"] is None


def test_kinds_mix(qkv):
    q, k, v = qkv
    out = attn.attention(q, of_kind("torch", k), Other(v), bias=of_kind("torch", np.zeros(9, np.float32)))
    assert isinstance(out, np.ndarray)
    np.testing.assert_array_equal(out, attn.attention(q, k, v, bias=np.zeros(9, np.float32)))


def test_half_precision(qkv):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for dtype, bound in ((np.float16, 2e-3), (ml_dtypes.bfloat16, 2e-2)):
        arrays = [x.astype(dtype) for x in qkv]
        out, lse = attn.attention(*arrays, return_lse=True)
        assert out.dtype == dtype and lse.dtype == np.float32
        np.testing.assert_allclose(out.astype(np.float64), Attention(*arrays).out, rtol=bound, atol=bound)


def test_bfloat16_of_torch_is_that_of_numpy(qkv):
    torch, ml_dtypes = pytest.importorskip("torch"), pytest.importorskip("ml_dtypes")
    out = attn.attention(*(torch.from_numpy(x).bfloat16() for x in qkv))
    assert out.dtype == torch.bfloat16
    same = attn.attention(*(x.astype(ml_dtypes.bfloat16) for x in qkv))
    np.testing.assert_array_equal(out.view(torch.int16).numpy(), same.view(np.int16))


def strided(x):
    """Views with the same elements, none of them contiguous."""
    wide = np.zeros((*x.shape[:-1], x.shape[-1] + 5), x.dtype)
    wide[..., 2:-3] = x
    yield wide[..., 2:-3]
    yield np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)
    yield np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1]
    yield np.ascontiguousarray(x.swapaxes(2, 3)).swapaxes(2, 3)  # last stride not 1
    yield np.ascontiguousarray(x[..., ::-1])[..., ::-1]
    packed = np.zeros(x.shape, [("tag", "u1"), ("x", x.dtype)])  # not even aligned
    packed["x"] = x
    yield packed["x"]
    frozen = x.copy()
    frozen.flags.writeable = False
    yield frozen


def test_any_strides(qkv):
    expected = attn.attention(*qkv)
    for q, k, v in zip(*(strided(x) for x in qkv), strict=True):
        np.testing.assert_array_equal(attn.attention(q, k, v), expected)


def test_any_strides_of_torch(qkv):
    torch = pytest.importorskip("torch")
    expected = attn.attention(*qkv)
    arrays = [torch.from_numpy(x) for x in qkv]
    for change in (lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
                   lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
                   lambda x: torch.cat([x, x], dim=-1)[..., : x.shape[-1]],
                   lambda x: torch.stack([x, x], dim=-1)[..., 0]):
        np.testing.assert_array_equal(attn.attention(*(change(x) for x in arrays)).numpy(), expected)
    one = torch.from_numpy(qkv[0][:1]).expand(2, -1, -1, -1)
    both = attn.attention(one, one, one)
    np.testing.assert_array_equal(both[0].numpy(), both[1].numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_out(kind, qkv):
    expected = attn.attention(*qkv)
    q, k, v = (of_kind(kind, x) for x in qkv)
    room = np.full((2, 4, 7, 30), 5, np.float32)
    out = of_kind(kind, room[..., :24])
    assert attn.attention(q, k, v, out=out) is out
    np.testing.assert_array_equal(room[..., :24], expected)
    assert (room[..., 24:] == 5).all()
    both = attn.attention(q, k, v, out=out, return_lse=True)
    assert both[0] is out and numpy_of(both[1]).shape == (2, 4, 7)


def test_out_that_cannot_be(qkv):
    good = np.zeros((2, 4, 7, 24), np.float32)
    frozen = good.copy()
    frozen.flags.writeable = False
    for out, error, text in [
            (frozen, ValueError, "out is read-only"),
            (Other(frozen), ValueError, "out is read-only"),
            (good[:, :, :, ::-1], ValueError, "out has a last stride that is not 1"),
            (np.zeros((2, 4, 7, 48), np.float32)[..., ::2], ValueError, "out has a last stride that is not 1"),
            (good[:, :3], ValueError, "out has shape"),
            (good.astype(np.float16), ValueError, "out is F16, expected F32"),
            (good.astype(np.float64), TypeError, "out is float64, expected float32, bfloat16 or float16"),
            ([1.0], TypeError, "out is a list"),
            (qkv[2], ValueError, "out has shape")]:
        with pytest.raises(error, match=re.escape(text)):
            attn.attention(*qkv, out=out)
    with pytest.raises(ValueError, match="out overlaps q"):
        attn.attention(qkv[0], qkv[1], qkv[1], out=qkv[0])


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_what_is_no_array(name, qkv):
    arrays = dict(zip("qkv", qkv, strict=True))
    for bad, text in [
            ([1.0, 2.0], "is a list, expected a NumPy array or something with DLPack"),
            (None, "is a NoneType, expected"),
            ("text", "is a str, expected"),
            (arrays[name].astype(np.float64), "is float64, expected float32, bfloat16 or float16"),
            (arrays[name].astype(np.int32), "is int32, expected float32, bfloat16 or float16"),
            (arrays[name] > 0, "is bool, expected"),
            (arrays[name].astype(np.complex64), 'is of the format "Zf", expected'),
            (arrays[name].astype(object), 'is of the format "O", expected'),
            (arrays[name].astype(">f4"), 'is of the format ">f", expected'),
            (np.array(["a"]), 'is of the format'),
            (b"bytes", "is uint8, expected")]:
        with pytest.raises(TypeError, match=re.escape(f"{name} {text}")):
            attn.attention(**{**arrays, name: bad})
    with pytest.raises(ValueError, match=f"{name} has 6 dimensions, expected at most 5"):
        attn.attention(**{**arrays, name: arrays[name][None, None]})
    with pytest.raises(ValueError, match=f"{name} has (3 dimensions|rank 3), expected 4"):
        attn.attention(**{**arrays, name: arrays[name][0]})


def test_what_is_no_tensor(qkv):
    torch = pytest.importorskip("torch")
    q, k, v = (torch.from_numpy(x) for x in qkv)
    with pytest.raises(TypeError, match="q: .*require gradient"):
        attn.attention(q.clone().requires_grad_(), k, v)
    with pytest.raises(TypeError, match="q is of the DLPack type 5 with 64 bits"):
        attn.attention(q.to(torch.complex64), k, v)
    with pytest.raises(TypeError, match="q is float64"):
        attn.attention(q.double(), k, v)
    with pytest.raises(TypeError, match="k"):
        attn.attention(q, k.to_sparse(), v)
    with pytest.raises((TypeError, ValueError), match="v"):
        attn.attention(q, k, v.to("meta"))


def test_sentences_of_the_library(qkv):
    q, k, v = qkv
    for arrays, options, text in [
            ((q, k[:, :, :5], v), {}, "v has shape (2, 2, 9, 24), expected (2, 2, 5, 24)"),
            ((q[:, :3], k, v), {}, "q has 3 heads, expected a multiple of k's 2"),
            ((q, k.astype(np.float16), v), {}, "k is F16, expected F32"),
            ((q, k, v), {"dropout": 1.0}, "dropout is 1, expected 0 to less than 1"),
            ((q, k, v), {"causal": "top-left", "query_offset": 1}, "query_offset and causal top-left exclude each other")]:
        with pytest.raises(ValueError, match=re.escape("attn_attention_fwd: " + text)):
            attn.attention(*arrays, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_no_elements(kind):
    def zeros(*shape):
        return of_kind(kind, np.zeros(shape, np.float32))

    for batch, heads, t, s in [(0, 4, 7, 9), (2, 0, 7, 9), (2, 4, 0, 9), (2, 4, 7, 0), (0, 0, 0, 0)]:
        out, lse = attn.attention(zeros(batch, heads, t, 8), zeros(batch, heads, s, 8), zeros(batch, heads, s, 5),
                                  return_lse=True)
        assert numpy_of(out).shape == (batch, heads, t, 5) and numpy_of(lse).shape == (batch, heads, t)
        assert (numpy_of(out) == 0).all() and np.isneginf(numpy_of(lse)).all()


def test_arrays_are_let_go(qkv):
    torch = pytest.importorskip("torch")
    arrays = [*qkv, *(torch.from_numpy(x) for x in qkv)]
    before = [sys.getrefcount(x) for x in arrays]
    for _ in range(10):
        attn.attention(*arrays[:3], return_lse=True)
        attn.attention(*arrays[3:], return_lse=True)
        with pytest.raises(ValueError, match="heads"):
            attn.attention(arrays[0][:, :3], *arrays[1:3])
    assert [sys.getrefcount(x) for x in arrays] == before
    kept = attn._attn.Memory((3, 4), "float32")
    views = [np.from_dlpack(kept) for _ in range(5)]
    assert sys.getrefcount(kept) == 7
    del views
    assert sys.getrefcount(kept) == 2


def test_memory():
    kept = attn._attn.Memory((2, 3), "float16")
    view = np.from_dlpack(kept)
    del kept
    assert view.shape == (2, 3) and view.dtype == np.float16 and (view == 0).all()
    for arguments in [((1,) * 6, "float32"), ((1,), "float99"), ((-1,), "float32"), ((2**62, 8), "float32")]:
        with pytest.raises((ValueError, MemoryError)):
            attn._attn.Memory(*arguments)


def test_no_memory(qkv):
    huge = np.broadcast_to(np.float32(0), (2**30, 2**20, 1, 8))
    with pytest.raises(MemoryError):
        attn.attention(huge, huge, huge)


def same_parameters(node, function):
    own = inspect.signature(function).parameters
    positional = node.args.args
    rest = [node.args.kwarg] if node.args.kwarg else []  # **options
    assert [a.arg for a in positional + node.args.kwonlyargs + rest] == list(own)
    defaults = [None] * (len(positional) - len(node.args.defaults)) + node.args.defaults
    for argument, default in [*zip(positional, defaults, strict=True),
                              *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]:
        if default is not None:  # overloads leave some out
            assert ast.literal_eval(default) == own[argument.arg].default, (node.name, argument.arg)


def test_stub_is_the_package():
    """__init__.pyi names the parameters that functions and methods have, in their order and with their defaults."""
    stub = ast.parse(pathlib.Path(attn.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    public = [node for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"]
    assert {node.name for node in public} == set(attn.__all__)
    for node in public:
        own = getattr(attn, node.name)
        assert inspect.isbuiltin(own) or own.__doc__
        if isinstance(node, ast.FunctionDef) and not inspect.isbuiltin(own):
            same_parameters(node, own)
        if isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            fields = getattr(own, "__slots__", ())
            assert {m.name for m in methods if m.name[0] != "_"} == {
                name for name in vars(own) if name[0] != "_" and name not in fields}
            for method in methods:
                found = inspect.getattr_static(own, method.name)
                same_parameters(method, found.fget if isinstance(found, property) else getattr(found, "__func__", found))
