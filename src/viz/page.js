"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const by = id => document.getElementById(id);
const make = (name, properties) => Object.assign(document.createElement(name), properties);
const dark = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
const isDark = () => dark.matches && !root.classList.contains("printed");
const LEVELS = 254; // a byte c is the weight (c / 254)²; 255 is no weight
const valueOf = Float32Array.from({length: 256}, (_, c) => c > LEVELS ? NaN : (c / LEVELS) ** 2);
const state = {view: data.view, layer: 0, head: 0, zoom: 1, x: 0, y: 0, row: -1, column: -1, kept: -1};
const view = () => data.views[state.view];
const two = data.beside > 0; // texts: view i + beside is of the second
// What is drawn: a text's head, or how the second differs: {at: 0, 1 or "difference", box, caption, canvas, m: the matrix}.
const panels = [];

// ---- weights -------------------------------------------------------------------------------------------------------

// Codes (rows · columns) of one head.
function codes(v, layer, head) {
  const n = v.rows.tokens.length * v.columns.tokens.length;
  const at = v.at + (layer * v.heads + head) * n;
  return weights.subarray(at, at + n);
}

// Head −1: the mean of a layer, −2: its greatest; layer −1: rollout (Abnar & Zuidema 2020).
function ofTokens(v, layer, head) {
  const n = v.rows.tokens.length * v.columns.tokens.length, out = new Float32Array(n);
  if (layer < 0) return rollout(v);
  if (head >= 0) {
    const c = codes(v, layer, head);
    for (let i = 0; i < n; i++) out[i] = valueOf[c[i]];
    return out;
  }
  for (let h = 0; h < v.heads; h++) {
    const c = codes(v, layer, h);
    if (head === -1) for (let i = 0; i < n; i++) out[i] += valueOf[c[i]] / v.heads;
    else for (let i = 0; i < n; i++) out[i] = Math.max(out[i], valueOf[c[i]]);
  }
  return out;
}

// Product over the layers of half the mean head and half what goes past it.
function rollout(v) {
  const n = v.rows.tokens.length;
  let out = null;
  for (let l = 0; l < v.layers; l++) {
    const a = ofTokens(v, l, -1);
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < n; j++) sum += a[i * n + j];
      for (let j = 0; j < n; j++) a[i * n + j] = 0.5 * a[i * n + j] / (sum || 1) + (i === j ? 0.5 : 0);
    }
    if (!out) { out = a; continue; }
    const next = new Float32Array(n * n);
    for (let i = 0; i < n; i++)
      for (let k = 0; k < n; k++) {
        const w = a[i * n + k];
        if (w) for (let j = 0; j < n; j++) next[i * n + j] += w * out[k * n + j];
      }
    out = next;
  }
  return out;
}

// Sums over the tokens of a word that is looked at, means over those of a word that looks.
function merge(v, w) {
  const R = v.rows, C = v.columns, n = C.words.length, out = new Float32Array(R.words.length * n);
  const size = new Float32Array(R.words.length);
  for (const g of R.word) size[g]++;
  for (let i = 0; i < R.tokens.length; i++)
    for (let j = 0; j < C.tokens.length; j++)
      out[R.word[i] * n + C.word[j]] += w[i * C.tokens.length + j] / size[R.word[i]];
  return out;
}

// What a panel draws: {rows, columns: labels, values}.
function matrix(v) {
  const neurons = by("form").value === "neurons", words = by("units").value === "words" && !neurons;
  let values = ofTokens(v, state.layer, state.head);
  if (by("first").value === "hidden" && !neurons) {
    const n = v.columns.tokens.length;
    for (let i = 0; i < v.rows.tokens.length; i++) {
      let sum = 0;
      values[i * n] = 0;
      for (let j = 1; j < n; j++) sum += values[i * n + j];
      if (sum > 0) for (let j = 1; j < n; j++) values[i * n + j] /= sum;
    }
  }
  if (words) values = merge(v, values);
  return {rows: words ? v.rows.words : v.rows.tokens, columns: words ? v.columns.words : v.columns.tokens, values};
}
// How the second text differs from the first, or null where their sizes do.
function difference(a, b) {
  if (a.rows.length !== b.rows.length || a.columns.length !== b.columns.length) return null;
  const both = (x, y) => x.map((text, i) => text === y[i] ? text : `${text} → ${y[i]}`);
  return {rows: both(a.rows, b.rows), columns: both(a.columns, b.columns), values: a.values.map((w, i) => b.values[i] - w), signed: true};
}

