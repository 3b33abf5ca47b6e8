#!/usr/bin/env python3
"""Attention of one query over many keys, ours and the peers', in turn in one run on this machine.

usage: decode.py BUILD_DIR [--threads 2] [--repeats 15] [--cases PATTERN,…] [--peers NAME,…] [--most-mb 600] [-o FILE.json]

Each case is heads/key heads, keys, D, batch and dtype, as "f32 32/8 S=4096 D=128 B=1". Ours reads K and V as rows of the caller,
from a cache of its own layout, from one in pages of 16 keys, and from one of bytes. The roof is the greater of two times: to sum
the same bytes with the same threads, and that of the multiply-adds at the FMA peak (f32, or bf16 products where the CPU has such).
Prints milliseconds, the share of the roof, and ratios of medians over the rounds; ✗ what should be reached: 85 % of the roof
where the work takes 100 µs or more; 0.97 of the best peer, 2 times it with grouped heads; rows within 10 % of the cache; bytes
1.6 times bf16 for groups up to 4.
"""
import argparse
import fnmatch
import json
import os
import shutil
import statistics
import sys
import tempfile

import needs

needs.packages("numpy")
import numpy as np

import attention
import cases

FORMS = ("cache", "rows", "paged", "i8")
HEADS = ((32, 32), (32, 8), (14, 2), (28, 4), (24, 8))
BURST = 0.02
LONG = 100e-6
TOLERANCE = {"f32": 1e-5, "bf16": 2e-2, "i8": 3e-2}
PEERS = ("PyTorch", "ONNX Runtime", "ggml")


def all_cases(most_mb):
    for dtype in ("f32", "bf16"):
        for heads, key_heads in HEADS:
            for keys in (1024, 4096, 32768):
                for d in (64, 128):
                    for batch in (1, 8):
                        size = 2 * batch * key_heads * keys * d * (4 if dtype == "f32" else 2)
                        if size <= most_mb * 1e6:
                            yield cases.Case(B=batch, H=heads, T=1, D=d, S=keys, Dv=d, Hk=key_heads, dtype=dtype, file="decode")


def name_of(case):
    return f"{case.dtype} {case.H}/{case.Hk} S={case.S} D={case.D} B={case.B}"


