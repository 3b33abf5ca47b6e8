#!/usr/bin/env python3
"""Makes the corpora of data/tatoeba from uncompressed splits `LANG-en.SPLIT.tsv` (foreign TAB english).

    scripts/make_tatoeba.py FOLDER-WITH-TSV [OUT]

Writes LANG-en.{train,valid,test}.tsv.xz for LANG de and fr, and the small sample: de-en.sample.train.tsv.xz, 20,000 pairs
of at most 8 words a side out of de-en.train, and de-en.sample.valid.tsv.xz, 1,000 such pairs out of de-en.valid. The choice
depends on the pairs alone: those with the least SHA-256 of their line, in the order of the file."""
import hashlib
import lzma
import pathlib
import sys

WORDS = 8


def short(line):
    sides = line.rstrip("\n").split("\t")[:2]
    return all(0 < len(side.split()) <= WORDS for side in sides)


def sample(lines, count):
    chosen = sorted((hashlib.sha256(line.encode()).digest(), i) for i, line in enumerate(lines) if short(line))[:count]
    if len(chosen) < count:
        sys.exit(f"found {len(chosen)} pairs of at most {WORDS} words a side, expected {count}")
    return [lines[i] for i in sorted(i for _, i in chosen)]


def write(path, lines):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 16 << 20}]
    path.write_bytes(lzma.compress("".join(lines).encode(), format=lzma.FORMAT_XZ, filters=filters))
    print(f"{path}: {len(lines)} pairs, {path.stat().st_size} bytes")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else pathlib.Path(__file__).parent.parent / "data" / "tatoeba"
    out.mkdir(parents=True, exist_ok=True)
    for language in ("de", "fr"):
        for split in ("train", "valid", "test"):
            with open(source / f"{language}-en.{split}.tsv", encoding="utf-8", newline="\n") as file:
                lines = file.readlines()
            write(out / f"{language}-en.{split}.tsv.xz", lines)
            count = {"train": 20000, "valid": 1000}.get(split)
            if language == "de" and count:
                write(out / f"{language}-en.sample.{split}.tsv.xz", sample(lines, count))


if __name__ == "__main__":
    main()
