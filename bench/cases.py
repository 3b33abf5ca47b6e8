"""Attention cases of bench/shapes/*.json: names, inputs, floating-point operations, and the answer in float64.

A case is one line of a shapes file. "shape" is BxHxTxD; what else it may have, with its default:
    pass "forward" (or "both": forward and backward), dtype "f32", causal false, window 0 (keys left of the query),
    S = T, Dv = D, Hk = H, dropout 0, padding false (sequence b has S - b·S/(2B) keys),
    quick false, ratio and share: what to reach, against the best peer and of the FMA peak.
"""
import dataclasses
import glob
import json
import os
import zlib

import numpy as np

SHAPES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shapes")
ROWS = 512  # queries of a float64 step


class Cannot(Exception):
    """What a peer lacks for a case."""


@dataclasses.dataclass
class Case:
    B: int
    H: int
    T: int
    D: int
    S: int
    Dv: int
    Hk: int
    dtype: str = "f32"
    backward: bool = False
    causal: bool = False
    window: int = 0
    dropout: float = 0.0
    padding: bool = False
    quick: bool = False
    ratio: float = 1.0
    share: float = 0.0
    file: str = ""

    @property
    def name(self):
        parts = ["fwd+bwd" if self.backward else "fwd", self.dtype, f"{self.B}x{self.H}x{self.T}x{self.D}"]
        parts += [f"{key}={getattr(self, key)}" for key, usual in (("S", self.T), ("Dv", self.D), ("Hk", self.H))
                  if getattr(self, key) != usual]
        parts += ["causal"] * self.causal + [f"window={self.window}"] * (self.window > 0)
        parts += [f"dropout={self.dropout}"] * (self.dropout > 0) + ["padding"] * self.padding
        return " ".join(parts)

    @property
    def lengths(self):
        """Keys of each sequence."""
        return [self.S - b * self.S // (2 * self.B) if self.padding else self.S for b in range(self.B)]

    def visible(self, rows, keys):
        """Which of the first `keys` keys the queries of a range see: (rows, keys) of bool."""
        i, j = np.arange(rows.start, rows.stop)[:, None], np.arange(keys)[None]
        seen = np.ones((len(rows), keys), bool)
        if self.causal:
            seen &= j <= i
        if self.window:
            seen &= j >= i - self.window
        return seen

    @property
    def flop(self):
        """Two for each multiply-add of a visible pair, 5/2 as many again backward; plain causal counts half."""
        if self.causal and not self.window and not self.padding:
            pairs = self.B * self.T * self.S / 2
        elif self.causal or self.window:
            pairs = sum(int(self.visible(range(self.T), n).sum()) for n in self.lengths)
        else:
            pairs = self.T * sum(self.lengths)
        return 2 * pairs * self.H * (self.D + self.Dv) * (3.5 if self.backward else 1)

    def line(self, folder):
        """The case as the servers read it: key=value, separated by blanks."""
        values = {key: getattr(self, key) for key in ("B", "H", "Hk", "T", "S", "D", "Dv", "dtype", "window", "dropout")}
        values |= {key: int(getattr(self, key)) for key in ("backward", "causal", "padding")}
        return " ".join(f"{key}={value}" for key, value in values.items()) + f" folder={folder}"

    def shapes(self):
        return {"q": (self.B, self.H, self.T, self.D), "k": (self.B, self.Hk, self.S, self.D),
                "v": (self.B, self.Hk, self.S, self.Dv), "dout": (self.B, self.H, self.T, self.Dv)}

    def inputs(self):
        """q, k, v and dout as f32, N(0, 1), with values that the case's dtype has."""
        random = np.random.default_rng(zlib.crc32(self.name.encode()))
        return {key: rounded(random.standard_normal(shape, np.float32), self.dtype) for key, shape in self.shapes().items()}


def rounded(x, dtype):
    if dtype == "f16":
        return x.astype(np.float16).astype(np.float32)
    if dtype == "bf16":
        bits = x.view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)).view(np.float32)
    return x


