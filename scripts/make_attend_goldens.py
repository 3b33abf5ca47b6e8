#!/usr/bin/env python3
"""Worked examples of attention in NumPy, float64: what `attn attend --check` must agree with.

usage: make_attend_goldens.py FOLDER        (tests/golden/attend)
"""
import json
import os
import sys

import numpy as np

MATRICES = {
    "W": [[0.5, -0.3, 0.8, 0.1], [-0.2, 0.7, 0.4, -0.6], [0.9, 0.2, -0.5, 0.3]],
    "U": [[-0.4, 0.6, 0.2, 0.7], [0.8, -0.1, 0.5, 0.3], [0.1, 0.9, -0.7, 0.4]],
    "v": [0.6, -0.8, 0.3, 0.9],
}
EXAMPLES = {
    "six": {
        "x": [[0.35, 0.15, 0.89], [0.97, 0.80, 0.30], [0.65, 0.34, 0.24], [0.20, 0.87, 0.34], [0.86, 0.13, 0.05],
              [0.10, 0.20, 0.30]],
        "W_q": [[0.30, 0.52], [0.25, 0.69], [0.07, 0.87]],
        "W_k": [[0.14, 0.10], [0.18, 0.72], [0.12, 0.58]],
        "W_v": [[0.08, 0.20], [0.32, 0.40], [0.12, 0.91]],
    },
    "dog": {
        "x": [[0.1, 0.2, 0.3], [0.4, 0.1, 0.2], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1], [0.1, 0.4, 0.2], [0.3, 0.1, 0.4]],
        "W_q": [[0.5, -0.2], [0.1, 0.8], [-0.4, 0.3]],
        "W_k": [[0.6, 0.1], [-0.3, 0.7], [0.2, -0.5]],
        "W_v": [[0.9, 0.2], [0.1, 0.4], [-0.6, 0.8]],
    },
}


def softmax(s):
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attend(q, k, v, scale, causal):
    scores = q @ k.T * scale
    if causal:
        scores = np.where(np.tril(np.ones(scores.shape, bool)), scores, -np.inf)
    weights = softmax(scores)
    return scores, weights, weights @ v


def numbers(x):
    """Nested lists; −inf is null."""
    return [numbers(row) for row in x] if np.ndim(x) else (float(x) if np.isfinite(x) else None)


def save(name, **results):
    with open(os.path.join(sys.argv[1], name + ".json"), "w", encoding="utf-8") as file:
        json.dump({key: numbers(value) for key, value in results.items()}, file)
        file.write("\n")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, example in EXAMPLES.items():
        x, w_q, w_k, w_v = (np.array(example[key]) for key in ("x", "W_q", "W_k", "W_v"))
        q, k, v = x @ w_q, x @ w_k, x @ w_v
        for causal in (False, True):
            end = "-causal" if causal else ""
            scores, weights, context = attend(x, x, x, 1, causal)
            save(f"{name}-simplified{end}", scores=scores, weights=weights, context=context)
            scores, weights, context = attend(q, k, v, q.shape[1] ** -0.5, causal)
            save(f"{name}-trainable{end}", queries=q, keys=k, values=v, scores=scores, weights=weights, context=context)
            heads = [attend(q[:, h:h + 1], k[:, h:h + 1], v[:, h:h + 1], 1, causal) for h in range(2)]
            scores, weights, context = (np.array(part) for part in zip(*heads))
            save(f"{name}-heads{end}", scores=scores, weights=weights, context=np.concatenate(context, axis=1))
        w, u, energy = (np.array(MATRICES[key]) for key in ("W", "U", "v"))
        energies = np.tanh((x @ w)[:, None] + (x @ u)[None]) @ energy
        weights = softmax(energies)
        save(f"{name}-additive", queries=x @ w, keys=x @ u, energies=energies, weights=weights, context=weights @ x)


main()