// ---- colours -------------------------------------------------------------------------------------------------------

const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
let table, signs; // of 256 steps, of −255 … 255; as 0xAABBGGRR
const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
const positive = () => isDark() ? "#7cc0ff" : "#0052a7";
function makeTable() {
  const stops = isDark() ? data.map.slice().reverse() : data.map;
  table = Uint32Array.from({length: 256}, (_, i) => {
    const at = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(at)), t = at - k;
    return packed([0, 1, 2].map(c => Math.round(stops[k][c] * (1 - t) + stops[k + 1][c] * t)));
  });
  const rgb = text => (text.length < 5 ? [...text.slice(1)].map(d => d + d) : text.slice(1).match(/../g)).map(d => parseInt(d, 16));
  const ground = rgb(colour("--paper")), above = rgb(positive()), below = rgb(colour("--mark"));
  signs = Uint32Array.from({length: 511}, (_, i) => {
    const t = Math.abs(i - 255) / 255, to = i < 255 ? below : above;
    return packed([0, 1, 2].map(c => Math.round(ground[c] + t * (to[c] - ground[c]))));
  });
}
const NONE = 0xff969696;
// A sample of the sizes of what is not 0, in order.
function inOrder(m) {
  const all = m.values, step = Math.ceil(all.length / 65536), out = [];
  for (let i = 0; i < all.length; i += step) if (all[i]) out.push(Math.abs(all[i]));
  return Float32Array.from(out).sort();
}
// The part of them that is at most w.
function percentile(m, w) {
  const all = m.ordered ||= inOrder(m);
  let low = 0, high = all.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle] <= w) low = middle + 1;
    else high = middle;
  }
  return low / (all.length || 1);
}
function strength(m, w, most) {
  switch (by("scale").value) {
  case "percentile": return w > 0 ? percentile(m, w) : 0;
  case "root": return Math.sqrt(w);
  case "log": return w > 1e-4 ? 1 + Math.log10(w) / 4 : 0;
  case "row": return most > 0 ? w / most : 0;
  default: return w;
  }
}
function pixel(m, w, most) {
  if (Number.isNaN(w)) return NONE;
  const step = Math.max(0, Math.min(255, Math.round(255 * strength(m, Math.abs(w), most))));
  return m.signed ? signs[w < 0 ? 255 - step : 255 + step] : table[step];
}
function rowMaxima(m) {
  if (m.maxima) return m.maxima;
  const n = m.columns.length, out = m.maxima = new Float32Array(m.rows.length);
  for (let i = 0; i < out.length; i++) for (let j = 0; j < n; j++) out[i] = Math.max(out[i], Math.abs(m.values[i * n + j]) || 0);
  return out;
}

// ---- all heads -----------------------------------------------------------------------------------------------------

const beside = v => data.views[data.views.indexOf(v) + data.beside];
const comparable = v => two && v.rows.tokens.length === beside(v).rows.tokens.length
  && v.columns.tokens.length === beside(v).columns.tokens.length;
// What heads are known by: a name, what its number is, and where it means something.
const any = () => true, square = v => v.square, around = v => v.square && !v.causal, notCausal = v => !v.causal;
const repeats = v => v.before.some(all => all.length), inducts = v => v.before.some((all, i) => all.some(j => j + 1 < i));
const MEASURES = {
  entropy: ["entropy", "bits of entropy, mean of the rows", any],
  distance: ["distance", "tokens away, mean of the weights", square],
  before: ["token before", "of the weight is on the token before (a previous-token head)", square],
  after: ["token after", "of the weight is on the token after", around],
  itself: ["itself", "of the weight is on the token itself", square],
  first: ["first token", "of the weight is on the first token (a sink)", any],
  last: ["last token", "of the weight is on the last token", notCausal],
  same: ["same token", "of the weight is on earlier occurrences of the token, where there are any (a duplicate-token head)", repeats],
  difference: ["difference", "of the weight is on other tokens in the second text", comparable],
  induction: ["induction", "of the weight is on what followed earlier occurrences of the token, where there are any (an induction head)", inducts]};

