#!/usr/bin/env python3
"""Holds libattn's tokenizer against the package `tokenizers`: ids, and the text of ids.

    scripts/check_tokenizer.py LIBATTN.so TOKENIZER.json [--strings N] [--text FILE ...] [--seed N]

Lines of the given files, and random strings of many scripts, emoji, controls, marks and white space, are encoded by both;
random ids are decoded by both. Strings whose NFC the package, with its older Unicode, gets otherwise than Python are counted
and left out. Text never becomes a special token here, so the package is told the same. Prints what
differs and ends with 1 if anything does."""
import argparse
import ctypes
import random
import sys
import unicodedata

from tokenizers import Tokenizer, normalizers


class Token(ctypes.Structure):
    _fields_ = [("id", ctypes.c_int32), ("first", ctypes.c_size_t), ("end", ctypes.c_size_t), ("word", ctypes.c_int32)]


class Tokens(ctypes.Structure):
    _fields_ = [("token", ctypes.POINTER(Token)), ("count", ctypes.c_size_t), ("capacity", ctypes.c_size_t),
                ("text", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


class Ours:
    def __init__(self, library, path):
        self.lib = ctypes.CDLL(library)
        self.lib.attn_error.restype = ctypes.c_char_p
        self.lib.attn_tokenizer_size.restype = ctypes.c_size_t
        self.ctx, self.tokenizer, self.tokens = ctypes.c_void_p(), ctypes.c_void_p(), Tokens()
        self.check(self.lib.attn_context_create(ctypes.byref(self.ctx), None))
        self.check(self.lib.attn_tokenizer_load(ctypes.byref(self.tokenizer), self.ctx, path.encode()))
        self.size = self.lib.attn_tokenizer_size(self.tokenizer)

    def check(self, status):
        if status:
            sys.exit(f"status {status}: {self.lib.attn_error(self.ctx).decode()}")

    def encode(self, text):
        raw = text.encode()
        self.check(self.lib.attn_tokenize(self.tokenizer, ctypes.byref(self.tokens), raw, ctypes.c_size_t(len(raw)), False))
        tokens = self.tokens.token[:self.tokens.count] if self.tokens.count else []
        at = 0
        for token in tokens:
            if token.first != at or token.end < at:
                sys.exit(f"spans of {text!r} leave a gap at byte {at}")
            at = token.end
        if at != self.tokens.bytes:
            sys.exit(f"spans of {text!r} end at byte {at} of {self.tokens.bytes}")
        normal = ctypes.string_at(self.tokens.text, self.tokens.bytes).decode()
        return [token.id for token in tokens], normal

    def decode(self, ids):
        array, out, size = (ctypes.c_int32 * len(ids))(*ids), ctypes.c_void_p(), ctypes.c_size_t()
        self.check(self.lib.attn_detokenize(self.tokenizer, ctypes.byref(out), ctypes.byref(size), array,
                                            ctypes.c_size_t(len(ids)), None))
        text = ctypes.string_at(out, size.value).decode()
        self.lib.attn_text_free(self.ctx, out)
        return text


RANGES = [(0x20, 0x7E, 30), (0xA0, 0x24F, 12), (0x0, 0x1F, 2), (0x7F, 0xA0, 2), (0x2000, 0x206F, 6), (0x300, 0x36F, 4),
          (0x370, 0x5FF, 3), (0x600, 0x6FF, 2), (0x900, 0xDFF, 3), (0xE00, 0xEFF, 2), (0x1100, 0x11FF, 2),
          (0x1E00, 0x1FFF, 3), (0x2070, 0x2BFF, 5), (0x3000, 0x30FF, 3), (0x4E00, 0x9FFF, 3), (0xAC00, 0xD7A3, 2),
          (0xF900, 0xFFFF, 3), (0x10000, 0x1FFFF, 2), (0x1F300, 0x1FAFF, 4), (0x20000, 0x10FFFF, 1)]


def random_string(rng, words):
    parts = []
    for _ in range(rng.randrange(1, 12)):
        kind = rng.random()
        if words and kind < 0.5:
            parts.append(rng.choice(words))
        elif kind < 0.6:
            parts.append(rng.choice(["</s>", "<0x41>", "<unk>", "\u2581", "\u2019", "l'", "e\u0301", "\U0001F469\u200D\U0001F680", "  ", "\r\n",
                                     "\u0130I\u0131", "\u1E9E", "\u03A3\u03C2", "\u2126\u212B", "12.345,67", "\ufeff", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]))
        else:
            low, high, _ = rng.choices(RANGES, weights=[weight for *_, weight in RANGES])[0]
            for _ in range(rng.randrange(1, 7)):
                character = chr(rng.randint(low, high))  # unassigned ones: each side has its own version of Unicode
                parts.append(character if unicodedata.category(character) not in ("Cn", "Cs") else "?")
        if rng.random() < 0.6:
            parts.append(" ")
    return "".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("tokenizer")
    parser.add_argument("--strings", type=int, default=20000)
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    ours, theirs = Ours(options.library, options.tokenizer), Tokenizer.from_file(options.tokenizer)
    theirs.encode_special_tokens = True
    lines = [line.rstrip("\n") for path in options.text for line in open(path, encoding="utf-8", errors="replace")]
    words = sorted({word for line in lines[:5000] for word in line.split()})
    strings = lines + [random_string(rng, words) for _ in range(options.strings)]
    strings += [" ".join(rng.choices(words or ["abc"], k=3)).replace(" ", "") * rng.randrange(1, 60) for _ in range(500)]
    wrong = older = 0
    nfc = normalizers.NFC()
    for text in strings:
        if nfc.normalize_str(text) != unicodedata.normalize("NFC", text):
            older += 1
            continue
        ids, normal = ours.encode(text)
        expected = theirs.encode(text, add_special_tokens=False).ids
        if ids != expected:
            wrong += 1
            if wrong <= 10:
                print(f"ids of {text!r}\n  found    {[theirs.id_to_token(i) for i in ids]}\n  expected {[theirs.id_to_token(i) for i in expected]}")
        elif ours.decode(ids) != normal or theirs.decode(ids) != normal:
            wrong += 1
            print(f"text of {text!r}: {ours.decode(ids)!r}, of the package {theirs.decode(ids)!r}, expected {normal!r}")
    decoded = options.strings // 4
    for _ in range(decoded):
        ids = [rng.randrange(0, 260) if rng.random() < 0.5 else rng.randrange(ours.size) for _ in range(rng.randrange(0, 20))]
        if ours.decode(ids) != theirs.decode(ids):
            wrong += 1
            print(f"text of {ids}: {ours.decode(ids)!r}, expected {theirs.decode(ids)!r}")
    print(f"{len(strings)} strings encoded, {decoded} runs of ids decoded, {older} left out, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
