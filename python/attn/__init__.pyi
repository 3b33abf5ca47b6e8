"""Types of the package; its functions say what they do in __init__.py."""
from collections.abc import Sequence
from typing import Any, Literal, Protocol, SupportsIndex, TypedDict, TypeVar, overload

class _DLPack(Protocol):
    def __dlpack__(self, *args: Any, **keywords: Any) -> Any: ...

# A NumPy array (which has DLPack too), or anything with DLPack.
_Array = TypeVar("_Array", bound=_DLPack)
_Integers = Sequence[SupportsIndex] | _DLPack
_Floats = Sequence[float] | _DLPack
_Causal = Literal["top-left", "bottom-right", "offset"]
_Precision = Literal["high", "fast"]
_Level = Literal["scalar", "avx2", "avx512", "amx", "neon"]

class _Gradients(TypedDict):
    dq: Any
    dk: Any
    dv: Any
    dbias: Any
    dsinks: Any

__version__: str

@overload
def attention(
    q: _Array,
    k: _DLPack,
    v: _DLPack,
    *,
    mask: _DLPack | None = None,
    mask_keeps: bool = True,
    bias: _DLPack | None = None,
    causal: _Causal | None = None,
    window: tuple[int, int] | None = None,
    query_offset: int | _Integers | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi: _Floats | None = None,
    sinks: _Floats | None = None,
    q_lengths: _Integers | None = None,
    kv_lengths: _Integers | None = None,
    cu_q: _Integers | None = None,
    cu_k: _Integers | None = None,
    segments: tuple[_DLPack, _DLPack] | None = None,
    prefix: _Integers | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    offset: int = 0,
    sequence_ids: _Integers | None = None,
    precision: _Precision | None = None,
    return_lse: Literal[False] = False,
    out: _Array | None = None,
) -> _Array: ...
@overload
def attention(
    q: _Array,
    k: _DLPack,
    v: _DLPack,
    *,
    mask: _DLPack | None = None,
    mask_keeps: bool = True,
    bias: _DLPack | None = None,
    causal: _Causal | None = None,
    window: tuple[int, int] | None = None,
    query_offset: int | _Integers | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi: _Floats | None = None,
    sinks: _Floats | None = None,
    q_lengths: _Integers | None = None,
    kv_lengths: _Integers | None = None,
    cu_q: _Integers | None = None,
    cu_k: _Integers | None = None,
    segments: tuple[_DLPack, _DLPack] | None = None,
    prefix: _Integers | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    offset: int = 0,
    sequence_ids: _Integers | None = None,
    precision: _Precision | None = None,
    return_lse: Literal[True],
    out: _Array | None = None,
) -> tuple[_Array, _Array]: ...
def attention_backward(
    dout: _DLPack,
    q: _DLPack,
    k: _DLPack,
    v: _DLPack,
    out: _DLPack,
    lse: _DLPack,
    *,
    dlse: _DLPack | None = None,
    mask: _DLPack | None = None,
    mask_keeps: bool = True,
    bias: _DLPack | None = None,
    causal: _Causal | None = None,
    window: tuple[int, int] | None = None,
    query_offset: int | _Integers | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi: _Floats | None = None,
    sinks: _Floats | None = None,
    q_lengths: _Integers | None = None,
    kv_lengths: _Integers | None = None,
    cu_q: _Integers | None = None,
    cu_k: _Integers | None = None,
    segments: tuple[_DLPack, _DLPack] | None = None,
    prefix: _Integers | None = None,
    dropout: float = 0.0,
    seed: int = 0,
    offset: int = 0,
    sequence_ids: _Integers | None = None,
    precision: _Precision | None = None,
) -> _Gradients: ...
def rotary_embedding(
    x: _Array,
    cos: _DLPack,
    sin: _DLPack,
    *,
    positions: _Integers | None = None,
    interleaved: bool = False,
    rotary_dim: int | None = None,
) -> _Array: ...
def set_num_threads(n: int, /) -> None: ...
def cpu_level() -> _Level: ...
def set_cpu_level(name: _Level, /) -> None: ...
