#!/usr/bin/env python3
"""Makes tests/golden/measures.tsv and measures_expected.tsv: BLEU and chrF by sacreBLEU.

    python scripts/make_measure_goldens.py TATOEBA.de-en.tsv TATOEBA.fr-en.tsv tests/golden

Needs sacrebleu (2.6.0 made the committed files). The sentences are from tatoeba.org, CC BY 2.0, edited here.
"""
import random
import sys

import sacrebleu
from sacrebleu.metrics import BLEU, CHRF

NASTY = [
    ("", ""), ("", "a b c"), ("a b c", ""), ("   ", "x"), ("a", "a"), ("a b c", "a b c"), ("a b c d", "a b c d"),
    ("It costs 1,000.5 dollars.", "It costs 1,000.50 dollars."), ("1.5.2, 3,4 and .5 or 5.", "1.5.2, 3,4 and .5 or 5 ."),
    ("3-4 and 3 - 4 and a-b", "3 - 4 and 3-4 and a - b"), ("x..y,,z., .a", "x . . y , , z . , . a"),
    ("&quot;Yes&quot; &amp;lt; &lt;b&gt; &amp;amp;", '"Yes" < <b> &'), ("A<skipped>B <ski<skipped>pped>", "AB"),
    ("hyphen-\nated line\nend", "hyphenated line end"), ("tab\tand\x0bform\x0cfeed", "tab and form feed"),
    ("«\u202fça va\u202f?\u00a0»", "« ça va ? »"), ("no\u00a0break\u2009thin\u3000wide\u2028line", "no break thin wide line"),
    ("zero\u200bwidth", "zero width"), ("unit\x1fseparator \x85", "unit separator"), ("ΟΔΟΣ ΣΟΦΟΣ. Σ", "οδος σοφος. σ"),
    ("İstanbul IĞDIR ı", "i̇stanbul iğdir ı"), ("STRASSE Straße ẞ", "strasse straße ß"), ("日本語。テスト", "日本語 。 テスト"),
    ("😀😀 smile!", "😀 smile !"), ("e\u0301te\u0301", "été"), ("don't can’t 'tis", "don ' t can ’ t ' tis"),
    ("(a)[b]{c}~`@#$%^&*_+=|\\/:;?!\"", "( a ) [ b ] { c }"), ("٣.٤ ３,４", "٣ . ٤ ３ , ４"), ("ends with space ", "ends with space"),
    ("the the the the the", "the cat the mat"), ("a a a b", "b a a a"), ("xyz", "uvw"), ("…“”„‚‘’–—", "... \" \" - -"),
    ("word " * 300, "word " * 299 + "other"), (".", "."), ("-", "5-"), ("5-", "-5"), ("a,", ",a"), ("\ufeffBOM", "BOM"),
]


def edit(rng, text):
    words = text.split(" ")
    for _ in range(rng.randrange(5)):
        i, kind = rng.randrange(len(words)), rng.randrange(6)
        if kind == 0 and len(words) > 1:
            del words[i]
        elif kind == 1:
            words.insert(i, rng.choice(words))
        elif kind == 2:
            j = rng.randrange(len(words))
            words[i], words[j] = words[j], words[i]
        elif kind == 3:
            words[i] = rng.choice([words[i].upper(), words[i].lower(), words[i].title()])
        elif kind == 4:
            words[i] = rng.choice(["1,000.5", '"so"', "3-4", "U.S.", "&quot;A&quot;", "«ça»", "10%"])
        else:
            words[i] += rng.choice(".,!?-…")
    return " ".join(words)


def escape(text):
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def main():
    rng = random.Random(20)
    references = []
    for path in sys.argv[1:3]:
        with open(path, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split("\t") for line in file]
        for column in (0, 1):
            references += [line[column] for line in rng.sample(lines, 75)]
    rng.shuffle(references)
    pairs = NASTY + [(edit(rng, text), text) for text in references]
    with open(sys.argv[3] + "/measures.tsv", "w", encoding="utf-8", newline="\n") as file:
        file.write("# hypothesis, reference; \\n \\t \\\\ escaped. Sentences from tatoeba.org (CC BY 2.0), edited.\n")
        file.writelines(f"{escape(h)}\t{escape(r)}\n" for h, r in pairs)
    ranges = [(0, len(pairs)), (0, len(NASTY)), (len(NASTY), len(references))]
    ranges += [(first, 25) for first in range(len(NASTY), len(pairs) - 24, 25)]
    ranges += [(k, 1) for k in range(0, len(NASTY) + 30)]
    with open(sys.argv[3] + "/measures_expected.tsv", "w", encoding="utf-8", newline="\n") as file:
        file.write(f"# sacreBLEU {sacrebleu.__version__}: first, count, lowercase, BLEU, brevity penalty, 4 precisions, "
                   "hypothesis and reference tokens, 4 correct, 4 total, chrF2\n")
        for first, count in ranges:
            h, r = zip(*pairs[first:first + count])
            for lower in (0, 1):
                bleu = BLEU(lowercase=bool(lower)).corpus_score(list(h), [list(r)])
                chrf = CHRF().corpus_score(list(h), [list(r)]).score
                row = [first, count, lower, bleu.score, bleu.bp, *bleu.precisions, bleu.sys_len, bleu.ref_len,
                       *bleu.counts, *bleu.totals, chrf]
                file.write("\t".join(repr(x) for x in row) + "\n")


main()
