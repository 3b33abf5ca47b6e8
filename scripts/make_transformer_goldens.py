#!/usr/bin/env python3
"""Makes tests/golden/transformer/: tiny transformers, a batch, and what they must give.

The equations are written here once more, in PyTorch and float64, one sentence at a time and without padding, packing
or batches. Each folder is a model with expected.safetensors beside it, as make_translator_goldens.py says.

Needs torch, numpy and safetensors. Usage: scripts/make_transformer_goldens.py [FOLDER]
"""
import math
import sys
from pathlib import Path

import numpy
import torch

from make_translator_goldens import EOS, SMOOTHING, SOURCES, TARGETS, batch_tensors, write

V, D, F, HEADS = 11, 8, 10, 2

VARIANTS = {
    "pre": dict(),
    "post": dict(norm="post", activation="gelu", encoder_layers=1, decoder_layers=3),
    "learned": dict(positions="learned", tie_embeddings=False, activation="silu", alignment_layer=2, alignment_head=2),
    "follows": dict(alignment_follows=True),
    "swiglu": dict(activation="swiglu"),
}


def shapes(c):
    """Names and shapes of all parameters."""
    s = {}
    if c["tie_embeddings"]:
        s["embedding.weight"] = (V, D)
    else:
        s.update({"encoder.embedding.weight": (V, D), "decoder.embedding.weight": (V, D), "output.weight": (V, D)})
    if c["positions"] == "learned":
        s["encoder.positions.weight"] = s["decoder.positions.weight"] = (c["max_positions"], D)

    def norm(at):
        s[at + ".norm.weight"] = s[at + ".norm.bias"] = (D,)

    for side, layers, blocks in (("encoder", c["encoder_layers"], ("self",)),
                                 ("decoder", c["decoder_layers"], ("self", "cross"))):
        for l in range(layers):
            for block in blocks:
                norm(f"{side}.{l}.{block}")
                for part in ("query", "key", "value", "out"):
                    s[f"{side}.{l}.{block}.{part}.weight"], s[f"{side}.{l}.{block}.{part}.bias"] = (D, D), (D,)
            at = f"{side}.{l}.feed_forward"
            norm(at)
            if c["activation"] == "swiglu":
                s[at + ".gate.weight"], s[at + ".gate.bias"] = (F, D), (F,)
            s[at + ".in.weight"], s[at + ".in.bias"] = (F, D), (F,)
            s[at + ".out.weight"], s[at + ".out.bias"] = (D, F), (D,)
        if c["norm"] == "pre":
            norm(side)
    return s


