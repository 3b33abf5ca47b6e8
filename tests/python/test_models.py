"""attn.load: language models, encoders and translators, against files made by transformers and against the program."""
import json
import math
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

import attn
from others import check_others_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("ATTN_TEST_BUILD", ROOT / "build")) / "attn"
GOLDEN = ROOT / "tests/golden"
TEXT = "the dog and the cat sing, and the dog and the cat laugh\n" * 20


def program(*arguments, text=None):
    return subprocess.run([PROGRAM, *map(str, arguments)], input=text, capture_output=True, text=True, check=True).stdout


def tensors(path):
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    dtypes = {"F32": np.float32, "F64": np.float64, "I32": np.int32, "I64": np.int64}
    return {name: np.frombuffer(data[end:], dtypes[t["dtype"]], math.prod(t["shape"]), t["data_offsets"][0]).reshape(t["shape"])
            for name, t in json.loads(data[8:end]).items() if name != "__metadata__"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A language model of characters, trained for a few steps."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "text.txt").write_text(TEXT)
    sizes = ("n_embd=16", "n_head=2", "n_layer=2", "n_positions=64")
    program("train", "-q", "--model", "gpt", "-d", folder / "text.txt", "--valid", folder / "text.txt", "--steps", 30, "-o",
            folder / "gpt", *(part for value in sizes for part in ("--set", value)))
    return folder / "gpt"


@pytest.fixture(scope="module")
def language(tiny):
    return attn.load(tiny)


@pytest.fixture(scope="module")
def encoder():
    return attn.load(GOLDEN / "bert/bert")


@pytest.fixture(scope="module")
def translator():
    return attn.load(ROOT / "models/de-en")


# ---- every head as arrays, written by the program ----------------------------------------------------------


def test_arrays_of_a_text(tiny, language, tmp_path):
    program("show", "-m", tiny, "-o", tmp_path / "x.npz", "the dog")
    with np.load(tmp_path / "x.npz") as arrays:
        assert sorted(arrays) == ["self_attention", "text"] and "".join(arrays["text"]) == "the dog"
        for layer in range(2):
            every = language.attention("the dog", layer=layer, head="all")
            np.testing.assert_array_equal(arrays["self_attention"][layer], every)
            for head in range(2):
                np.testing.assert_array_equal(every[head], language.attention("the dog", layer=layer, head=head))


@pytest.mark.parametrize("texts", [3, b"Guten Tag", None])
def test_what_is_no_text(translator, encoder, texts):
    for call in (translator.translate, encoder.embed):
        with pytest.raises(TypeError, match=f"texts is a {type(texts).__name__}, expected a str or a list of them"):
            call(texts)


def test_arrays_of_a_translation(translator, tmp_path):
    text = "Der Hund schläft."
    program("show", "-o", tmp_path / "x.npz", text)
    with np.load(tmp_path / "x.npz") as arrays:
        want = translator.translate(text)
        assert list(arrays["source"]) == list(want.source_tokens) and list(arrays["target"]) == list(want.tokens)
        np.testing.assert_array_equal(arrays["alignment"], want.alignment)
        t, s = want.alignment.shape
        assert [arrays[kind].shape for kind in ("encoder", "decoder", "cross")] == [(3, 8, s, s), (3, 8, t, t), (3, 8, t, s)]
        for kind in ("encoder", "decoder", "cross"):
            np.testing.assert_allclose(arrays[kind].sum(-1), 1, atol=1e-5)
            np.testing.assert_array_equal(arrays[kind][1], translator.attention(want, kind=kind, layer=1, head="all"))
            np.testing.assert_array_equal(arrays[kind][2, 7], translator.attention(want, kind=kind, head=-1))
            np.testing.assert_allclose(arrays[kind][0].mean(0), translator.attention(want, kind=kind, layer=-3), atol=1e-6)
        for options, error in (({"kind": "self"}, ValueError), ({"layer": 3}, ValueError), ({"head": 8}, ValueError),
                               ({"head": "every"}, ValueError)):
            with pytest.raises(error, match=f"{next(iter(options))} is "):
                translator.attention(want, **options)
        recurrent = attn.load(ROOT / "models/de-en-bahdanau")
        with pytest.raises(NotImplementedError, match="a bahdanau model has no heads"):
            recurrent.attention(recurrent.translate(text))
        assert not np.triu(arrays["decoder"], 1).any() and arrays["target_read"][0] == "</s>"


# ---- a capture, read as docs/models.md reads it --------------------------------------------------------------


def capture(folder, *words):
    """The document's own program on a capture: what it says of itself, its arrays, and what was printed."""
    program("show", "-o", folder / "heads.safetensors", *words)
    block = re.search(r"^```py\n(.*?)^```$", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.S | re.M).group(1)
    printed, before = [], os.getcwd()
    scope = {"print": lambda *x: printed.append(x)}
    os.chdir(folder)
    try:
        exec(block, scope)
    finally:
        os.chdir(before)
    return scope["about"], scope["arrays"], printed


def test_capture_of_a_translation(translator, tmp_path):
    text = "Der Hund läuft."
    about, arrays, printed = capture(tmp_path, "--neurons", text)
    want = translator.translate(text)
    assert (about["format"], about["model"], about["model_type"]) == ("attn.capture.1", "models/de-en", "transformer")
    assert about["command"] == f"attn show -o {tmp_path}/heads.safetensors --neurons '{text}'"
    told = json.loads(program("info", "--json", tmp_path / "heads.safetensors"))
    assert (told["model"], told["command"]) == (about["model"], about["command"])
    assert [view["kind"] for view in about["views"]] == ["encoder", "decoder", "cross", "alignment"]
    np.testing.assert_array_equal(arrays["alignment"], want.alignment)
    for view in about["views"][:3]:
        np.testing.assert_array_equal(arrays[view["weights"]][1], translator.attention(want, kind=view["kind"], layer=1, head="all"))
        scores = view["scale"] * arrays[view["queries"]] @ arrays[view["keys"]].swapaxes(-1, -2)
        if view["kind"] == "decoder":
            scores[..., ~np.tri(scores.shape[-1], dtype=bool)] = -np.inf
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        np.testing.assert_allclose(weights, arrays[view["weights"]], atol=2e-6)
        assert view["first_layer"] == view["first_head"] == 1
    source, read = about["sides"]["source"], about["sides"]["target_read"]
    assert source["tokens"] == list(want.source_tokens) and about["sides"]["target"]["tokens"] == list(want.tokens)
    spans = [source["text"].encode()[first:end].decode() for first, end in arrays["source_spans"]]
    assert "".join(spans) == source["text"] == text and spans[-1] == "" and len(spans) == len(arrays["source_ids"])
    assert read["tokens"] == ["</s>", *want.tokens[:-1]]
    np.testing.assert_array_equal(arrays["target_read_ids"], [arrays["target_ids"][-1], *arrays["target_ids"][:-1]])
    np.testing.assert_array_equal(arrays["target_read_spans"][1:], arrays["target_spans"][:-1])
    assert ("encoder", arrays["encoder"].shape, source["tokens"]) in printed and ("Der",) in printed
    before = (tmp_path / "heads.safetensors").read_bytes()
    capture(tmp_path, "--neurons", text)
    assert (tmp_path / "heads.safetensors").read_bytes() == before


def test_capture_of_two_texts(tiny, language, tmp_path):
    about, arrays, _ = capture(tmp_path, "-m", tiny, "--layer", "2", "--head", "1", "--beside", "a cat", "--title", "it's", "the dog")
    assert about["command"].endswith(r"--beside 'a cat' --title 'it'\''s' 'the dog'") and about["model"] == str(tiny)
    assert [(view["weights"], view["rows"], view["first_layer"]) for view in about["views"]] == [
        ("self_attention", "text", 2), ("self_attention_2", "text_2", 2)]
    for name, text in (("", "the dog"), ("_2", "a cat")):
        np.testing.assert_array_equal(arrays["self_attention" + name][0, 0], language.attention(text, layer=1, head=0))
        assert about["sides"]["text" + name]["text"] == text
        assert [text[first:end] for first, end in arrays[f"text{name}_spans"]] == list(text)


def test_capture_of_two_models(tiny, language, tmp_path):
    other = tmp_path / "other"
    program("train", "-q", "--model", "gpt", "-d", tiny.parent / "text.txt", "--valid", tiny.parent / "text.txt", "--steps", 2, "--seed", 7,
            "-o", other, *(part for value in ("n_embd=16", "n_head=2", "n_layer=2", "n_positions=64") for part in ("--set", value)))
    about, arrays, _ = capture(tmp_path, "-m", tiny, "--beside-model", other, "the dog")
    assert (about["model"], about["model_2"], about["model_type_2"]) == (str(tiny), str(other), "gpt2")
    second = attn.load(other)
    for name, model in (("", language), ("_2", second)):
        for layer in range(2):
            np.testing.assert_array_equal(arrays["self_attention" + name][layer], model.attention("the dog", layer=layer, head="all"))
    assert np.abs(arrays["self_attention"] - arrays["self_attention_2"]).max() > 1e-3
    for model, said in (("models/shakespeare", "as many of each kind"), ("models/de-en", "expected one that reads one text, as the first")):
        done = subprocess.run([PROGRAM, "show", "-m", tiny, "--beside-model", ROOT / model, "-o", tmp_path / "x.npz", "the dog"],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1


def test_capture_of_a_model_whose_name_is_not_utf8(tiny, tmp_path):
    odd = shutil.copytree(tiny, os.path.join(tmp_path, os.fsdecode(b"gpt\xff")))
    about, _, _ = capture(tmp_path, "-m", tiny, "--beside-model", odd, "the dog")
    assert about["model"] == str(tiny) and about["model_2"] == f"{tmp_path}/gpt<0xFF>"
    assert about["model_type"] == about["model_type_2"] == "gpt2"


def test_which_text_has_no_tokens(tiny, tmp_path):
    for beside, text, name in (("", "the dog", "--beside"), ("the dog", "", "the text")):
        done = subprocess.run([PROGRAM, "show", "-m", tiny, "-o", tmp_path / "x.npz", "--beside", beside, text], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, f"attn show: {name} has no tokens, expected at least one\n")


# ---- language models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in (GOLDEN / "gpt").iterdir()))
def test_logits_and_weights(name):
    want, model = tensors(GOLDEN / "gpt" / name / "expected.safetensors"), attn.load(GOLDEN / "gpt" / name)
    assert isinstance(model, attn.LanguageModel) and model.vocab_size == want["logits"].shape[-1]
    for ids, logits in zip(want["ids"], want["logits"]):
        found = model.logits(ids)
        assert found.dtype == np.float32 and np.abs(found - logits).max() < 1e-5
        np.testing.assert_array_equal(model.logits(ids.tolist()), found)
    layers, heads = want["weights"].shape[:2]
    assert (model.num_layers, model.num_heads) == (layers, heads)
    for layer in range(layers):
        for head in range(heads):
            found = model.attention(want["ids"][0], layer=layer, head=head)
            assert np.abs(found - want["weights"][layer, head]).max() < 1e-5
    mean = model.attention(want["ids"][0])
    assert np.abs(mean - want["weights"][-1].mean(0)).max() < 1e-5
    total, tokens = np.sum([model.loss(ids) for ids in want["ids"]], axis=0)
    assert total / tokens == pytest.approx(float(want["loss"].reshape(())), rel=1e-5)
    with pytest.raises(OSError, match="tokenizer"):
        model.tokenize("text")


def test_perplexity(language):
    text = TEXT[:150]  # more than the context
    ids, context = language.tokenize(text), language.context_length
    assert len(ids) == 150 and language.detokenize(ids) == text
    total = 0.0
    for first in range(0, len(ids) - 1, context):
        window = ids[first:first + context + 1]
        x = language.logits(window[:-1]).astype(np.float64)
        x -= x.max(1, keepdims=True)
        x -= np.log(np.exp(x).sum(1, keepdims=True))
        total -= x[np.arange(len(window) - 1), window[1:]].sum()
    assert language.perplexity(text) == pytest.approx(math.exp(total / 149), rel=1e-5)
    with pytest.raises(ValueError, match="less than two tokens"):
        language.perplexity("t")


@pytest.mark.parametrize("options, arguments", [
    ({}, ()),
    ({"temperature": 0}, ("--temp", 0)),
    ({"seed": 7, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2},
     ("-s", 7, "--top-k", 5, "--top-p", 0.9, "--min-p", 0.01, "--repetition-penalty", 1.2)),
    ({"stop": "and"}, ("--stop", "and")),
    ({"max_tokens": 100, "slide": True}, ("-n", 100, "--slide")),
    ({"context": 20}, ("-c", 20)),
])
def test_generate_is_the_program(language, tiny, options, arguments):
    options = {"max_tokens": 40} | options
    found = language.generate("the dog", **options)
    pieces = list(found)
    said = json.loads(program("generate", "-m", tiny, "-p", "the dog", "--json", *(() if "-n" in arguments else ("-n", 40)),
                              *arguments) if "context" not in options else program(
                                  "generate", "-m", tiny, "-p", "the dog", "--json", *arguments))
    assert "".join(pieces) == said["text"] and found.end == said["end"]
    assert len(pieces) > 1 or "stop" in options


def test_generation_streams(language):
    found = language.generate("the ", max_tokens=12, temperature=0)
    assert found.end is None and len(next(found)) >= 1 and found.end is None
    rest = list(found)
    assert found.end == "tokens" and len(found.ids) == 16 and list(found) == []
    assert language.detokenize(found.ids).endswith("".join(rest))
    again = language.generate(language.tokenize("the "), max_tokens=12, temperature=0)
    list(again)
    assert again.ids == found.ids
    small = language.generate("the ", max_tokens=12, temperature=0, cache="int8")
    list(small)
    assert len(small.ids) == 16


@pytest.mark.parametrize("options", [{}, {"temperature": 0}, {"cache": "int8"}, {"slide": True, "context": 20}, {"stop": "d"}])
def test_many_are_each_alone(language, options):
    prompts = ["the dog", "a", [3, 1, 4, 1, 5], "and the cat sing ", "l"]
    options = {"max_tokens": 25} | options
    alone = ["".join(language.generate(prompt, **options)) for prompt in prompts]
    assert any(len(text) < 10 for text in alone) or "stop" not in options
    for batch in (1, 2, 9):
        assert language.generate_many(iter(prompts), batch=batch, **options) == alone
    assert language.generate_many([]) == []
    with pytest.raises(ValueError, match="batch is 0"):
        language.generate_many(prompts, batch=0)
    with pytest.raises(ValueError, match="there is no prompt"):
        language.generate_many(["the", ""], max_tokens=3)


def test_chat_is_the_program(language):
    path = GOLDEN / "gguf/llama.gguf"
    model = attn.load(path)
    system, user = {"role": "system", "content": "x"}, {"role": "user", "content": "the"}
    said = json.loads(program("generate", "-m", path, "--chat", "--json", "--system", "x", "-n", 6, "the"))
    found = model.chat([system, user], max_tokens=6)
    assert "".join(found) == said["text"] and found.end == said["end"]
    bare = json.loads(program("generate", "-m", path, "--chat", "--template", "zephyr", "--json", "-n", 6, "the"))
    assert "".join(model.chat("the", template="zephyr", max_tokens=6)) == bare["text"]
    first = "".join(model.chat([system, user], max_tokens=6, temperature=0))
    turns = [system, user, {"role": "assistant", "content": first}, user]
    second = program("generate", "-m", path, "--chat", "--json", "--system", "x", "-n", 6, "--temp", 0,
                     text="the\nthe\n").splitlines()[1]
    assert "".join(model.chat(turns, max_tokens=6, temperature=0)) == json.loads(second)["text"]
    many = model.generate_many([[system, user], "the ", turns], batch=2, max_tokens=6, temperature=0)
    assert many == [first, "".join(model.generate("the ", max_tokens=6, temperature=0)), json.loads(second)["text"]]
    for messages, error in (([{"role": "king", "content": "x"}], ValueError), ([{"role": "user"}], KeyError), ([], ValueError),
                            ("a\0b", ValueError), ([{"role": "user", "content": 1}], TypeError)):
        with pytest.raises(error):
            model.chat(messages)
    with pytest.raises(ValueError, match="no chat template"):
        model.chat("the", template="alpaca")
    with pytest.raises(ValueError, match="no chat template"):
        language.chat("the")


def test_a_generation_outlives_its_model(tiny):
    found = attn.load(tiny).generate("the ", max_tokens=5)
    list(found)
    assert len(found.ids) == 9


@pytest.mark.parametrize("options, sentence", [
    ({"temperature": -1}, "temperature is -1, expected 0 to 1000"),
    ({"temperature": float("nan")}, "temperature is nan"),
    ({"max_tokens": -1}, "max_tokens is -1"),
    ({"seed": 2**64}, "seed is"),
    ({"stop": [""]}, "stop 0 is empty"),
    ({"cache": "f8"}, "cache is 'f8'"),
    ({"prompt": "x" * 65}, "the prompt has 65 tokens, the context length is 64"),
    ({"prompt": [0, 10**6]}, "id 1 of the prompt is 1000000"),
    ({"prompt": ""}, "there is no prompt"),
])
def test_generate_refuses(language, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        list(language.generate(**{"prompt": "the", "max_tokens": 3} | options))


def test_numbers_that_cannot_be(language):
    for ids, error in (([10**6], ValueError), ([-1], ValueError), ([0] * 65, ValueError), ([2**40], ValueError), ([0.5], TypeError)):
        with pytest.raises(error):
            language.logits(ids)
    assert language.logits([]).shape == (0, language.vocab_size)
    for options in ({"layer": 2}, {"layer": -3}, {"head": 2}):
        with pytest.raises(ValueError, match="but"):
            language.attention("the", **options)
    with pytest.raises(TypeError):
        language.tokenize(b"the")


# ---- encoders -----------------------------------------------------------------------------------------------


def test_encoder(encoder):
    want = tensors(GOLDEN / "bert/bert/expected.safetensors")
    for ids, types, length, states in zip(want["ids"], want["types"], want["length"], want["states"]):
        found = encoder.states(ids[:length], types=types[:length])
        assert np.abs(found - states[:length]).max() < 1e-5
    ids, types = want["ids"][0], want["types"][0]
    assert np.abs(encoder.attention(ids, types=types, layer=0, head=-1) - want["weights"][0, -1]).max() < 1e-5
    with pytest.raises(ValueError, match="types has 2 elements, expected one for each of the 3 ids"):
        encoder.states([1, 2, 3], types=[0, 0])


def test_embed(encoder):
    texts = ["a b c", "d", "", "x y z a b"] * 20
    vectors = encoder.embed(texts)
    assert vectors.shape == (80, encoder.dim) and np.abs((vectors**2).sum(1) - 1).max() < 1e-6
    mean = encoder.states("a b c").mean(0)
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(encoder.embed(texts[0]), vectors[76])
    raw = encoder.embed("a b", pooling="cls", normalize=False)
    np.testing.assert_array_equal(raw, encoder.states("a b")[0])
    said = program("embed", "-m", GOLDEN / "bert/bert", "a b c").split()
    assert [np.float32(x) for x in said] == vectors[0].tolist()
    long = "a " * 60
    with pytest.raises(ValueError, match="text 72 has 62 tokens, expected at most 40"):
        encoder.embed(texts[:71] + [long])
    np.testing.assert_array_equal(encoder.embed(long, truncate=True), encoder.embed("a " * 38))
    with pytest.raises(ValueError, match="pooling is 'max'"):
        encoder.embed("a", pooling="max")
    assert encoder.embed([]).shape == (0, encoder.dim)


# ---- translators --------------------------------------------------------------------------------------------

GERMAN = ["Kannst du mir helfen diesen Satz zu übersetzen", "Das ist gut.", "", "Ich habe Hunger. Wo ist der Hund?"]


def test_translate_is_the_program(translator):
    found = translator.translate(GERMAN, split_words=0)
    lines = program("translate", "-m", ROOT / "models/de-en", "--split-words", 0, "--json", text="\n".join(GERMAN) + "\n")
    for translation, line in zip(found, map(json.loads, lines.splitlines()), strict=True):
        said = line["translations"][0]
        assert translation.text == said["text"] == str(translation)
        assert translation.tokens == said["tokens"] and translation.source_tokens == line["source_tokens"]
        np.testing.assert_allclose(translation.log_probs, said["log_prob"], rtol=1e-5)
        assert translation.score == pytest.approx(said["score"], rel=1e-5)
        shape = (len(translation.ids), len(translation.source_ids))
        assert translation.alignment.shape == shape and translation.alignment.dtype == np.float32
        np.testing.assert_allclose(translation.alignment.sum(1), 1, rtol=1e-5)
        if translation.text:
            np.testing.assert_allclose(translation.alignment, said["alignment"], atol=1e-5)


def test_translate(translator):
    one = translator.translate(GERMAN[0])
    assert one.text == "Can you help me translate this sentence" and "score" in repr(one)
    best = translator.translate(GERMAN[1], n_best=3)
    assert len(best) == 3 and best[0].score >= best[1].score >= best[2].score and len({t.text for t in best}) == 3
    greedy = [translator.translate(text, beam=1).text for text in GERMAN]
    assert [t.text for t in translator.translate(GERMAN * 20, beam=1)] == greedy * 20
    for options, sentence in (({"beam": 0}, "beam_size"), ({"n_best": 6}, "n_best"), ({"max_source": 3}, "3")):
        with pytest.raises(ValueError, match=sentence):
            translator.translate(GERMAN[0], **options)
    with pytest.raises(TypeError, match="expected a str, found int"):
        translator.translate([1])


def test_an_rnn_has_no_alignment(tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("Der Hund singt.\tThe dog sings.\nDie Katze lacht.\tThe cat laughs.\n" * 20)
    program("train", "-q", "--model", "rnn", "-d", pairs, "--valid", pairs, "--steps", 2, "--vocab-size", 300, "--set",
            "hidden_size=8", "--set", "embedding_size=8", "-o", tmp_path / "rnn")
    found = attn.load(tmp_path / "rnn").translate("Der Hund singt.")
    assert found.alignment is None and isinstance(found.text, str)


# ---- loading ------------------------------------------------------------------------------------------------


def test_kinds(language, encoder, translator, tiny):
    assert [type(m).__name__ for m in (language, encoder, translator)] == ["LanguageModel", "Encoder", "Translator"]
    assert language.config["n_embd"] == 16 and encoder.type == "bert" and "gpt2" in repr(language)
    assert language.tokenizer.encode("the dog") == language.tokenize("the dog")
    assert encoder.tokenizer.encode("a b") == encoder.tokenize("a b")[1:-1]
    other = attn.load(tiny, tokenizer=tiny / "tokenizer.json")
    assert other.tokenize("the") == other.tokenizer.encode("the")
    assert not hasattr(language, "translate") and not hasattr(translator, "logits")


def test_what_cannot_be_loaded(tmp_path, tiny):
    with pytest.raises(OSError, match="No such file"):
        attn.load(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"model_type": "opt"}')
    with pytest.raises(ValueError, match='config.json: config: "model_type": expected one of .* found "opt"'):
        attn.load(tmp_path)
    with pytest.raises(ValueError, match="tokenizer has 31 tokens, expected 29"):
        attn.load(GOLDEN / "gpt/gpt2", tokenizer=GOLDEN / "bert/bert/tokenizer.json")
    with pytest.raises(OSError, match="none.json"):
        attn.load(tiny, tokenizer=tmp_path / "none.json")
    with pytest.raises(TypeError):
        attn.load(3)


def test_a_build_of_the_core_alone(monkeypatch):
    monkeypatch.delattr(attn._attn, "Model")
    with pytest.raises(NotImplementedError, match="operations alone: models need jansson"):
        attn.load("models/de-en")


# ---- threads, fork, Ctrl-C ------------------------------------------------------------------------------------


def test_a_model_outlives_the_working_directory(tmp_path, monkeypatch):
    """What is read later is found where the path was when the model was loaded."""
    shutil.copy(GOLDEN / "gguf/llama.gguf", tmp_path / "llama.gguf")
    shutil.copytree(GOLDEN / "bert/bert", tmp_path / "bert")
    monkeypatch.chdir(tmp_path)
    model, encoder = attn.load("llama.gguf"), attn.load("bert")
    assert "'llama.gguf'" in repr(model)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert list(model.chat("the", max_tokens=2))
    assert model.tokenizer.encode("the")
    assert encoder.embed("the").shape == (encoder.dim,)


def test_rows_without_a_token(tmp_path):
    """GGUF has a name for every row of the vocabulary; that of a row without a token is nobody else's."""
    program("convert", "-q", GOLDEN / "gguf/gpt2.gguf", "-o", tmp_path / "folder")
    file = tmp_path / "folder/tokenizer.json"
    root = json.loads(file.read_text())
    vocabulary = root["model"]["vocab"]
    last = len(vocabulary) - 1
    names = {id: name for name, id in vocabulary.items()}
    for id in (last, last - 1):
        del vocabulary[names[id]]
    for id, name in ((last - 2, f"[PAD{last}]"), (last - 3, f"[PAD{last}.1]")):
        del vocabulary[names[id]]
        vocabulary[name] = id
    file.write_text(json.dumps(root))
    program("convert", "-q", tmp_path / "folder", "--to", "gguf", "-o", tmp_path / "x.gguf")
    program("convert", "-q", tmp_path / "x.gguf", "-o", tmp_path / "again")
    found = json.loads((tmp_path / "again/tokenizer.json").read_text())["model"]["vocab"]
    assert len(found) == last + 1 and vocabulary.items() <= found.items()


def test_threads_share_a_model(language):
    want = "".join(language.generate("the dog", max_tokens=30))
    logits, errors = language.logits("the dog"), []

    def run(i):
        try:
            for _ in range(10):
                if i % 2:
                    assert "".join(language.generate("the dog", max_tokens=30)) == want
                else:
                    np.testing.assert_array_equal(language.logits("the dog"), logits)
                    assert language.detokenize(language.tokenize("the dog")) == "the dog"
                    with pytest.raises(ValueError, match="65 tokens"):
                        language.logits([0] * 65)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def test_others_run_meanwhile(translator):
    check_others_run(lambda: translator.translate([" ".join(["Kannst du mir helfen?"] * 10)] * 10, split_words=0))


def python(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_of_fork_computes(tiny):
    code = """
import os, sys, threading
import attn
model = attn.load(sys.argv[1])
want = "".join(model.generate("the dog", max_tokens=20))
stop = threading.Event()
def busy():
    while not stop.is_set():
        model.logits("the dog")
thread = threading.Thread(target=busy)
thread.start()
for turn in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if "".join(model.generate("the dog", max_tokens=20)) == want else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
thread.join()
"""
    process = python(code, tiny)
    assert process.wait(60) == 0, process.stderr.read()


def test_ctrl_c_stops_a_generation(tiny):
    code = """
import signal, sys
import attn
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests may ignore it
print("begins", flush=True)
for piece in attn.load(sys.argv[1]).generate("the dog", max_tokens=10**9, slide=True):
    print(end=piece, flush=True)
"""
    process = python(code, tiny)
    assert process.stdout.readline() == "begins\n" and process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    reader = threading.Thread(target=process.stdout.read)
    reader.start()
    try:
        assert process.wait(60) != 0 and "KeyboardInterrupt" in process.stderr.read()
    finally:
        process.kill()
        reader.join()
