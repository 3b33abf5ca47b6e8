#!/usr/bin/env python3
"""SVG bars of what attention.py measured: one group a case, one bar a contender, as a share of the peak.

usage: bars.py FILE.json FILE.svg [PATTERN…]        patterns of case names; without any: all rows

The same file gives the same bytes.
"""
import fnmatch
import html
import json
import sys

COLOURS = {"attn": "#0b6e4f", "PyTorch": "#c8553d", "ONNX Runtime": "#7d8597", "OpenVINO": "#8d6bb3", "ggml": "#c9a227"}
LEFT, WIDTH, RIGHT, TOP = 300, 520, 70, 62  # names, bars, room for figures, title and legend
BAR, GAP = 9, 12
TEXT = 'font-family="Helvetica, Arial, sans-serif" font-size="{}" fill="#222"{}'


def text(x, y, words, size=11, more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {TEXT.format(size, more)}>{html.escape(words)}</text>'


def legend(names):
    parts, x = [], LEFT
    for name in names:
        parts.append(f'<rect x="{x}" y="30" width="10" height="10" fill="{COLOURS[name]}"/>' + text(x + 14, 39, name))
        x += 34 + 7 * len(name)
    return parts


def grid(height):
    parts = []
    for percent in range(0, 101, 25):
        x = LEFT + WIDTH * percent / 100
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{height - 8}" stroke="#ddd"/>')
        parts.append(text(x, TOP - 10, f"{percent} %", 9, ' text-anchor="middle"'))
    return parts


def group(row, y):
    """One case, its bars."""
    parts, names = [], [name for name in COLOURS if name in row["contenders"]]
    parts.append(text(LEFT - 8, y + BAR * len(names) / 2 + 4, row["name"], 11, ' text-anchor="end"'))
    for i, name in enumerate(names):
        gflops = row["contenders"][name]["gflops"]
        width = WIDTH * min(1.0, 1e9 * gflops / row["peak"])
        parts.append(f'<rect x="{LEFT}" y="{y + BAR * i:.1f}" width="{width:.1f}" height="{BAR - 1}" fill="{COLOURS[name]}"/>')
        parts.append(text(LEFT + width + 4, y + BAR * i + 7.5, f"{gflops:.0f}", 8))
    return parts, y + BAR * len(names) + GAP


def draw(document, patterns=("*",)):
    rows = [row for row in document["rows"] if row["contenders"] and any(fnmatch.fnmatch(row["name"], p) for p in patterns)]
    present = [name for name in COLOURS if any(name in row["contenders"] for row in rows)]
    bars, y = [], TOP
    for row in rows:
        parts, y = group(row, y)
        bars += parts
    title = f"Attention, GFLOP/s and share of the peak, {document['threads']} threads"
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {y}" role="img">',
             f"<title>{html.escape(title)}</title>", '<rect width="100%" height="100%" fill="#fff"/>',
             text(LEFT, 20, title, 13), *legend(present), *grid(y), *bars, "</svg>"]
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        document = json.load(file)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        file.write(draw(document, sys.argv[3:] or ["*"]))


if __name__ == "__main__":
    main()