class Model:
    def __init__(self, c, p):
        self.c, self.p = c, p

    def linear(self, x, at):
        return x @ self.p[at + ".weight"].T + self.p[at + ".bias"]

    def norm(self, x, at):
        return torch.nn.functional.layer_norm(x, (D,), self.p[at + ".norm.weight"], self.p[at + ".norm.bias"], 1e-5)

    def block(self, h, at, inner):
        if self.c["norm"] == "pre":
            return h + inner(self.norm(h, at))
        return self.norm(h + inner(h), at)

    def attention(self, x, context, at, causal):
        """The result, and the weights (heads, T, S)."""
        q, k, v = self.linear(x, at + ".query"), self.linear(context, at + ".key"), self.linear(context, at + ".value")
        size, out, weights = D // HEADS, [], []
        for h in range(HEADS):
            cut = slice(h * size, (h + 1) * size)
            score = q[:, cut] @ k[:, cut].T / math.sqrt(size)
            if causal:
                score = score.masked_fill(torch.ones_like(score).triu(1) > 0, -math.inf)
            weights.append(torch.softmax(score, 1))
            out.append(weights[-1] @ v[:, cut])
        return self.linear(torch.cat(out, 1), at + ".out"), torch.stack(weights)

    def feed_forward(self, x, at):
        if self.c["activation"] == "swiglu":
            gate = torch.nn.functional.silu(self.linear(x, at + ".gate"))
            return self.linear(gate * self.linear(x, at + ".in"), at + ".out")
        act = getattr(torch.nn.functional, self.c["activation"])
        return self.linear(act(self.linear(x, at + ".in")), at + ".out")

    def embed(self, ids, side):
        table = self.p["embedding.weight" if self.c["tie_embeddings"] else side + ".embedding.weight"]
        e = math.sqrt(D) * table[torch.tensor(ids)]
        if self.c["positions"] == "learned":
            return e + self.p[side + ".positions.weight"][:len(ids)]
        half, pre = D // 2, self.c["norm"] == "pre"
        for t in range(len(ids)):
            for i in range(half):
                angle = (t + 2) * 10000 ** (-i / (half - 1)) if pre else t * 10000 ** (-2 * i / D)
                e[t, i], e[t, half + i] = e[t, i] + math.sin(angle), e[t, half + i] + math.cos(angle)
        return e

    def decode(self, source, target):
        """Log-probabilities (T, V) and the alignment (T, S) of one pair."""
        c = self.c
        h = self.embed(source, "encoder")
        for l in range(c["encoder_layers"]):
            at = f"encoder.{l}"
            h = self.block(h, at + ".self", lambda x: self.attention(x, x, at + ".self", False)[0])
            h = self.block(h, at + ".feed_forward", lambda x: self.feed_forward(x, at + ".feed_forward"))
        if c["norm"] == "pre":
            h = self.norm(h, "encoder")
        g, seen = self.embed([EOS] + target[:-1], "decoder"), []
        for l in range(c["decoder_layers"]):
            at = f"decoder.{l}"
            g = self.block(g, at + ".self", lambda x: self.attention(x, x, at + ".self", True)[0])

            def cross(x):
                z, weights = self.attention(x, h, at + ".cross", False)
                seen.append(weights)
                return z

            g = self.block(g, at + ".cross", cross)
            g = self.block(g, at + ".feed_forward", lambda x: self.feed_forward(x, at + ".feed_forward"))
        if c["norm"] == "pre":
            g = self.norm(g, "decoder")
        output = self.p["embedding.weight" if c["tie_embeddings"] else "output.weight"]
        layer = c["alignment_layer"] - 1 if c["alignment_layer"] else max(c["decoder_layers"] - 2, 0)
        weights = seen[layer]
        alignment = weights[c["alignment_head"] - 1] if c["alignment_head"] else weights.mean(0)
        if c["alignment_follows"]:
            end = torch.eye(len(source), dtype=alignment.dtype)[-1:]
            alignment = torch.cat([alignment[1:], end])
        return torch.log_softmax(g @ output.T, 1), alignment


def make(folder, name, given):
    c = dict(model_type="transformer", vocab_size=V, model_size=D, feed_forward_size=F, encoder_layers=2,
             decoder_layers=2, heads=HEADS, max_positions=7, norm="pre", positions="sinusoidal", activation="relu",
             tie_embeddings=True, dropout=0, attention_dropout=0, activation_dropout=0, alignment_layer=0,
             alignment_head=0, alignment_follows=False)
    c.update(given)
    random = numpy.random.Generator(numpy.random.PCG64(list(VARIANTS).index(name) + 1))
    weights = {n: (0.6 * random.standard_normal(s)).astype(numpy.float32) for n, s in sorted(shapes(c).items())}
    p = {n: torch.tensor(w, dtype=torch.float64, requires_grad=True) for n, w in weights.items()}
    expected = batch_tensors(("alignment",))
    loss, nll, model = 0, 0, Model(c, p)
    for b, (source, target) in enumerate(zip(SOURCES, TARGETS)):
        rows, alignment = model.decode(source, target)
        for i, token in enumerate(target):
            nll = nll - rows[i, token]
            loss = loss - (1 - SMOOTHING) * rows[i, token] - SMOOTHING * rows[i].mean()
            expected["log_prob"][i, b] = rows[i, token].item()
        expected["alignment"][:len(target), b, :len(source)] = alignment.detach().numpy()
    write(Path(folder) / name, c, weights, p, expected, loss, nll)


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    for variant, settings in VARIANTS.items():
        make(sys.argv[1] if len(sys.argv) > 1 else root / "tests/golden/transformer", variant, settings)
