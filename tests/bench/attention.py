#!/usr/bin/env python3
"""The attention benchmark runs, its own results are right, and it would notice if they were not.

Needs NumPy, in this Python or in $ATTN_PEERS_PYTHON; PyTorch takes part where it is. Exit status 77: skipped.
"""
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

SOURCE, BUILD = os.environ["ATTN_TEST_SOURCE"], os.environ["ATTN_TEST_BUILD"]
BENCH = os.path.join(SOURCE, "bench", "attention.py")
CASES = [
    {"shape": "2x2x65x16", "causal": True, "pass": "both"},
    {"shape": "2x4x33x8", "Hk": 2, "S": 70, "Dv": 24, "padding": True, "pass": "both"},
    {"shape": "1x2x130x16", "causal": True, "window": 20, "dtype": "bf16"},
    {"shape": "1x2x200x16", "dropout": 0.25, "pass": "both"},
]


def check(condition, words):
    if not condition:
        sys.exit(f"failed: {words}")


def check_errors():
    """A wrong element, and a mask that is off by one, are seen in the error."""
    sys.path.insert(0, os.path.dirname(BENCH))
    import cases
    import numpy as np

    case = cases.of_json(CASES[0], "test")
    answer = cases.reference(case, case.inputs())
    shapes = {"out": case.shapes()["dout"], "dq": case.shapes()["q"], "dk": case.shapes()["k"], "dv": case.shapes()["v"]}
    arrays = {key: np.zeros(shape) for key, shape in shapes.items()}
    for (b, h), right in answer.items():
        for key in arrays:
            arrays[key][b, h] = right[key] if key in ("dk", "dv") else right[key][0]
    check(max(cases.errors(case, answer, arrays.get).values()) < 1e-12, "the answer is its own")
    for key, array in arrays.items():
        array[0, 0, 40, 3] += 0.1
        check(cases.errors(case, answer, arrays.get)[key] > 1e-3, f"a wrong element of {key} is seen")
    check(cases.of_json({"shape": "1x1x8x4", "causal": True, "window": 1}, "").flop == 4 * 15 * 4, "visible pairs are counted")


def check_run(folder):
    document, picture = os.path.join(folder, "a.json"), os.path.join(folder, "a.svg")
    command = [sys.executable, BENCH, BUILD, "--threads", "2", "--repeats", "2", "--peers", "PyTorch", "-o", document, "--svg", picture]
    for case in CASES:
        command += ["--case", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True)
    check(done.returncode == 0, f"bench/attention.py: {done.stdout}{done.stderr}")
    with open(document, encoding="utf-8") as file:
        rows = json.load(file)["rows"]
    check(len(rows) == len(CASES), "a row for each case")
    for row in rows:
        check("attn" in row["contenders"], f"attn computes {row['name']}: {row['left_out']}")
        for name, why in row["left_out"].items():
            check("differs" not in why, f"{name} agrees on {row['name']}: {why}")
    check(xml.etree.ElementTree.parse(picture).getroot().tag.endswith("svg"), "the picture is SVG")
    listed = subprocess.run([sys.executable, BENCH, BUILD, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
    check(len(listed) > 50 and len(set(listed)) == len(listed), "the cases of bench/shapes are read, each once")


def main():
    if subprocess.run([sys.executable, "-c", "import numpy"], capture_output=True).returncode != 0:
        other = os.environ.get("ATTN_PEERS_PYTHON")
        if not other or other == sys.executable:
            sys.exit(77)
        os.execv(other, [other, *sys.argv])
    check_errors()
    with tempfile.TemporaryDirectory() as folder:
        check_run(folder)


if __name__ == "__main__":
    main()
