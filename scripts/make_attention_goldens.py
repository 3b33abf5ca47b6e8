#!/usr/bin/env python3
"""Makes tests/golden/attention.json: the worked example of docs/math/attention.md, by the NumPy code of that document.

usage: make_attention_goldens.py [--check]       --check: compares instead of writing

Six tokens × three. Each case has the inputs, scores (times scale, −1e30 for −inf), weights, context vectors, and the
gradients of the loss Σ dz ∘ context. Numbers are float64; inputs are float32 numbers.
"""
import json
import os
import re
import sys

try:
    import numpy as np
except ImportError:
    print("skipped: there is no numpy")
    sys.exit(77)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TARGET = os.path.join(ROOT, "tests", "golden", "attention.json")
X = [[.35, .15, .89], [.97, .8, .3], [.65, .34, .24], [.2, .87, .34], [.86, .13, .05], [.1, .2, .3]]


def document():
    """The names that the document's Python block defines; the block checks itself."""
    with open(os.path.join(ROOT, "docs", "math", "attention.md"), encoding="utf-8") as file:
        block = re.search(r"^```python\n(.*?)^```$", file.read(), re.S | re.M).group(1)
    names = {}
    exec(compile(block, "docs/math/attention.md", "exec"), names)
    return names


def f32(a):
    return np.asarray(a, np.float32).astype(np.float64)


def worked(math, x, weights, heads, causal):
    """Multi-head attention of x and the gradients of Σ dz ∘ result; weights None: simplified."""
    n = len(x)
    visible = np.tril(np.ones((n, n), bool)) if causal else True
    simplified = not weights
    w = weights or {}
    q, k, v = (x if simplified else x @ w[name].T for name in ("W_query", "W_key", "W_value"))
    d = q.shape[1] // heads
    scale = 1.0 if simplified else d ** -0.5
    columns = [slice(h * d, (h + 1) * d) for h in range(heads)]
    done = [math["forward"](q[:, c], k[:, c], v[:, c], scale, visible=visible) for c in columns]
    z = np.concatenate([o for o, _, _ in done], axis=1)
    out = z @ w["out_proj"].T + w["out_bias"] if "out_proj" in w else z
    dz = f32(np.random.default_rng(5).normal(size=out.shape))
    dheads = dz @ w["out_proj"] if "out_proj" in w else dz
    parts = [math["backward"](dheads[:, c], np.zeros(n), q[:, c], k[:, c], v[:, c], o, lse, scale, visible=visible)[:3]
             for c, (o, lse, _) in zip(columns, done)]
    dq, dk, dv = (np.concatenate([part[i] for part in parts], axis=1) for i in range(3))
    grads = {}
    if simplified:
        grads["x"] = dq + dk + dv
    else:
        grads["x"] = dq @ w["W_query"] + dk @ w["W_key"] + dv @ w["W_value"]
        grads.update(W_query=dq.T @ x, W_key=dk.T @ x, W_value=dv.T @ x)
    if "out_proj" in w:
        grads.update(out_proj=dz.T @ z, out_bias=dz.sum(0))
    scores = np.stack([math["logits"](q[:, c], k[:, c], scale, visible=visible) for c in columns])
    return {"heads": heads, "causal": causal, "weights": {name: a.tolist() for name, a in w.items()},
            "scores": np.maximum(scores, -1e30).tolist(), "lse": [lse.tolist() for _, lse, _ in done],
            "attention": [p.tolist() for _, _, p in done], "context": out.tolist(), "dcontext": dz.tolist(),
            "gradients": {name: a.tolist() for name, a in grads.items()}}


def main():
    math, x, rng = document(), f32(X), np.random.default_rng(123)
    square = {name: f32(rng.random((2, 3))) for name in ("W_query", "W_key", "W_value")}
    multi = {name: f32(rng.normal(size=(4, 3))) for name in ("W_query", "W_key", "W_value")}
    multi.update(out_proj=f32(rng.normal(size=(4, 4))), out_bias=f32(rng.normal(size=4)))
    golden = {"x": x.tolist(), "simplified": worked(math, x, None, 1, False), "trainable": worked(math, x, square, 1, False),
              "causal": worked(math, x, square, 1, True), "multi_head": worked(math, x, multi, 2, True)}
    if "--check" not in sys.argv:
        with open(TARGET, "w", encoding="utf-8") as file:
            json.dump(golden, file, indent=None, separators=(",", ":"))
            file.write("\n")
        return 0

    def same(a, b):
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        return np.allclose(np.array(a, float), np.array(b, float), rtol=1e-12, atol=1e-14)

    with open(TARGET, encoding="utf-8") as file:
        fits = same(golden, json.load(file))
    print(f"{os.path.relpath(TARGET, ROOT)}: {'as made by the document' if fits else 'DIFFERS from what the document makes'}")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
