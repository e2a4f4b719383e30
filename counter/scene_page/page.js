"use strict";
// Draws lines, zones and masks over one still. The server is the judge of what is valid; this page only draws.
const $ = (id) => document.getElementById(id);
const stage = $("stage"), canvas = $("canvas"), hint = $("hint");
const KINDS = { line: "lines", zone: "zones", mask: "masks" };
const HINTS = {
  select: "Click a line or zone to choose it; drag it or its corners. Arrow keys move it, F flips a line, Delete removes it.",
  line: "Drag from one door post to the other. The green side is where people are after they entered; flip it if it is the wrong one.",
  zone: "Click the corners in order; click the first corner again (or press C) to close.",
  mask: "Click the corners of what must not be looked at; click the first corner again (or press C) to close.",
};
let items = [], chosen = -1, tool = "select", draft = [], pointer = null, cross = null, drag = null;
let mode = "door", score = null, faults = [], past = [], checking = 0, savedText = "";

const round = (v) => Math.round(Math.min(1, Math.max(0, v)) * 1e4) / 1e4;
const size = () => [canvas.clientWidth || 1, canvas.clientHeight || 1];
const px = (p) => { const [w, h] = size(); return [p[0] * w, p[1] * h]; };
const near = (a, b, r = 12) => { const p = px(a), q = px(b); return Math.hypot(p[0] - q[0], p[1] - q[1]) < r; };

function scene() {
  const out = { version: 1, mode, min_score: score, lines: [], zones: [], masks: [] };
  for (const it of items) {
    if (it.kind === "line") out.lines.push({ ...it.extra, name: it.name, start: it.points[0], end: it.points[1] });
    else out[KINDS[it.kind]].push({ ...it.extra, name: it.name, points: it.points });
  }
  return out;
}

function load(s) {
  mode = s.mode; score = s.min_score;
  items = s.lines.map(({ name, start, end, ...extra }) => ({ kind: "line", name, points: [start, end], extra }))
    .concat(s.zones.map(({ name, points, ...extra }) => ({ kind: "zone", name, points, extra })))
    .concat(s.masks.map(({ name, points, ...extra }) => ({ kind: "mask", name, points, extra })));
}

function remember() { past.push(JSON.stringify(scene())); if (past.length > 100) past.shift(); }
function undo() {
  if (draft.length) { draft.pop(); return render(); }
  if (past.length) { load(JSON.parse(past.pop())); chosen = -1; changed(); }
}

function freshName(kind) {
  const base = kind === "line" ? "door" : kind, taken = new Set(items.map((i) => i.name));
  let n = 1, name = base;
  while (taken.has(name)) name = `${base}-${++n}`;
  return name;
}

function finish() {
  const kind = tool, points = draft;
  draft = [];
  if (kind === "line" ? points.length < 2 : points.length < 3) return render();
  remember();
  items.push({ kind, name: freshName(kind), points, extra: {} });
  chosen = items.length - 1;
  setTool("select");
  changed();
}

function addPoint(p) {
  if (tool === "line") { draft.push(p); if (draft.length === 2) finish(); else render(); return; }
  if (draft.length >= 3 && (near(p, draft[0]) || near(p, draft[draft.length - 1]))) return finish();
  if (draft.length && near(p, draft[draft.length - 1], 3)) return render();
  draft.push(p); render();
}

function setTool(name) {
  tool = name; draft = [];
  cross = name === "select" ? null : cross || [0.5, 0.5];
  for (const b of document.querySelectorAll("[data-tool]")) b.setAttribute("aria-pressed", String(b.dataset.tool === name));
  stage.classList.toggle("drawing", name !== "select");
  hint.textContent = HINTS[name];
  render();
}

function flip(i) { remember(); items[i].points.reverse(); changed(); }
function remove(i) { remember(); items.splice(i, 1); chosen = -1; changed(); }
function move(points, dx, dy) {
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  dx = Math.min(1 - Math.max(...xs), Math.max(-Math.min(...xs), dx));
  dy = Math.min(1 - Math.max(...ys), Math.max(-Math.min(...ys), dy));
  return points.map((p) => [round(p[0] + dx), round(p[1] + dy)]);
}

