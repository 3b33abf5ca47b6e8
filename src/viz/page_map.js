
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
// Rows r0 … r1 − 1 and columns c0 … c1 − 1, the greatest of k × k cells a pixel. It is kept while it stays the same.
function cellsOf(p, k, r0, c0, r1, c1) {
  const {m} = p, C = m.columns.length, key = [k, r0, c0, r1, c1, by("scale").value, isDark()].join();
  if (p.cells?.m === m && p.cells.key === key) return p.cells.canvas;
  const w = Math.max(1, Math.ceil((c1 - c0) / k)), h = Math.max(1, Math.ceil((r1 - r0) / k));
  const image = new ImageData(w, h), bits = new Uint32Array(image.data.buffer), maxima = rowMaxima(m);
  for (let i = 0; i < h; i++)
    for (let j = 0; j < w; j++) {
      let best = 0, of = 0;
      for (let r = r0 + i * k; r < Math.min(r1, r0 + (i + 1) * k); r++)
        for (let c = c0 + j * k; c < Math.min(c1, c0 + (j + 1) * k); c++) {
          const value = m.values[r * C + c];
          if (Math.abs(value) > Math.abs(best) || Number.isNaN(value)) best = value, of = maxima[r];
        }
      bits[i * w + j] = pixel(m, best, of);
    }
  const canvas = make("canvas", {width: w, height: h});
  canvas.getContext("2d").putImageData(image, 0, 0);
  p.cells = {m, key, canvas};
  return canvas;
}
// Where the cells lie: p.place = {left, top, width, height, cell: pixels of one, x, y: the cell at the upper left corner}.
function drawMap(p) {
  const {m, canvas} = p, R = m.rows.length, C = m.columns.length, width = canvas.parentNode.clientWidth, g0 = canvas.getContext("2d");
  const labels = of => panels.flatMap(x => x.m ? x.m[of] : []); // of all, so that their cells are alike
  const most = Math.min(ROOM, width / 4), left = widest(g0, labels("rows"), most) + 12;
  const beyond = Math.max(30, 0.71 * widest(g0, m.columns.slice(-3), most)); // of slanted words
  const least = Math.min(44, Math.max(1, width - left - beyond) / C, 560 / R), cell = least * state.zoom, slanted = cell > 22;
  const top = (widest(g0, labels("columns"), most) + 8) * (slanted ? 0.71 : 1) + 14;
  const w = Math.min(width - left, cell * C), h = Math.min(640, cell * R);
  const {g} = fitted(canvas, top + h + 4);
  const within = (x, n, size) => Math.max(0, Math.min(x, n - size / cell));
  const x = within(state.x, C, w), y = within(state.y, R, h);
  p.place = {left, top, width: w, height: h, cell, slanted, most, x, y};
  canvas.style.touchAction = state.zoom > 1 ? "none" : "auto"; // a finger moves the page unless there is something to move
  const k = Math.max(1, Math.floor(1 / cell)); // cells a pixel shows the greatest of
  const r0 = Math.floor(y / k) * k, c0 = Math.floor(x / k) * k;
  const r1 = Math.min(R, Math.ceil(y + h / cell)), c1 = Math.min(C, Math.ceil(x + w / cell));
  const small = cellsOf(p, k, r0, c0, r1, c1);
  g.save();
  g.beginPath();
  g.rect(left, top, w, h);
  g.clip();
  g.imageSmoothingEnabled = false;
  g.drawImage(small, left + (c0 - x) * cell, top + (r0 - y) * cell, small.width * k * cell, small.height * k * cell);
  if (cell >= 12) {
    g.fillStyle = colour(m.signed ? "--line" : "--paper");
    for (let j = c0; j <= c1; j++) g.fillRect(left + (j - x) * cell - 0.5, top, 1, h);
    for (let i = r0; i <= r1; i++) g.fillRect(left, top + (i - y) * cell - 0.5, w, 1);
  }
  g.restore();
  if (m.signed) {
    g.strokeStyle = colour("--line");
    g.strokeRect(left - 0.5, top - 0.5, w + 1, h + 1);
  }
  if (state.row >= 0 && state.column >= 0 && state.row < R && state.column < C) {
    g.save();
    g.beginPath();
    g.rect(left - 2, top - 2, w + 4, h + 4);
    g.clip();
    g.strokeStyle = colour("--mark");
    g.lineWidth = 2;
    g.strokeRect(left + (state.column - x) * cell, top + (state.row - y) * cell, Math.max(cell, 3), Math.max(cell, 3));
    g.restore();
  }
  rulers(g, p);
}
function rulers(g, p) {
  const {m} = p, {left, top, width, height, cell, slanted, most, x: x0, y: y0} = p.place;
  const every = Math.max(1, Math.ceil(14 / cell));
  const ink = colour("--ink"), mark = colour("--mark");
  g.textAlign = "right";
  for (let i = 0; i < m.rows.length; i++) {
    const y = top + (i + 0.5 - y0) * cell;
    if ((i % every && i !== state.row) || y < top || y > top + height) continue;
    g.fillStyle = i === state.row ? mark : ink;
    g.fillText(clipped(g, m.rows[i], most), left - 6, y);
  }
  g.textAlign = "left";
  for (let j = 0; j < m.columns.length; j++) {
    const x = left + (j + 0.5 - x0) * cell;
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
function drawLines(p) {
  const {m, canvas} = p, v = p.view(), R = m.rows.length, C = m.columns.length;
  const {g, width} = fitted(canvas, (Math.max(R, C) + 1) * LINE + 8);
  const room = Math.min(ROOM, width / 3), gap = Math.min(width - 2 * room, 420), right = room + gap, most = rowMaxima(m);
  const y = i => (i + 1.5) * LINE, row = state.kept >= 0 ? state.kept : state.row, chosen = row < R ? row : -1;
  g.fillStyle = colour("--soft");
  g.textAlign = "right";
  g.fillText(clipped(g, v.rows.name, room - 10), room - 6, LINE / 2);
  g.textAlign = "left";
  g.fillText(clipped(g, v.columns.name, room - 10), right + 6, LINE / 2);
  g.strokeStyle = positive();
  const few = R * C <= 40000;
  for (let i = 0; i < R; i++) {
    if (chosen >= 0 ? i !== chosen : !few) continue;
    for (let j = 0; j < C; j++) {
      const s = strength(m, m.values[i * C + j], most[i]);
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
    const s = chosen >= 0 ? strength(m, m.values[chosen * C + j], most[chosen]) : 1;
    g.globalAlpha = Math.max(0.35, Math.min(1, s + 0.2));
    g.fillStyle = colour("--ink");
    g.fillText(clipped(g, m.columns[j], room - 10), right + 6, y(j));
  }
  g.globalAlpha = 1;
}

// ---- mouse, keys: of one panel, for all ----------------------------------------------------------------------------

const clamp = (x, n) => Math.max(0, Math.min(n - 1, x));
const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
function point(row, column) {
  if (row === state.row && column === state.column) return;
  Object.assign(state, {row, column});
  draw();
}

// Around a point of the canvas that stays where it is.
function enlarge({place}, factor, x, y) {
  const zoom = Math.max(1, Math.min(state.zoom * factor, 60 / Math.min(60, place.cell / state.zoom)));
  const cell = place.cell * zoom / state.zoom;
  Object.assign(state, {zoom, x: place.x + x / place.cell - x / cell, y: place.y + y / place.cell - y / cell});
  draw();
}
let drag = null;
function cellAt({canvas, place}, event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left - place.left, y = event.clientY - box.top - place.top;
  const inside = x >= 0 && y >= 0 && x < place.width && y < place.height;
  return {x, y, row: inside ? Math.floor(y / place.cell + place.y) : -1, column: inside ? Math.floor(x / place.cell + place.x) : -1};
}
const heatMap = {
  draw: drawMap,
  wheel(p, event) {
    const at = cellAt(p, event);
    if (at.row < 0 || (state.zoom === 1 && event.deltaY >= 0)) return; // nothing is smaller: the page moves
    event.preventDefault();
    const turns = Math.max(-2, Math.min(2, event.deltaY / (event.deltaMode ? 3 : 100)));
    enlarge(p, 1.25 ** -turns, at.x, at.y);
  },
  down(p, event) {
    drag = {x: event.clientX / p.place.cell + p.place.x, y: event.clientY / p.place.cell + p.place.y};
    p.canvas.setPointerCapture(event.pointerId);
  },
  up() { drag = null; },
  move(p, event) {
    if (drag) {
      const x = drag.x - event.clientX / p.place.cell, y = drag.y - event.clientY / p.place.cell;
      const {place} = p, most = (n, size) => n - size / place.cell;
      state.x = Math.max(0, Math.min(x, most(p.m.columns.length, place.width)));
      state.y = Math.max(0, Math.min(y, most(p.m.rows.length, place.height)));
      drawMap(p);
    }
    const at = cellAt(p, event);
    if (drag) Object.assign(state, {row: at.row, column: at.column}), draw();
    else point(at.row, at.column);
  },
  leave() { point(-1, -1); },
  key(p, event) {
    const step = steps[event.key], {place} = p;
    if (step) {
      const row = clamp(Math.max(0, state.row) + (state.row < 0 ? 0 : step[0]), p.m.rows.length);
      const column = clamp(Math.max(0, state.column) + (state.column < 0 ? 0 : step[1]), p.m.columns.length);
      state.x = Math.min(Math.max(place.x, column + 1 - place.width / place.cell), column);
      state.y = Math.min(Math.max(place.y, row + 1 - place.height / place.cell), row);
      Object.assign(state, {row, column});
      draw();
    } else if (event.key === "+" || event.key === "=") enlarge(p, 1.25, place.width / 2, place.height / 2);
    else if (event.key === "-") enlarge(p, 0.8, place.width / 2, place.height / 2);
    else if (event.key === "0") { forget(); draw(); }
    else if (event.key === "Escape") point(-1, -1);
    else return false;
    return true;
  }};

function lineAt(p, event) {
  const i = Math.floor((event.clientY - p.canvas.getBoundingClientRect().top) / LINE - 1);
  return i >= 0 && i < p.m.rows.length ? i : -1;
}
function keep(row) { state.kept = row; draw(); }
const lines = {
  draw: drawLines,
  move(p, event) { point(lineAt(p, event), state.column); },
  leave() { point(-1, state.column); },
  click(p, event) { const i = lineAt(p, event); keep(i === state.kept ? -1 : i); },
  key(p, event) {
    const step = {ArrowUp: -1, ArrowDown: 1}[event.key], away = event.key === "Escape";
    if (!step && !away) return false;
    state.row = away ? -1 : clamp(state.kept + step, p.m.rows.length);
    keep(state.row);
    return true;
  }};

function makePanels() {
  for (const at of two ? [0, 1, "difference"] : [0]) {
    const p = {at, view: () => at === 1 ? beside(view()) : view(), box: make("figure"), canvas: make("canvas", {tabIndex: 0}),
      caption: make("figcaption", {hidden: !two})};
    if (two) p.caption.textContent = p.caption.title = data.texts[at] ?? "the second less the first";
    p.canvas.setAttribute("role", "img");
    p.canvas.setAttribute("aria-describedby", "cell");
    p.box.append(p.caption, p.canvas);
    by("panels").append(p.box);
    panels.push(p);
    const on = (type, what) => p.canvas.addEventListener(type, event => formOf()[what]?.(p, event), {passive: false});
    on("wheel", "wheel");
    on("pointerdown", "down");
    on("pointermove", "move");
    for (const type of ["pointerup", "pointercancel"]) on(type, "up");
    on("pointerleave", "leave");
    on("click", "click");
    p.canvas.addEventListener("keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
      if (formOf().key(p, event)) event.preventDefault();
    });
  }
}
