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

// What is drawn: {rows, columns: labels, values}.
function matrix() {
  const v = view(), neurons = by("form").value === "neurons", words = by("units").value === "words" && !neurons;
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
let shown = null;

// ---- colours -------------------------------------------------------------------------------------------------------

const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
let table; // of 256 steps, as 0xAABBGGRR
function makeTable() {
  const stops = isDark() ? data.map.slice().reverse() : data.map;
  table = Uint32Array.from({length: 256}, (_, i) => {
    const at = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, Math.floor(at)), t = at - k;
    const [r, g, b] = [0, 1, 2].map(c => Math.round(stops[k][c] * (1 - t) + stops[k + 1][c] * t));
    return (255 << 24 | b << 16 | g << 8 | r) >>> 0;
  });
}
const NONE = 0xff969696;
// A sample of the weights that are not 0, in order.
function inOrder(m) {
  const all = m.values, step = Math.ceil(all.length / 65536), out = [];
  for (let i = 0; i < all.length; i += step) if (all[i] > 0) out.push(all[i]);
  return Float32Array.from(out).sort();
}
// The part of them that is at most w.
function percentile(w) {
  const all = shown.ordered ||= inOrder(shown);
  let low = 0, high = all.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle] <= w) low = middle + 1;
    else high = middle;
  }
  return low / (all.length || 1);
}
function strength(w, most) {
  switch (by("scale").value) {
  case "percentile": return w > 0 ? percentile(w) : 0;
  case "root": return Math.sqrt(w);
  case "log": return w > 1e-4 ? 1 + Math.log10(w) / 4 : 0;
  case "row": return most > 0 ? w / most : 0;
  default: return w;
  }
}
const pixel = (w, most) => Number.isNaN(w) ? NONE : table[Math.max(0, Math.min(255, Math.round(255 * strength(w, most))))];
function rowMaxima(m) {
  const n = m.columns.length, out = new Float32Array(m.rows.length);
  for (let i = 0; i < out.length; i++) for (let j = 0; j < n; j++) out[i] = Math.max(out[i], m.values[i * n + j] || 0);
  return out;
}

// ---- the heat map --------------------------------------------------------------------------------------------------

