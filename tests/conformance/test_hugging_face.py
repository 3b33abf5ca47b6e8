"""attn convert --to hf: what package transformers and CTranslate2 make of the folder. Small transformers are trained for a
few steps on a part of the sample that ships; without the packages only the folder itself is looked at."""
import json
import os
import pathlib
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTN = pathlib.Path(os.environ.get("ATTN_TEST_BUILD", ROOT / "build")) / "attn"
TEXTS = ["Ich habe Hunger.", "Tom ist nicht da, weil er krank ist.", "Kannst du mir helfen?"]
FORMS = {"pre": [], "post": ["norm=post", "activation=gelu", "encoder_layers=2"]}


def attn(*arguments, text=None):
    return subprocess.run([ATTN, *map(str, arguments)], input=text, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", params=FORMS)
def converted(request, tmp_path_factory):
    """(form, the model's folder, the converted one)"""
    folder = tmp_path_factory.mktemp(request.param)
    sample = ROOT / "data/tatoeba/de-en.sample"
    settings = ["model_size=32", "heads=4", "feed_forward_size=64", "dropout=0", *FORMS[request.param]]
    attn("train", "-q", "--model", "transformer", "-d", f"{sample}.train.tsv.xz", "--valid", f"{sample}.valid.tsv.xz",
         "--limit", 4000, "--valid-sentences", 10, "--vocab-size", 600, "--steps", 300, "--lr", 5e-3, "-b", 500, "-o", folder / "own",
         *(part for value in settings for part in ("--set", value)))
    attn("convert", "-q", folder / "own", "--to", "hf", "-o", folder / "hf")
    return request.param, folder / "own", folder / "hf"


def test_folder(converted):
    form, own, hf = converted
    config = json.loads((hf / "config.json").read_text())
    assert config["model_type"] == {"pre": "m2m_100", "post": "marian"}[form]
    assert (config["d_model"], config["decoder_start_token_id"], config["pad_token_id"]) == (32, 2, 1)
    data = (hf / "model.safetensors").read_bytes()
    header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    names = set(header) - {"__metadata__"}
    block = ["k_proj", "v_proj", "q_proj", "out_proj"]
    expected = {"model.shared.weight"}
    for side, layers, blocks in (("encoder", config["encoder_layers"], ["self_attn"]),
                                 ("decoder", config["decoder_layers"], ["self_attn", "encoder_attn"])):
        for layer in range(layers):
            parts = [f"{b}.{p}" for b in blocks for p in block] + [f"{b}_layer_norm" for b in blocks]
            for part in parts + ["fc1", "fc2", "final_layer_norm"]:
                expected |= {f"model.{side}.layers.{layer}.{part}.{end}" for end in ("weight", "bias")}
        if form == "pre":
            expected |= {f"model.{side}.layer_norm.{end}" for end in ("weight", "bias")}
    assert names == expected | ({"final_logits_bias"} if form == "post" else set())


def forced(own, beam):
    return [json.loads(line) for line in attn("translate", "-m", own, "-b", beam, "--json",
                                              text="".join(t + "\n" for t in TEXTS)).splitlines()]


def test_transformers(converted):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    _, own, hf = converted
    tokenizer = transformers.AutoTokenizer.from_pretrained(hf)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(hf).eval()
    for text, line in zip(TEXTS, forced(own, 1)):
        ids = tokenizer(text, return_tensors="pt").input_ids
        assert tokenizer.convert_ids_to_tokens(ids[0]) == line["source_tokens"]
        hypothesis = line["translations"][0]
        y = tokenizer.convert_tokens_to_ids(hypothesis["tokens"])
        with torch.no_grad():
            logits = model(input_ids=ids, decoder_input_ids=torch.tensor([[2] + y[:-1]])).logits[0]
        theirs = torch.log_softmax(logits, -1)[range(len(y)), y]
        assert (theirs - torch.tensor(hypothesis["log_prob"])).abs().max() < 1e-4
        written = model.generate(ids, num_beams=1, do_sample=False, max_length=len(y) + 1)[0].tolist()
        assert written[1:] == y


def test_ctranslate2(converted, tmp_path):
    """M2M100 alone: its reader of Marian starts decoding from an embedding of zeros."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    pytest.importorskip("transformers")
    form, own, hf = converted
    if form != "pre":
        pytest.skip("CTranslate2 starts Marian's decoder from zeros")
    ctranslate2.converters.TransformersConverter(str(hf)).convert(str(tmp_path / "ct"))
    translator = ctranslate2.Translator(str(tmp_path / "ct"), device="cpu", intra_threads=1)
    for line in forced(own, 4):
        result = translator.translate_batch([line["source_tokens"]], beam_size=4, length_penalty=1, min_decoding_length=0,
                                            return_scores=True)[0]
        best = line["translations"][0]
        assert result.hypotheses[0] == [t for t in best["tokens"] if t != "</s>"]
        assert abs(result.scores[0] - best["score"]) < 1e-4
