#!/usr/bin/env python3
"""Attention, ours and the peers', in turn in one run on this machine.

usage: attention.py BUILD_DIR [--threads 2] [--repeats 15] [--quick] [--cases PATTERN,…] [--level avx2] [-o FILE.json]
       [--svg FILE.svg]

Measures the FMA peak and the memory first. Then for each case of bench/shapes/*.json: every contender gets the same inputs, its
results are compared with float64, and it computes the case in bursts, in turn with the others. A contender is a process; while it
waits it is stopped, so that threads which spin for more work take no core from the others. Prints GFLOP/s and the share of the
peak (of bf16 where the CPU has such products and the case is in bf16) from the best burst, the ratio to the best peer as the
median over the rounds, and ✗ what the case should reach.
"""
import argparse
import atexit
import contextlib
import fnmatch
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import needs

needs.packages("numpy")
import numpy as np

import bars
import cases

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS = {"PyTorch": "pytorch", "ONNX Runtime": "onnx_runtime", "OpenVINO": "open_vino", "ggml": "ggml"}
BURST = 0.008  # seconds that a contender computes in its turn, at least one call
SLOW, SLOW_ROUNDS = 3.0, 4  # who is so many times slower than the best peer rests after so many rounds
DISTURBED = 0.03  # share of the processors that others may take meanwhile
QUICK_ROUNDS, QUICK_SECONDS = 5, 5.0  # with --quick a case ends when both have passed
TOLERANCE = {"f32": 1e-5, "f16": 5e-3, "bf16": 2e-2, "dropout": 0.15}  # rms of the difference over rms of the answer
HELD = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
NOT_HELD = {"ONNX Runtime": "cannot be held to AVX2", "ggml": "is built for one level"}


class Ended(Exception):
    """A server is no more."""


class Contender:
    """A server process, stopped while it is not asked."""

    def __init__(self, name, key, command, env):
        self.name, self.key, self.command, self.env = name, key, command, env
        self.complaints = tempfile.TemporaryFile("w+")
        atexit.register(self.end)
        self.start()

    def start(self):
        self.version = None
        self.process = subprocess.Popen(self.command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.complaints, text=True, start_new_session=True)
        ready = self.process.stdout.readline().strip()
        if ready.startswith("ready "):
            self.version = ready[6:]
            self.process.send_signal(signal.SIGSTOP)

    def ask(self, line):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            self.end()
            raise Ended(f"ended with {self.process.returncode}: {self.last_words()}")
        self.process.send_signal(signal.SIGSTOP)
        return answer

    def seconds(self, calls):
        """Of one call, from a burst of them."""
        return float(self.ask(f"run {calls}")) / calls

    def last_words(self):
        self.complaints.seek(0)
        return (self.complaints.read().strip().splitlines() or ["no reason given"])[-1]

    def end(self):
        """With what it may have started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(args):
    env = dict(os.environ) | {name: str(args.threads) for name in ("ATTN_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    if args.level:
        env["ATTN_CPU"] = args.level
    if env.get("ATTN_CPU") == "avx2":
        env.update(HELD)
    ours = Contender("attn", "attn", [needs.program(args.build, "bench/attention"), str(args.threads)], env)
    if not ours.version:
        sys.exit("bench/attention does not start")
    found = [ours]
    for name, key in PEERS.items():
        if args.peers and name not in args.peers.split(","):
            continue
        if env.get("ATTN_CPU") == "avx2" and name in NOT_HELD:
            print(f"without {name}: it {NOT_HELD[name]}")
            continue
        peer = Contender(name, key, [sys.executable, os.path.join(HERE, "peers", "serve.py"), key, str(args.threads)], env)
        if peer.version:
            found.append(peer)
        else:
            print(f"without {name}: {peer.last_words()}")
            peer.end()
    return found


def peaks_of(ours):
    return {key: float(value) for key, value in (word.split("=") for word in ours.ask("peaks").split())}


def others(contenders):
    """Seconds that the processors have spent on others than this program and its contenders, or taken by the host; 0 where
    the system does not say."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        total = sum(ticks) - ticks[3] - ticks[4]  # idle, waiting
        for contender in contenders:
            with open(f"/proc/{contender.process.pid}/stat", encoding="ascii") as file:
                total -= sum(int(word) for word in file.read().rsplit(")", 1)[1].split()[11:13])
    except OSError:
        return 0.0
    return total / os.sysconf("SC_CLK_TCK") - sum(os.times()[:2])


