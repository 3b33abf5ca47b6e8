
// ---- neurons: a query beside every key, number by number -----------------------------------------------------------

// A float of 16 bits.
function half(bits) {
  const exponent = bits >> 10 & 31, fraction = bits & 1023;
  const size = exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
  return bits & 0x8000 ? -size : size;
}
function halves(at, n) {
  const out = new Float32Array(n);
  for (let i = 0; i < n; i++) out[i] = half(weights[at + 2 * i] | weights[at + 2 * i + 1] << 8);
  return out;
}

// What a head compares: {q, k: rows of `size` numbers}.
function vectorsOf(v, layer, head) {
  if (v.compared?.layer === layer && v.compared.head === head) return v.compared;
  const {at, keyHeads, size} = v.vectors, R = v.rows.tokens.length, C = v.columns.tokens.length;
  const keys = at + 2 * v.layers * v.heads * R * size, keyHead = Math.floor(head * keyHeads / v.heads);
  return v.compared = {v, layer, head, size, q: halves(at + 2 * (layer * v.heads + head) * R * size, R * size),
    k: halves(keys + 2 * (layer * keyHeads + keyHead) * C * size, C * size)};
}
function products(x, i, j) {
  const q = x.q.subarray(i * x.size, (i + 1) * x.size), k = x.k.subarray(j * x.size, (j + 1) * x.size);
  return q.map((a, c) => a * k[c]);
}
function scoreOf(x, i, j) {
  const {scale, softcap} = x.v.vectors, s = scale * products(x, i, j).reduce((a, b) => a + b, 0);
  return softcap ? softcap * Math.tanh(s / softcap) : s;
}
const chosenQuery = m => Math.min(m.rows.length - 1, state.kept >= 0 ? state.kept : state.row >= 0 ? state.row : Infinity);
const hasNeurons = () => state.layer >= 0 && state.head >= 0;

