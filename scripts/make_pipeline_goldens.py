#!/usr/bin/env python3
"""Makes tests/golden/pipelines.json.xz with the package `tokenizers`: small tokenizers that have every part of tokenizer.json
between them, and what they make of some texts; and files of other forms, with the packages `sentencepiece` and `gguf`.

    scripts/make_pipeline_goldens.py

The tokenizers are trained on data/tatoeba/de-en.sample.valid.tsv.xz."""
import base64
import io
import json
import lzma
import pathlib
import tempfile

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).parent.parent

TEXTS = [
    "", " ", "a", "Tom is very busy.", "Ich habe keine Zeit, weil der Zug zu spät kommt!", "  two  spaces ", "tab\tand\r\nline\n\nends",
    "It's Tom's, isn't it? We'll see; I'd say they've gone.", "IT'S TOM'S 's", "don’t", "1234567 12.5 3½ x² ①", "a1b22c333",
    "naïve café e\u0301 A\u030a \u1100\u1161\u11a8 가각", "ﬁne ﬀ ＦＵＬＬ ½ ㍿", "İstanbul ΣΊΣΥΦΟΣ ẞ Straße", "漢字 かな カナ 한국어", "привет мир",
    "שלום مرحبا नमस्ते สวัสดี", "👩‍🚀 👍🏽 🇩🇪 ❤️ 🙂🙃", "\x01\x02\x7f\u200b\ufeff\u00ad\ufffd", "nb\u00a0space \u3000 wide \u2028x", "▁mark▁ _under_",
    "<s>Tom</s> <mask> <|x|>go", "Tom<mask>  is <mask>", "Maria Mariana MARIA", "hearts the hearts", "x" * 130, "ab" * 90, "...!!??--", "(a) [b] {c}",
    "C++ #1 @you $5 50% ~x^y|z`", "http://a.b/c?d=e&f#g", "\n", "\n\n  \n x", "end with space ", "1\t2\u00a03", "日本語と English の mix", "a\u0323\u0301\u0300",
    "zero\u200dwidth\u200cjoin", "„Komm!“, sagte er.", "…—–", "do not ' x ' n't 'm", "\u0958 \u0344 \u0f73",
]


def corpus():
    with lzma.open(ROOT / "data" / "tatoeba" / "de-en.sample.valid.tsv.xz", "rt", encoding="utf-8") as file:
        return [text for line in file for text in line.rstrip("\n").split("\t")[:2]]


def trained(model, trainer, normalizer=None, pre_tokenizer=None, decoder=None, processor=None):
    tokenizer = Tokenizer(model)
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    if decoder:
        tokenizer.decoder = decoder
    tokenizer.train_from_iterator(corpus(), trainer)
    if processor:
        tokenizer.post_processor = processor
    return tokenizer


def changed(tokenizer, change):
    data = json.loads(tokenizer.to_str())
    change(data)
    return Tokenizer.from_str(json.dumps(data))


def bpe(size, special=(), **options):
    return trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), show_progress=False, **options)


def charsmap():
    """A small SentencePiece model whose table of characters has a few rules."""
    model = io.BytesIO()
    pairs = {"ﬁ": "fi", "Ä": "Ae", "e\u0301": "é", "½": " 1/2 ", "\u00a0": " ", "①": "1", "\u200b": ""}
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as rules:
        rules.writelines(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n"
                         for a, b in sorted(pairs.items()))
        rules.flush()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=model, vocab_size=300,
                                                 model_type="unigram", normalization_rule_tsv=rules.name, character_coverage=1.0,
                                                 minloglevel=2)
    return model.getvalue()


def precompiled(model):
    """normalizer_spec.precompiled_charsmap of a SentencePiece model: field 3, then field 2."""
    def fields(data):
        at = 0
        while at < len(data):
            key, at = varint(data, at)
            if key & 7 == 2:
                size, at = varint(data, at)
                yield key >> 3, data[at:at + size]
                at += size
            elif key & 7 == 0:
                _, at = varint(data, at)
            else:
                at += 8 if key & 7 == 1 else 4

    def varint(data, at):
        value = shift = 0
        while True:
            byte = data[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at
    spec = next(value for key, value in fields(model) if key == 3)
    return next(value for key, value in fields(spec) if key == 2)


def sentencepieces():
    """Name, bytes of the model, its ids of the texts."""
    base = {"vocab_size": 300, "character_coverage": 1.0, "minloglevel": 2}
    for name, options in (("unigram", {"model_type": "unigram", "byte_fallback": True, "vocab_size": 420}), ("bpe", {"model_type": "bpe"}),
                          ("bpe-plain", {"model_type": "bpe", "normalization_rule_name": "identity", "add_dummy_prefix": False,
                                         "remove_extra_whitespaces": False, "user_defined_symbols": ["<|x|>", "Maria"]})):
        model = io.BytesIO()
        options = {"normalization_rule_name": "identity", **base, **options}
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_writer=model, **options)
        processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        yield name, ".model", model.getvalue(), [processor.encode(text) for text in TEXTS]
    model = charsmap()
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    yield "unigram-rules", ".model", model, [processor.encode(text) for text in TEXTS]


