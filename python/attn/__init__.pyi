"""Types of the package; its functions say what they do in __init__.py."""
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, Protocol, Self, SupportsIndex, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

class _DLPack(Protocol):
    def __dlpack__(self, *args: Any, **keywords: Any) -> Any: ...

# A NumPy array (which has DLPack too), or anything with DLPack.
_Array = TypeVar("_Array", bound=_DLPack)
_Integers = Sequence[SupportsIndex] | _DLPack
_Floats = Sequence[float] | _DLPack
_Causal = Literal["top-left", "bottom-right", "offset"]
_Precision = Literal["high", "fast"]
_CacheDtype = Literal["f32", "bf16", "f16", "int8"]
_Level = Literal["scalar", "avx2", "avx512", "amx", "neon"]

class _Gradients(TypedDict):
    dq: Any
    dk: Any
    dv: Any
    dbias: Any
    dsinks: Any

class _AdditiveGradients(TypedDict):
    dsq: Any
    dhk: Any
    dv: Any
    dh: Any

class _DotGradients(TypedDict):
    dq: Any
    dk: Any
    dh: Any

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
@overload
def attention_weights(
    q: _Array,
    k: _DLPack,
    lse: _DLPack,
    *,
    heads: int | _Integers | None = None,
    rows: int | _Integers | None = None,
    top_k: None = None,
    reduce: Literal["column_sum", "entropy", "block_max", "argmax"] | None = None,
    block: tuple[int, int] = (64, 64),
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
) -> _Array: ...
@overload
def attention_weights(
    q: _Array,
    k: _DLPack,
    lse: _DLPack,
    *,
    heads: int | _Integers | None = None,
    rows: int | _Integers | None = None,
    top_k: int,
    reduce: None = None,
    block: tuple[int, int] = (64, 64),
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
) -> tuple[_Array, _Array]: ...
def attention_scores(
    q: _Array,
    k: _DLPack,
    *,
    stage: Literal[0, 1, 2, 3] = 0,
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
) -> _Array: ...
@overload
def additive_attention(
    sq: _Array,
    hk: _DLPack,
    v: _DLPack,
    h: _DLPack,
    *,
    kv_lengths: _Integers | None = None,
    return_lse: Literal[False] = False,
    return_alignment: Literal[False] = False,
) -> _Array: ...
@overload
def additive_attention(
    sq: _Array,
    hk: _DLPack,
    v: _DLPack,
    h: _DLPack,
    *,
    kv_lengths: _Integers | None = None,
    return_lse: bool = False,
    return_alignment: bool = False,
) -> tuple[_Array, ...]: ...
def additive_attention_backward(
    dc: _DLPack,
    sq: _Array,
    hk: _DLPack,
    v: _DLPack,
    h: _DLPack,
    c: _DLPack | None = None,
    lse: _DLPack | None = None,
    *,
    kv_lengths: _Integers | None = None,
    alignment: _DLPack | None = None,
) -> _AdditiveGradients: ...
@overload
def dot_attention(
    q: _Array,
    k: _DLPack,
    h: _DLPack,
    *,
    scale: float = 1.0,
    kv_lengths: _Integers | None = None,
    return_alignment: Literal[False] = False,
) -> _Array: ...
@overload
def dot_attention(
    q: _Array,
    k: _DLPack,
    h: _DLPack,
    *,
    scale: float = 1.0,
    kv_lengths: _Integers | None = None,
    return_alignment: Literal[True],
) -> tuple[_Array, _Array]: ...
def dot_attention_backward(
    dc: _DLPack,
    q: _Array,
    k: _DLPack,
    h: _DLPack,
    *,
    scale: float = 1.0,
    kv_lengths: _Integers | None = None,
    alignment: _DLPack | None = None,
) -> _DotGradients: ...

