#!/usr/bin/env python3
"""Makes training and validation pairs for a model whose alignments are measured against links by hand.

Gold texts are lower-cased, with punctuation apart from words; so become the pairs that ship. The gold sentences' texts
are added, without their links, as every statistical aligner has them, and any other pairs.

Usage: scripts/make_alignment_pairs.py FOLDER --gold SOURCE TARGET TIMES [--more SOURCE TARGET TIMES] …
writes FOLDER/train.tsv and FOLDER/valid.tsv; TIMES says how often the pairs are repeated.
"""
import argparse
import lzma
import re
from pathlib import Path

TATOEBA = Path(__file__).resolve().parent.parent / "data/tatoeba"
SHORT = "(s|t|m|d|ll|re|ve)"  # behind an apostrophe: we 'll


def split(text):
    text = text.lower().replace("\u2019", "'").replace("\u00a0", " ").replace("\u202f", " ")
    text = re.sub(r"([^\w\s'\-.,])", r" \1 ", text)
    text = re.sub(r"(?<!\d)([.,])|([.,])(?!\d)", r" \g<0> ", text)  # not 1,000.5
    text = text.replace(".  .  .", "...")
    text = re.sub(rf"(?<=\w)'{SHORT}\b", r" '\1", text)
    text = re.sub(r"(?<!\w)-(?!\w)|(?<=\w)-(?!\w)|(?<!\w)-(?=\w)", " - ", text)  # not six-year
    text = re.sub(rf"(^|\s)'(?!{SHORT}\b)", " ' ", text)
    text = re.sub(r"'(?=\s|$)", " ' ", text)
    return " ".join(text.split())


def tatoeba(part):
    with lzma.open(TATOEBA / f"de-en.{part}.tsv.xz", "rt", encoding="utf-8") as lines:
        return [tuple(split(side) for side in line.rstrip("\n").split("\t")[:2]) for line in lines]


def texts(source, target, times, change):
    sides = [Path(path).read_text(encoding="utf-8-sig").splitlines() for path in (source, target)]
    return [tuple(map(change, pair)) for pair in zip(*sides)] * int(times)


def write(path, pairs):
    path.write_text("".join(f"{source}\t{target}\n" for source, target in pairs), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gold", nargs=3, metavar=("SOURCE", "TARGET", "TIMES"), required=True)
    parser.add_argument("--more", nargs=3, metavar=("SOURCE", "TARGET", "TIMES"), action="append", default=[])
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    pairs = tatoeba("train") + texts(*given.gold, change=str)
    for more in given.more:
        pairs += texts(*more, change=split)
    write(given.folder / "train.tsv", pairs)
    write(given.folder / "valid.tsv", tatoeba("valid"))


if __name__ == "__main__":
    main()
