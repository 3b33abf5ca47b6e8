"""attn show -o x.html in a browser, where there is one."""
import html
import json
import os
import pathlib
import re
import shutil
import subprocess

import numpy as np
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


# Scripts note in the document, line by line, what they find once the page is ready.
HARNESS = """<script>
const wait = setInterval(() => {
  if (document.documentElement.dataset.ready !== "yes") return;
  clearInterval(wait);
  const log = [], send = (to, Kind, type, rest) => to.dispatchEvent(new Kind(type, {bubbles: true, cancelable: true, ...rest}));
  const key = (to, name, rest) => send(to, KeyboardEvent, "keydown", {key: name, ...rest}), head = () => by("head").textContent;
  const set = (id, value) => { by(id).value = value; by(id).onchange(); }, cell = () => by("cell").textContent;
  const [panel] = panels, {canvas} = panel, values = () => panel.m.values;
%s
  document.body.append(make("pre", {id: "log", textContent: log.join("\\n")}));
}, 50);
</script></body>"""


def drive(folder, page, script, place=""):
    page.write_text(page.read_text().replace("</body>", HARNESS % script))
    return re.search(r'<pre id="log">(.*?)</pre>', browse(folder, page, place), re.S).group(1).split("\n")


MOUSE_AND_KEYS = """
  const box = canvas.getBoundingClientRect(), at = {clientX: box.left + panel.place.left + 5, clientY: box.top + panel.place.top + 5};
  send(canvas, PointerEvent, "pointermove", at);
  log.push(cell());
  send(canvas, WheelEvent, "wheel", {...at, deltaY: -100});
  log.push(state.zoom);
  key(canvas, "0");
  for (const name of ["ArrowDown", "ArrowDown", "ArrowRight"]) key(canvas, name);
  log.push(state.zoom, cell());
  set("form", "lines");
  const row = {clientX: 50, clientY: canvas.getBoundingClientRect().top + 2.2 * LINE};
  send(canvas, PointerEvent, "pointermove", row);
  send(canvas, MouseEvent, "click", row);
  log.push(cell(), state.kept);
  by("views").children[0].click();
  by("grid").querySelector("button").focus();
  for (const name of ["ArrowDown", "ArrowRight"]) key(document.activeElement, name);
  log.push(head());
  set("order", "entropy");
  const found = [...by("grid").querySelectorAll("button")].map(b => parseFloat(b.title.split(": ")[1]));
  log.push(found.length, found.every((x, i) => !i || x <= found[i - 1]));
  set("order", "");
  [...by("grid").querySelectorAll("button")].pop().click();
  const n = panel.m.columns.length, sum = i => values().slice(i * n, i * n + n).reduce((a, b) => a + b, 0);
  log.push(head(), Math.abs(sum(0) - 1) < 1e-3 && Math.abs(sum(n - 1) - 1) < 1e-3);
  set("first", "hidden");
  log.push(values()[0], Math.abs(sum(1) - 1) < 1e-3);"""


def test_mouse_and_keys(folder):
    page = show(folder, "de-en", "Kannst du mir helfen diesen Satz zu übersetzen")
    log = drive(folder, page, MOUSE_AND_KEYS)
    assert re.fullmatch(r"Can ← Kannst \d\.\d\d\d", log[0]) and re.fullmatch(r"you ← du \d\.\d\d\d", log[3])
    assert log[1:3] == ["1.25", "1"] and log[4] == log[3] and log[5] == "1"
    assert log[6:10] == ["encoder, layer 2, head 2", "24", "true", "encoder, rollout over all layers"]
    assert log[10:] == ["true", "0", "true"]


def test_what_the_address_names_is_not_there(folder):
    for place in ("#%", "#self-attention,9,1", "#self-attention,1,1e9,lines", "#none,,,x"):
        assert "mean of its heads" in look(folder, "shakespeare", "my lord", place), place


