"""The Python blocks of the documents run with this package, and their links lead somewhere."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def test_documents():
    done = subprocess.run([sys.executable, ROOT / "scripts" / "docs.py"], stdout=subprocess.PIPE, check=False, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"files, [1-9]\d* Python blocks run, 0 problems", done.stdout) and "not run" not in done.stdout
