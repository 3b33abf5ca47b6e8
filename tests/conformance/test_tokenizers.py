"""Ids and texts beside the packages `tokenizers`, `sentencepiece` and `tiktoken`: 20,000 random strings of many scripts, emoji,
controls and white space for each tokenizer.

GPT-2's merges are in data/gpt2. $ATTN_TEST_TOKENIZERS may name a folder with more: *.json (tokenizer.json's form), *.gguf with
byte-level BPE, *.model (SentencePiece's); each is a test."""
import base64
import functools
import json
import lzma
import os
import pathlib
import random
import sys
import unicodedata

import pytest

import attn

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
tokenizers = pytest.importorskip("tokenizers")
check_tokenizer = pytest.importorskip("check_tokenizer")
if not hasattr(attn._attn, "Tokenizer"):
    pytest.skip("this build has no tokenizers", allow_module_level=True)

MORE = sorted(pathlib.Path(os.environ.get("ATTN_TEST_TOKENIZERS", "/nonexistent")).glob("*.*"))
STRINGS = 20000


def strings(names=(), count=STRINGS):
    rng = random.Random(1)
    with lzma.open(ROOT / "data" / "tatoeba" / "de-en.sample.valid.tsv.xz", "rt", encoding="utf-8") as file:
        words = [word for line in file for word in line.split("\t")[0].split()] + list(names) * 20
    return [check_tokenizer.random_string(rng, words) for _ in range(count)]


@functools.lru_cache(maxsize=None)
def is_known(c):
    """Whether the package, whose tables are older, takes the character as Python's unicodedata does."""
    category = unicodedata.category(c)
    normalize = tokenizers.normalizers
    pieces = len(tokenizers.pre_tokenizers.BertPreTokenizer().pre_tokenize_str("a" + c + "a"))
    if category[0] == "P" and pieces != 3 or category[0] not in "PSZC" and pieces != 1:
        return False
    kept = normalize.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False, lowercase=False).normalize_str(c)
    if category == "Cf" and kept:
        return False
    bare = "".join(x for x in unicodedata.normalize("NFD", c) if unicodedata.category(x) != "Mn")
    return bare == normalize.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True,
                                            lowercase=False).normalize_str(c)


def same(ours, theirs, texts):
    left_out = 0
    for text in texts:
        expected = theirs.encode(text).ids
        found = ours.encode(text, add_special=True)
        if found != expected and not all(map(is_known, text)):
            left_out += 1
            continue
        assert found == expected, repr(text)
        assert ours.decode(found) == theirs.decode(expected), repr(text)
    assert left_out < len(texts) // 100


@pytest.fixture(scope="module")
def gpt2():
    """The pieces by id, and the merges."""
    with lzma.open(ROOT / "data" / "gpt2" / "vocab.bpe.xz", "rt", encoding="utf-8") as file:
        merges = [tuple(line.split()) for line in file.read().split("\n")[1:] if line]
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    order = visible + hidden
    characters = [chr(byte) for byte in visible] + [chr(256 + i) for i in range(len(hidden))]
    pieces = characters + [a + b for a, b in merges] + ["<|endoftext|>"]
    return pieces, merges, dict(zip(characters, order))


def test_gpt2(gpt2, tmp_path):
    pieces, merges, _ = gpt2
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    assert len(vocabulary) == 50257
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_special_tokens(["<|endoftext|>"])
    (tmp_path / "encoder.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges), encoding="utf-8")
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = attn.Tokenizer(tmp_path / "encoder.json")
    assert ours.size == 50257 and ours.find("<|endoftext|>") == 50256 and ours.piece(50256) == "<|endoftext|>"
    assert ours.piece(50257) is None and ours.find("no such piece") is None
    with pytest.raises(ValueError, match="found id"):
        ours.decode([50257])
    with pytest.raises(OSError, match="nowhere"):
        attn.Tokenizer(tmp_path / "nowhere.json")
    assert ours.encode("Kannst du mir helfen diesen Satz zu übersetzen") == [
        42, 1236, 301, 7043, 5720, 932, 41037, 10564, 268, 7031, 89, 1976, 84, 6184, 120, 1213, 316, 4801]
    same(ours, theirs, strings(["<|endoftext|>"]))
    same(attn.Tokenizer(tmp_path / "tokenizer.json"), theirs, strings(["<|endoftext|>"], 2000))


def test_tiktoken(gpt2, tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    pieces, _, byte = gpt2
    ranks = {bytes(byte[c] for c in piece): i for i, piece in enumerate(pieces[:-1])}
    (tmp_path / "r50k_base.tiktoken").write_bytes(b"".join(base64.b64encode(piece) + b" %d\n" % rank for piece, rank in ranks.items()))
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    theirs = tiktoken.Encoding("r50k", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    ours = attn.Tokenizer(tmp_path / "r50k_base.tiktoken")
    for text in strings(count=5000):
        assert ours.encode(text) == theirs.encode_ordinary(text), repr(text)


def test_spans(tmp_path):
    theirs = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    theirs.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.NFC(), tokenizers.normalizers.Lowercase()])
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    theirs.save(str(tmp_path / "tokenizer.json"))
    ours = attn.Tokenizer(tmp_path / "tokenizer.json")
    for text in strings(count=2000):
        if unicodedata.normalize("NFC", text) != text or not all(map(is_known, text)):
            continue  # of composed characters the package has only the first part
        expected = theirs.encode(text)
        assert ours.spans(text) == [(i, *offsets) for i, offsets in zip(expected.ids, expected.offsets)], repr(text)


@pytest.mark.parametrize("path", MORE, ids=lambda path: path.name)
def test_more(path):
    ours = attn.Tokenizer(path)
    if path.suffix == ".model":
        sentencepiece = pytest.importorskip("sentencepiece")
        theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
        for text in strings():
            assert ours.encode(text) == theirs.encode(text), repr(text)
        return
    if path.suffix == ".gguf":
        theirs = of_gguf(path)
    else:
        theirs = tokenizers.Tokenizer.from_file(str(path))
        theirs.no_truncation()
        theirs.no_padding()
    same(ours, theirs, strings(["[SEP]", "<|endoftext|>", "<|im_start|>", "</s>"]))


def of_gguf(path):
    """What the metadata say, made with the package."""
    gguf = pytest.importorskip("gguf")
    fields = gguf.GGUFReader(path).fields
    pieces, kinds, merges = (fields["tokenizer.ggml." + name].contents() for name in ("tokens", "token_type", "merges"))
    assert fields["tokenizer.ggml.model"].contents() == "gpt2"
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE({piece: i for i, piece in enumerate(pieces)}, [tuple(merge.split(" ")) for merge in merges]))
    parts = [tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if fields["tokenizer.ggml.pre"].contents() == "smollm":
        parts.insert(0, tokenizers.pre_tokenizers.Digits(individual_digits=True))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(parts)
    theirs.decoder = tokenizers.decoders.ByteLevel()
    theirs.add_special_tokens([piece for piece, kind in zip(pieces, kinds) if kind == 3])
    return theirs