# What was chosen stays while something else is chosen, and the address names it.
CHOICES = """
  const views = [...by("views").children], click = name => views.find(b => b.textContent === name).click();
  log.push(location.hash);
  set("scale", "percentile");
  set("order", "before");
  click("cross");
  log.push(head(), by("scale").value, by("order").value, location.hash);
  click("alignment");
  click("encoder");
  log.push(head(), by("scale").value, by("order").value, location.hash);
  const most = Math.max(...values());
  log.push(percentile(panel.m, most), percentile(panel.m, 0), [...values()].every(w => percentile(panel.m, w) <= 1));
  choose(0, -1);
  set("order", "entropy");
  log.push(location.hash, by("grid").querySelectorAll("[tabindex='0']").length);
  canvas.focus();
  const zoom = state.zoom;
  log.push(key(canvas, "+", {ctrlKey: true}), state.zoom === zoom, key(canvas, "+"), state.zoom > zoom);
  set("first", "hidden");
  log.push(state.zoom > zoom);
  key(canvas, "ArrowDown");
  const before = cell();
  key(canvas, "Escape");
  log.push(before.includes("\u2190"), cell() === "");
  log.push(follow("#encoder,rollout"), head(), follow("#cross,1,max"), head(), follow("#cross,rollout"), follow("#cross,0,1"));
  dispatchEvent(new Event("beforeprint"));
  log.push(root.className, colour("--paper"));
  dispatchEvent(new Event("afterprint"));
  log.push(root.className);"""


def test_what_was_chosen_stays(folder):
    page = show(folder, "de-en", "Das Buch, das auf dem Tisch liegt, geh\u00f6rt mir")
    log = drive(folder, page, CHOICES, "#encoder,2,3")
    assert log[0] == "#encoder,2,3"
    assert log[1:5] == ["cross, layer 2, head 3", "percentile", "", "#cross,2,3"]
    assert log[5:9] == ["encoder, layer 2, head 3", "percentile", "before", "#encoder,2,3"]
    assert log[9:12] == ["1", "0", "true"]
    assert log[12:14] == ["#encoder,1,mean", "1"]
    assert log[14:18] == ["true", "true", "false", "true"]  # dispatchEvent is false where the default was prevented
    assert log[18:21] == ["true", "true", "true"]
    assert log[21:27] == ["true", "encoder, rollout over all layers", "true", "cross, layer 1, greatest of its heads", "false", "false"]
    assert log[27:] == ["printed", "#fff", ""]


SCORES = """
  const v = view();
  for (let i = 0; i < v.layers * v.heads; i++) log.push(JSON.stringify(measured(v, Math.floor(i / v.heads), i % v.heads)));
  log.push(by("facts").textContent, JSON.stringify(meantIn(v)));"""


def scores(w, tokens):
    """The same from the weights themselves, by their definitions."""
    n = len(tokens)
    w = w / w.sum(1, keepdims=True)
    entropy = -(w * np.log2(np.where(w > 0, w, 1))).sum(1)
    away = np.abs(np.arange(n)[:, None] - np.arange(n))
    earlier = np.array([[tokens[i] == tokens[j] and j < i for j in range(n)] for i in range(n)])
    follows = np.array([[j > 0 and j < i and bool(earlier[i, j - 1]) for j in range(n)] for i in range(n)])
    on = lambda where: float((w * where).sum(1)[where.any(1)].mean())
    return {"entropy": entropy.mean(), "distance": (w * away).sum(1).mean(), "before": np.diag(w, -1).mean(), "after": np.diag(w, 1).mean(),
            "itself": np.diag(w).mean(), "first": w[1:, 0].mean(), "last": w[:-1, -1].mean(), "same": on(earlier), "induction": on(follows)}


def test_scores_of_heads(folder):
    text = "the cat and mamma saw the cat and the bird"
    page = show(folder, "shakespeare", text)
    subprocess.run([PROGRAM, "show", "-m", ROOT / "models/shakespeare", "-o", folder / "heads.npz", text], check=True)
    log = drive(folder, page, SCORES)
    arrays = np.load(folder / "heads.npz")
    weights, tokens = arrays["self_attention"].astype(np.float64), list(arrays["text"])
    heads = weights.reshape(-1, len(tokens), len(tokens))
    assert len(log) == len(heads) + 2
    for found, w in zip(log, heads):
        found = json.loads(found)
        for name, x in scores(w, tokens).items():
            assert abs(found[name] - x) < (0.1 if name in ("entropy", "distance") else 0.004), (name, found[name], x)
    assert json.loads(log[-1]) == ["entropy", "distance", "before", "itself", "first", "same", "induction"]  # it is causal