def start(args):
    env = dict(os.environ) | {name: str(args.threads) for name in ("ATTN_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    program = needs.program(args.build, "bench/decode")
    ours = [attention.Contender(form, form, [program, str(args.threads), form], env) for form in FORMS]
    if any(not contender.version for contender in ours):
        sys.exit("bench/decode does not start")
    found = []
    for name in args.peers.split(",") if args.peers else PEERS:
        if name == "none":
            continue
        key = attention.PEERS[name]
        command = [sys.executable, os.path.join(attention.HERE, "peers", "serve.py"), key, str(args.threads)]
        peer = attention.Contender(name, key, command, env)
        if peer.version:
            found.append(peer)
        else:
            print(f"without {name}: {peer.last_words()}")
            peer.end()
    return ours, found


def inputs_of(case):
    """As case.inputs(), made of one block of numbers at different places, since gigabytes of them take long."""
    random = np.random.default_rng(7)
    block = cases.rounded(random.standard_normal(1 << 22, np.float32), case.dtype)
    found = {}
    for i, (key, shape) in enumerate(case.shapes().items()):
        n = int(np.prod(shape))
        found[key] = np.resize(np.roll(block, 7919 * i + n % 1009), n).reshape(shape)
    return found


def prepare(case, contender, answer, folder):
    """What is wrong with a contender's answer, or None."""
    try:
        reply = contender.ask("case " + case.line(folder))
        if not reply.startswith("ok"):
            return reply.removeprefix("no ")
        reply = contender.ask("save")
        if reply != "ok":
            return reply
        shape = case.shapes()["dout"]
        path = os.path.join(folder, f"{contender.key}.out")
        error = cases.errors(case, answer, lambda _: np.fromfile(path, np.float32).reshape(shape))["out"]
        limit = TOLERANCE["i8" if contender.key == "i8" else "bf16" if contender.key == "ggml" else case.dtype]
        return None if error <= limit else f"out differs by {error:.2g}"
    except attention.Ended as reason:
        contender.start()
        return str(reason)


def measure(case, ours, peers, folder, args, peaks):
    inputs = inputs_of(case)
    for key, x in inputs.items():
        x.tofile(os.path.join(folder, key))
    answer = cases.reference(case, inputs)
    del inputs
    row = {"name": name_of(case), "left_out": {}, "median": {}, "min": {}}
    present = []
    for contender in ours + peers:
        wrong = prepare(case, contender, answer, folder)
        if wrong:
            row["left_out"][contender.name] = wrong
        else:
            present.append(contender)
    times = {contender.name: [] for contender in present} | {"roof": []}
    calls = {contender.name: max(1, round(BURST / contender.seconds(1))) for contender in present}
    reader = ours[0]
    once = float(reader.ask("roof 1"))
    for _ in range(args.repeats):
        for contender in present:
            contender.seconds(1)
            times[contender.name].append(contender.seconds(calls[contender.name]))
        n = max(1, round(BURST / once))
        times["roof"].append(float(reader.ask(f"roof {n}")) / n)
    for name, t in times.items():
        row["median"][name], row["min"][name] = statistics.median(t), min(t)
    flop = 2 * case.B * case.H * case.S * (case.D + case.Dv)
    peak = peaks["bf16"] if case.dtype == "bf16" and peaks.get("bf16") else peaks["f32"]
    row["roof"] = max(row["min"]["roof"], flop / peak)
    row["share"] = {name: row["roof"] / row["min"][name] for name in ("cache", "rows", "paged") if name in row["min"]}
    names = [peer.name for peer in peers if peer.name in times]
    for form in ("cache", "rows"):
        if form in times and names:
            ratios = {name: statistics.median(p / a for a, p in zip(times[form], times[name])) for name in names}
            row.setdefault("ratios", {})[form] = ratios
    if "i8" in times and "cache" in times:
        row["i8"] = statistics.median(a / b for a, b in zip(times["cache"], times["i8"]))
    row["misses"] = misses(case, row)
    return row


def misses(case, row):
    found, aim = [], 0.97 if case.H == case.Hk else 2.0
    long = row["roof"] >= LONG
    for form in ("cache", "rows"):
        if form not in row["min"]:
            found.append(f"{form}: {row['left_out'][form]}")
            continue
        least = 0.85 if form == "cache" else 0.85 * 0.9
        if long and row["share"][form] < least:
            found.append(f"{form} < {100 * least:.0f} % of the roof")
        ratios = row.get("ratios", {}).get(form)
        if ratios and min(ratios.values()) < aim:
            found.append(f"{form} < {aim:g} × {min(ratios, key=ratios.get)}")
    if long and case.dtype == "bf16" and case.H <= 4 * case.Hk and row.get("i8", 2) < 1.6:
        found.append("bytes < 1.6 × bf16")
    return found


def line(row, names):
    texts = [f"{1e3 * row['roof']:.3f}"]
    for name in (*FORMS, *names):
        texts.append(f"{1e3 * row['median'][name]:.3f}" if name in row["median"] else "–")
    texts += [f"{100 * row['share'][form]:.0f} %" if form in row["share"] else "–" for form in ("cache", "rows", "paged")]
    texts.append(f"{min(row['ratios']['cache'].values()):.2f}" if row.get("ratios", {}).get("cache") else "–")
    texts.append(f"{row['i8']:.2f}" if "i8" in row else "–")
    return f"{row['name']:32}" + "".join(f"{text:>13}" for text in texts) + "".join("  ✗ " + text for text in row["misses"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--cases", help="patterns of names: 'bf16 32/8*,*S=1024*'")
    parser.add_argument("--peers", help=f"only these of {','.join(PEERS)}; or none")
    parser.add_argument("--most-mb", type=float, default=600, help="of keys and values")
    parser.add_argument("-o", "--output", help="JSON")
    args = parser.parse_args()
    ours, peers = start(args)
    peaks = {key: float(value) for key, value in (word.split("=") for word in ours[0].ask("peak").split())}
    print(", ".join(c.version for c in ours[:1] + peers) + f"; {args.threads} threads; peaks " +
          ", ".join(f"{key} {1e-9 * value:.0f} GFLOP/s" for key, value in peaks.items()))
    names = [peer.name for peer in peers]
    heads = ("roof", *FORMS, *names, "cache/roof", "rows/roof", "paged/roof", "best peer", "i8/cache")
    print(f"{'milliseconds (median)':32}" + "".join(f"{text:>13}" for text in heads), flush=True)
    folder, rows = tempfile.mkdtemp(prefix="attn-bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None), []
    words = args.cases.split(",") if args.cases else ["*"]
    try:
        for case in all_cases(args.most_mb):
            if any(fnmatch.fnmatch(name_of(case), word) for word in words):
                rows.append(measure(case, ours, peers, folder, args, peaks))
                print(line(rows[-1], names), flush=True)
    finally:
        for contender in ours + peers:
            contender.end()
        shutil.rmtree(folder)
    if args.output:
        with open(args.output, "w", encoding="utf-8") as file:
            json.dump({"peaks": peaks, "rows": rows}, file, indent=1, ensure_ascii=False)
    print(f"{len(rows)} rows, {sum(bool(row['misses']) for row in rows)} below what they should reach")


if __name__ == "__main__":
    main()