// Numbers as a picture of a row each, above 0 in the one colour, below in the other.
function strips(numbers, size) {
  const rows = numbers.length / size, image = new ImageData(size, rows), bits = new Uint32Array(image.data.buffer);
  const most = numbers.reduce((a, x) => Math.max(a, Math.abs(x) || 0), 0) || 1;
  numbers.forEach((x, i) => { bits[i] = Number.isNaN(x) ? NONE : signs[255 + Math.max(-255, Math.min(255, Math.round(255 * x / most)))]; });
  const canvas = make("canvas", {width: size, height: rows});
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Where the columns of the drawing begin: p.parts.
function drawNeurons(p) {
  const {m, canvas} = p, R = m.rows.length, C = m.columns.length;
  if (!hasNeurons()) {
    const {g} = fitted(canvas, 2 * LINE);
    g.fillStyle = colour("--soft");
    g.textAlign = "left";
    g.fillText("A mean has no neurons of its own: choose a head.", 0, LINE);
    return;
  }
  const x = vectorsOf(p.view(), state.layer, state.head), i = chosenQuery(m), {g, width} = fitted(canvas, (Math.max(R, C) + 1) * LINE + 8);
  const most = Math.min(ROOM, width / 7), rowRoom = widest(g, m.rows, most), keyRoom = widest(g, m.columns, most);
  const strip = Math.max(40, Math.min(x.size * 6, (width - rowRoom - keyRoom - 240) / 3));
  const parts = p.parts = {query: rowRoom + 8};
  parts.keyEnd = parts.query + strip + 20 + keyRoom;
  parts.key = parts.keyEnd + 8;
  parts.product = parts.key + strip + 16;
  parts.score = parts.product + strip + 60;
  parts.weight = parts.score + 20;
  const y = line => (line + 1.5) * LINE, ink = colour("--ink"), soft = colour("--soft"), mark = colour("--mark");
  const all = new Float32Array(C * x.size);
  for (let j = 0; j < C; j++) all.set(products(x, i, j), j * x.size);

  g.imageSmoothingEnabled = false;
  const put = (picture, left, first, rows) => {
    g.drawImage(picture, left, y(first) - LINE / 2, strip, rows * LINE);
    g.fillStyle = colour("--paper");
    for (let r = 0; r <= rows; r++) g.fillRect(left, y(first + r) - LINE / 2 - 2, strip, 4);
    g.strokeStyle = colour("--line");
    for (let r = 0; r < rows; r++) g.strokeRect(left - 0.5, y(first + r) - LINE / 2 + 1.5, strip + 1, LINE - 3);
  };
  put(strips(x.q.subarray(i * x.size, (i + 1) * x.size), x.size), parts.query, i, 1);
  put(strips(x.k, x.size), parts.key, 0, C);
  put(strips(all, x.size), parts.product, 0, C);

  g.fillStyle = soft;
  g.textAlign = "left";
  for (const [name, left] of [["q", parts.query], ["k", parts.key], ["q ∘ k", parts.product], ["weight", parts.weight]])
    g.fillText(name, left, LINE / 2);
  g.textAlign = "right";
  g.fillText("score", parts.score, LINE / 2);
  for (let r = 0; r < R; r++) {
    g.fillStyle = r === i ? mark : ink;
    g.fillText(clipped(g, m.rows[r], most), rowRoom, y(r));
  }
  const bar = Math.max(10, width - parts.weight - 50);
  for (let j = 0; j < C; j++) {
    const w = m.values[i * C + j];
    g.globalAlpha = w > 0 || Number.isNaN(w) ? 1 : 0.4; // what the query does not see
    g.textAlign = "right";
    g.fillStyle = j === state.column ? mark : ink;
    g.fillText(clipped(g, m.columns[j], most), parts.keyEnd, y(j));
    g.fillText(scoreOf(x, i, j).toFixed(2).replace("-", "−"), parts.score, y(j));
    g.textAlign = "left";
    g.fillText(Number.isNaN(w) ? "none" : w.toFixed(3), parts.weight + bar + 6, y(j));
    g.fillStyle = positive();
    g.fillRect(parts.weight, y(j) - 5, bar * (w || 0), 10);
  }
  g.globalAlpha = 1;
}

// The numbers of a pair, those first that add or take most.
function sayNeurons({m, view}) {
  const j = state.column;
  if (!hasNeurons()) return [];
  const i = chosenQuery(m);
  if (j < 0 || j >= m.columns.length) return [said(m.rows[i])];
  const v = view(), x = vectorsOf(v, state.layer, state.head), minus = text => text.replace("-", "−");
  const order = [...products(x, i, j)].map((a, c) => [a * v.vectors.scale, c]).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]) || a[1] - b[1]);
  const first = order.slice(0, 4).map(([a, c]) => `${a < 0 ? "−" : "+"}${Math.abs(a).toFixed(2)} from ${c + 1}`).join(", ");
  const w = m.values[i * m.columns.length + j].toFixed(3);
  return [said(m.rows[i]), " ← ", said(m.columns[j]), ` score ${minus(scoreOf(x, i, j).toFixed(3))}, weight ${w}; ${first}`];
}

function neuronAt(p, event) {
  const box = p.canvas.getBoundingClientRect(), i = Math.floor((event.clientY - box.top) / LINE - 1);
  const query = event.clientX - box.left < p.parts.query + 10, n = query ? p.m.rows.length : p.m.columns.length;
  return {query, i: i >= 0 && i < n ? i : -1};
}
const neurons = {
  draw: drawNeurons,
  say: sayNeurons,
  move(p, event) {
    if (!hasNeurons()) return;
    const {query, i} = neuronAt(p, event);
    point(query && i >= 0 ? i : state.row, query ? -1 : i);
  },
  leave() { point(state.row, -1); },
  click(p, event) {
    if (!hasNeurons()) return;
    const {query, i} = neuronAt(p, event);
    if (query) keep(i === state.kept ? -1 : i);
  },
  key(p, event) {
    const step = steps[event.key], away = event.key === "Escape";
    if (!hasNeurons() || (!step && !away)) return false;
    if (away) Object.assign(state, {row: -1, kept: -1, column: -1});
    else if (step[0]) state.row = state.kept = clamp(chosenQuery(p.m) + step[0], p.m.rows.length);
    else state.column = clamp(state.column + step[1], p.m.columns.length);
    draw();
    return true;
  }};

const FORMS = {map: heatMap, lines, neurons};
