#!/usr/bin/env python3
"""One training step of a translator (V8000, B64 S16 T16): attn and PyTorch, in turn, in one run.

usage: train_step.py BUILD_DIR [--model bahdanau|transformer] [--threads 2] [--repeats 15] [--bf16] [--json]

bahdanau: E256 H512, no dropout. transformer: d256, 3 + 3 layers, 8 heads, feed-forward 1024, dropout 0.1.

--bf16: products in bf16 with sums in f32, in PyTorch by autocast.
"""
import argparse
import json
import statistics
import subprocess
import time

import needs

needs.packages("torch")
import torch
import torch.nn as nn
import torch.nn.functional as F

V, E, H, B, S, T = 8000, 256, 512, 64, 16, 16
D, FF, LAYERS, HEADS, DROPOUT = 256, 1024, 3, 8, 0.1
# multiply-adds of one step's matrix products, forward; backward costs twice as much
MACS = {}
MACS["transformer"] = LAYERS * (B * S * (4 * D * D + 2 * D * FF + 2 * S * D) +
                                B * T * (6 * D * D + 2 * D * FF + 2 * T * D + 2 * S * D) + B * S * 2 * D * D) + B * T * D * V
MACS["bahdanau"] = 2 * B * S * (E + H) * 3 * H + B * S * 2 * H * H + B * T * (H * H + 3 * H * (E + 2 * H + H) + (3 * H + E) * E + E * V)


class Bahdanau(nn.Module):
    """The same equations with PyTorch's fused GRU and batched products."""

    def __init__(self):
        super().__init__()
        self.source, self.target = nn.Embedding(V, E), nn.Embedding(V, E)
        self.encoder = nn.GRU(E, H, bidirectional=True)
        self.first = nn.Linear(H, H)
        self.query, self.key = nn.Linear(H, H), nn.Linear(2 * H, H, bias=False)
        self.v = nn.Linear(H, 1, bias=False)
        self.cell = nn.GRUCell(E + 2 * H, H)
        self.readout, self.output = nn.Linear(E + 3 * H, E), nn.Linear(E, V)

    def forward(self, x, y, mask):
        h, _ = self.encoder(self.source(x))
        state = torch.tanh(self.first(h[0, :, H:]))
        keys, annotations, y = self.key(h).transpose(0, 1), h.transpose(0, 1), self.target(y)
        rows = []
        for step in y:
            energy = self.v(torch.tanh(self.query(state)[:, None] + keys)).squeeze(-1)
            alignment = energy.masked_fill(~mask, float("-inf")).softmax(-1)
            context = torch.bmm(alignment[:, None], annotations)[:, 0]
            state = self.cell(torch.cat([step, context], -1), state)
            rows.append(torch.cat([state, context, step], -1))
        return self.output(torch.tanh(self.readout(torch.stack(rows))))


class Block(nn.Module):
    """Attention or feed-forward around a norm: h + dropout(f(norm(h)))."""

    def __init__(self, attends):
        super().__init__()
        self.attends, self.norm = attends, nn.LayerNorm(D)
        if attends:
            self.query, self.key, self.value, self.out = (nn.Linear(D, D) for _ in range(4))
        else:
            self.inner, self.out = nn.Linear(D, FF), nn.Linear(FF, D)

    def forward(self, h, context=None, causal=False):
        x = self.norm(h)
        if self.attends:
            context = x if context is None else context
            q, k, v = (f(z).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                       for f, z in ((self.query, x), (self.key, context), (self.value, context)))
            z = F.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=DROPOUT)
            f = self.out(z.transpose(1, 2).flatten(-2))
        else:
            f = self.out(F.relu(self.inner(x)))
        return h + F.dropout(f, DROPOUT)


class Transformer(nn.Module):
    """Norm first, tied embeddings, attention by scaled_dot_product_attention; every pair has the full length."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        nn.init.normal_(self.embedding.weight, std=D ** -0.5)
        self.encoder = nn.ModuleList(Block(kind) for _ in range(LAYERS) for kind in (True, False))
        self.decoder = nn.ModuleList(Block(kind) for _ in range(LAYERS) for kind in (True, True, False))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        angle = torch.arange(2, T + 2)[:, None] * 10000 ** (-torch.arange(D // 2) / (D // 2 - 1))
        self.register_buffer("positions", torch.cat([angle.sin(), angle.cos()], 1))

    def embed(self, ids):
        return F.dropout(self.embedding(ids.T) * D ** 0.5 + self.positions[:len(ids)], DROPOUT)

    def forward(self, x, y, mask):
        h, g = self.embed(x), self.embed(y)
        for block in self.encoder:
            h = block(h)
        h = self.encoder_norm(h)
        for i, block in enumerate(self.decoder):
            g = block(g, h if i % 3 == 1 else None, causal=i % 3 == 0)
        return F.linear(self.decoder_norm(g), self.embedding.weight).transpose(0, 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--model", choices=("bahdanau", "transformer"), default="bahdanau")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Transformer() if args.model == "transformer" else Bahdanau()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    x, y = torch.randint(0, V, (S, B)), torch.randint(0, V, (T + 1, B))
    mask = torch.ones(B, S, dtype=torch.bool)

    def torch_step():
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            logits = model(x, y[:-1], mask)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y[1:].flatten(), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return 1e3 * (time.perf_counter() - start), float(loss)

    ours = subprocess.Popen([needs.program(args.build, "bench/train_step"), args.model, *(["bf16"] if args.bf16 else [])], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env={**__import__("os").environ, "ATTN_NUM_THREADS": str(args.threads)})

    def attn_step():
        ours.stdin.write("step\n")
        ours.stdin.flush()
        ms, loss = ours.stdout.readline().split()
        return float(ms), float(loss)

    times = {"attn": [], "pytorch": []}
    for i in range(args.repeats + 2):
        for name, step in (("attn", attn_step), ("pytorch", torch_step)):
            ms, loss = step()
            if i >= 2:
                times[name].append(ms)
            time.sleep(0.05)
    ours.stdin.close()
    ours.wait()
    gflop = 6e-9 * MACS[args.model]
    result = {"gflop": gflop, "threads": args.threads}
    for name, values in times.items():
        result[name] = {"min_ms": min(values), "median_ms": statistics.median(values), "gflops": gflop / (1e-3 * min(values))}
    result["ratio_min"] = result["pytorch"]["min_ms"] / result["attn"]["min_ms"]
    result["ratio_median"] = statistics.median(p / a for a, p in zip(times["attn"], times["pytorch"]))
    if args.json:
        print(json.dumps(result))
        return
    for name in times:
        r = result[name]
        print(f"{name:8} min {r['min_ms']:8.1f} ms  median {r['median_ms']:8.1f} ms  {r['gflops']:6.0f} GFLOP/s")
    print(f"ratio    min {result['ratio_min']:.2f}  median of pairs {result['ratio_median']:.2f}  ({gflop:.1f} GFLOP a step)")


if __name__ == "__main__":
    main()
