"""attn show -o x.html in a browser, where there is one."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = pathlib.Path(os.environ.get("ATTN_TEST_BUILD", ROOT / "build")) / "attn"
BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium is here")
HOSTILE = "</script><img src=x onerror=document.title='run'> & \" ' \u202e\u2028 <b>Hund</b>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


def look(folder, model, text, place="", *more):
    """The page's document once its script has run, after the browser complained of nothing."""
    page = folder / "page.html"
    subprocess.run([PROGRAM, "show", "-m", ROOT / "models" / model, "-o", page, *more, text], check=True)
    done = subprocess.run([BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}",
                           "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom", f"file://{page}{place}"],
                          capture_output=True, check=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    assert 'data-ready="yes"' in done.stdout
    return done.stdout


def tiles(document):
    return len(re.findall(r"<button[^>]*data-head=", document))


def test_translator(folder):
    document = look(folder, "de-en", "Der Hund schläft.")
    assert "<h1>Der Hund schläft.</h1>" in document and '<h2 id="head">alignment</h2>' in document
    assert [name for name in ("encoder", "decoder", "cross", "alignment") if f">{name}</button>" in document] == [
        "encoder", "decoder", "cross", "alignment"]
    document = look(folder, "de-en", "Der Hund schläft.", "#cross,2,5,lines")
    assert "cross, layer 2, head 5" in document and "down the left" in document
    assert tiles(document) == 3 * (8 + 2) and document.count("<canvas width") + document.count("<canvas height") >= 3 * 8


def test_language_model(folder):
    document = look(folder, "shakespeare", "ROMEO: my lord")
    assert "mean of its heads" in document and "rollout" in document
    document = look(folder, "shakespeare", "ROMEO: my lord", "", "--layer", "2")
    assert "layer 2, mean" in document and "rollout" not in re.sub(r"<script.*?</script>", "", document, flags=re.S)


def test_what_is_hostile_stays_text(folder):
    document = look(folder, "shakespeare", HOSTILE, "#self-attention,1,1,lines")
    outside = re.sub(r"<script.*?</script>", "", document, flags=re.S)
    assert "<img" not in outside and "<b>" not in outside and "onerror=document" in outside
    assert "&lt;b&gt;Hund" in outside and "U+202E" in outside
    assert "<title>run" not in document