def ggufs(made):
    """The same, of GGUF files without tensors that have the vocabulary of a pipeline, and of a SentencePiece model."""
    def written(model, pre, tokens, types, **arrays):
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            writer = gguf.GGUFWriter(file.name, "llama")
            writer.add_tokenizer_model(model)
            if pre:
                writer.add_tokenizer_pre(pre)
            writer.add_token_list(tokens)
            writer.add_token_types(types)
            if "merges" in arrays:
                writer.add_token_merges(arrays["merges"])
            if "scores" in arrays:
                writer.add_token_scores(arrays["scores"])
                writer.add_add_bos_token(False)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.close()
            return pathlib.Path(file.name).read_bytes()
    data = json.loads(made["gpt2"].to_str())
    tokens = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in data["model"]["merges"]]
    yield "gguf-gpt2", ".gguf", written("gpt2", "gpt-2", tokens, [3] + [1] * (len(tokens) - 1), merges=merges), \
        [made["gpt2"].encode(text).ids for text in TEXTS]
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(corpus()), model_prefix=file.name, model_type="bpe", vocab_size=480,
                                                 byte_fallback=True, character_coverage=0.99, normalization_rule_name="identity",
                                                 remove_extra_whitespaces=False, minloglevel=2)
        processor = sentencepiece.SentencePieceProcessor(model_file=file.name + ".model")
        for ending in (".model", ".vocab"):
            pathlib.Path(file.name + ending).unlink()
    size = processor.get_piece_size()
    kinds = [2 if processor.is_unknown(i) else 3 if processor.is_control(i) else 6 if processor.is_byte(i) else 1 for i in range(size)]
    texts = [text for text in TEXTS]
    yield "gguf-llama", ".gguf", written("llama", None, [processor.id_to_piece(i) for i in range(size)], kinds,
                                         scores=[processor.get_score(i) for i in range(size)]), \
        [processor.encode(text) if "<s>" not in text else None for text in texts]