// ---- drawing -------------------------------------------------------------------------------------------------
function svg(name, attributes, parent) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  (parent || canvas).append(node);
  return node;
}
const list = (points) => points.map((p) => px(p).join(",")).join(" ");

function drawLine(group, points) {
  const [a, b] = points.map(px), length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const along = [(b[0] - a[0]) / length, (b[1] - a[1]) / length], inwards = [-along[1], along[0]], depth = 38;
  const off = (p, k) => [p[0] + inwards[0] * k, p[1] + inwards[1] * k];
  svg("polygon", { class: "inside", points: [a, b, off(b, depth), off(a, depth)].map((p) => p.join(",")).join(" ") }, group);
  const m = [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2], tip = off(m, depth + 6), back = off(m, depth - 7);
  const d = `M${m} L${tip} M${back[0] + along[0] * 10},${back[1] + along[1] * 10} L${tip} L${back[0] - along[0] * 10},${back[1] - along[1] * 10}`;
  for (const c of ["arrow-casing", "arrow"]) svg("path", { class: c, d }, group);
  for (const c of ["casing", "door"]) svg("line", { class: c, x1: a[0], y1: a[1], x2: b[0], y2: b[1] }, group);
}

function render() {
  const [w, h] = size();
  canvas.setAttribute("viewBox", `0 0 ${w} ${h}`);
  canvas.replaceChildren();
  items.forEach((it, i) => {
    const group = svg("g", { class: i === chosen ? "chosen" : "", "data-item": i });
    if (it.kind === "line") {
      drawLine(group, it.points);
      const [a, b] = it.points.map(px);
      svg("line", { class: "grab", "stroke-width": 24, x1: a[0], y1: a[1], x2: b[0], y2: b[1], "data-item": i }, group);
    } else svg("polygon", { class: `${it.kind}-shape`, points: list(it.points), "data-item": i }, group);
    const at = px(it.points[0]);
    svg("text", { class: "tag", x: Math.min(at[0] + 12, w - 60), y: Math.max(18, at[1] - 10) }, group).textContent = it.name;
    it.points.forEach((p, k) => {
      const [x, y] = px(p);
      svg("circle", { class: "handle", cx: x, cy: y, r: 6 }, group);
      svg("circle", { class: "grab", cx: x, cy: y, r: 18, "data-item": i, "data-corner": k }, group);
    });
  });
  if (draft.length) {
    const points = pointer ? [...draft, pointer] : draft;
    if (tool === "line" && points.length > 1) drawLine(svg("g", {}), points);
    else svg(points.length > 2 ? "polygon" : "polyline", { class: "draft", points: list(points) });
    for (const p of draft) { const [x, y] = px(p); svg("circle", { class: "handle", cx: x, cy: y, r: 6 }); }
  }
  if (cross && document.activeElement === stage) {
    const [x, y] = px(cross);
    svg("path", { class: "cross", d: `M${x - 14},${y} h28 M${x},${y - 14} v28` });
  }
}

