#!/usr/bin/env python3
"""One training step of GPT-2 (124 M parameters, or --layers of it): attn, PyTorch and llm.c in turn, in one run, from the same
weights on the same batches: times, losses, peak memory.

usage: gpt2_step.py BUILD_DIR [--batch 4] [--steps 64] [--threads 2] [--repeats 20] [--bf16] [--layers 12] [--llmc DIR] [--json]

The weights are random, the loss is the mean over all tokens, AdamW has no weight decay and there is no clipping and no dropout
(as in llm.c's train_gpt2.c). --bf16: products in bf16 with sums in f32, in PyTorch by autocast. DIR is a checkout of
github.com/karpathy/llm.c, which is compiled with -O3 -march=native -fopenmp and its own flags. Peak memory is VmHWM of the process;
PyTorch's own libraries are in it, and are printed.
"""
import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import needs

needs.packages("numpy", "torch")
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

V, POSITIONS, C, HEADS = 50257, 1024, 768, 12


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attn, self.attn_out = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.fc, self.fc_out = nn.Linear(C, 4 * C), nn.Linear(4 * C, C)

    def forward(self, h):
        q, k, v = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in self.attn(self.ln_1(h)).split(C, -1))
        z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.attn_out(z.transpose(1, 2).flatten(-2))
        return h + self.fc_out(F.gelu(self.fc(self.ln_2(h)), approximate="tanh"))


class GPT2(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(POSITIONS, C)
        self.h = nn.ModuleList(Block() for _ in range(layers))
        self.ln_f = nn.LayerNorm(C)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02 / (2 * layers) ** 0.5 if "_out" in name else 0.02)

    def forward(self, ids):
        h = self.wte(ids) + self.wpe.weight[:ids.shape[1]]
        for block in self.h:
            h = block(h)
        return F.linear(self.ln_f(h), self.wte.weight)


# PyTorch's names here, the Hub's, and whether that one is stored (in, out)
NAMES = (("ln_1", "ln_1", False), ("attn", "attn.c_attn", True), ("attn_out", "attn.c_proj", True), ("ln_2", "ln_2", False),
         ("fc", "mlp.c_fc", True), ("fc_out", "mlp.c_proj", True))


def write_weights(folder, model):
    """config.json and model.safetensors, as transformers has them, and llm.c's checkpoint."""
    layers, tensors = len(model.h), {"transformer.wte.weight": model.wte.weight, "transformer.wpe.weight": model.wpe.weight}
    for i, block in enumerate(model.h):
        for own, hub, turned in NAMES:
            layer = getattr(block, own)
            tensors[f"transformer.h.{i}.{hub}.weight"] = layer.weight.T if turned else layer.weight
            tensors[f"transformer.h.{i}.{hub}.bias"] = layer.bias
    tensors |= {f"transformer.ln_f.{kind}": getattr(model.ln_f, kind) for kind in ("weight", "bias")}
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(t.shape), "data_offsets": [at, at + 4 * t.numel()]}
        at += 4 * t.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(f"{folder}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            t.detach().contiguous().numpy().tofile(file)
    with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
        json.dump({"model_type": "gpt2", "vocab_size": V, "n_positions": POSITIONS, "n_embd": C, "n_layer": layers, "n_head": HEADS,
                   "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, file)
    padded = V + -V % 128
    with open(f"{folder}/llmc.bin", "wb") as file:
        np.array([20240326, 3, POSITIONS, V, layers, HEADS, C, padded] + [0] * 248, np.int32).tofile(file)
        model.wte.weight.detach().numpy().tofile(file)
        np.zeros((padded - V, C), np.float32).tofile(file)
        model.wpe.weight.detach().numpy().tofile(file)
        for own in ("ln_1", "attn", "attn_out", "ln_2", "fc", "fc_out"):
            for kind in ("weight", "bias"):
                for block in model.h:
                    getattr(getattr(block, own), kind).detach().numpy().tofile(file)
        for kind in ("weight", "bias"):
            getattr(model.ln_f, kind).detach().numpy().tofile(file)


def peak_mb(pid="self"):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


class Child:
    """A program that does a step for every line and says milliseconds and loss."""

    def __init__(self, command, threads, speaks="stdout"):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **{speaks: subprocess.PIPE},
                                        env={**os.environ, "ATTN_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)})
        self.out = getattr(self.process, speaks)

    def __call__(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        ms, loss = self.out.readline().split()
        return float(ms), float(loss)

    def close(self):
        peak = peak_mb(self.process.pid)
        self.process.stdin.close()
        self.process.wait()
        return peak


def build_llmc(folder, source):
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run(["cc", "-O3", "-march=native", "-Ofast", "-fno-finite-math-only", "-Wno-unused-result", "-Wno-unknown-pragmas",
                    "-DOMP", "-fopenmp", "-I", source, "-o", f"{folder}/llmc_step", f"{here}/peers/llmc_step.c", "-lm"], check=True)
    return f"{folder}/llmc_step"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--llmc")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    libraries = peak_mb()
    model = GPT2(args.layers)
    with tempfile.TemporaryDirectory() as folder:
        write_weights(folder, model)
        ids = np.random.default_rng(0).zipf(1.3, (args.repeats, args.batch, args.steps + 1)).clip(0, V) - 1
        ids.astype(np.int32).tofile(f"{folder}/ids")
        shape = [str(args.batch), str(args.steps)]
        children = {"attn": Child([needs.program(args.build, "bench/train_step"), folder, *shape, *(["bf16"] if args.bf16 else [])], args.threads)}
        if args.llmc:
            children["llm.c"] = Child([build_llmc(folder, args.llmc), folder, *shape], args.threads, "stderr")
        optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0, fused=True)
        batches = iter(torch.from_numpy(ids.astype(np.int64)))

        def torch_step():
            batch = next(batches)
            start = time.perf_counter()
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                logits = model(batch[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            return 1e3 * (time.perf_counter() - start), loss.item()

        times, losses = {}, {}
        for _ in range(args.repeats):
            for name, step in {"attn": children["attn"], "PyTorch": torch_step, **children}.items():
                ms, loss = step()
                times.setdefault(name, []).append(ms)
                losses.setdefault(name, []).append(loss)
        peaks = {name: child.close() for name, child in children.items()}
    peaks["PyTorch"] = peak_mb()
    result = {"batch": args.batch, "steps": args.steps, "threads": args.threads, "bf16": args.bf16, "libraries_mb": libraries}
    for name, values in times.items():
        off = max(abs(a - b) for a, b in zip(losses[name], losses["PyTorch"]))
        result[name] = {"min_ms": min(values[2:]), "median_ms": statistics.median(values[2:]), "peak_mb": peaks[name], "loss": losses[name][-1],
                        "loss_off": off, "ratio": min(values[2:]) / min(times["attn"][2:])}
    if args.json:
        print(json.dumps(result))
        return
    for name in times:
        r = result[name]
        print(f"{name:8} min {r['min_ms']:8.1f} ms  median {r['median_ms']:8.1f} ms  attn is {r['ratio']:5.2f} x  peak {r['peak_mb']:6.0f} MB  "
              f"loss {r['loss']:.4f}, off PyTorch's by {r['loss_off']:.1e} at most in {args.repeats} steps")
    print(f"PyTorch's libraries alone: {libraries:.0f} MB", file=sys.stderr)


if __name__ == "__main__":
    main()
