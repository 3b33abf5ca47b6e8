#!/usr/bin/env python3
"""Translating a test set: attn and CTranslate2 on the converted model, in turn, in one run.

usage: translate.py BUILD_DIR [--model models/de-en] [--data data/tatoeba/de-en.test.tsv.xz] [--threads 2] [--beam 4] [--batch 32] [--rounds 3]

The model, stored as 8-bit integers, is run in f32 and with products in bf16; CTranslate2 runs it in float32 and in int8. attn's time is the whole
program's, reading and tokenizing among it; CTranslate2's is translate_batch alone, of tokens that are there. Needs ctranslate2, transformers and tokenizers.
"""
import argparse
import lzma
import os
import subprocess
import tempfile
import time
from pathlib import Path

import needs

needs.packages("ctranslate2", "tokenizers")
import ctranslate2
from tokenizers import Tokenizer

parser = argparse.ArgumentParser()
parser.add_argument("build", type=Path)
parser.add_argument("--model", default="models/de-en")
parser.add_argument("--data", default="data/tatoeba/de-en.test.tsv.xz")
for name, value in (("threads", 2), ("beam", 4), ("batch", 32), ("rounds", 3)):
    parser.add_argument(f"--{name}", type=int, default=value)
args = parser.parse_args()
attn = needs.program(args.build, "attn")
lines = [line.split("\t")[0] for line in lzma.open(args.data, "rt", encoding="utf-8").read().splitlines()]
text = "".join(line + "\n" for line in lines)
with tempfile.TemporaryDirectory() as work:
    subprocess.run([attn, "convert", "-q", args.model, "--to", "hf", "-o", f"{work}/hf"], check=True)
    ctranslate2.converters.TransformersConverter(f"{work}/hf").convert(f"{work}/ct2")
    tokenizer = Tokenizer.from_file(f"{work}/hf/tokenizer.json")
    tokens = [encoding.tokens for encoding in tokenizer.encode_batch(lines)]
    peers = {kind: ctranslate2.Translator(f"{work}/ct2", device="cpu", intra_threads=args.threads, inter_threads=1, compute_type=kind)
             for kind in ("float32", "int8")}


def ours(precision):
    subprocess.run([attn, "translate", "-m", args.model, "-b", str(args.beam), "--batch-size", str(args.batch), "--split-words", "0",
                    "--precision", precision, "-t", str(args.threads)], input=text, text=True, stdout=subprocess.DEVNULL, check=True)


def theirs(kind):
    peers[kind].translate_batch(tokens, beam_size=args.beam, length_penalty=1, max_batch_size=args.batch)


runs = {"attn f32": lambda: ours("f32"), "CTranslate2 float32": lambda: theirs("float32"), "attn bf16": lambda: ours("bf16"),
        "CTranslate2 int8": lambda: theirs("int8")}
seconds = {name: [] for name in runs}
for _ in range(args.rounds):
    for name, run in runs.items():
        start = time.perf_counter()
        run()
        seconds[name].append(time.perf_counter() - start)
for name, values in seconds.items():
    print(f"{name:20} {min(values):7.2f} s  {len(lines) / min(values):6.0f} sentences/s")
print(f"ratio: f32 {min(seconds['CTranslate2 float32']) / min(seconds['attn f32']):.2f}, "
      f"bf16 to int8 {min(seconds['CTranslate2 int8']) / min(seconds['attn bf16']):.2f}")