// ---- pointer: mouse, pen and touch ----------------------------------------------------------------------------
function where(event) {
  const box = canvas.getBoundingClientRect();
  return [round((event.clientX - box.left) / box.width), round((event.clientY - box.top) / box.height)];
}
stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  stage.setPointerCapture(event.pointerId);
  stage.focus({ preventScroll: true });
  event.preventDefault();
  const p = where(event);
  if (tool !== "select") { cross = p; pointer = p; addPoint(p); drag = { draw: true, from: p }; return; }
  const target = event.target.dataset || {};
  chosen = target.item === undefined ? -1 : Number(target.item);
  if (chosen >= 0) {
    drag = { corner: target.corner === undefined ? null : Number(target.corner), from: p, points: items[chosen].points, before: JSON.stringify(scene()) };
  }
  panel(); render();
});
stage.addEventListener("pointermove", (event) => {
  pointer = where(event);
  if (drag && !drag.draw) {
    const it = items[chosen];
    if (drag.corner !== null) it.points = drag.points.map((p, k) => (k === drag.corner ? pointer : p));
    else it.points = move(drag.points, pointer[0] - drag.from[0], pointer[1] - drag.from[1]);
    drag.moved = true; changed(false);
  } else if (draft.length) render();
});
stage.addEventListener("pointerup", (event) => {
  const p = where(event);
  if (drag && drag.draw && tool === "line" && draft.length === 1 && !near(p, drag.from)) addPoint(p);
  else if (drag && drag.moved) { past.push(drag.before); panel(); }
  drag = null;
});
stage.addEventListener("pointercancel", () => { drag = null; draft = []; render(); });
stage.addEventListener("focus", render); stage.addEventListener("blur", render);

// ---- keyboard ---------------------------------------------------------------------------------------------------
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
document.addEventListener("keydown", (event) => {
  const command = event.ctrlKey || event.metaKey, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (command && key === "s") { event.preventDefault(); return save(); }
  if (event.target.closest("input, textarea")) return;
  if (command && key === "z") { event.preventDefault(); return undo(); }
  if (command || event.altKey) return;
  const choice = { v: "select", l: "line", z: "zone", m: "mask" }[key];
  if (choice) { setTool(choice); stage.focus({ preventScroll: true }); return; }
  if (key === "Escape") { draft = []; pointer = null; return setTool("select"); }
  if (key === "c" && draft.length) return finish();
  if (key === "f" && chosen >= 0 && items[chosen].kind === "line") return flip(chosen);
  if ((key === "Delete" || key === "Backspace") && chosen >= 0) return remove(chosen);
  if (event.target !== stage) return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    event.preventDefault();
    const step = event.shiftKey ? 0.05 : 0.01;
    if (tool !== "select") { cross = [round(cross[0] + arrow[0] * step), round(cross[1] + arrow[1] * step)]; pointer = cross; render(); }
    else if (chosen >= 0) { remember(); items[chosen].points = move(items[chosen].points, arrow[0] * step, arrow[1] * step); changed(); }
  } else if ((key === "Enter" || key === " ") && tool !== "select") { event.preventDefault(); addPoint(cross); }
});

// ---- the list beside the picture ----------------------------------------------------------------------------
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) k.startsWith("on") ? node.addEventListener(k.slice(2), v) : node.setAttribute(k, v);
  node.append(...children);
  return node;
}

function panel() {
  const counts = { line: 0, zone: 0, mask: 0 };
  $("list").replaceChildren(...items.map((it, i) => {
    const path = `${KINDS[it.kind]}[${counts[it.kind]++}]`;
    const why = faults.filter((f) => f.field === path || f.field.startsWith(path + "."));
    const name = element("input", { type: "text", maxlength: 40, "aria-label": `Name of ${it.kind}`, "data-key": `${i}-name`,
      oninput: (e) => { it.name = e.target.value; render(); check(); }, onfocus: () => { remember(); chosen = i; render(); } });
    name.value = it.name;
    const coords = element("div", { class: "coords" });
    it.points.forEach((p, k) => ["x", "y"].forEach((axis, a) => {
      const input = element("input", { type: "number", min: 0, max: 1, step: 0.01, "data-key": `${i}-${k}-${a}`,
        oninput: (e) => { const v = Number(e.target.value); if (e.target.value !== "" && Number.isFinite(v)) { it.points = it.points.map((q, m) => m === k ? q.map((c, n) => n === a ? v : c) : q); render(); check(); } } });
      input.value = p[a];
      coords.append(element("label", {}, `${axis}${k + 1}`, input));
    }));
    const acts = element("div", { class: "acts" });
    if (it.kind === "line") acts.append(element("button", { type: "button", onclick: () => flip(i) }, "Flip direction"));
    acts.append(element("button", { type: "button", "aria-label": `Remove ${it.name}`, onclick: () => remove(i) }, "Remove"));
    return element("section", { class: `item ${it.kind}${i === chosen ? " chosen" : ""}${why.length ? " bad" : ""}`, "aria-label": `${it.kind} ${it.name}` },
      element("div", { class: "head" }, element("b", {}, it.kind), name), coords, acts,
      ...why.map((f) => element("p", { class: "why" }, f.reason)));
  }));
}

