"""attn train --task classify and --lora: what package transformers and package peft make of the folders."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTN = pathlib.Path(os.environ.get("ATTN_TEST_BUILD", ROOT / "build")) / "attn"
SIZES = {
    "gpt": ["n_embd=32", "n_layer=2", "n_head=4", "n_positions=64"],
    "llama": ["hidden_size=32", "intermediate_size=48", "num_hidden_layers=2", "num_attention_heads=4", "head_dim=8",
              "num_key_value_heads=2", "max_position_embeddings=64"],
}
TEXT = "I had always thought Jack a cheap genius"


def attn(*arguments, text=None):
    return subprocess.run([ATTN, *map(str, arguments)], input=text, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Folders of a language model of each kind."""
    folder = tmp_path_factory.mktemp("base")
    for model, sizes in SIZES.items():
        attn("train", "-q", "--model", model, "-d", ROOT / "data/verdict/the-verdict.txt", "--steps", 5, "-b", 256, "--threads", 1,
             "-o", folder / model, *(part for size in sizes for part in ("--set", size)))
    return folder


def ids_of(folder, text=TEXT):
    return [int(i) for i in attn("tokenize", "-m", folder, "--ids", text).split()]


@pytest.mark.parametrize("model", SIZES)
def test_classifier(base, tmp_path, model):
    lines = [f"{'tea' if i % 2 else 'art'}\t{'a cup of tea' if i % 2 else 'a painting'} {i}\n" for i in range(40)]
    (tmp_path / "labels.tsv").write_text("".join(lines))
    attn("train", "-q", "--init", base / model, "--task", "classify", "-d", tmp_path / "labels.tsv", "--lr", 1e-2, "--steps", 6,
         "--threads", 1, "-o", tmp_path / "out")
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["id2label"] == {"0": "art", "1": "tea"}
    assert config["architectures"][0].endswith("ForSequenceClassification")
    ours = json.loads(attn("classify", "-m", tmp_path / "out", "--json", TEXT))["probabilities"]
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    theirs = torch.softmax(network(torch.tensor([ids_of(tmp_path / "out")])).logits, -1)[0].tolist()
    assert theirs == pytest.approx([ours["art"], ours["tea"]], abs=1e-5)


def test_adapter(base, tmp_path):
    attn("train", "-q", "--init", base / "llama", "--lora", 4, "--lora-targets", "q,v,mlp", "-d", ROOT / "data/verdict/the-verdict.txt",
         "--lr", 0.05, "--steps", 8, "-b", 256, "--threads", 1, "-o", tmp_path / "out")
    assert not (tmp_path / "out/model.safetensors").exists()
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == ["down_proj", "gate_proj", "q_proj", "up_proj", "v_proj"]
    (tmp_path / "text").write_text(TEXT)
    ours, before = (json.loads(attn("eval", "-m", folder, "-d", tmp_path / "text", "--json"))["loss"]
                    for folder in (tmp_path / "out", base / "llama"))
    assert abs(ours - before) > 1e-3
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    network = transformers.AutoModelForCausalLM.from_pretrained(base / "llama")
    network = peft.PeftModel.from_pretrained(network, tmp_path / "out").eval()
    ids = torch.tensor([ids_of(tmp_path / "out")])
    with torch.no_grad():
        theirs = torch.nn.functional.cross_entropy(network(ids).logits[0, :-1].double(), ids[0, 1:]).item()
    assert ours == pytest.approx(theirs, abs=1e-5)
