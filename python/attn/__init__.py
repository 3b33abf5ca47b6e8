"""Attention on CPUs, forward and backward, with every option beside every other.

    out, lse = attn.attention(q, k, v, causal="top-left", return_lse=True)
    grads = attn.attention_backward(dout, q, k, v, out, lse, causal="top-left")
    values, keys = attn.attention_weights(q, k, lse, causal="top-left", top_k=8)

    for piece in attn.load("model.gguf").generate("Once upon a time"): ...
    print(attn.load("models/de-en").translate("Das ist gut.").text)

Arrays are NumPy's, or anything's with DLPack (torch, bfloat16 too); they are not copied, and results are of q's kind.
Options are those of the C header attn/attention.h, and so are the errors' sentences.
"""
import os as _os

from . import _attn
from ._alignment import additive_attention, additive_attention_backward, dot_attention, dot_attention_backward
from ._attention import attention, attention_backward, attention_scores, attention_weights, rotary_embedding
from ._attn import cpu_level, set_cpu_level, set_num_threads
from ._cache import KVCache
from ._layers import gelu, gru, layer_norm, log_softmax, rms_norm, softmax
from ._models import Encoder, Generation, LanguageModel, Translation, Translator, load
from ._tokenizer import Tokenizer

__all__ = ["attention", "attention_backward", "attention_weights", "attention_scores", "additive_attention",
           "additive_attention_backward", "dot_attention", "dot_attention_backward", "KVCache", "rotary_embedding",
           "softmax", "log_softmax", "gelu", "layer_norm", "rms_norm", "gru", "Tokenizer", "load", "LanguageModel", "Generation",
           "Encoder", "Translator", "Translation", "set_num_threads", "cpu_level", "set_cpu_level"]
__version__ = _attn.version

if hasattr(_os, "register_at_fork"):
    _os.register_at_fork(after_in_child=_attn.after_fork)
