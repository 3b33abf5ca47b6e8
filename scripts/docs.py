#!/usr/bin/env python3
"""Checks the documents: every relative link and every path in backquotes exists, and Python blocks of docs/ run.

usage: docs.py [FILE.md...]        all documents without arguments; blocks need numpy, and are skipped without it

A block that imports attn needs the package: ./run docs builds it and says where it is.
"""
import glob
import importlib.util
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)")
PATH = re.compile(r"`((?:include|src|cli|tests|examples|bench|scripts|docs|data)/[\w./-]*\w)`")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)


def has(module):
    return importlib.util.find_spec(module) is not None


def check(path, run, problems):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    name = os.path.relpath(path, ROOT)
    for link in LINK.findall(text):
        if not os.path.exists(os.path.join(os.path.dirname(path), link)):
            problems.append(f"{name}: link to {link}, which is not there")
    for found in PATH.findall(text):
        if not os.path.exists(os.path.join(ROOT, found)):
            problems.append(f"{name}: `{found}` is not there")
    blocks = BLOCK.findall(text)
    for number, block in enumerate(blocks if run else [], 1):
        if re.search(r"^import attn\b", block, re.M) and not has("attn"):
            print(f"{name}: Python block {number} is not run: there is no package attn")
            continue
        done = subprocess.run([sys.executable, "-c", block], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False)
        if done.returncode:
            problems.append(f"{name}: Python block {number} fails:\n" + done.stdout.decode("utf-8", "replace"))
    return len(blocks)


def main():
    paths = sys.argv[1:] or sorted(glob.glob(os.path.join(ROOT, "*.md")) +
                                   glob.glob(os.path.join(ROOT, "docs", "**", "*.md"), recursive=True))
    for path in paths:
        if not os.path.isfile(path):
            sys.exit(f"docs: {path}: there is no such file")
    run, problems = has("numpy"), []
    blocks = sum(check(os.path.abspath(path), run, problems) for path in paths)
    for problem in problems:
        print(problem)
    print(f"docs: {len(paths)} files, {blocks} Python blocks {'run' if run else 'not run: there is no numpy'}, "
          f"{len(problems)} problem{'' if len(problems) == 1 else 's'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
