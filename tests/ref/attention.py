"""Attention in naive double NumPy, forward and backward, from the formulas of include/attn/attention.h. It does not know
dropout."""
import numpy as np


def _per_head(values, heads):
    return np.zeros(heads) if values is None else np.asarray(values, np.float64)


def _position(causal, query_offset, b, queries, keys):
    if causal == "top-left":
        return 0
    if causal == "bottom-right":
        return keys - queries
    if query_offset is None:
        return 0
    return int(query_offset if np.ndim(query_offset) == 0 else query_offset[b])


def _visible(b, t, s, queries, keys, o):
    """(H or 1, T, S): what query i of sequence b may see."""
    i, j = np.arange(t)[:, None], np.arange(s)[None, :]
    p = i + _position(o["causal"], o["query_offset"], b, queries, keys)
    seen = (i < queries) & (j < keys)
    if o["causal"] is not None:
        before = j <= p
        if o["prefix"] is not None:
            before |= j < o["prefix"][b]
        seen = seen & before
    left, right = o["window"] or (-1, -1)
    if left >= 0:
        seen = seen & (j >= p - left)
    if right >= 0:
        seen = seen & (j <= p + right)
    if o["segments"] is not None:
        seen = seen & (o["segments"][0][b][:, None] == o["segments"][1][b][None, :])
    seen = seen[None]
    if o["mask"] is not None:
        mask = _broadcast(o["mask"], o["batch"], o["heads"], t, s)[b]
        seen = seen & (mask if o["mask_keeps"] else ~mask)
    return seen, p


def _broadcast(x, *shape):
    return np.broadcast_to(x, shape)


class Attention:
    """One call: .out and .lse, and .backward(dout, dlse)."""

    def __init__(self, q, k, v, **options):
        defaults = dict.fromkeys(("mask", "bias", "causal", "window", "query_offset", "scale", "softcap", "alibi", "sinks",
                                  "q_lengths", "kv_lengths", "segments", "prefix"))
        o = self.o = {**defaults, "mask_keeps": True, **options}
        self.q, self.k, self.v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
        batch, heads, t, d = self.q.shape
        s, group = self.k.shape[2], heads // max(self.k.shape[1], 1)
        o["batch"], o["heads"] = batch, heads
        self.scale = 1 / np.sqrt(d) if o["scale"] is None else o["scale"]
        self.group = group
        self.out, self.lse = np.zeros((batch, heads, t, self.v.shape[3])), np.full((batch, heads, t), -np.inf)
        self.p, self.slope = np.zeros((batch, heads, t, s)), np.ones((batch, heads, t, s))
        slopes = _per_head(o["alibi"], heads)
        bias = None if o["bias"] is None else _broadcast(np.asarray(o["bias"]).astype(np.float64), batch, heads, t, s)
        for b in range(batch):
            queries = t if o["q_lengths"] is None else int(o["q_lengths"][b])
            keys = s if o["kv_lengths"] is None else int(o["kv_lengths"][b])
            seen, position = _visible(b, t, s, queries, keys, o)
            seen = np.broadcast_to(seen, (heads, t, s))
            kb, vb = (np.repeat(x[b], group, axis=0) for x in (self.k, self.v))
            with np.errstate(invalid="ignore"):
                logits = self.scale * np.einsum("htd,hsd->hts", self.q[b], kb)
            if o["softcap"]:
                ratio = np.tanh(logits / o["softcap"])
                logits, self.slope[b] = o["softcap"] * ratio, 1 - ratio**2
            if bias is not None:
                seen = seen & ~np.isneginf(bias[b])
                logits = logits + np.where(np.isneginf(bias[b]), 0, bias[b])
            logits = logits - slopes[:, None, None] * np.abs(position - np.arange(s)[None, :])[None]
            logits = np.where(seen, logits, -np.inf)
            most = logits.max(axis=-1, initial=-np.inf)
            real = np.arange(t)[None, :] < queries
            if o["sinks"] is not None:
                sinks = np.where(real, np.asarray(o["sinks"], np.float64)[:, None], -np.inf)
                most = np.maximum(most, sinks)
            base = np.where(np.isneginf(most), 0, most)
            weights = np.exp(logits - base[..., None])
            total = weights.sum(axis=-1)
            if o["sinks"] is not None:
                total = total + np.exp(sinks - base)
            with np.errstate(divide="ignore", invalid="ignore"):
                self.lse[b] = base + np.log(total)
                self.p[b] = np.where(weights > 0, weights / total[..., None], 0)
            hidden = np.where(seen.any(axis=1, keepdims=True).swapaxes(1, 2), vb, 0)
            self.out[b] = np.einsum("hts,hsd->htd", self.p[b], hidden)

    def backward(self, dout, dlse=None):
        """dict of dq, dk, dv, dbias, dsinks; the last two None without bias and sinks."""
        o, batch, group = self.o, self.o["batch"], self.group
        dout = np.asarray(dout).astype(np.float64)
        k, v = np.repeat(self.k, group, axis=1), np.repeat(self.v, group, axis=1)
        delta = (dout * self.out).sum(axis=-1)
        if dlse is not None:
            delta = delta - np.where(np.isneginf(self.lse), 0, dlse)
        ds = self.p * (np.einsum("bhtd,bhsd->bhts", dout, v) - delta[..., None])
        raw = self.scale * ds * self.slope
        grads = {"dq": np.einsum("bhts,bhsd->bhtd", raw, k),
                 "dk": self._groups(np.einsum("bhts,bhtd->bhsd", raw, self.q)),
                 "dv": self._groups(np.einsum("bhts,bhtd->bhsd", self.p, dout)), "dbias": None, "dsinks": None}
        if o["bias"] is not None:
            shape = np.shape(o["bias"])
            full = (1,) * (4 - len(shape)) + shape
            axes = tuple(i for i in range(4) if full[i] == 1)
            grads["dbias"] = ds.sum(axis=axes, keepdims=True).reshape(shape)
        if o["sinks"] is not None:
            sinks = np.asarray(o["sinks"], np.float64)[None, :, None]
            share = np.exp(np.where(np.isneginf(self.lse), -np.inf, sinks - np.where(np.isneginf(self.lse), 0, self.lse)))
            grads["dsinks"] = (-share * delta).sum(axis=(0, 2))
        assert batch == dout.shape[0]
        return grads

    def _groups(self, x):
        batch, heads, s, d = x.shape
        return x.reshape(batch, heads // self.group, self.group, s, d).sum(axis=2)
