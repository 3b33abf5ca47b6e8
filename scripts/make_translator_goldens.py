#!/usr/bin/env python3
"""Makes tests/golden/rnn_translator/: tiny recurrent translators, a batch, and what they must give.

The equations are written here once more, in PyTorch and float64, one sentence at a time and without padding or
batches. Each folder is a model (config.json, model.safetensors) with expected.safetensors beside it:

    source (S, B), target_in, target_out (T, B), source_lengths, target_lengths (B)      the batch, I32
    loss, nll                 sums over the tokens, F64; the loss with SMOOTHING
    log_prob (T, B)           of each target token; zeros past the lengths
    alignment (T, B, S)       for models that attend
    posterior (T, B, S)       the same times p(y | attention on j alone), scaled to sum 1
    grad.NAME                 d(SCALE · loss) / d(NAME)

Needs torch, numpy and safetensors. Usage: scripts/make_translator_goldens.py [FOLDER]
"""
import json
import sys
from pathlib import Path

import numpy
import torch
from safetensors.numpy import save_file

SMOOTHING, SCALE = 0.1, 0.25  # as in tests/golden/rnn_translator.c
BOS, PAD, EOS = 0, 1, 2
V, E, H, A = 11, 6, 5, 4

VARIANTS = {
    "rnn": dict(model_type="rnn"),
    "rnn_all": dict(model_type="rnn", num_layers=2, readout="maxout", input_feeding=True, tie_embeddings=False,
                    reset_after=False),
    "bahdanau": dict(model_type="bahdanau"),
    "bahdanau_paper": dict(model_type="bahdanau", readout="maxout", tie_embeddings=False, reset_after=False),
    "bahdanau_deep": dict(model_type="bahdanau", num_layers=2, input_feeding=True),
    "luong_dot": dict(model_type="bahdanau", score="dot"),
    "luong_general": dict(model_type="bahdanau", score="general", input_feeding=True),
    "luong_concat": dict(model_type="bahdanau", score="concat", num_layers=2, tie_embeddings=False),
    "conditional": dict(model_type="bahdanau", conditional_gru=True),
    "conditional_all": dict(model_type="bahdanau", conditional_gru=True, score="general", num_layers=2,
                            readout="maxout", input_feeding=True, tie_embeddings=False, reset_after=False),
}

SOURCES = [[4, 9, 5, 10, EOS], [7, 6, EOS], [EOS]]
TARGETS = [[8, 4, 10, EOS], [5, EOS], [6, 6, EOS]]


def shapes(c):
    """Names and shapes of all parameters."""
    rows = 2 * E if c["readout"] == "maxout" else E
    conditional = c["conditional_gru"]
    luong = c["model_type"] == "bahdanau" and c["score"] != "additive" and not conditional
    s = {}
    if c["tie_embeddings"]:
        s["embedding.weight"] = (V, E)
    else:
        s.update({"encoder.embedding.weight": (V, E), "decoder.embedding.weight": (V, E), "output.weight": (V, E)})
    s["output.bias"] = (V,)
    for l in range(c["num_layers"]):
        for way in ("forward", "backward"):
            at = f"encoder.{l}.{way}."
            s[at + "weight_input"] = (3 * H, 2 * H if l else E)
            s[at + "weight_recurrent"] = (3 * H, H)
            s[at + "bias_input"] = s[at + "bias_recurrent"] = (3 * H,)
        at = f"decoder.{l}."
        s[at + "first_state.weight"], s[at + "first_state.bias"] = (H, H), (H,)
        s[at + "weight_recurrent"], s[at + "bias_recurrent"] = (3 * H, H), (3 * H,)
        s[at + "input.weight"], s[at + "input.bias"] = (3 * H, H if l else E), (3 * H,)
    if not luong:
        s["decoder.0.context.weight"] = (3 * H, 2 * H)
    if conditional:
        s["decoder.0.context.bias"] = s["decoder.0.conditional.bias_recurrent"] = (3 * H,)
        s["decoder.0.conditional.weight_recurrent"] = (3 * H, H)
    if c["input_feeding"]:
        s["decoder.0.feed.weight"] = (3 * H, E)
    if c["model_type"] == "bahdanau":
        if c["score"] in ("additive", "concat"):
            s["attention.query.weight"], s["attention.query.bias"] = (A, H), (A,)
            s["attention.key.weight"], s["attention.v"] = (A, 2 * H), (A,)
        elif c["score"] == "general":
            s["attention.key.weight"] = (H, 2 * H)
    s["readout.input.weight"], s["readout.input.bias"] = (rows, E), (rows,)
    s["readout.context.weight"], s["readout.state.weight"] = (rows, 2 * H), (rows, H)
    return s