// Whether no row sees what comes after it.
function isCausal(v) {
  const n = v.rows.tokens.length;
  if (!v.square || n < 2) return false;
  for (let head = 0; head < v.layers * v.heads; head++) {
    const w = codes(v, 0, head);
    for (let i = 0; i < n; i++) for (let j = i + 1; j < n; j++) if (w[i * n + j] && w[i * n + j] <= LEVELS) return false;
  }
  return true;
}
// The places of each token's earlier occurrences.
function occurrences(tokens) {
  const seen = new Map();
  return tokens.map((token, i) => {
    const all = seen.get(token) || [];
    seen.set(token, [...all, i]);
    return all;
  });
}
function measure(v, layer, head) {
  const w = codes(v, layer, head), R = v.rows.tokens.length, C = v.columns.tokens.length;
  const sums = {}, rows = {}, other = data.views.indexOf(v) < data.beside && comparable(v) ? codes(beside(v), layer, head) : null;
  // A row counts where it has something to look at.
  const add = (key, x) => { sums[key] = (sums[key] || 0) + x; rows[key] = (rows[key] || 0) + 1; };
  for (let i = 0; i < R; i++) {
    const at = j => j < 0 || j >= C || w[i * C + j] > LEVELS ? 0 : valueOf[w[i * C + j]];
    let sum = 0, plogp = 0, away = 0, changed = 0;
    for (let j = 0; j < C; j++) {
      const x = at(j);
      if (other) changed += Math.abs(x - (valueOf[other[i * C + j]] || 0)) / 2;
      if (!x) continue;
      sum += x;
      plogp += x * Math.log2(x);
      away += x * Math.abs(i - j);
    }
    if (!(sum > 0)) continue;
    if (other) add("difference", changed);
    add("entropy", Math.max(0, Math.log2(sum) - plogp / sum));
    if (!v.square || i) add("first", at(0) / sum); // the first token of a text that looks at itself may have no choice
    if (!v.square || i < R - 1) add("last", at(C - 1) / sum);
    if (!v.square) continue;
    add("distance", away / sum);
    add("itself", at(i) / sum);
    if (i) add("before", at(i - 1) / sum);
    if (i < R - 1) add("after", at(i + 1) / sum);
    const before = v.before[i], after = before.filter(j => j + 1 < i);
    if (before.length) add("same", before.reduce((s, j) => s + at(j), 0) / sum);
    if (after.length) add("induction", after.reduce((s, j) => s + at(j + 1), 0) / sum);
  }
  for (const key in sums) sums[key] /= rows[key];
  return sums;
}
function measured(v, layer, head) {
  v.measures ||= [];
  return v.measures[layer * v.heads + head] ||= measure(v, layer, head);
}
const measuresOf = v => Array.from({length: v.layers * v.heads}, (_, i) => measured(v, Math.floor(i / v.heads), i % v.heads));
const meantIn = v => Object.keys(MEASURES).filter(key => MEASURES[key][2](v));
const digits = key => key === "distance" ? 1 : 2;

