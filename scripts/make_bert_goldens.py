#!/usr/bin/env python3
"""Makes tests/golden/bert/: tiny random encoders as transformers saves them, and what transformers computes with them in
float64. Each folder is a model (config.json, weights) with expected.safetensors beside it:

    ids, types (B, T)        I32; sequence b has length[b] tokens, padding behind them
    length (B)               I32
    states (B, T, C)         F32, the last layer's; of padding: zeros
    pooled (B, C)            F32, where the model has a pooler
    weights (L, H, T, T)     F32, of the first sequence, whose length is T

"bert" is a BertModel with a tokenizer of letters, "masked" a BertForMaskedLM (prefix, head, no pooler), "old" a BertForPreTraining under the names of
TensorFlow's norms. Needs torch, numpy, safetensors and transformers. Usage: scripts/make_bert_goldens.py [FOLDER]
"""
import json
import sys
from pathlib import Path

import numpy
import torch
import transformers
from make_gpt_goldens import in_double, shake
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel

V, T, LENGTHS = 31, 14, (14, 9, 3)
TINY = dict(vocab_size=V, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
            max_position_embeddings=40, initializer_range=0.5)
VARIANTS = {
    "bert": (BertModel, BertConfig(**TINY)),
    "masked": (BertForMaskedLM, BertConfig(**TINY | dict(hidden_act="gelu_new", type_vocab_size=1, num_hidden_layers=1))),
    "old": (BertForPreTraining, BertConfig(**TINY | dict(hidden_act="relu", layer_norm_eps=1e-5, num_hidden_layers=1))),
}


def expected_of(model, types):
    encoder = model.bert if hasattr(model, "bert") else model
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, V, (len(LENGTHS), T), generator=generator)
    types = torch.randint(0, types, (len(LENGTHS), T), generator=generator)
    mask = torch.arange(T)[None] < torch.tensor(LENGTHS)[:, None]
    with in_double(encoder), torch.no_grad():
        out = encoder(ids, attention_mask=mask, token_type_ids=types, output_attentions=True)
    found = {"ids": ids.int(), "types": types.int(), "length": torch.tensor(LENGTHS).int(),
             "states": (out.last_hidden_state * mask[..., None]).float(),
             "weights": torch.stack([layer[0] for layer in out.attentions]).float()}
    if encoder.pooler is not None:
        found["pooled"] = out.pooler_output.float()
    return {key: x.numpy().copy() for key, x in found.items()}


def old_names(folder):
    path = folder / "model.safetensors"
    renamed = {key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): x
               for key, x in load_file(path).items()}
    renamed["bert.embeddings.position_ids"] = numpy.arange(TINY["max_position_embeddings"])[None]
    save_file(renamed, path, {"format": "pt"})


def write_tokenizer(path):
    """WordPiece of letters, [CLS] and [SEP] around."""
    special = {name: i for i, name in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))}
    around = {name: {"id": name, "ids": [special[name]], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
    template = {"type": "TemplateProcessing", "special_tokens": around, "pair": [],
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]}
    added = [{"id": i, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for name, i in special.items()]
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
             "vocab": special | {chr(ord("a") + i): 5 + i for i in range(26)}}
    path.write_text(json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
                                "normalizer": None, "pre_tokenizer": {"type": "BertPreTokenizer"},
                                "post_processor": template, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
                                "model": model}) + "\n")


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/golden/bert")
    for name, (kind, config) in VARIANTS.items():
        transformers.set_seed(sum(map(ord, name)))
        config._attn_implementation = "eager"
        model = kind(config).float().eval()
        shake(model)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        save_file(expected_of(model, config.type_vocab_size), folder / "expected.safetensors")
        if name == "old":
            old_names(folder)
        if name == "bert":
            write_tokenizer(folder / "tokenizer.json")


if __name__ == "__main__":
    main()
