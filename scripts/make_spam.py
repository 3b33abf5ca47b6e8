#!/ usr / bin / env python3
"""Labelled texts for a classifier: train, valid and test.

usage: make_spam.py FILE.tsv FOLDER [--seed N]

FILE has lines of label TAB text, as the SMS Spam Collection (Almeida, Gómez Hidalgo & Yamakami 2011). Texts that come
twice are taken once, every label gets as many as the rarest one has, and 70, 10 and 20 % of each go to FOLDER/train.tsv,
valid.tsv and test.tsv. Says how good multinomial naive Bayes is on the test part, as a measure to beat.
"""

import argparse
import collections
import math
import pathlib
import random
import re

SMOOTHING = 1.0  # added to every word's count (Laplace)


def read(path):
    seen = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        label, tab, text = line.partition("\t")
        if not tab or not text.strip():
            raise SystemExit(f"{path}:{number}: expected label TAB text, found {line[:40]!r}")
        seen.setdefault(text.strip(), label)
    texts = collections.defaultdict(list)
    for text, label in seen.items():
        texts[label].append(text)
    return texts


def split(texts, seed):
    generator = random.Random(seed)
    parts = {"train": [], "valid": [], "test": []}
    fewest = min(map(len, texts.values()))
    for label in sorted(texts):
        chosen = generator.sample(texts[label], fewest)
        ends = {"train": round(0.7 * fewest), "valid": round(0.8 * fewest), "test": fewest}
        first = 0
        for name, end in ends.items():
            parts[name] += [(label, text) for text in chosen[first:end]]
            first = end
    for examples in parts.values():
        generator.shuffle(examples)
    return parts


def words(text):
    return re.findall(r"[a-z]+|\d+|[^\sa-z\d]", text.lower())


def naive_bayes(train, test):
    """Accuracy of argmax over labels of log p(label) + sum over words of log p(word | label)."""
    counts, texts = collections.defaultdict(collections.Counter), collections.Counter()
    for label, text in train:
        counts[label].update(words(text))
        texts[label] += 1
    vocabulary = set().union(*counts.values())
    totals = {label: sum(c.values()) + SMOOTHING * len(vocabulary) for label, c in counts.items()}

    def score(label, text):
        return math.log(texts[label]) + sum(
            math.log((counts[label][word] + SMOOTHING) / totals[label]) for word in words(text) if word in vocabulary
        )

    return sum(max(counts, key=lambda label: score(label, text)) == truth for truth, text in test) / len(test)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    parts = split(read(arguments.file), arguments.seed)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, examples in parts.items():
        text = "".join(f"{label}\t{text}\n" for label, text in examples)
        (arguments.folder / f"{name}.tsv").write_text(text, encoding="utf-8")
        print(f"{name}: {len(examples)} texts")
    print(f"naive Bayes: {100 * naive_bayes(parts['train'], parts['test']):.2f} % of the test part")


if __name__ == "__main__":
    main()
