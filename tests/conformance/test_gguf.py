"""GGUF files that attn convert writes, read by llama.cpp: the same tokens, and the same greedy text.

Needs llama-cpp-python; torch, transformers and tokenizers for a folder as the Hub has it."""
import json
import os
import pathlib
import subprocess

import pytest

import attn

llama_cpp = pytest.importorskip("llama_cpp")
if not hasattr(attn, "load"):
    pytest.skip("this build has no models", allow_module_level=True)
ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTN = pathlib.Path(os.environ.get("ATTN_TEST_BUILD", ROOT / "build")) / "attn"
GOLDEN = ROOT / "tests/golden/gguf"


def convert(source, path, *options):
    subprocess.run([ATTN, "convert", "-q", source, "-o", path, *options], check=True)
    return path


def check(path, text, n=16):
    ours = attn.load(path)
    theirs = llama_cpp.Llama(str(path), n_ctx=64, n_threads=1, verbose=False, type_k=0, type_v=0, flash_attn=False)
    ids, written = theirs.tokenize(text.encode(), add_bos=True, special=False), []
    assert ids == ours.tokenize(text)
    for token in theirs.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        if len(written) == n or token == theirs.token_eos():
            break
        written.append(token)
    found = ours.generate(ids, temperature=0, max_tokens=max(n, 1))
    list(found)
    assert found.ids[len(ids):][:n] == written


@pytest.mark.parametrize("dtype", ("f32", "f16", "q8_0"))
@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.gguf")))
def test_architectures(name, dtype, tmp_path):
    path = convert(GOLDEN / f"{name}.gguf", tmp_path / "x.gguf", "--to", "gguf", "--dtype", dtype)
    check(path, "the in", {"f32": 16, "f16": 1, "q8_0": 0}[dtype])  # a rounding of activations may choose another token


def test_hub_folder(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    pairs = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("Ġ", "in"), ("o", "f")]
    vocabulary = {piece: i for i, piece in enumerate(alphabet + [a + b for a, b in pairs] + ["<|end|>"])}
    own = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=pairs))
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    own.add_special_tokens(["<|end|>"])
    own.save(str(tmp_path / "tokenizer.json"))
    torch.manual_seed(0)
    sizes = {"vocab_size": 264, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3, "bos_token_id": None, "eos_token_id": 262}
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**sizes))
    model.save_pretrained(tmp_path)
    assert len(vocabulary) == 263  # one row more: a padded vocabulary
    path = convert(tmp_path, tmp_path / "x.gguf", "--to", "gguf")
    assert attn.load(path).tokenize("of the thin <|end|>") == own.encode("of the thin <|end|>").ids
    check(path, "of the thin grüße")
    first, second = tmp_path / "first", tmp_path / "second"
    convert(tmp_path, first)
    convert(path, second)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) for folder in (first, second)]
    assert [config.pop("initializer_range") for config in configs] == [0.3, 0.02]  # has no place there
    assert all(config.pop("sliding_window", True) or not config["use_sliding_window"] for config in configs)
    assert configs[0] == configs[1]
