#!/usr/bin/env python3
"""One peer as a server of attention cases; attention.py starts it. Same words as bench/attention.c.

usage: serve.py PEER THREADS

    case key=value …   prepares a case            →  ok WHAT is timed | no WHY not
    run N              N calls, one after another →  seconds
    save               writes the last results    →  ok

A peer is a module with version(), prepare(threads), and variants(case, arrays): {name: function} of the ways in which it can
compute the case. Each is tried; the fastest stands for the peer. A function returns {"out": f32 array, …}, made by `results`.
"""
import importlib
import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import cases  # noqa: E402
from cases import Cannot  # noqa: E402

TRIALS = 3


def seconds(function, n=1):
    start = time.perf_counter()
    for _ in range(n):
        function()
    return time.perf_counter() - start


def fastest(variants):
    """(name, function) of the best of a few runs; one that fails is out."""
    times, failures = {}, []
    for name, function in variants.items():
        try:
            times[name] = min(seconds(function) for _ in range(TRIALS))
        except Exception as error:  # whatever a peer throws at what it cannot do
            failures.append(f"{name}: {str(error).splitlines()[0][:150]}")
    if not times:
        raise Cannot("; ".join(failures) or "no way to compute it")
    name = min(times, key=times.get)
    return name, variants[name]


class Server:
    def __init__(self, peer):
        self.peer, self.function, self.folder = peer, None, ""

    def case(self, text):
        case, self.folder = cases.of_line(text)
        self.function = None
        arrays = {key: np.fromfile(os.path.join(self.folder, key), np.float32).reshape(shape)
                  for key, shape in case.shapes().items()}
        try:
            name, self.function = fastest(self.peer.variants(case, arrays))
        except Cannot as reason:
            return f"no {reason}"
        return f"ok {name}"

    def run(self, text):
        return f"{seconds(self.function, int(text)):.9f}"

    def save(self, _):
        for key, array in self.peer.results(self.function()).items():
            np.ascontiguousarray(array, np.float32).tofile(os.path.join(self.folder, f"{self.peer.__name__}.{key}"))
        return "ok"


def main():
    name, threads = sys.argv[1], int(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr  # what a peer prints is no answer
    peer = importlib.import_module(name)
    peer.prepare(threads)
    server = Server(peer)
    print("ready", peer.version(), file=answers, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        print(getattr(server, word)(rest), file=answers, flush=True)


if __name__ == "__main__":
    main()