const ROOM = 150, FONT = "12px \"DejaVu Sans\", Verdana, \"Noto Sans\", sans-serif";
function fitted(canvas, height) {
  const width = canvas.parentNode.clientWidth;
  const scale = Math.min(devicePixelRatio || 1, 32767 / height); // a browser draws nothing on a taller one
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const g = canvas.getContext("2d");
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.font = FONT;
  g.textBaseline = "middle";
  return {g, width, height};
}
function clipped(g, text, width) {
  if (g.measureText(text).width <= width) return text;
  const all = [...text];
  while (all.length && g.measureText(all.join("") + "…").width > width) all.pop();
  return all.join("") + "…";
}
function widest(g, labels, most) {
  g.font = FONT;
  let out = 0;
  for (const text of labels) if (out < most) out = Math.min(most, Math.max(out, g.measureText(text).width));
  return out;
}
let place; // where the cells lie: {left, top, width, height, cell}
function drawMap() {
  const m = shown, R = m.rows.length, C = m.columns.length, map = by("map"), width = map.parentNode.clientWidth;
  const most = Math.min(ROOM, width / 4), left = widest(map.getContext("2d"), m.rows, most) + 12;
  const beyond = Math.max(30, 0.71 * widest(map.getContext("2d"), m.columns.slice(-3), most)); // of slanted words
  const least = Math.min(44, (width - left - beyond) / C, 560 / R), cell = least * state.zoom, slanted = cell > 22;
  const top = (widest(map.getContext("2d"), m.columns, most) + 8) * (slanted ? 0.71 : 1) + 14;
  const w = Math.min(width - left, cell * C), h = Math.min(640, cell * R);
  const {g} = fitted(map, top + h + 4);
  state.x = Math.max(0, Math.min(state.x, cell * C - w));
  state.y = Math.max(0, Math.min(state.y, cell * R - h));
  place = {left, top, width: w, height: h, cell, slanted, most};
  map.style.touchAction = state.zoom > 1 ? "none" : "auto"; // a finger moves the page unless there is something to move
  const k = Math.max(1, Math.floor(1 / cell)); // cells a pixel shows the greatest of
  const r0 = Math.floor(state.y / cell / k) * k, c0 = Math.floor(state.x / cell / k) * k;
  const r1 = Math.min(R, Math.ceil((state.y + h) / cell)), c1 = Math.min(C, Math.ceil((state.x + w) / cell));
  const iw = Math.max(1, Math.ceil((c1 - c0) / k)), ih = Math.max(1, Math.ceil((r1 - r0) / k));
  const image = new ImageData(iw, ih), bits = new Uint32Array(image.data.buffer), maxima = rowMaxima(m);
  for (let i = 0; i < ih; i++)
    for (let j = 0; j < iw; j++) {
      let best = -1, of = 0;
      for (let r = r0 + i * k; r < Math.min(r1, r0 + (i + 1) * k); r++)
        for (let c = c0 + j * k; c < Math.min(c1, c0 + (j + 1) * k); c++) {
          const x = m.values[r * C + c];
          if (x > best || Number.isNaN(x)) best = x, of = maxima[r];
        }
      bits[i * iw + j] = pixel(best < 0 ? 0 : best, of);
    }
  const small = make("canvas", {width: iw, height: ih});
  small.getContext("2d").putImageData(image, 0, 0);
  g.save();
  g.beginPath();
  g.rect(left, top, w, h);
  g.clip();
  g.imageSmoothingEnabled = false;
  g.drawImage(small, left + c0 * cell - state.x, top + r0 * cell - state.y, iw * k * cell, ih * k * cell);
  if (cell >= 12) {
    g.fillStyle = colour("--paper");
    for (let j = c0; j <= c1; j++) g.fillRect(left + j * cell - state.x - 0.5, top, 1, h);
    for (let i = r0; i <= r1; i++) g.fillRect(left, top + i * cell - state.y - 0.5, w, 1);
  }
  g.strokeStyle = colour("--mark");
  g.lineWidth = 2;
  if (state.row >= 0 && state.column >= 0)
    g.strokeRect(left + state.column * cell - state.x, top + state.row * cell - state.y, Math.max(cell, 3), Math.max(cell, 3));
  g.restore();
  rulers(g, m);
}
function rulers(g, m) {
  const {left, top, width, height, cell, slanted, most} = place;
  const every = Math.max(1, Math.ceil(14 / cell));
  const ink = colour("--ink"), mark = colour("--mark");
  g.textAlign = "right";
  for (let i = 0; i < m.rows.length; i++) {
    const y = top + (i + 0.5) * cell - state.y;
    if ((i % every && i !== state.row) || y < top || y > top + height) continue;
    g.fillStyle = i === state.row ? mark : ink;
    g.fillText(clipped(g, m.rows[i], most), left - 6, y);
  }
  g.textAlign = "left";
  for (let j = 0; j < m.columns.length; j++) {
    const x = left + (j + 0.5) * cell - state.x;
    if ((j % every && j !== state.column) || x < left || x > left + width) continue;
    g.save();
    g.translate(x, top - 8);
    g.rotate(slanted ? -Math.PI / 4 : -Math.PI / 2);
    g.fillStyle = j === state.column ? mark : ink;
    g.fillText(clipped(g, m.columns[j], most), 0, 0);
    g.restore();
  }
}

// ---- lines from those who look to what they look at ----------------------------------------------------------------