# ---- a case -----------------------------------------------------------------------------------------


def check(case, answer, contender, folder):
    """{"out": error, …}, and what is wrong with them or None."""
    reply = contender.ask("save")
    if reply != "ok":
        return {}, reply
    shapes = case.shapes() | {"out": case.shapes()["dout"]} | {"d" + key: case.shapes()[key] for key in "qkv"}

    def read(key):
        return np.fromfile(os.path.join(folder, f"{contender.key}.{key}"), np.float32).reshape(shapes[key])

    errors = cases.errors(case, answer, read)
    dtype = "f16" if contender.key == "ggml" and case.dtype == "f32" else case.dtype
    limit = TOLERANCE["dropout" if case.dropout else dtype]
    wrong = [f"{key} differs by {error:.2g}" for key, error in errors.items() if not error <= limit]
    return errors, "; ".join(wrong) or None


def rounds(present, ours, dtype, args):
    """{name: seconds of a call, one for each round}, and the peak of each round."""
    calls, times, peak = {}, {c.name: [] for c in present}, []
    for contender in present:
        once = contender.seconds(1)
        calls[contender.name] = max(1, round(BURST / once))
    start = time.monotonic()
    for turn in range(args.repeats):
        if args.quick and turn >= QUICK_ROUNDS and time.monotonic() - start > QUICK_SECONDS:
            break
        best = min((statistics.median(t) for name, t in times.items() if name != "attn" and t), default=0)
        for contender in present:
            mine = times[contender.name]
            if turn >= SLOW_ROUNDS and contender is not ours and statistics.median(mine) > SLOW * best:
                continue
            if calls[contender.name] > 1:
                contender.seconds(1)  # threads awake, inputs in the caches
            mine.append(contender.seconds(calls[contender.name]))
        peak.append(float(ours.ask(f"peak {dtype}")))
    return times, peak


def measure(case, contenders, folder, args):
    ours = contenders[0]
    inputs = case.inputs()
    for key, x in inputs.items():
        x.tofile(os.path.join(folder, key))
    answer, row, present = cases.reference(case, inputs), {"name": case.name, "file": case.file, "left_out": {}}, []
    row.update(flop=case.flop, aim_ratio=case.ratio, aim_share=case.share, contenders={})
    for contender in contenders:
        errors, wrong = {}, None
        try:
            reply = contender.ask("case " + case.line(folder))
            if reply.startswith("ok"):
                errors, wrong = check(case, answer, contender, folder)
            else:
                wrong = reply.removeprefix("no ")
        except Ended as reason:
            wrong = str(reason)
            contender.start()
        if wrong:
            row["left_out"][contender.name] = wrong
        else:
            present.append(contender)
            row["contenders"][contender.name] = {"what": reply[3:], "error": errors}
    start, before = time.monotonic(), others(contenders)
    times, peak = rounds(present, ours, case.dtype, args)
    row["others"] = (others(contenders) - before) / (time.monotonic() - start) / os.cpu_count()
    row["peak"] = max(peak)
    for name, t in times.items():
        row["contenders"][name].update(rounds=len(t), min=min(t), median=statistics.median(t), gflops=1e-9 * case.flop / min(t))
    if "attn" in times:
        row["share"] = case.flop / min(times["attn"]) / row["peak"]
        ratios = {name: statistics.median(p / a for a, p in zip(times["attn"], t)) for name, t in times.items() if name != "attn"}
        row["ratios"] = ratios
        if ratios:
            row["best_peer"] = min(ratios, key=ratios.get)
            row["ratio"] = ratios[row["best_peer"]]
    return row


def misses(row):
    """What the row does not reach, in words."""
    if "attn" in row["left_out"]:
        return ["attn: " + row["left_out"]["attn"]]
    found, aim = [], row["aim_ratio"]
    if row.get("ratio", aim) < aim or row.get("ratio", 2) <= 1:
        needed = 1e11 * aim * row["contenders"][row["best_peer"]]["gflops"] / row["peak"]
        found.append(f"ratio < {aim:g} ({needed:.0f} % of the peak)")
    if row["aim_share"] and row["share"] < row["aim_share"]:
        found.append(f"share < {100 * row['aim_share']:.0f} %")
    return found