// A picture of at most 64 × 64 pixels; each shows the greatest of its cells.
function thumbnail(v, layer, head, side) {
  const R = v.rows.tokens.length, C = v.columns.tokens.length, k = Math.ceil(Math.max(R, C) / side);
  const w = Math.ceil(C / k), h = Math.ceil(R / k), c = codes(v, layer, head), most = new Uint8Array(w * h);
  for (let i = 0; i < R; i++)
    for (let j = 0; j < C; j++) {
      const at = Math.floor(i / k) * w + Math.floor(j / k), x = c[i * C + j];
      if (x <= LEVELS && x > most[at]) most[at] = x;
    }
  const image = new ImageData(w, h), bits = new Uint32Array(image.data.buffer);
  for (let i = 0; i < bits.length; i++) bits[i] = table[most[i]]; // the root of the weight
  const canvas = make("canvas", {width: w, height: h});
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
const nameOf = (v, layer, head) => layer < 0 ? "rollout over all layers"
  : `layer ${v.first + layer}, ` + (head === -1 ? "mean of its heads" : head === -2 ? "greatest of its heads" : `head ${v.firstHead + head}`);

const hasRollout = v => v.square && v.layers > 1 && v.whole && v.rows.tokens.length <= 600;

let round = 0; // thumbnails of an older overview stop
function drawOverview() {
  const v = view(), grid = by("grid"), order = by("order").value, own = ++round;
  document.querySelector("main").classList.toggle("one", v.layers * v.heads === 1);
  by("ordering").hidden = v.layers * v.heads === 1;
  const tiles = [];
  const tile = (layer, head, text) => {
    const button = make("button", {type: "button", title: nameOf(v, layer, head)});
    button.dataset.layer = layer;
    button.dataset.head = head;
    button.setAttribute("aria-label", nameOf(v, layer, head));
    button.onclick = () => choose(layer, head);
    if (text) button.append(make("span", {textContent: text}));
    tiles.push(button);
    return button;
  };
  grid.replaceChildren();
  if (order) {
    const found = measuresOf(v).map((x, i) => [x[order] ?? -1, i]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    grid.style.gridTemplateColumns = `repeat(${Math.min(found.length, 8)}, minmax(40px, 52px))`;
    for (const [x, i] of found) {
      const layer = Math.floor(i / v.heads), head = i % v.heads, number = x < 0 ? "–" : x.toFixed(digits(order));
      const button = tile(layer, head, `${v.first + layer}.${v.firstHead + head}: ${number}`);
      button.title += `: ${number} ${MEASURES[order][1]}`;
      grid.append(button);
    }
  } else {
    grid.style.gridTemplateColumns = `2em repeat(${v.heads}, minmax(24px, 44px))` + (v.heads > 1 ? " 3.2em 3.2em" : "");
    for (let l = 0; l < v.layers; l++) {
      grid.append(make("span", {textContent: v.first + l}));
      for (let h = 0; h < v.heads; h++) grid.append(tile(l, h));
      if (v.heads > 1) grid.append(tile(l, -1, "mean"), tile(l, -2, "max"));
    }
    if (hasRollout(v)) {
      const button = tile(-1, 0, "rollout");
      button.style.gridColumn = "2 / -1";
      grid.append(button);
    }
  }
  const todo = tiles.filter(t => t.dataset.head >= 0 && t.dataset.layer >= 0);
  (function some() { // the page stays awake
    const until = performance.now() + 12;
    while (todo.length && own === round && performance.now() < until) {
      const t = todo.shift();
      t.prepend(thumbnail(v, +t.dataset.layer, +t.dataset.head, 64));
    }
    if (todo.length && own === round) setTimeout(some);
  })();
  mark();
}
function mark() {
  const all = [...by("grid").querySelectorAll("button")];
  const is = t => +t.dataset.layer === state.layer && +t.dataset.head === state.head;
  const chosen = all.find(is) || all[0]; // the way in for the keyboard
  for (const t of all) {
    t.setAttribute("aria-pressed", is(t));
    t.tabIndex = t === chosen ? 0 : -1;
  }
}
by("grid").onkeydown = event => {
  const all = [...by("grid").querySelectorAll("button")], at = all.indexOf(document.activeElement);
  if (at < 0) return;
  const box = all[at].getBoundingClientRect(), middle = box.left + box.width / 2;
  const beside = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1}[event.key];
  let next = all[beside];
  if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const down = event.key === "ArrowDown" ? 1 : -1;
    next = all.map(t => [t, t.getBoundingClientRect()]).filter(([, b]) => (b.top - box.top) * down > 2)
      .sort(([, a], [, b]) => (a.top - b.top) * down || Math.abs(a.left + a.width / 2 - middle) - Math.abs(b.left + b.width / 2 - middle))[0]?.[0];
  }
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
};

// ---- what is chosen ------------------------------------------------------------------------------------------------