const LINE = 20;
function drawLines() {
  const m = shown, R = m.rows.length, C = m.columns.length, canvas = by("lines");
  const {g, width} = fitted(canvas, (Math.max(R, C) + 1) * LINE + 8);
  const room = Math.min(ROOM, width / 3), gap = Math.min(width - 2 * room, 420), right = room + gap, most = rowMaxima(m);
  const y = i => (i + 1.5) * LINE, chosen = state.kept >= 0 ? state.kept : state.row;
  g.fillStyle = colour("--soft");
  g.textAlign = "right";
  g.fillText(clipped(g, view().rows.name, room - 10), room - 6, LINE / 2);
  g.textAlign = "left";
  g.fillText(clipped(g, view().columns.name, room - 10), right + 6, LINE / 2);
  g.strokeStyle = isDark() ? "#7cc0ff" : "#0052a7";
  const few = R * C <= 40000;
  for (let i = 0; i < R; i++) {
    if (chosen >= 0 ? i !== chosen : !few) continue;
    for (let j = 0; j < C; j++) {
      const s = strength(m.values[i * C + j], most[i]);
      if (!(s > 0.02)) continue;
      g.globalAlpha = Math.min(1, s);
      g.lineWidth = 0.5 + 2.5 * s;
      g.beginPath();
      g.moveTo(room, y(i));
      g.bezierCurveTo(room + gap / 3, y(i), right - gap / 3, y(j), right, y(j));
      g.stroke();
    }
  }
  g.globalAlpha = 1;
  g.textAlign = "right";
  for (let i = 0; i < R; i++) {
    g.fillStyle = i === chosen ? colour("--mark") : colour("--ink");
    g.fillText(clipped(g, m.rows[i], room - 10), room - 6, y(i));
  }
  g.textAlign = "left";
  for (let j = 0; j < C; j++) {
    const s = chosen >= 0 ? strength(m.values[chosen * C + j], most[chosen]) : 1;
    g.globalAlpha = Math.max(0.35, Math.min(1, s + 0.2));
    g.fillStyle = colour("--ink");
    g.fillText(clipped(g, m.columns[j], room - 10), right + 6, y(j));
  }
  g.globalAlpha = 1;
}

