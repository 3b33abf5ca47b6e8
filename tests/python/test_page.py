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


def show(folder, model, text, *more):
    subprocess.run([PROGRAM, "show", "-m", ROOT / "models" / model, "-o", folder / "page.html", *more, text], check=True)
    return folder / "page.html"


def browse(folder, page, place=""):
    """The page's document once its script has run, after the browser complained of nothing."""
    done = subprocess.run([BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}",
                           "--enable-logging=stderr", "--virtual-time-budget=8000", "--dump-dom", f"file://{page}{place}"],
                          capture_output=True, check=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    assert 'data-ready="yes"' in done.stdout
    return done.stdout


def look(folder, model, text, place="", *more):
    return browse(folder, show(folder, model, text, *more), place)


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


# What mouse and keys do, noted line by line in the document.
DRIVE = """<script>
const wait = setInterval(() => {
  if (document.documentElement.dataset.ready !== "yes") return;
  clearInterval(wait);
  const log = [], send = (to, Kind, type, rest) => to.dispatchEvent(new Kind(type, {bubbles: true, cancelable: true, ...rest}));
  const box = map.getBoundingClientRect(), at = {clientX: box.left + place.left + 5, clientY: box.top + place.top + 5};
  const cell = () => by("cell").textContent, head = () => by("head").textContent;
  send(map, PointerEvent, "pointermove", at);
  log.push(cell());
  send(map, WheelEvent, "wheel", {...at, deltaY: -100});
  log.push(state.zoom);
  send(map, KeyboardEvent, "keydown", {key: "0"});
  for (const key of ["ArrowDown", "ArrowDown", "ArrowRight"]) send(map, KeyboardEvent, "keydown", {key});
  log.push(state.zoom, cell());
  by("form").value = "lines";
  by("form").onchange();
  const row = {clientX: 50, clientY: lines.getBoundingClientRect().top + 2.2 * LINE};
  send(lines, PointerEvent, "pointermove", row);
  send(lines, MouseEvent, "click", row);
  log.push(cell(), state.kept);
  by("views").children[0].click();
  const first = by("grid").querySelector("button");
  first.focus();
  for (const key of ["ArrowDown", "ArrowRight"]) send(document.activeElement, KeyboardEvent, "keydown", {key});
  log.push(head());
  by("order").value = "entropy";
  by("order").onchange();
  const found = [...by("grid").querySelectorAll("button")].map(b => parseFloat(b.title.split(": ")[1]));
  log.push(found.length, found.every((x, i) => !i || x <= found[i - 1]));
  by("order").value = "";
  by("order").onchange();
  [...by("grid").querySelectorAll("button")].pop().click();
  const n = shown.columns.length, sum = i => shown.values.slice(i * n, i * n + n).reduce((a, b) => a + b, 0);
  log.push(head(), Math.abs(sum(0) - 1) < 1e-3 && Math.abs(sum(n - 1) - 1) < 1e-3);
  by("first").value = "hidden";
  by("first").onchange();
  log.push(shown.values[0], Math.abs(sum(1) - 1) < 1e-3);
  document.body.append(make("pre", {id: "log", textContent: log.join("\\n")}));
}, 50);
</script></body>"""


def test_mouse_and_keys(folder):
    page = show(folder, "de-en", "Kannst du mir helfen diesen Satz zu übersetzen")
    page.write_text(page.read_text().replace("</body>", DRIVE))
    log = re.search(r'<pre id="log">(.*?)</pre>', browse(folder, page), re.S).group(1).split("\n")
    assert re.fullmatch(r"Can ← Kannst \d\.\d\d\d", log[0]) and re.fullmatch(r"you ← du \d\.\d\d\d", log[3])
    assert log[1:3] == ["1.25", "1"] and log[4] == log[3] and log[5] == "1"
    assert log[6:10] == ["encoder, layer 2, head 2", "24", "true", "encoder, rollout over all layers"]
    assert log[10:] == ["true", "0", "true"]


def test_what_the_address_names_is_not_there(folder):
    for place in ("#%", "#self-attention,9,1", "#self-attention,1,1e9,lines", "#none,,,x"):
        assert "mean of its heads" in look(folder, "shakespeare", "my lord", place), place
