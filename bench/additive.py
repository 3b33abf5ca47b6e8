#!/usr/bin/env python3
"""Additive attention (Bahdanau), forward and backward, B64 T16 S32 A512 H1024, f32: attn and PyTorch eager, in turn.

usage: additive.py BUILD_DIR [--threads 2] [--repeats 15] [--memory] [--json]

core       on projected inputs, gradients of all four       projected  with both projections and their gradients
--memory   the peak beside inputs and outputs, by T and S: attn's allocations, and what PyTorch keeps for backward
"""
import argparse
import json
import os
import statistics
import subprocess
import time

import needs

needs.packages("torch")
import torch
import torch.nn.functional as F

B, T, S, A, H = 64, 16, 32, 512, 1024


def leaf(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).requires_grad_()


def make(t, s):
    return {"state": leaf(B, t, H), "h": leaf(B, s, H), "w": leaf(A, H, scale=0.03), "u": leaf(A, H, scale=0.03),
            "sq": leaf(B, t, A), "hk": leaf(B, s, A), "v": leaf(A, scale=0.05), "dc": torch.randn(B, t, H)}


def forward(sq, hk, v, h):
    energy = torch.tanh(sq[:, :, None] + hk[:, None]) @ v
    return torch.bmm(energy.softmax(-1), h)


def core(x):
    for name in ("sq", "hk", "v", "h"):
        x[name].grad = None
    forward(x["sq"], x["hk"], x["v"], x["h"]).backward(x["dc"])


def projected(x):
    for name in ("state", "h", "w", "u", "v"):
        x[name].grad = None
    forward(F.linear(x["state"], x["w"]), F.linear(x["h"], x["u"]), x["v"], x["h"]).backward(x["dc"])


def kept(t, s):
    """Bytes that PyTorch saves between forward and backward, inputs left out."""
    x, seen, total = make(t, s), set(), [0]
    inputs = {value.data_ptr() for value in x.values()}

    def pack(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in seen and place not in inputs:
            seen.add(place)
            total[0] += tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward(x["sq"], x["hk"], x["v"], x["h"])
    return total[0]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    ours = subprocess.Popen([needs.program(args.build, "bench/additive")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, env=dict(os.environ, ATTN_NUM_THREADS=str(args.threads)))

    def ask(line):
        ours.stdin.write(line + "\n")
        ours.stdin.flush()
        return float(ours.stdout.readline())

    if args.memory:
        print(f"{'T':>5} {'S':>5} {'attn':>12} {'PyTorch':>14}")
        for t, s in ((16, 32), (32, 32), (64, 32), (16, 64), (16, 128), (32, 64), (64, 128)):
            print(f"{t:5} {s:5} {int(ask(f'memory {t} {s}')):12,} {kept(t, s):14,}")
        return
    x, result = make(T, S), {}
    for name, theirs in (("core", core), ("projected", projected)):
        mine, peers = [], []
        for repeat in range(args.repeats + 2):
            start = time.perf_counter()
            theirs(x)
            took = (time.perf_counter() - start) * 1e3
            if repeat >= 2:
                peers.append(took)
            took = ask(name)
            if repeat >= 2:
                mine.append(took)
        result[name] = {"attn_ms": statistics.median(mine), "pytorch_ms": statistics.median(peers),
                        "ratio": statistics.median(p / m for p, m in zip(peers, mine))}
        if not args.json:
            print(f"{name:10} attn {result[name]['attn_ms']:7.2f} ms   PyTorch {result[name]['pytorch_ms']:7.2f} ms   "
                  f"{result[name]['ratio']:.2f} ×")
    if args.json:
        print(json.dumps(result))


main()