// ---- all heads -----------------------------------------------------------------------------------------------------

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
  const sums = {}, rows = {};
  // A row counts where it has something to look at.
  const add = (key, x) => { sums[key] = (sums[key] || 0) + x; rows[key] = (rows[key] || 0) + 1; };
  for (let i = 0; i < R; i++) {
    const at = j => j < 0 || j >= C || w[i * C + j] > LEVELS ? 0 : valueOf[w[i * C + j]];
    let sum = 0, plogp = 0, away = 0;
    for (let j = 0; j < C; j++) {
      const x = at(j);
      if (!x) continue;
      sum += x;
      plogp += x * Math.log2(x);
      away += x * Math.abs(i - j);
    }
    if (!(sum > 0)) continue;
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

const FORMS = ["map", "lines", "neurons"];
const said = text => make("bdi", {textContent: text}); // its direction is its own
function say() {
  if (by("form").value === "neurons") return sayNeurons();
  const m = shown, r = state.row, c = state.column, cell = by("cell");
  cell.replaceChildren();
  if (r < 0 || r >= m.rows.length) return;
  cell.append(said(m.rows[r]));
  if (c < 0 || c >= m.columns.length) return;
  const w = m.values[r * m.columns.length + c];
  cell.append(" ← ", said(m.columns[c]), " ", Number.isNaN(w) ? "no weight" : w.toFixed(3));
}
function draw() {
  const form = by("form").value, neurons = form === "neurons";
  for (const id of FORMS) by(id).hidden = id !== form;
  for (const id of ["units", "scale", "first"]) by(id).disabled = neurons; // they are those of tokens as they are
  ({map: drawMap, lines: drawLines, neurons: drawNeurons})[form]();
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
  const index = data.views.findIndex(v => encodeURIComponent(v.name) === name), v = data.views[index];
  const known = [...by("form").options].some(o => o.value === form && !o.disabled);
  by("form").value = known ? form : "map";
  if (!v) return false;
  const number = (text, first, n) => /^\d+$/.test(text) && text - first >= 0 && text - first < n ? text - first : null;
  let l = number(layer, v.first, v.layers), h = number(head, v.firstHead, v.heads);
  if (layer === "rollout" && hasRollout(v)) l = -1, h = 0;
  else if (v.heads > 1 && Object.hasOwn(MANY, head)) h = MANY[head];
  if (l === null || h === null) return false;
  open(index, l, h);
  return true;
}

let wanted = null; // the head that was chosen last, where there are several
function choose(layer, head) {
  const v = view(), several = v.layers * v.heads > 1;
  state.layer = layer;
  state.head = head;
  if (several) wanted = {layer, head};
  shown = matrix();
  by("head").textContent = several ? `${v.name}, ${nameOf(v, layer, head)}` : v.name;
  const [rows, columns] = v.square ? ["who looks", "what is looked at"] : [v.rows.name, v.columns.name];
  by("facts").replaceChildren({map: `${rows} down the left, ${columns} along the top`, lines: `${rows} on the left, ${columns} on the right`,
    neurons: "a query beside every key, number by number: their products add up to the score"}[by("form").value]);
  if (layer >= 0 && head >= 0) {
    const x = measured(v, layer, head);
    for (const key of meantIn(v))
      if (key in x) by("facts").append("; ", make("span", {textContent: `${MEASURES[key][0]} ${x[key].toFixed(digits(key))}`,
        title: `${x[key].toFixed(3)} ${MEASURES[key][1]}`}));
  }
  for (const id of FORMS) by(id).setAttribute("aria-label", by("head").textContent);
  mark();
  draw();
  note();
}
function forget() { Object.assign(state, {zoom: 1, x: 0, y: 0, row: -1, column: -1, kept: -1}); }
let scaled = false, ordered = ""; // what was chosen by hand stays
function open(index, layer, head) {
  state.view = index;
  forget();
  const v = view(), same = x => x.words.length === x.tokens.length;
  if (!scaled) by("scale").value = Math.max(v.rows.tokens.length, v.columns.tokens.length) > 64 ? "root" : "linear";
  for (const b of by("views").children) b.setAttribute("aria-pressed", +b.dataset.view === index);
  for (const b of by("views").children) b.style.borderColor = +b.dataset.view === index ? "var(--mark)" : "";
  by("units").parentNode.hidden = same(v.rows) && same(v.columns);
  const neurons = by("form").querySelector("[value=neurons]");
  neurons.hidden = neurons.disabled = !v.vectors;
  if (!v.vectors && by("form").value === "neurons") by("form").value = "map";
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

// ---- mouse, keys ---------------------------------------------------------------------------------------------------

function enlarge(factor, x, y) {
  const zoom = Math.max(1, Math.min(state.zoom * factor, 60 / Math.min(60, place.cell / state.zoom)));
  const real = zoom / state.zoom;
  state.x = (state.x + x) * real - x;
  state.y = (state.y + y) * real - y;
  state.zoom = zoom;
  drawMap();
}
const map = by("map");
let drag = null;
function cellAt(event) {
  const box = map.getBoundingClientRect(), x = event.clientX - box.left - place.left, y = event.clientY - box.top - place.top;
  const inside = x >= 0 && y >= 0 && x < place.width && y < place.height;
  return {x, y, row: inside ? Math.floor((y + state.y) / place.cell) : -1, column: inside ? Math.floor((x + state.x) / place.cell) : -1};
}
map.onwheel = event => {
  const at = cellAt(event);
  if (at.row < 0) return;
  if (state.zoom === 1 && event.deltaY >= 0) return; // nothing is smaller: the page moves
  event.preventDefault();
  const steps = Math.max(-2, Math.min(2, event.deltaY / (event.deltaMode ? 3 : 100)));
  enlarge(1.25 ** -steps, at.x, at.y);
};
map.onpointerdown = event => {
  drag = {x: event.clientX + state.x, y: event.clientY + state.y};
  map.setPointerCapture(event.pointerId);
};
map.onpointerup = map.onpointercancel = () => { drag = null; };
map.onpointermove = event => {
  if (drag) state.x = drag.x - event.clientX, state.y = drag.y - event.clientY;
  const at = cellAt(event);
  if (!drag && at.row === state.row && at.column === state.column) return;
  state.row = at.row;
  state.column = at.column;
  drawMap();
  say();
};
map.onpointerleave = () => { state.row = state.column = -1; drawMap(); say(); };
map.onkeydown = event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
  const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
  if (step) {
    const clamp = (x, n) => Math.max(0, Math.min(n - 1, x));
    state.row = clamp(Math.max(0, state.row) + (state.row < 0 ? 0 : step[0]), shown.rows.length);
    state.column = clamp(Math.max(0, state.column) + (state.column < 0 ? 0 : step[1]), shown.columns.length);
    const {cell, width, height} = place;
    state.x = Math.min(Math.max(state.x, (state.column + 1) * cell - width), state.column * cell);
    state.y = Math.min(Math.max(state.y, (state.row + 1) * cell - height), state.row * cell);
    drawMap();
    say();
  } else if (event.key === "+" || event.key === "=") enlarge(1.25, place.width / 2, place.height / 2);
  else if (event.key === "-") enlarge(0.8, place.width / 2, place.height / 2);
  else if (event.key === "0") { forget(); drawMap(); say(); }
  else if (event.key === "Escape") { state.row = state.column = -1; drawMap(); say(); }
  else return;
  event.preventDefault();
};
const lines = by("lines");
const lineAt = event => {
  const i = Math.floor((event.clientY - lines.getBoundingClientRect().top) / LINE - 1);
  return i >= 0 && i < shown.rows.length ? i : -1;
};
lines.onpointermove = event => { const i = lineAt(event); if (i !== state.row) { state.row = i; drawLines(); say(); } };
lines.onpointerleave = () => { state.row = -1; drawLines(); say(); };
lines.onclick = event => { const i = lineAt(event); state.kept = i === state.kept ? -1 : i; drawLines(); };
lines.onkeydown = event => {
  const step = {ArrowUp: -1, ArrowDown: 1}[event.key], away = event.key === "Escape";
  if (event.ctrlKey || event.metaKey || event.altKey || (!step && !away)) return;
  event.preventDefault();
  state.row = state.kept = away ? -1 : Math.max(0, Math.min(shown.rows.length - 1, state.kept + step));
  drawLines();
  say();
};
by("save").onclick = () => {
  const from = by(by("form").value), picture = make("canvas", {width: from.width, height: from.height});
  const g = picture.getContext("2d");
  g.fillStyle = colour("--paper");
  g.fillRect(0, 0, from.width, from.height);
  g.drawImage(from, 0, 0);
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
  data.views.forEach((v, i) => {
    const button = make("button", {type: "button", textContent: v.name});
    button.dataset.view = i;
    button.onclick = () => change(i);
    by("views").append(button, " ");
  });
  by("views").hidden = data.views.length < 2;
  by("order").onchange = () => { ordered = by("order").value; drawOverview(); };
  by("units").onchange = () => { forget(); choose(state.layer, state.head); };
  by("first").onchange = () => choose(state.layer, state.head);
  by("scale").onchange = () => { scaled = true; draw(); };
  let form = by("form").value;
  by("form").onchange = () => {
    const one = by("form").value === "neurons", other = form === "neurons"; // which are of tokens, and of one head
    form = by("form").value;
    if (one !== other) forget();
    if (one && state.layer >= 0) choose(state.layer, Math.max(0, state.head));
    else choose(state.layer, state.head);
  };
  startNeurons();
  makeTable();
  const redraw = () => { makeTable(); drawOverview(); draw(); };
  dark.onchange = redraw;
  addEventListener("beforeprint", () => { root.classList.add("printed"); redraw(); });
  addEventListener("afterprint", () => { root.classList.remove("printed"); redraw(); });
  addEventListener("hashchange", () => follow(location.hash) || note());
  let width = 0;
  new ResizeObserver(() => {
    if (width === document.body.clientWidth) return;
    width = document.body.clientWidth;
    requestAnimationFrame(draw);
  }).observe(document.body);
  if (!follow(location.hash)) open(data.view, data.layer, data.head);
  root.dataset.ready = "yes";
}
unpack().then(start, error => { by("about").textContent = "The weights of this page cannot be read here: " + error.message; });
