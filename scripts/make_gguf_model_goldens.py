#!/usr/bin/env python3
"""Makes tests/golden/gguf/: tiny random language models as GGUF files, and what package transformers computes with the numbers
in them. Beside NAME.gguf lies NAME.safetensors:

    ids (B, T)       I32, two texts
    logits (B, T, V) F32, computed in float64
    greedy (100)     I32, what follows the first text, the largest logit each time

Matrices are stored in all formats that package gguf can write, by turns; the model has what is read from them again. Rows of
Llama's queries and keys are in rotary pairs, Gemma's gains have their 1, as llama.cpp's converter stores them. "llama" has a
tokenizer and a chat template. --llama-cpp compares the files with package llama-cpp-python, too.

Needs torch, numpy, safetensors, transformers and gguf. Usage: scripts/make_gguf_model_goldens.py [--llama-cpp]
"""
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import (AutoModelForCausalLM, Gemma2Config, Gemma3TextConfig, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config)

from make_gpt_goldens import in_double, shake

FOLDER = Path(__file__).parent.parent / "tests" / "golden" / "gguf"
V, T, B, GREEDY = 48, 12, 2, 100
COMMON = dict(vocab_size=V, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=160, initializer_range=0.3, bos_token_id=1, eos_token_id=None, pad_token_id=None)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 1024, "rope_theta": 5000.0}
VARIANTS = {
    "gpt2": GPT2Config(vocab_size=V, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=1,
                       eos_token_id=None),
    "llama": LlamaConfig(**COMMON | dict(vocab_size=288, num_hidden_layers=2, eos_token_id=2)),
    "llama3": LlamaConfig(**COMMON | dict(tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=32), rope_parameters=LLAMA3),
    "linear": LlamaConfig(**COMMON, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0}),
    "qwen2": Qwen2Config(**COMMON),
    "qwen3": Qwen3Config(**COMMON, head_dim=16),
    "gemma2": Gemma2Config(**COMMON | dict(num_hidden_layers=2), head_dim=16, query_pre_attn_scalar=16, sliding_window=4,
                           attn_logit_softcapping=3.0, final_logit_softcapping=6.0),
    "gemma3": Gemma3TextConfig(**COMMON | dict(num_hidden_layers=6, intermediate_size=32), head_dim=16, query_pre_attn_scalar=16,
                               sliding_window=4, rope_parameters={
                                   "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                                   "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
}
ARCHITECTURES = {"gemma3_text": "gemma3"}
TYPES = [gguf.GGMLQuantizationType[name] for name in "Q8_0 Q4_1 F32 Q5_0 BF16 Q4_0 F16 Q5_1".split()]
NAMES = {  # of package transformers, without its layer's number, and of GGUF
    "gpt2": {"transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
             "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
             "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"},
    "llama": {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
              "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
              "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
              "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
              "mlp.down_proj": "ffn_down", "post_attention_layernorm": "ffn_norm"},
}
NAMES["gemma"] = NAMES["llama"] | {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
                                   "post_feedforward_layernorm": "post_ffw_norm"}
CHAT = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def in_pairs(x, heads):
    """Rows i and i + D/2 of each head side by side."""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def out_of_pairs(x, heads):
    return x.reshape(heads, x.shape[0] // heads // 2, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def stored_name(kind, name):
    base, end = name.rsplit(".", 1)
    table = NAMES["gpt2" if kind == "gpt2" else "gemma" if kind.startswith("gemma") else "llama"]
    if ".h." in base or ".layers." in base:
        _, rest = base.split(".h." if ".h." in base else ".layers.", 1)
        layer, rest = rest.split(".", 1)
        return f"blk.{layer}.{table[rest]}.{end}"
    return f"{table[base]}.{end}"


def store(writer, model, config):
    """Writes all parameters, and gives them the values that are read again."""
    kind, turn = config.model_type, 0
    for name, p in model.named_parameters():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        x = p.detach().numpy()
        heads = {"q_proj": getattr(config, "num_attention_heads", 0),
                 "k_proj": getattr(config, "num_key_value_heads", 0)}.get(name.split(".")[-2]) if kind == "llama" else None
        transposed = kind == "gpt2" and name.split(".")[-2] in ("c_attn", "c_proj", "c_fc") and x.ndim == 2
        gain = kind.startswith("gemma") and x.ndim == 1
        x = x.T if transposed else in_pairs(x, heads) if heads else x + 1 if gain else x
        stored = gguf.GGMLQuantizationType.F32
        if x.ndim == 2:
            stored, turn = TYPES[turn % len(TYPES)], turn + 1
        data = gguf.quants.quantize(np.ascontiguousarray(x), stored)
        writer.add_tensor(stored_name(kind, name), data, raw_dtype=stored)
        x = gguf.quants.dequantize(data, stored).astype(np.float32)
        x = x.T if transposed else out_of_pairs(x, heads) if heads else x - 1 if gain else x
        p.data = torch.from_numpy(np.ascontiguousarray(x))
    if kind == "llama" and config.rope_parameters["rope_type"] == "llama3":
        plain = config.rope_parameters["rope_theta"] ** -(np.arange(0, 1, 2 / config.head_dim))
        scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
        writer.add_tensor("rope_freqs.weight", (plain / scaled.numpy()).astype(np.float32))


def describe(writer, config):
    c = config
    if c.model_type == "gpt2":
        writer.add_context_length(c.n_positions)
        writer.add_embedding_length(c.n_embd)
        writer.add_block_count(c.n_layer)
        writer.add_head_count(c.n_head)
        writer.add_feed_forward_length(4 * c.n_embd)
        writer.add_layer_norm_eps(c.layer_norm_epsilon)
        return
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    if getattr(c, "head_dim", None):
        writer.add_key_length(c.head_dim)
        writer.add_value_length(c.head_dim)
    rope = c.rope_parameters.get("full_attention", c.rope_parameters)
    writer.add_rope_freq_base(rope["rope_theta"])
    if c.model_type == "llama":
        writer.add_rope_dimension_count(c.head_dim or c.hidden_size // c.num_attention_heads)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if c.model_type.startswith("gemma"):
        writer.add_sliding_window(c.sliding_window)
    if c.model_type == "gemma2":
        writer.add_attn_logit_softcapping(c.attn_logit_softcapping)
        writer.add_final_logit_softcapping(c.final_logit_softcapping)


def tokens(writer, size, chat):
    """SentencePiece's kind, with bytes and a few pieces."""
    kind = gguf.TokenType
    pieces = [("<unk>", kind.UNKNOWN), ("<s>", kind.CONTROL), ("</s>", kind.CONTROL)]
    if chat:
        pieces += [("<|im_start|>", kind.CONTROL), ("<|im_end|>", kind.CONTROL)]
        pieces += [(f"<0x{byte:02X}>", kind.BYTE) for byte in range(256)]
    words = "▁ e t a o n i s h r d l u ▁t he ▁a ▁the in er ou nd re on at".split()
    pieces += [(word, kind.NORMAL) for word in words]
    pieces += [(f"[unused{n}]", kind.UNUSED) for n in range(size - len(pieces))]
    pieces = pieces[:size]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _ in pieces])
    writer.add_token_scores([-float(n) for n in range(len(pieces))])
    writer.add_token_types([int(k) for _, k in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if chat:
        writer.add_eot_token_id(4)
        writer.add_chat_template(CHAT)


def expected_of(model, config):
    torch.manual_seed(7)
    ids = torch.randint(5, config.vocab_size, (B, T))
    greedy = model.generate(ids[:1], do_sample=False, max_new_tokens=GREEDY, eos_token_id=None)[0, T:]
    with in_double(model), torch.no_grad():
        logits = model(ids).logits
    return {"ids": ids.int().numpy(), "logits": logits.float().numpy(), "greedy": greedy.int().numpy().copy()}


def compare_llama_cpp(path, found):
    import llama_cpp
    llm = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, n_threads=1, verbose=False, type_k=0, type_v=0, flash_attn=False)
    llm.eval(found["ids"][0].tolist())
    off = np.abs(llm.scores[:T] - found["logits"][0]).max()
    print(f"  llama.cpp: logits up to {np.abs(found['logits'][0]).max():.3g} off by {off:.3g}")


def make(name, config):
    transformers.set_seed(sum(map(ord, name)))
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    shake(model)
    path = FOLDER / f"{name}.gguf"
    writer = gguf.GGUFWriter(path, ARCHITECTURES.get(config.model_type, config.model_type))
    describe(writer, config)
    tokens(writer, config.vocab_size, name == "llama")
    store(writer, model, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = expected_of(model, config)
    save_file(found, FOLDER / f"{name}.safetensors")
    print(f"{path}: {path.stat().st_size} bytes")
    if "--llama-cpp" in sys.argv:
        compare_llama_cpp(path, found)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, config in VARIANTS.items():
        make(name, config)


if __name__ == "__main__":
    main()