class KVCache:
    batch: int
    kv_heads: int
    head_dim: int
    v_head_dim: int
    capacity: int
    dtype: _CacheDtype
    page: Literal[16, 32] | None
    window: int | None
    def __init__(
        self,
        batch: int,
        kv_heads: int,
        head_dim: int,
        v_head_dim: int | None = None,
        *,
        capacity: int,
        dtype: _CacheDtype = "f32",
        page: Literal[16, 32] | None = None,
        window: int | None = None,
    ) -> None: ...
    def append(self, k: _DLPack, v: _DLPack, lengths: _Integers | None = None) -> None: ...
    @overload
    def attend(
        self,
        q: _Array,
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
    def attend(
        self,
        q: _Array,
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
    def fork(self, src: int, dst: int, n: int) -> None: ...
    def rollback(self, sequence: int, n: int) -> None: ...
    def reset(self, sequence: int) -> None: ...
    @property
    def lengths(self) -> list[int]: ...
    @property
    def first(self) -> list[int]: ...
    @property
    def nbytes(self) -> int: ...
    def state(self) -> bytes: ...
    @classmethod
    def from_state(cls, data: Buffer) -> Self: ...
    def save(self, path: str | PathLike[str]) -> None: ...
    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self: ...

def rotary_embedding(
    x: _Array,
    cos: _DLPack,
    sin: _DLPack,
    *,
    positions: _Integers | None = None,
    interleaved: bool = False,
    rotary_dim: int | None = None,
) -> _Array: ...
def softmax(x: _Array) -> _Array: ...
def log_softmax(x: _Array) -> _Array: ...
def gelu(x: _Array, *, approximate: Literal["none", "tanh"] = "none") -> _Array: ...
@overload
def layer_norm(
    x: _Array,
    gain: _DLPack,
    bias: _DLPack | None = None,
    *,
    epsilon: float = 1e-5,
    return_stats: Literal[False] = False,
) -> _Array: ...
@overload
def layer_norm(
    x: _Array,
    gain: _DLPack,
    bias: _DLPack | None = None,
    *,
    epsilon: float = 1e-5,
    return_stats: Literal[True],
) -> tuple[_Array, _Array, _Array]: ...
def rms_norm(x: _Array, gain: _DLPack, *, epsilon: float = 1e-5) -> _Array: ...
def gru(
    x: _Array,
    w: _DLPack,
    u: _DLPack,
    b: _DLPack | None = None,
    c: _DLPack | None = None,
    h0: _DLPack | None = None,
    *,
    lengths: _Integers | None = None,
    reverse: bool = False,
    reset_after: bool = True,
) -> _Array: ...
def set_num_threads(n: int, /) -> None: ...
def cpu_level() -> _Level: ...
def set_cpu_level(name: _Level, /) -> None: ...

class Tokenizer:
    def __init__(self, path: str | bytes | PathLike[str], *, of_model: bool = False) -> None: ...
    @property
    def size(self) -> int: ...
    def encode(self, text: str, *, add_special: bool = False, special_as_text: bool = False) -> list[int]: ...
    def spans(
        self, text: str, *, add_special: bool = False, special_as_text: bool = False
    ) -> list[tuple[int, int, int]]: ...
    def decode(self, ids: _Integers) -> str: ...
    def piece(self, id: int) -> str | None: ...
    def find(self, piece: str) -> int | None: ...

_Path = str | bytes | PathLike[str]

def load(path: _Path, *, tokenizer: _Path | None = None) -> LanguageModel | Encoder | Translator: ...

class _Model:
    type: str  # the "model_type"
    config: dict[str, Any]
    vocab_size: int
    context_length: int
    @property
    def tokenizer(self) -> Tokenizer: ...
    def tokenize(self, text: str) -> list[int]: ...
    def detokenize(self, ids: _Integers) -> str: ...

class _Reader(_Model):
    @property
    def num_layers(self) -> int: ...
    @property
    def num_heads(self) -> int: ...
    def attention(
        self, text: str | _Integers, *, layer: int = -1, head: int | Literal["all"] | None = None
    ) -> NDArray[np.float32]: ...

class LanguageModel(_Reader):
    def logits(self, ids: str | _Integers) -> NDArray[np.float32]: ...
    def loss(self, text: str | _Integers) -> tuple[float, int]: ...
    def perplexity(self, text: str | _Integers) -> float: ...
    def generate(
        self,
        prompt: str | _Integers,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.8,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        repetition_penalty: float = 1.0,
        seed: int = 1,
        stop: str | Sequence[str] = (),
        context: int | None = None,
        slide: bool = False,
        cache: Literal["f32", "int8"] = "f32",
    ) -> Generation: ...
    def chat(
        self, messages: str | Sequence[Mapping[str, str]], *, template: str | None = None, **options: Any
    ) -> Generation: ...
    def generate_many(
        self, prompts: Iterable[str | _Integers | Sequence[Mapping[str, str]]], *, batch: int = 8, **options: Any
    ) -> list[str]: ...

class Generation(Iterator[str]):
    def __next__(self) -> str: ...
    @property
    def end(self) -> Literal["end token", "stop", "tokens", "context"] | None: ...
    @property
    def ids(self) -> list[int]: ...

class Encoder(_Reader):
    @property
    def dim(self) -> int: ...
    def attention(
        self,
        text: str | _Integers,
        *,
        layer: int = -1,
        head: int | Literal["all"] | None = None,
        types: _Integers | None = None,
    ) -> NDArray[np.float32]: ...
    def states(self, text: str | _Integers, *, types: _Integers | None = None) -> NDArray[np.float32]: ...
    def embed(
        self,
        texts: str | Sequence[str],
        *,
        pooling: Literal["mean", "cls", "pooler"] | None = None,
        normalize: bool = True,
        truncate: bool = False,
        max_tokens: int | None = None,
    ) -> NDArray[np.float32]: ...

class Translation:
    text: str
    score: float
    ids: list[int]
    tokens: list[str]
    log_probs: NDArray[np.float32]
    source_ids: list[int]
    source_tokens: list[str]
    alignment: NDArray[np.float32] | None

class Translator(_Model):
    @overload
    def translate(  # type: ignore[overload-overlap]  # a str is a sequence of them, but the first comes first
        self,
        texts: str,
        *,
        beam: int = 5,
        n_best: None = None,
        length_penalty: float = 1.0,
        coverage_penalty: float | None = None,
        max_length: int = 0,
        max_source: int | None = None,
        split_words: int = 50,
    ) -> Translation: ...
    @overload
    def translate(
        self,
        texts: Sequence[str],
        *,
        beam: int = 5,
        n_best: None = None,
        length_penalty: float = 1.0,
        coverage_penalty: float | None = None,
        max_length: int = 0,
        max_source: int | None = None,
        split_words: int = 50,
    ) -> list[Translation]: ...
    @overload
    def translate(  # type: ignore[overload-overlap]
        self,
        texts: str,
        *,
        beam: int = 5,
        n_best: int,
        length_penalty: float = 1.0,
        coverage_penalty: float | None = None,
        max_length: int = 0,
        max_source: int | None = None,
        split_words: int = 50,
    ) -> list[Translation]: ...
    @overload
    def translate(
        self,
        texts: Sequence[str],
        *,
        beam: int = 5,
        n_best: int,
        length_penalty: float = 1.0,
        coverage_penalty: float | None = None,
        max_length: int = 0,
        max_source: int | None = None,
        split_words: int = 50,
    ) -> list[list[Translation]]: ...
    def attention(
        self,
        translation: Translation,
        *,
        kind: Literal["encoder", "decoder", "cross"] = "cross",
        layer: int = -1,
        head: int | Literal["all"] | None = None,
    ) -> NDArray[np.float32]: ...
