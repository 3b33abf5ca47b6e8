#!/usr/bin/env python3
"""Makes tests/golden/gpt/: tiny random language models as transformers saves them, and what transformers computes with
them. Each folder is a model (config.json, weights) with expected.safetensors beside it:

    ids (B, T)               I32, two texts
    logits (B, T, V)         F32
    weights (L, H, T, T)     F32, of each layer's heads while they read the first text
    greedy (100)             I32, what follows the first text, the largest logit each time
    loss                     F64, the mean over all B·(T−1) next tokens
    grad.NAME                d loss / d NAME, in the names and layout of the file; for "gpt2" and "llama"

Config files come in both generations, weights in shards, with and without prefix, and under the names of Build a Large
Language Model (From Scratch).

Needs torch, numpy, safetensors and transformers. Usage: scripts/make_gpt_goldens.py [FOLDER]
"""
import contextlib
import json
import sys
from pathlib import Path

import numpy
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import (Gemma2Config, Gemma3TextConfig, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config,
                          AutoModelForCausalLM)

V, T, B, GREEDY = 29, 12, 2, 100
LLAMA = dict(vocab_size=V, hidden_size=16, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=160, initializer_range=0.4, bos_token_id=None, eos_token_id=None,
             pad_token_id=None)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32, "rope_theta": 500.0}
GPT2 = dict(vocab_size=V, n_positions=128, n_embd=12, n_layer=2, n_head=3, initializer_range=0.3, bos_token_id=None,
            eos_token_id=None)

VARIANTS = {
    "gpt2": GPT2Config(**GPT2, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0),
    "gpt2_old": GPT2Config(**GPT2 | dict(n_inner=20, activation_function="gelu")),
    "raschka": GPT2Config(**GPT2 | dict(tie_word_embeddings=False, n_layer=1)),
    "llama": LlamaConfig(**LLAMA),
    "llama3_old": LlamaConfig(**LLAMA | dict(head_dim=8, tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
                              rope_parameters=LLAMA3),
    "mistral": MistralConfig(**LLAMA, sliding_window=5),
    "qwen2": Qwen2Config(**LLAMA | dict(num_hidden_layers=3), use_sliding_window=True, sliding_window=4, max_window_layers=1),
    "qwen3": Qwen3Config(**LLAMA, head_dim=6),
    "gemma2": Gemma2Config(**LLAMA, head_dim=6, query_pre_attn_scalar=5, sliding_window=4, attn_logit_softcapping=3.0,
                           final_logit_softcapping=6.0),
    "gemma3": Gemma3TextConfig(**LLAMA | dict(num_hidden_layers=3), head_dim=6, query_pre_attn_scalar=9, sliding_window=4,
                               layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                               rope_parameters={
                                   "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
                                   "sliding_attention": {"rope_type": "default", "rope_theta": 50.0}}),
}


@contextlib.contextmanager
def in_double(model):
    """The model in float64, also where its code asks for float32 (norms, softmax)."""
    float32, to_float = torch.float32, torch.Tensor.float
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    try:
        yield model.double()
    finally:
        torch.float32, torch.Tensor.float = float32, to_float


def expected_of(model, name):
    torch.manual_seed(7)
    ids = torch.randint(0, V, (B, T))
    greedy = model.generate(ids[:1], do_sample=False, max_new_tokens=GREEDY)[0, T:]
    with in_double(model):
        out = model(ids, output_attentions=True)
    loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].reshape(-1, V), ids[:, 1:].reshape(-1))
    found = {"ids": ids.int(), "logits": out.logits, "greedy": greedy.int(), "loss": loss.double(),
             "weights": torch.stack([layer[0] for layer in out.attentions])}
    if name in ("gpt2", "llama"):
        loss.backward()
        found |= {f"grad.{key}": p.grad for key, p in model.named_parameters() if key != "lm_head.weight" or name == "llama"}
    return {key: (x.float() if x.is_floating_point() and key != "loss" else x).detach().numpy().copy()
            for key, x in found.items()}


def older_config(folder):
    """The first generation's keys for rotary positions and dtype, and what only it had."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters", None)
    if rope:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["transformers_version"] = "4.43.0"
    path.write_text(json.dumps(config, indent=2) + "\n")


def raschka_names(weights, layers):
    """The model of chapters 4 and 5: linears as (out, in), a mask, a head."""
    out = {"tok_emb.weight": weights["transformer.wte.weight"], "pos_emb.weight": weights["transformer.wpe.weight"],
           "final_norm.scale": weights["transformer.ln_f.weight"], "final_norm.shift": weights["transformer.ln_f.bias"],
           "out_head.weight": weights["lm_head.weight"]}
    for n in range(layers):
        old, new = f"transformer.h.{n}.", f"trf_blocks.{n}."
        for i, name in enumerate(("query", "key", "value")):
            out[new + f"att.W_{name}.weight"] = numpy.split(weights[old + "attn.c_attn.weight"], 3, axis=1)[i].T
            out[new + f"att.W_{name}.bias"] = numpy.split(weights[old + "attn.c_attn.bias"], 3)[i]
        for there, here in (("attn.c_proj", "att.out_proj"), ("mlp.c_fc", "ff.layers.0"), ("mlp.c_proj", "ff.layers.2")):
            out[new + here + ".weight"] = weights[old + there + ".weight"].T
            out[new + here + ".bias"] = weights[old + there + ".bias"]
        for there, here in (("ln_1", "norm1"), ("ln_2", "norm2")):
            out[new + here + ".scale"] = weights[old + there + ".weight"]
            out[new + here + ".shift"] = weights[old + there + ".bias"]
        out[new + "att.mask"] = numpy.triu(numpy.ones((4, 4), numpy.float32), 1)
    return {key: numpy.ascontiguousarray(x) for key, x in out.items()}


def rewrite(folder, name, config):
    """What other writers than today's do."""
    path = folder / "model.safetensors"
    if name in ("gpt2_old", "llama3_old"):
        older_config(folder)
    if name == "gpt2_old":
        weights = {key.removeprefix("transformer."): x for key, x in load_file(path).items()}
        for n in range(config.n_layer):
            weights[f"h.{n}.attn.bias"] = numpy.tril(numpy.ones((1, 1, 4, 4), numpy.float32))
            weights[f"h.{n}.attn.masked_bias"] = numpy.float32([-1e4])
        save_file(weights, path, {"format": "pt"})
    if name == "raschka":
        save_file(raschka_names(load_file(path), config.n_layer), path)


def shake(model):
    """Biases and gains are zeros and ones else."""
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.2 * torch.randn_like(p))


def make(root, name, config):
    torch.manual_seed(sum(map(ord, name)))
    transformers.set_seed(11)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    shake(model)
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, max_shard_size="8KB" if name == "qwen2" else "1GB")
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file(expected_of(model, name), folder / "expected.safetensors")
    rewrite(folder, name, config)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/golden/gpt")
    for name, config in VARIANTS.items():
        make(root, name, config)


if __name__ == "__main__":
    main()