# Of every head the largest difference between its weights and the softmax of the scores of what it may see.
NEURONS = """
  const differ = v => {
    let worst = 0;
    for (let h = 0; h < v.layers * v.heads; h++) {
      const layer = Math.floor(h / v.heads), head = h % v.heads, x = vectorsOf(v, layer, head), C = v.columns.tokens.length;
      const w = ofTokens(v, layer, head);
      for (let i = 0; i < v.rows.tokens.length; i++) {
        const seen = j => !v.causal || j <= i, e = Array.from({length: C}, (_, j) => seen(j) ? Math.exp(scoreOf(x, i, j)) : 0);
        const sum = e.reduce((a, b) => a + b);
        for (let j = 0; j < C; j++) worst = Math.max(worst, Math.abs(e[j] / sum - w[i * C + j]));
      }
    }
    return worst;
  };
  for (const v of data.views) log.push(v.name + " " + (v.vectors ? differ(v) : "none"));
  log.push(head(), by("form").value, canvas.className, location.hash);
  set("form", "map");
  by("grid").querySelector("[data-head='-1']").click();
  set("units", "words");
  set("form", "neurons");
  log.push(head(), panel.m.rows.length === view().rows.tokens.length);
  const box = canvas.getBoundingClientRect();
  send(canvas, PointerEvent, "pointermove", {clientX: box.left + 5, clientY: box.top + 2.5 * LINE});
  log.push(cell(), chosenQuery(panel.m));
  send(canvas, MouseEvent, "click", {clientX: box.left + 5, clientY: box.top + 2.5 * LINE});
  send(canvas, PointerEvent, "pointermove", {clientX: box.left + panel.parts.key, clientY: box.top + 1.5 * LINE});
  log.push(cell(), chosenQuery(panel.m));
  key(canvas, "ArrowUp");
  key(canvas, "ArrowRight");
  log.push(chosenQuery(panel.m), state.column);
  key(canvas, "Escape");
  log.push(state.kept, chosenQuery(panel.m) === panel.m.rows.length - 1);
  by("grid").querySelector("[data-head='-1']").click();
  log.push(head(), cell() === "");
  const views = [...by("views").children];
  views[3].click();
  log.push(by("form").value, canvas.className, by("form").querySelector("[value=neurons]").disabled);
  views[0].click();
  log.push(by("form").value, location.hash);"""


def test_neurons(folder):
    page = show(folder, "de-en", "Der Hund schl\u00e4ft.", "--neurons")
    log = drive(folder, page, NEURONS, "#cross,2,5,neurons")
    assert [line.split()[0] for line in log[:4]] == ["encoder", "decoder", "cross", "alignment"] and log[3] == "alignment none"
    assert all(float(line.split()[1]) < 0.006 for line in log[:3]), log[:3]
    assert log[4:8] == ["cross, layer 2, head 5", "neurons", "neurons", "#cross,2,5,neurons"]
    log.insert(8, "")
    assert log[9:11] == ["cross, layer 1, head 1", "true"]
    assert log[12] == "1" and re.fullmatch(
        r"(\S+) ← (\S+) score −?\d+\.\d{3}, weight 0\.\d{3}; ([+−]\d+\.\d\d from \d+(, )?){4}", log[13]), log[13]
    assert log[13].startswith(log[11]) and log[14] == "1"
    assert log[15:19] == ["0", "1", "-1", "true"]
    assert log[19:21] == ["cross, layer 1, mean of its heads", "true"]
    assert log[21:] == ["map", "map", "true", "neurons", "#encoder,1,mean,neurons"]