# ---- output -----------------------------------------------------------------------------------------


def header():
    columns = "".join(f"{name:>14}" for name in ("attn", "of peak", *PEERS, "ratio"))
    return f"{'GFLOP/s (best burst)':42}{columns}"


def line(row):
    def figure(name):
        found = row["contenders"].get(name)
        return f"{found['gflops']:.0f}" if found else "–"

    share = f"{100 * row['share']:.0f} %" if "share" in row else "–"
    ratio = f"{row['ratio']:.2f}" if "ratio" in row else "–"
    texts = [figure("attn"), share, *(figure(name) for name in PEERS), ratio]
    notes = ["  ✗ " + text for text in misses(row)]
    if row["others"] > DISTURBED:
        notes.append(f"  ~ {100 * row['others']:.0f} % of the machine went to others")
    return f"{row['name']:42}" + "".join(f"{text:>14}" for text in texts) + "".join(notes)


def write(path, document):
    """Rows of an earlier run stay, unless they were measured again."""
    try:
        with open(path, encoding="utf-8") as file:
            old = json.load(file)["rows"]
    except (OSError, ValueError, KeyError):
        old = []
    fresh = {row["name"]: row for row in document["rows"]}
    document = document | {"rows": [fresh.pop(row["name"], row) for row in old] + list(fresh.values())}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, ensure_ascii=False)
    return document


def chosen(args):
    if args.case:
        yield from (cases.of_json(json.loads(text), "given") for text in args.case)
        return
    words = args.cases.split(",") if args.cases else ["*"]
    for case in cases.all_cases():
        if (case.quick or not args.quick) and any(fnmatch.fnmatch(text, word) for word in words
                                                  for text in (case.name, case.file)):
            yield case


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="the cases marked so, under three minutes")
    parser.add_argument("--cases", help="patterns of names or of shapes files: 'backward', '*causal*,small'")
    parser.add_argument("--case", action="append", metavar="JSON",
                        help='a case of your own: \'{"shape": "1x8x512x64", "causal": true}\'')
    parser.add_argument("--level", choices=["scalar", "avx2", "avx512", "amx", "neon"],
                        help="ours; with avx2 the peers are held to it")
    parser.add_argument("--peers", help=f"only these of {','.join(PEERS)}")
    parser.add_argument("--list", action="store_true", help="names of the cases, nothing else")
    parser.add_argument("-o", "--output", help="JSON; rows of an earlier run that are not measured again stay")
    parser.add_argument("--svg", help="bars of all rows")
    args = parser.parse_args()
    if args.list:
        print("\n".join(f"{case.file:10} {case.name}" for case in chosen(args)))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stopped servers end too
    contenders = start(args)
    document = {"versions": {c.name: c.version for c in contenders}, "threads": args.threads, "peaks": peaks_of(contenders[0]),
                "date": time.strftime("%Y-%m-%d"), "rows": []}
    print(", ".join(document["versions"].values()) + f"; {args.threads} threads")
    print("peaks: " + ", ".join(f"{key.replace('_', ' ')} {1e-9 * value:.0f} {'GB/s' if key == 'bandwidth' else 'GFLOP/s'}"
                                for key, value in document["peaks"].items()))
    print(header(), flush=True)
    folder = tempfile.mkdtemp(prefix="attn-bench-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    try:
        for case in chosen(args):
            row = measure(case, contenders, folder, args)
            document["rows"].append(row)
            print(line(row), flush=True)
            if args.output:
                write(args.output, document)
    finally:
        shutil.rmtree(folder)
    measured = document["rows"]
    if args.svg:
        with open(args.svg, "w", encoding="utf-8") as file:
            file.write(bars.draw(write(args.output, document) if args.output else document))
    missed = sum(bool(misses(row)) for row in measured)
    print(f"{len(measured)} rows" + (f", {missed} below what they should reach" if missed else ""))
    return any("attn" in row["left_out"] for row in measured)


if __name__ == "__main__":
    sys.exit(main())