function refreshPanel() { // keep the caret where people type
  const key = document.activeElement && document.activeElement.dataset && document.activeElement.dataset.key;
  if (key) { // only the complaints change while somebody types
    const counts = { line: 0, zone: 0, mask: 0 };
    items.forEach((it, i) => {
      const path = `${KINDS[it.kind]}[${counts[it.kind]++}]`, card = $("list").children[i];
      const why = faults.filter((f) => f.field === path || f.field.startsWith(path + "."));
      card.classList.toggle("bad", why.length > 0);
      card.querySelectorAll(".why").forEach((n) => n.remove());
      card.append(...why.map((f) => element("p", { class: "why" }, f.reason)));
    });
  } else panel();
}

function changed(withPanel = true) { if (withPanel) panel(); render(); check(); }

// ---- the server ------------------------------------------------------------------------------------------------
async function post(name, body) {
  const answer = await fetch(name, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${answer.status}`);
  return answer.json();
}
function verdict(text, good) { $("verdict").textContent = text; $("verdict").className = good ? "good" : "bad"; }

function check() {
  clearTimeout(checking);
  checking = setTimeout(async () => {
    try {
      const answer = await post("check", scene());
      faults = answer.faults;
      $("toml").textContent = answer.toml || "";
      const whole = faults.filter((f) => !/^(lines|zones|masks)\[/.test(f.field)).map((f) => `${f.field ? f.field + ": " : ""}${f.reason}`);
      if (faults.length) verdict(whole.join("; ") || "Something above needs a correction.", false);
      else verdict(items.length ? (answer.toml === savedText ? "Saved." : "Valid, not saved yet.") : "Draw a line at the door, or a zone.", items.length > 0);
      $("save").disabled = faults.length > 0;
      refreshPanel();
      document.body.dataset.checked = String(Number(document.body.dataset.checked || 0) + 1);
    } catch { verdict("The program behind this page has ended; start 'headroom scene' again.", false); }
  }, 120);
}

async function save() {
  try {
    const answer = await post("save", scene());
    if (answer.saved) { savedText = (await post("check", scene())).toml; verdict(`Saved to ${answer.saved}.`, true); document.body.dataset.saved = "1"; }
    else verdict(answer.faults.map((f) => `${f.field} ${f.reason}`).join("; "), false);
  } catch { verdict("The program behind this page has ended; nothing was saved.", false); }
}

$("save").addEventListener("click", save);
$("undo").addEventListener("click", undo);
$("done").addEventListener("click", async () => {
  try { await post("done", {}); } catch { /* gone already */ }
  document.body.replaceChildren(element("p", { class: "row" }, "Closed. You may close this tab."));
});
for (const b of document.querySelectorAll("[data-tool]")) b.addEventListener("click", () => setTool(b.dataset.tool));
for (const r of document.querySelectorAll("[name=mode]")) r.addEventListener("change", () => { remember(); mode = r.value; check(); });
$("score").addEventListener("input", (e) => { score = e.target.value === "" ? null : Number(e.target.value); check(); });
new ResizeObserver(render).observe(stage);

(async () => {
  const state = await (await fetch("state.json")).json();
  $("source").textContent = state.source;
  $("still").width = state.width; $("still").height = state.height;
  load(state.scene);
  for (const r of document.querySelectorAll("[name=mode]")) r.checked = r.value === mode;
  $("score").value = score === null ? "" : score;
  setTool(items.length ? "select" : "line");
  changed();
  document.body.dataset.ready = "1";
})();