def test_neurons_of_heads_that_share_keys(folder):
    text = folder / "text.txt"
    text.write_text("the dog and the cat sing and the dog and the cat laugh\n")
    given = ("hidden_size=16", "num_attention_heads=4", "num_key_value_heads=2", "num_hidden_layers=2", "intermediate_size=16",
             "max_position_embeddings=32")
    subprocess.run([PROGRAM, "train", "-q", "--model", "llama", "-d", text, "--valid", text, "--steps", "2", *(
        part for setting in given for part in ("--set", setting)), "-o", folder / "llama"], check=True)
    script = """
  const v = view();
  for (let h = 0; h < v.heads; h++) log.push(JSON.stringify([[...vectorsOf(v, 1, h).q], [...vectorsOf(v, 1, h).k]]));"""
    for choice in ((), ("--head", "3")):
        for name in ("page.html", "heads.npz"):
            subprocess.run([PROGRAM, "show", "-m", folder / "llama", "--neurons", "-o", folder / name, *choice, "the dog and"], check=True)
        arrays = np.load(folder / "heads.npz")
        queries, keys = arrays["self_attention_queries"][1], arrays["self_attention_keys"][1]
        assert (len(queries), len(keys)) == ((1, 1) if choice else (4, 2))
        log = drive(folder, folder / "page.html", script)
        for h, line in enumerate(log):
            q, k = (np.array(x) for x in json.loads(line))
            assert np.abs(q - queries[h].ravel()).max() < 1e-3 * np.abs(queries).max()
            assert np.abs(k - keys[h * len(keys) // len(queries)].ravel()).max() < 1e-3 * np.abs(keys).max()
        assert len(log) == len(queries)
        if not choice: whole = queries, keys
        else: assert (queries[0] == whole[0][2]).all() and (keys[0] == whole[1][1]).all()


TWO = """
  const [a, b, d] = panels, {rows, columns} = d.m;
  log.push(JSON.stringify(rows), d.m.signed, [...d.m.values].every((x, i) => x === Math.fround(b.m.values[i] - a.m.values[i])));
  log.push(a.place.cell === b.place.cell, a.place.top === d.place.top);
  const box = b.canvas.getBoundingClientRect(), at = {clientX: box.left + b.place.left + 5, clientY: box.top + b.place.top + 1.5 * b.place.cell};
  send(b.canvas, PointerEvent, "pointermove", at);
  log.push(cell());
  send(b.canvas, WheelEvent, "wheel", {...at, deltaY: -50});
  log.push(a.place.cell === b.place.cell, a.place.x === b.place.x && a.place.y === d.place.y, state.zoom);
  set("units", "tokens");
  log.push(d.m.rows.length, JSON.stringify([0, 1, 2, 3].map(h => measured(view(), 2, h).difference)));
  set("order", "difference");
  log.push([...by("grid").querySelectorAll("button")].length, /difference 0\\.\\d\\d$|difference 0\\.\\d\\d;/.test(by("facts").textContent));
  set("form", "lines");
  log.push(d.box.hidden, panels.map(p => p.canvas.className).join());
  set("form", "neurons");
  const x = vectorsOf(b.view(), state.layer, state.head);
  log.push(d.box.hidden, x.v === data.views[1], chosenQuery(b.m));"""


def test_two_texts(folder):
    texts = "my lord comes", "my lady comes"
    page = show(folder, "shakespeare", texts[0], "--beside", texts[1], "--neurons")
    log = drive(folder, page, TWO, "#self-attention,3,1")
    assert json.loads(log[0]) == ["my", "lord → lady", "comes"]
    assert log[1:5] == ["true"] * 4
    assert re.fullmatch(r"lord ← my 0\.\d{3}; lady ← my 0\.\d{3}; lord → lady ← my [+−]0\.\d{3}", log[5]), log[5]
    assert log[6:9] == ["true", "true", str(1.25**0.5)]
    subprocess.run([PROGRAM, "show", "-m", ROOT / "models/shakespeare", "--beside", texts[1], "-o", folder / "two.npz", texts[0]], check=True)
    arrays = np.load(folder / "two.npz")
    assert len(arrays["text_2"]) == len(texts[1])
    differ = np.abs(arrays["self_attention"][2] - arrays["self_attention_2"][2]).sum(-1).mean(-1) / 2
    assert log[9] == "13" and np.abs(np.array(json.loads(log[10])) - differ).max() < 0.01
    assert log[11:13] == ["16", "true"]
    assert log[13:] == ["true", "lines,lines,lines", "true", "true", "12"]


def test_two_models(folder):
    page = show(folder, "de-en", "Der Hund schläft.", "--beside-model", ROOT / "models/en-fr", "--target", "The dog")
    log = drive(folder, page, """
  log.push(panels[0].caption.textContent, panels[1].caption.textContent, by("about").textContent, canvas.getAttribute("aria-label"));""",
                "#cross,1,1")
    assert log[0] == f"Der Hund schläft. → The dog · {ROOT}/models/de-en" and log[1] == f"Der Hund schläft. → The dog · {ROOT}/models/en-fr"
    assert log[2:] == ["", "cross, layer 1, head 1: " + log[0]]


def test_two_texts_of_different_lengths(folder):
    page = show(folder, "de-en", "Der Hund schläft.", "--beside", "Der große Hund schläft.")
    log = drive(folder, page, """
  by("views").children[0].click();
  log.push(panels[2].m, panels[2].box.hidden, by("facts").textContent, meantIn(view()).includes("difference"));
  log.push(panels[0].caption.textContent, firsts().length, by("views").children.length);
  set("form", "lines");
  set("form", "map");
  state.row = panels[1].m.rows.length - 1;
  state.column = 0;
  draw();
  log.push(cell());""", "#cross,1,1")
    assert log[:2] == ["", "true"] and log[2].endswith("; no difference is drawn: 4 and 5 words look at 4 and 5") and log[3] == "false"
    assert log[4].startswith("Der Hund schläft. → ") and log[5:7] == ["4", "4"]
    assert re.fullmatch(r"</s> ← Der 0\.\d{3}", html.unescape(log[7])), log[7]