const said = text => make("bdi", {textContent: text}); // its direction is its own
function sayOf(p) {
  const {m} = p, r = state.row, c = state.column;
  if (r < 0 || r >= m.rows.length) return [];
  if (c < 0 || c >= m.columns.length) return [said(m.rows[r])];
  const w = m.values[r * m.columns.length + c], sign = m.signed && w >= 0 ? "+" : "";
  return [said(m.rows[r]), " ← ", said(m.columns[c]), " ", Number.isNaN(w) ? "no weight" : sign + w.toFixed(3).replace("-", "−")];
}
const formOf = () => FORMS[by("form").value];
function say() {
  const parts = panels.filter(p => !p.box.hidden).map(p => (formOf().say || sayOf)(p)).filter(part => part.length);
  by("cell").replaceChildren(...parts.flatMap((part, i) => i ? ["; ", ...part] : part));
}
function draw() {
  for (const p of panels) if (!p.box.hidden) formOf().draw(p);
  say();
}
// What the address says after #: cross,2,5,lines; a layer's mean or max in place of a head; encoder,rollout.
function named() {
  const v = view(), parts = [encodeURIComponent(v.name)];
  if (state.layer < 0) parts.push("rollout", "");
  else parts.push(v.first + state.layer, state.head === -1 ? "mean" : state.head === -2 ? "max" : v.firstHead + state.head);
  if (by("form").value !== "map") parts.push(by("form").value);
  return "#" + parts.join(",").replace(/,$/, "");
}
function note() {
  try { history.replaceState(null, "", named()); } catch { /* a frame without an address */ }
}
const MANY = {mean: -1, max: -2};
function follow(address) {
  const [name, layer, head, form] = address.slice(1).split(",");
  const index = firsts().findIndex(v => encodeURIComponent(v.name) === name), v = data.views[index];
  if (!v) return false;
  const number = (text, first, n) => /^\d+$/.test(text) && text - first >= 0 && text - first < n ? text - first : null;
  let l = number(layer, v.first, v.layers), h = number(head, v.firstHead, v.heads);
  if (layer === "rollout" && hasRollout(v)) l = -1, h = 0;
  else if (v.heads > 1 && Object.hasOwn(MANY, head)) h = MANY[head];
  if (l === null || h === null) return false;
  wantedForm = Object.hasOwn(FORMS, form) ? form : "map";
  open(index, l, h);
  return true;
}

// The texts' matrices, and whether there is a difference to draw.
function fill() {
  const neurons = by("form").value === "neurons", map = by("form").value === "map";
  for (const id of ["units", "scale", "first"]) by(id).disabled = neurons; // they are those of tokens as they are
  by("panels").classList.toggle("one", !two || neurons);
  for (const p of panels) {
    if (p.at !== "difference") p.m = matrix(p.view());
    else p.m = map ? difference(panels[0].m, panels[1].m) : null;
    if (p.at === "difference") {
      const [a, b] = panels.map(x => x.m), kind = by("units").value;
      p.box.hidden = !p.m;
      if (map && !p.m) by("facts").append(
        `; no difference is drawn: ${a.rows.length} and ${b.rows.length} ${kind} look at ${a.columns.length} and ${b.columns.length}`);
    }
    p.canvas.className = by("form").value;
    p.canvas.style.touchAction = "auto";
    p.canvas.setAttribute("aria-label", two ? `${by("head").textContent}: ${p.caption.textContent}` : by("head").textContent);
  }
}

const firsts = () => two ? data.views.slice(0, data.beside) : data.views; // those of the first text
let wanted = null; // the head that was chosen last, where there are several
function choose(layer, head) {
  const v = view(), several = v.layers * v.heads > 1;
  state.layer = layer;
  state.head = head;
  if (several) wanted = {layer, head};
  by("head").textContent = several ? `${v.name}, ${nameOf(v, layer, head)}` : v.name;
  const [rows, columns] = v.square ? ["who looks", "what is looked at"] : [v.rows.name, v.columns.name];
  by("facts").replaceChildren({map: `${rows} down the left, ${columns} along the top`, lines: `${rows} on the left, ${columns} on the right`,
    neurons: "a query beside every key, number by number: their products add up to the score"}[by("form").value]);
  if (layer >= 0 && head >= 0) {
    const x = measured(v, layer, head), y = two ? measured(beside(v), layer, head) : {};
    for (const key of meantIn(v)) {
      if (!(key in x)) continue;
      const second = key in y ? " and " + y[key].toFixed(digits(key)) : "";
      by("facts").append("; ", make("span", {textContent: `${MEASURES[key][0]} ${x[key].toFixed(digits(key))}${second}`,
        title: `${x[key].toFixed(3)} ${MEASURES[key][1]}`}));
    }
  }
  fill();
  mark();
  draw();
  note();
}
function forget() { Object.assign(state, {zoom: 1, x: 0, y: 0, row: -1, column: -1, kept: -1}); }
let scaled = false, ordered = "", wantedForm = "map"; // what was chosen by hand stays
function open(index, layer, head) {
  state.view = index;
  forget();
  const v = view(), same = x => x.words.length === x.tokens.length;
  const texts = two ? [v, beside(v)] : [v], sizes = texts.flatMap(x => [x.rows.tokens.length, x.columns.tokens.length]);
  if (!scaled) by("scale").value = Math.max(...sizes) > 64 ? "root" : "linear";
  for (const b of by("views").children) b.setAttribute("aria-pressed", +b.dataset.view === index);
  for (const b of by("views").children) b.style.borderColor = +b.dataset.view === index ? "var(--mark)" : "";
  by("units").parentNode.hidden = texts.every(x => same(x.rows) && same(x.columns));
  const neurons = by("form").querySelector("[value=neurons]");
  neurons.hidden = neurons.disabled = !v.vectors;
  by("form").value = wantedForm === "neurons" && !v.vectors ? "map" : wantedForm;
  const meant = meantIn(v);
  for (const o of by("order").options) o.hidden = o.disabled = !!o.value && !meant.includes(o.value);
  by("order").value = meant.includes(ordered) ? ordered : "";
  state.layer = layer;
  state.head = head;
  drawOverview();
  choose(layer, head);
}
// Another view, at the same head if it has that.
function change(index) {
  const v = data.views[index], several = v.heads > 1;
  let {layer, head} = wanted || {layer: 0, head: -1};
  if (layer < 0 && !hasRollout(v)) layer = 0, head = -1;
  open(index, Math.min(layer, v.layers - 1), several || layer < 0 ? Math.min(head, v.heads - 1) : 0);
}

