#!/usr/bin/env python3
"""Makes tests/golden/tokenizer.json, tokenizer_lower.json and tokenizer_cases.json.

    scripts/make_tokenizer_goldens.py LIBATTN.so

The tokenizers are trained by libattn on data/tatoeba/de-en.sample.valid.tsv.xz and a few lines in other scripts; the ids and
the decoded texts of the cases come from the package `tokenizers`."""
import ctypes
import json
import lzma
import pathlib
import random
import sys
import unicodedata

from tokenizers import Tokenizer, normalizers

import check_tokenizer

ROOT = pathlib.Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"

CASES = [
    "", " ", "\t\r\n", "a", "?", "'", "▁", "▁▁", " ▁ x ▁", "Kannst du mir helfen diesen Satz zu übersetzen",
    "Kannst du mir helfen, diesen Satz zu übersetzen?", "  zwei  Räume ", "Zeile\r\nZeile\tTab", "Satz?!", "„Komm!“, sagte er.",
    "»Nein«", "don't", "Don’t you think it's Tom’s?", "l'homme qu’il a vu", "E-Mail", "12.345,67 €", "3½ m²", "①②③ Ⅳ", "٣٤٥",
    "1.000.000", "a1b2c3", "</s>", "<s> <pad> </s> <unk>", "<0x41>", "<0xC3><0xA4>", "[CLS] x [SEP]", "A\u0308 a\u0308 e\u0301",
    "\u0301", "a\u0323\u0301 a\u0301\u0323", "ﬁ ﬀ ²", "Å Ω K", "가각 \u1100\u1161\u11a8 가\u11a7", "\u0958", "İstanbul ISPARTA ı",
    "ẞ STRASSE straße", "ΣΊΣΥΦΟΣ ς", "ДОБРОЕ утро", "ΑΒΓ αβγ", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดี", "こんにちは世界",
    "東京都", "漢字かな交じり文。", "한국어", "👩‍🚀 👨‍👩‍👧‍👦", "🇩🇪🇫🇷", "❤️", "👍🏽", "🙂🙃", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𐍈", "\U0010ffff", "\uffff", "\ufeffBOM", "zero\u200bwidth",
    "soft\u00adhyphen", "nb\u00a0space", "narrow\u202f!", "thin\u2009em\u2003ideographic\u3000x", "line\u2028sep\u2029par",
    "next\u0085line", "\x00", "a\x00b", "\x01\x02\x1f", "\x7f", "\x1b[31mred\x1b[0m", "x" * 300, "ab" * 200, "Schiff" * 50,
    "der " * 100, "?" * 150, "😀" * 60, "Donaudampfschifffahrtsgesellschaftskapitän", "the the the", "THE The tHE",
    "_under_score_", "C++ #include <x.h>", "a+b=c", "$5 ^ `x` | ~y", "50 % of 100", "http://example.org/?q=a&b=c#d",
    "name@example.org", "…", "– — ‑ -", "“”‘’‚„", "«»‹›", "¡¿", "°C", "§ 5", "™®©", "→←↑↓", "∀x∈ℝ: x²≥0", "½⅓", "ⅷ", "㍿", "ｆｕｌｌ",
    "ǅ ǆ Ǆ", "ŉ", "ſ", "ð þ ø æ œ", "č ć š ž", "ą ę ł", "ő ű", "ğ ş", "ñ ç", "âêîôû", "áéíóúý", "àèìòù", "äöüß ÄÖÜ",
    "Grüß Gott!", "Ich habe keine Zeit.", "Tom is very busy.", "Où est la gare ?", "C’est l’été, n’est-ce pas ?",
]


def train(ours, lines, size, lowercase, path):
    class Options(ctypes.Structure):
        _fields_ = [("struct_size", ctypes.c_size_t), ("vocab_size", ctypes.c_size_t), ("min_frequency", ctypes.c_size_t),
                    ("lowercase", ctypes.c_bool), ("max_piece_bytes", ctypes.c_size_t)]
    options = Options(ctypes.sizeof(Options), size, 2, lowercase, 0)
    raw = [line.encode() for line in lines]
    texts, sizes = (ctypes.c_char_p * len(raw))(*raw), (ctypes.c_size_t * len(raw))(*map(len, raw))
    ctx, tokenizer = ctypes.c_void_p(), ctypes.c_void_p()
    ours.attn_context_create(ctypes.byref(ctx), None)
    status = ours.attn_tokenizer_train_bpe(ctypes.byref(tokenizer), ctx, texts, sizes, ctypes.c_size_t(len(raw)), ctypes.byref(options))
    if status or ours.attn_tokenizer_save(tokenizer, str(path).encode()):
        sys.exit("training failed")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with lzma.open(ROOT / "data" / "tatoeba" / "de-en.sample.valid.tsv.xz", "rt", encoding="utf-8") as file:
        lines = [side for line in file for side in line.rstrip("\n").split("\t")]
    ours = ctypes.CDLL(sys.argv[1])
    train(ours, lines, 900, False, GOLDEN / "tokenizer.json")
    train(ours, lines, 500, True, GOLDEN / "tokenizer_lower.json")
    rng, nfc = random.Random(2015), normalizers.NFC()
    words = sorted({word for line in lines for word in line.split()})
    cases = list(CASES)
    while len(cases) < 260:
        text = check_tokenizer.random_string(rng, words)
        if nfc.normalize_str(text) == unicodedata.normalize("NFC", text):
            cases.append(text)
    table = []
    both = [Tokenizer.from_file(str(GOLDEN / name)) for name in ("tokenizer.json", "tokenizer_lower.json")]
    for tokenizer in both:
        tokenizer.encode_special_tokens = True
    for text in cases:
        row = {"text": text}
        for name, tokenizer in zip(("ids", "lower_ids"), both):
            row[name] = tokenizer.encode(text, add_special_tokens=False).ids
        row["decoded"] = both[0].decode(row["ids"])
        table.append(row)
    runs = []
    for _ in range(60):
        ids = [rng.randrange(4, 260) if rng.random() < 0.5 else rng.randrange(900) for _ in range(rng.randrange(0, 12))]
        runs.append({"ids": ids, "decoded": both[0].decode(ids)})
    rows = lambda items: "[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]"
    (GOLDEN / "tokenizer_cases.json").write_text(f'{{"encode": {rows(table)},\n"decode": {rows(runs)}}}\n')


if __name__ == "__main__":
    main()