def gru(c, gx, h, u, b):
    """One step; gx = W x + b, gates in the order r, z, n."""
    xr, xz, xn = gx.chunk(3)
    ur, uz, un = u.chunk(3)
    br, bz, bn = b.chunk(3)
    r = torch.sigmoid(xr + ur @ h + br)
    z = torch.sigmoid(xz + uz @ h + bz)
    n = torch.tanh(xn + r * (un @ h + bn)) if c["reset_after"] else torch.tanh(xn + un @ (r * h) + bn)
    return (1 - z) * n + z * h


def encode(c, p, source):
    """Annotations (S, 2H), the forward direction's last state, the backward direction's first."""
    table = p["embedding.weight" if c["tie_embeddings"] else "encoder.embedding.weight"]
    xs = [table[i] for i in source]
    for l in range(c["num_layers"]):
        ys = {}
        for way, order in (("forward", range(len(xs))), ("backward", reversed(range(len(xs))))):
            at, h, ys[way] = f"encoder.{l}.{way}.", torch.zeros(H, dtype=torch.float64), {}
            for j in order:
                gx = p[at + "weight_input"] @ xs[j] + p[at + "bias_input"]
                h = ys[way][j] = gru(c, gx, h, p[at + "weight_recurrent"], p[at + "bias_recurrent"])
        xs = [torch.cat([ys["forward"][j], ys["backward"][j]]) for j in range(len(source))]
    return torch.stack(xs), xs[-1][:H], xs[0][H:]


def attend(c, p, s, h):
    """The alignment (S)."""
    if c["score"] == "dot":
        energy = (h[:, :H] + h[:, H:]) @ s
    elif c["score"] == "general":
        energy = torch.stack([s @ (p["attention.key.weight"] @ x) for x in h])
    else:
        query = p["attention.query.weight"] @ s + p["attention.query.bias"]
        energy = torch.stack([p["attention.v"] @ torch.tanh(query + p["attention.key.weight"] @ x) for x in h])
    return torch.softmax(energy, 0)


def step(c, p, h, fixed, state, feed, last, alone=None):
    """Log-probabilities (V), alignment (S), state and feed after a step; attention on one position where `alone`."""
    attends = c["model_type"] == "bahdanau"
    conditional = c["conditional_gru"]
    before = attends and c["score"] == "additive" and not conditional
    after = attends and not before and not conditional
    table = p["embedding.weight" if c["tie_embeddings"] else "decoder.embedding.weight"]
    output = p["embedding.weight" if c["tie_embeddings"] else "output.weight"]
    state, y, context, a = list(state), table[last], fixed, None

    def look(s):
        a = attend(c, p, s, h)
        return a, a @ h if alone is None else h[alone]

    gx = p["decoder.0.input.weight"] @ y + p["decoder.0.input.bias"]
    if before:
        a, context = look(state[-1])
    if before or not attends:
        gx = gx + p["decoder.0.context.weight"] @ context
    if c["input_feeding"]:
        gx = gx + p["decoder.0.feed.weight"] @ feed
    for l in range(c["num_layers"]):
        if l:
            gx = p[f"decoder.{l}.input.weight"] @ state[l - 1] + p[f"decoder.{l}.input.bias"]
        state[l] = gru(c, gx, state[l], p[f"decoder.{l}.weight_recurrent"], p[f"decoder.{l}.bias_recurrent"])
        if l == 0 and conditional:
            a, context = look(state[0])
            gx = p["decoder.0.context.weight"] @ context + p["decoder.0.context.bias"]
            at = "decoder.0.conditional."
            state[0] = gru(c, gx, state[0], p[at + "weight_recurrent"], p[at + "bias_recurrent"])
    if after:
        a, context = look(state[-1])
    t = (p["readout.input.weight"] @ y + p["readout.input.bias"] + p["readout.context.weight"] @ context +
         p["readout.state.weight"] @ state[-1])
    t = t.view(E, 2).max(1).values if c["readout"] == "maxout" else torch.tanh(t)
    return torch.log_softmax(output @ t + p["output.bias"], 0), a, state, t