// The panels under one another.
by("save").onclick = () => {
  const all = panels.filter(p => !p.box.hidden).map(p => p.canvas);
  const width = Math.max(...all.map(c => c.width)), height = all.reduce((sum, c) => sum + c.height, 0), scale = Math.min(1, 32767 / height);
  const picture = make("canvas", {width: Math.round(width * scale), height: Math.round(height * scale)}), g = picture.getContext("2d");
  g.fillStyle = colour("--paper");
  g.fillRect(0, 0, picture.width, picture.height);
  let y = 0;
  for (const c of all) g.drawImage(c, 0, y * scale, c.width * scale, c.height * scale), y += c.height;
  picture.toBlob(blob => {
    const name = decodeURIComponent(named().slice(1)).replace(/[^\p{L}\p{N}]+/gu, "-");
    const link = make("a", {href: URL.createObjectURL(blob), download: name + ".png"});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
};

// ---- the beginning -------------------------------------------------------------------------------------------------

let weights;
async function unpack() {
  const text = atob(by("weights").textContent), packed = Uint8Array.from(text, c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  weights = new Uint8Array(await new Response(stream).arrayBuffer());
}
function start() {
  document.querySelector("h1").textContent = data.title;
  by("about").textContent = data.about;
  by("order").append(make("option", {value: "", textContent: "order of the model"}));
  for (const key in MEASURES) by("order").append(make("option", {value: key, textContent: "by " + MEASURES[key][0]}));
  for (const v of data.views) {
    v.causal = isCausal(v);
    v.before = v.square ? occurrences(v.rows.tokens) : [];
  }
  firsts().forEach((v, i) => {
    const button = make("button", {type: "button", textContent: v.name});
    button.dataset.view = i;
    button.onclick = () => change(i);
    by("views").append(button, " ");
  });
  by("views").hidden = firsts().length < 2;
  by("order").onchange = () => { ordered = by("order").value; drawOverview(); };
  by("units").onchange = () => { forget(); choose(state.layer, state.head); };
  by("first").onchange = () => choose(state.layer, state.head);
  by("scale").onchange = () => { scaled = true; draw(); };
  by("form").onchange = () => {
    const one = by("form").value === "neurons", other = panels[0].canvas.className === "neurons"; // which are of tokens, and of one head
    wantedForm = by("form").value;
    if (one !== other) forget();
    if (one && state.layer >= 0) choose(state.layer, Math.max(0, state.head));
    else choose(state.layer, state.head);
  };
  makePanels();
  makeTable();
  const redraw = () => { makeTable(); drawOverview(); draw(); };
  dark.onchange = redraw;
  addEventListener("beforeprint", () => { root.classList.add("printed"); redraw(); });
  addEventListener("afterprint", () => { root.classList.remove("printed"); redraw(); });
  addEventListener("hashchange", () => follow(location.hash) || note());
  let width = 0;
  new ResizeObserver(() => {
    if (width === by("panels").clientWidth) return;
    width = by("panels").clientWidth;
    requestAnimationFrame(draw);
  }).observe(by("panels"));
  if (!follow(location.hash)) open(data.view, data.layer, data.head);
  root.dataset.ready = "yes";
}
unpack().then(start, error => { by("about").textContent = "The weights of this page cannot be read here: " + error.message; });