def pipelines():
    N, P, D, R = normalizers, pre_tokenizers, decoders, processors
    made = {}
    byte_level = trained(models.BPE(), bpe(340, ["<|x|>"], initial_alphabet=P.ByteLevel.alphabet()), None, P.ByteLevel(add_prefix_space=False),
                         D.ByteLevel(), R.ByteLevel(trim_offsets=False))
    made["gpt2"] = byte_level
    split = Regex(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    llama3 = trained(models.BPE(), bpe(330, ["<|x|>", "<s>"], initial_alphabet=P.ByteLevel.alphabet()), N.NFC(),
                     P.Sequence([P.Split(split, "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), D.ByteLevel(),
                     R.Sequence([R.ByteLevel(trim_offsets=False),
                                 R.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])]))
    llama3.add_tokens([AddedToken("hearts", lstrip=True, rstrip=True), AddedToken("the", single_word=True), "Maria"])
    llama3.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    made["llama3"] = changed(llama3, lambda data: data["model"].update(ignore_merges=True))
    made["roberta"] = trained(models.BPE(unk_token="<unk>"), bpe(320, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], initial_alphabet=P.ByteLevel.alphabet()),
                              None, P.Sequence([P.Digits(individual_digits=False), P.ByteLevel(add_prefix_space=True)]), D.ByteLevel(),
                              R.RobertaProcessing(("</s>", 2), ("<s>", 0)))
    made["llama2"] = trained(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True),
                             bpe(380, ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]),
                             N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None,
                             D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), D.Strip(" ", 1, 0)]),
                             R.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]))
    made["clip"] = trained(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>", fuse_unk=True),
                           bpe(200, ["<unk>"], end_of_word_suffix="</w>"),
                           N.Sequence([N.NFD(), N.StripAccents(), N.Lowercase(), N.Replace(Regex(r"\s+"), " "), N.Strip()]), P.Whitespace(), D.BPEDecoder())
    made["prefix"] = trained(models.BPE(unk_token="<unk>", continuing_subword_prefix="@@"), bpe(260, ["<unk>"], continuing_subword_prefix="@@"),
                             None, P.Sequence([P.WhitespaceSplit(), P.Punctuation("merged_with_previous"), P.Digits(True)]),
                             D.Sequence([D.Replace(Regex("^@@"), ""), D.Strip("a", 2, 0), D.Fuse()]))
    bert = trained(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=220, special_tokens=["[UNK]", "[CLS]", "[SEP]"], show_progress=False),
                   N.BertNormalizer(), P.BertPreTokenizer(), D.WordPiece(), R.BertProcessing(("[SEP]", 2), ("[CLS]", 1)))
    bert.add_tokens(["Maria"])
    made["bert"] = bert
    made["bert-cased"] = trained(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20),
                                 trainers.WordPieceTrainer(vocab_size=200, special_tokens=["[UNK]"], show_progress=False),
                                 N.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=True, lowercase=False), P.BertPreTokenizer(),
                                 D.WordPiece(cleanup=False))
    t5 = trained(models.Unigram(), trainers.UnigramTrainer(vocab_size=240, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False),
                 N.Sequence([N.Nmt(), N.NFKC(), N.Replace(Regex(" {2,}"), " ")]), P.Metaspace(), D.Metaspace(),
                 R.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)]))
    made["t5"] = t5
    table = base64.b64encode(precompiled(charsmap())).decode()
    made["xlmr"] = changed(t5, lambda data: data.update(
        normalizer={"type": "Precompiled", "precompiled_charsmap": table},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"},
                                                             {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}]}))
    made["gemma"] = changed(made["llama2"], lambda data: data.update(
        normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        pre_tokenizer={"type": "Split", "pattern": {"String": "▁"}, "behavior": "MergedWithNext", "invert": False}))
    made["metaspace-never"] = changed(made["llama2"], lambda data: data.update(
        normalizer={"type": "NFKD"}, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False},
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}))
    words = ["<unk>"] + sorted({word for line in corpus() for word in line.split()})[:100]
    word_level = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    for name, part in (("delimiter", P.CharDelimiterSplit("a")), ("digits", P.Digits(False)), ("punctuation-removed", P.Punctuation("removed")),
                       ("punctuation-contiguous", P.Punctuation("contiguous")), ("whitespace", P.Whitespace()),
                       ("split-previous", P.Split(Regex("[aeiou]"), "merged_with_previous")), ("split-next", P.Split(Regex("[aeiou]"), "merged_with_next")),
                       ("split-contiguous", P.Split(Regex(r"\w"), "contiguous")), ("split-removed-inverted", P.Split(Regex(r"\p{L}+"), "removed", invert=True)),
                       ("split-boundary", P.Split(Regex(r"\b|\h{2}|[^\S\n]"), "isolated")), ("split-dot", P.Split(Regex(r"^.|(?m:.$)"), "isolated"))):
        word_level.pre_tokenizer = part
        made[name] = Tokenizer.from_str(word_level.to_str())
    made["no-decoder"] = changed(made["clip"], lambda data: data.update(decoder=None, pre_tokenizer={"type": "WhitespaceSplit"}))
    made["byte-normaliser"] = changed(byte_level, lambda data: data.update(
        normalizer={"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "ByteLevel"}]}, pre_tokenizer=None))
    return made


# Pipelines whose spans the package gives in the same sense: the characters that a token is made of.
SAME_SPANS = {"prefix", "delimiter", "digits", "punctuation-removed", "punctuation-contiguous", "whitespace", "split-previous", "split-next",
              "split-contiguous", "split-removed-inverted", "split-boundary", "split-dot"}


def main():
    rows = []
    made = pipelines()
    for name, tokenizer in made.items():
        row = {"name": name, "tokenizer": json.loads(tokenizer.to_str()), "ids": [], "special": [], "decoded": []}
        spans = []
        for text in TEXTS:
            plain = tokenizer.encode(text, add_special_tokens=False)
            row["ids"].append(plain.ids)
            row["special"].append(len(tokenizer.encode(text).ids))
            row["decoded"].append(tokenizer.decode(plain.ids))
            spans.append([len(text[:at].encode()) for pair in plain.offsets for at in pair])
        size = tokenizer.get_vocab_size()
        runs = [[(i * 37 + k * 101) % size for k in range(i % 9)] for i in range(40)]
        row["runs"] = runs
        row["runs_decoded"] = [tokenizer.decode(ids) for ids in runs]
        if name in SAME_SPANS:
            row["spans"] = spans
        rows.append(row)
    files = [{"name": name, "ending": ending, "file": base64.b64encode(data).decode(), "ids": ids}
             for source in (sentencepieces(), ggufs(made)) for name, ending, data, ids in source]
    path = ROOT / "tests" / "golden" / "pipelines.json.xz"
    with lzma.open(path, "wt", preset=9, encoding="utf-8") as file:
        file.write('{"texts":' + json.dumps(TEXTS, ensure_ascii=False) + ',\n"pipelines":[\n')
        file.write(",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows))
        file.write('\n],"files":[\n')
        file.write(",\n".join(json.dumps(row, separators=(",", ":")) for row in files))
        file.write("\n]}\n")
    print(f"{path}: {len(rows)} tokenizers, {len(TEXTS)} texts, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