def of_line(text):
    """The case a server was sent, and its folder."""
    values = dict(word.split("=", 1) for word in text.split())
    folder = values.pop("folder")
    kinds = {field.name: field.type for field in dataclasses.fields(Case)}
    read = {int: int, float: float, str: str, bool: lambda word: word == "1"}
    return Case(**{key: read[kinds[key]](value) for key, value in values.items()}), folder


def of_json(entry, file):
    entry = dict(entry)
    b, h, t, d = (int(n) for n in entry.pop("shape").split("x"))
    backward = {"forward": False, "both": True}[entry.pop("pass", "forward")]
    return Case(B=b, H=h, T=t, D=d, S=entry.pop("S", t), Dv=entry.pop("Dv", d), Hk=entry.pop("Hk", h), backward=backward,
                file=file, **entry)


def all_cases():
    for path in sorted(glob.glob(os.path.join(SHAPES, "*.json"))):
        with open(path, encoding="utf-8") as file:
            for entry in json.load(file):
                yield of_json(entry, os.path.splitext(os.path.basename(path))[0])


# ---- the answer -------------------------------------------------------------------------------------


def checked_heads(case):
    """(sequence, key head) pairs whose results are computed: the corners, for time."""
    return sorted({(b, h) for b in (0, case.B - 1) for h in (0, case.Hk - 1)})


def reference(case, inputs):
    """{(b, key head): {"out", "dq": (group, T, ·), "dk", "dv": (S, ·)}} in float64. With dropout, what is expected of
    out and dv over its random numbers, and their variances "out_var", "dv_var"."""
    return {(b, h): one_head(case, inputs, b, h) for b, h in checked_heads(case)}


def one_head(case, inputs, b, h):
    group, keys = case.H // case.Hk, case.lengths[b]
    k, v = (inputs[key][b, h, :keys].astype(np.float64) for key in ("k", "v"))
    odds = case.dropout / (1 - case.dropout)
    found = {"out": np.zeros((group, case.T, case.Dv)), "dq": np.zeros((group, case.T, case.D)),
             "dk": np.zeros((case.S, case.D)), "dv": np.zeros((case.S, case.Dv)),
             "out_var": np.zeros((group, case.T, case.Dv)), "dv_var": np.zeros((case.S, case.Dv))}
    for g in range(group):
        for first in range(0, case.T, ROWS):
            rows = range(first, min(first + ROWS, case.T))
            at = slice(rows.start, rows.stop)
            q, dout = (inputs[key][b, h * group + g, at].astype(np.float64) for key in ("q", "dout"))
            scores = np.where(case.visible(rows, keys), q @ k.T / np.sqrt(case.D), -np.inf)
            p = np.exp(scores - scores.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            out = found["out"][g, at] = p @ v
            if odds:
                found["out_var"][g, at] = odds * (p * p) @ (v * v)
            if case.backward:
                ds = p * (dout @ v.T - (dout * out).sum(1, keepdims=True)) / np.sqrt(case.D)
                found["dq"][g, at] = ds @ k
                found["dk"][:keys] += ds.T @ q
                found["dv"][:keys] += p.T @ dout
                if odds:
                    found["dv_var"][:keys] += odds * (p * p).T @ (dout * dout)
    return found


def errors(case, answer, read):
    """{"out": error, "dq": …}: rms of the difference over rms of the answer; read(key) is the contender's array. With
    dropout, for out and dv: how far the square of a row's difference is from the expected one, in the mean of the rows."""
    found, group = {}, case.H // case.Hk
    for key in ("out", "dq", "dk", "dv") if case.backward else ("out",):
        array, pairs = read(key), []
        for (b, h), right in answer.items():
            part = array[b, h] if key in ("dk", "dv") else array[b, h * group:(h + 1) * group]
            square = right[key + "_var"] if case.dropout and key in ("out", "dv") else np.square(right[key])
            pairs.append((np.square(part - right[key]).sum(-1).ravel(), square.sum(-1).ravel()))
        difference, size = (np.concatenate(x) for x in zip(*pairs))
        if not case.dropout:
            found[key] = float(np.sqrt(difference.sum() / size.sum()))
        elif key in ("out", "dv"):
            found[key] = float(abs((difference[size > 0] / size[size > 0]).mean() - 1))
    return found