def decode(c, p, source, target):
    """Log-probabilities (T, V), alignments and posteriors (T, S) of one pair."""
    attends = c["model_type"] == "bahdanau"
    h, forward_last, backward_first = encode(c, p, source)
    fixed = torch.cat([forward_last, backward_first])
    state = [torch.tanh(p[f"decoder.{l}.first_state.weight"] @ backward_first + p[f"decoder.{l}.first_state.bias"])
             for l in range(c["num_layers"])]
    feed = torch.zeros(E, dtype=torch.float64)
    rows, alignments, posteriors = [], [], []
    for last, token in zip([BOS] + target[:-1], target):
        row, a, new_state, new_feed = step(c, p, h, fixed, state, feed, last)
        rows.append(row)
        if attends:
            alignments.append(a)
            with torch.no_grad():
                each = [step(c, p, h, fixed, state, feed, last, j)[0][token].exp() for j in range(len(source))]
                posterior = a * torch.stack(each)
                posteriors.append(posterior / posterior.sum())
        state, feed = new_state, new_feed
    if not attends:
        return torch.stack(rows), None, None
    return torch.stack(rows), torch.stack(alignments), torch.stack(posteriors)


def padded(sequences, fill):
    out = numpy.full((max(map(len, sequences)), len(sequences)), fill, numpy.int32)
    for b, sequence in enumerate(sequences):
        out[:len(sequence), b] = sequence
    return out


def batch_tensors(seen):
    """The batch, and zeros for what is expected of it: log_prob (T, B), and (T, B, S) for each name in seen."""
    steps, batch, width = max(map(len, TARGETS)), len(SOURCES), max(map(len, SOURCES))
    return {
        "source": padded(SOURCES, PAD), "source_lengths": numpy.array([len(s) for s in SOURCES], numpy.int32),
        "target_in": padded([[BOS] + t[:-1] for t in TARGETS], PAD), "target_out": padded(TARGETS, -1),
        "target_lengths": numpy.array([len(t) for t in TARGETS], numpy.int32),
        "log_prob": numpy.zeros((steps, batch), numpy.float32),
        **{key: numpy.zeros((steps, batch, width), numpy.float32) for key in seen},
    }


def write(here, config, weights, parameters, expected, loss, nll):
    """The model's folder, and expected with the sums of the losses and the gradients of all parameters beside it."""
    (SCALE * loss).backward()
    expected["loss"], expected["nll"] = numpy.array([loss.item()]), numpy.array([nll.item()])
    for n, w in parameters.items():
        expected["grad." + n] = w.grad.numpy().astype(numpy.float32)
    here.mkdir(parents=True, exist_ok=True)
    (here / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, here / "model.safetensors", {"format": "pt"})
    save_file(expected, here / "expected.safetensors")
    for file in here.iterdir():
        file.chmod(0o644)


def make(folder, name, given):
    c = dict(vocab_size=V, embedding_size=E, hidden_size=H, attention_size=A, num_layers=1, score="additive",
             readout="tanh", conditional_gru=False, input_feeding=False, tie_embeddings=True, reset_after=True, embedding_dropout=0,
             annotation_dropout=0, output_dropout=0)
    c.update(given)
    random = numpy.random.Generator(numpy.random.PCG64(list(VARIANTS).index(name) + 1))
    weights = {n: (0.6 * random.standard_normal(s)).astype(numpy.float32) for n, s in sorted(shapes(c).items())}
    p = {n: torch.tensor(w, dtype=torch.float64, requires_grad=True) for n, w in weights.items()}

    expected = batch_tensors(("alignment", "posterior") if c["model_type"] == "bahdanau" else ())
    loss, nll = 0, 0
    for b, (source, target) in enumerate(zip(SOURCES, TARGETS)):
        rows, alignment, posterior = decode(c, p, source, target)
        for i, token in enumerate(target):
            nll = nll - rows[i, token]
            loss = loss - (1 - SMOOTHING) * rows[i, token] - SMOOTHING * rows[i].mean()
            expected["log_prob"][i, b] = rows[i, token].item()
        if alignment is not None:
            expected["alignment"][:len(target), b, :len(source)] = alignment.detach().numpy()
            expected["posterior"][:len(target), b, :len(source)] = posterior.numpy()
    meaningless = () if c["model_type"] == "bahdanau" else ("attention_size", "score", "conditional_gru")
    config = {key: value for key, value in c.items() if key not in meaningless}
    write(Path(folder) / name, config, weights, p, expected, loss, nll)


if __name__ == "__main__":
    root = Path(__file__).resolve().parent.parent
    for variant, settings in VARIANTS.items():
        make(sys.argv[1] if len(sys.argv) > 1 else root / "tests/golden/rnn_translator", variant, settings)
