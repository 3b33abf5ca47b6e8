#!/usr/bin/env python3
"""Holds libattn's BLEU and chrF against the package `sacrebleu`.

    scripts/check_measures.py LIBATTN.so [--corpora N] [--seed N]

Corpora of 1 to 8 pairs: words, numbers, marks and random strings of many scripts, and changed copies of them. Scores must agree
to 1e-9, counts exactly. Prints what differs and ends with 1 if anything does."""
import argparse
import ctypes
import random
import sys

from sacrebleu.metrics import BLEU, CHRF

from check_tokenizer import random_string

WORDS = ("the a dog sleeps 1,000.5 3-4 U.S. &quot;A&quot; &amp; «ça» 10% don't l’homme <skipped> x..y ,, ... Straße ΟΔΟΣ İstanbul "
         "日本語 - 5- .5 (so) été \u00a0 \u2028").split(" ")


class Bleu(ctypes.Structure):
    _fields_ = [("score", ctypes.c_double), ("precision", ctypes.c_double * 4), ("brevity_penalty", ctypes.c_double),
                ("hypothesis_tokens", ctypes.c_size_t), ("reference_tokens", ctypes.c_size_t),
                ("correct", ctypes.c_size_t * 4), ("total", ctypes.c_size_t * 4)]


def line(rng):
    if rng.random() < 0.2:
        return random_string(rng, []).replace("\0", "")
    return rng.choice((" ", " ", "")).join(rng.choices(WORDS, k=rng.randrange(0, 25)))


def changed(rng, text):
    words = text.split(" ")
    for _ in range(rng.randrange(4)):
        i, j = rng.randrange(len(words)), rng.randrange(len(words))
        words[i], words[j] = words[j], rng.choice((words[i], words[i].upper(), words[i] + rng.choice(".,!-"), rng.choice(WORDS)))
    return " ".join(words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("library")
    parser.add_argument("--corpora", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lib, ctx = ctypes.CDLL(options.library), ctypes.c_void_p()
    if lib.attn_context_create(ctypes.byref(ctx), None):
        sys.exit("no context")
    rng, wrong = random.Random(options.seed), 0
    for _ in range(options.corpora):
        references = [line(rng) for _ in range(rng.randrange(1, 9))]
        hypotheses = [changed(rng, text) if rng.random() < 0.8 else line(rng) for text in references]
        n, lower = len(references), rng.random() < 0.5
        ours, chrf = Bleu(), ctypes.c_double()
        arrays = [(ctypes.c_char_p * n)(*(text.encode() for text in texts)) for texts in (hypotheses, references)]
        if lib.attn_bleu_score(ctx, ctypes.byref(ours), *arrays, ctypes.c_size_t(n), lower) or \
                lib.attn_chrf_score(ctx, ctypes.byref(chrf), *arrays, ctypes.c_size_t(n)):
            sys.exit("refused: " + repr((hypotheses, references)))
        theirs = BLEU(lowercase=lower).corpus_score(hypotheses, [references])
        expected = CHRF().corpus_score(hypotheses, [references]).score
        counts = [*ours.correct, *ours.total, ours.hypothesis_tokens, ours.reference_tokens]
        if counts != [*theirs.counts, *theirs.totals, theirs.sys_len, theirs.ref_len] or \
                abs(ours.score - theirs.score) > 1e-9 or abs(chrf.value - expected) > 1e-9:
            wrong += 1
            if wrong <= 10:
                print(f"{hypotheses!r}\n{references!r}\n  found    {ours.score} {counts} {chrf.value}\n"
                      f"  expected {theirs.score} {theirs.counts} {theirs.totals} {expected}")
    print(f"{options.corpora} corpora, {wrong} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
