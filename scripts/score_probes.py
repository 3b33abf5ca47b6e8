#!/usr/bin/env python3
"""Counts the translations that keep subject and last verb: see data/probes/README.md.

usage: score_probes.py ATTN MODEL [data/probes/relative_clauses.en-fr.tsv]
"""
import re
import subprocess
import sys
from pathlib import Path

program, model = sys.argv[1:3]
path = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).resolve().parent.parent / "data/probes/relative_clauses.en-fr.tsv"
rows = [line.split("\t") for line in path.read_text().splitlines()]
lines = subprocess.run([program, "translate", "-m", model], input="".join(row[0] + "\n" for row in rows), capture_output=True,
                       text=True, check=True).stdout.splitlines()
kept = 0
for (sentence, subject, verb), translation in zip(rows, lines, strict=True):
    words = translation.split()
    half = max(len(words) // 3, 3)  # the subject stands in the first third, the verb in the last
    first, last = " ".join(words[:half]), " ".join(words[-half:])
    fine = [bool(re.search(p, part, re.IGNORECASE)) for p, part in ((subject, first), (verb, last))]
    kept += all(fine)
    print(f"{'subject' if fine[0] else '-':8}{'verb' if fine[1] else '-':5} {translation}")
print(f"{kept} of {len(rows)} keep subject and last verb")
