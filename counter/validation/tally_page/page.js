"use strict";

const TEXTS = {
  en: {
    entered: "In", left: "Out", undo: "Undo", done: "Finish", begin: "Begin",
    ready: "Begin when you stand where you see everybody who passes. One tap for each person.",
    live: "Tap at the moment somebody passes the door.", away: "No connection: taps are kept and sent later.",
    sending: "The time is over. Sending the last taps ...", over: "Done, thank you. You may close this page.",
    other: "This address was opened on another device already. Ask for a new one.",
    gone: "The window was ended at the sensor.", sure: "Finish now?",
    people: "Count who is there now and then:", keep: "Keep", kept: "Counts kept",
  },
  nl: {
    entered: "In", left: "Uit", undo: "Ongedaan maken", done: "Klaar", begin: "Beginnen",
    ready: "Begin als u staat waar u iedereen ziet die passeert. Eén tik per persoon.",
    live: "Tik op het moment dat iemand de deur passeert.", away: "Geen verbinding: tikken worden bewaard en later verstuurd.",
    sending: "De tijd is om. De laatste tikken worden verstuurd ...", over: "Klaar, dank u. U kunt deze pagina sluiten.",
    other: "Dit adres is al op een ander apparaat geopend. Vraag om een nieuw adres.",
    gone: "Het meten is bij de sensor beëindigd.", sure: "Nu afronden?",
    people: "Tel af en toe wie er is:", keep: "Bewaar", kept: "Bewaarde tellingen",
  },
};
const language = navigator.language.startsWith("nl") ? "nl" : "en";
const text = TEXTS[language];
document.documentElement.lang = language;
const part = (id) => document.getElementById(id);

// Everything lives in the browser's storage under the page's address: a reload, or a phone that drops the page, loses nothing.
const KEY = "headroom" + location.pathname;
const random = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
const fresh = { secret: random(), taps: [], begun: false, done: false, window: null, offset: null };
const saved = JSON.parse(localStorage.getItem(KEY) || "null") || fresh;
const save = () => localStorage.setItem(KEY, JSON.stringify(saved));

let state = "ready"; // ready, live, sending, over, other, gone
let away = false;
let failures = 0;
let lastSync = 0;
let countedAt = null; // when the last digit was typed: the count is of that moment, not of the button's
let samples = []; // what the sensor's clock shows more than ours, with the time the question took

const here = () => Date.now() / 1000;
const sensorTime = () => here() + (saved.offset || 0);

function learn(sent, now) {
  const received = here();
  samples = samples.filter((s) => received - s.at < 60).slice(-20);
  samples.push({ at: received, took: received - sent, offset: now - (sent + received) / 2 });
  saved.offset = samples.reduce((a, b) => (b.took < a.took ? b : a)).offset; // the quickest answer errs least
}

async function sync() {
  const sent = here();
  const body = JSON.stringify({ taps: saved.taps, begin: saved.begun, done: saved.done });
  let reply;
  try {
    reply = await fetch("sync", { method: "POST", body, headers: { "X-Tally": saved.secret }, signal: AbortSignal.timeout(5000) });
  } catch {
    away = true;
    failures += 1;
    return;
  }
  failures = 0;
  if (reply.status === 409) { state = "other"; return; }
  if (!reply.ok) { away = true; return; }
  const answer = await reply.json();
  away = false;
  learn(sent, answer.now);
  part("name").textContent = answer.name;
  saved.window = answer.window;
  if (state === "sending" && saved.done && JSON.parse(body).done) state = "over";
  save();
}

function tap(direction) {
  if (state !== "live") return;
  saved.taps.push({ id: random(), t: sensorTime(), direction, undone: false });
  save();
  navigator.vibrate?.(15);
  show();
}

function keep(event) {
  event.preventDefault();
  const people = part("people").valueAsNumber;
  if (state !== "live" || !Number.isInteger(people) || people < 0) return;
  saved.taps.push({ id: random(), t: countedAt ?? sensorTime(), direction: "present", people, undone: false });
  save();
  navigator.vibrate?.(15);
  part("people").value = "";
  countedAt = null;
  part("people").blur();
  show();
}

function undo() {
  const last = saved.taps.findLast((entry) => !entry.undone);
  if (last) last.undone = true;
  save();
  show();
}

function finish() {
  saved.done = true;
  state = "sending";
  save();
  show();
  void turn(true);
}

function show() {
  const live = state === "live";
  part("begin").hidden = state !== "ready";
  part("begin").disabled = saved.offset === null;
  for (const id of ["entered", "left", "heads", "undo", "done"]) part(id).hidden = !live;
  part("kept").textContent = saved.taps.filter((e) => e.direction === "present" && !e.undone).length || "";
  for (const direction of ["entered", "left"]) {
    part(direction).querySelector("output").textContent = saved.taps.filter((e) => e.direction === direction && !e.undone).length;
  }
  part("undo").disabled = !saved.taps.some((entry) => !entry.undone);
  const words = live && away ? "away" : state;
  if (part("state").textContent !== text[words]) part("state").textContent = text[words];
  part("state").classList.toggle("away", words === "away");
  if (live && saved.window) {
    const rest = Math.max(0, Math.round(saved.window[1] - sensorTime()));
    part("clock").textContent = `${Math.floor(rest / 60)}:${String(rest % 60).padStart(2, "0")}`;
  } else {
    part("clock").textContent = "";
  }
}

async function turn(now) {
  if (!now && here() - lastSync < (state === "live" || away ? 2 : 1)) return;
  lastSync = here();
  await sync();
  if (state === "ready" && saved.begun && saved.window) state = "live";
  if (state === "sending" && failures > 30) state = "gone";
  show();
}

for (const id of ["begin", "undo", "done"]) part(id).textContent = text[id];
for (const id of ["entered", "left"]) {
  part(id).querySelector(".word").textContent = text[id];
  part(id).addEventListener("pointerdown", () => tap(id)); // at the touch, not at its end: it is the moment that counts
  part(id).addEventListener("keydown", (event) => { if (!event.repeat && ["Enter", " "].includes(event.key)) tap(id); });
}
part("heads").querySelector("label").textContent = text.people;
part("keep").textContent = text.keep;
part("kept").setAttribute("aria-label", text.kept);
part("people").addEventListener("input", () => { countedAt = sensorTime(); });
part("heads").addEventListener("submit", keep);
part("undo").addEventListener("click", undo);
part("done").addEventListener("click", () => { if (confirm(text.sure)) finish(); });
part("begin").addEventListener("click", () => { saved.begun = true; save(); void turn(true); });

if (saved.done) state = "sending";
else if (saved.begun && saved.window) state = "live";
show();
void turn(true);
setInterval(() => {
  if (["over", "other", "gone"].includes(state)) return;
  if (state === "live" && saved.window && sensorTime() >= saved.window[1]) finish();
  else void turn(false);
  show();
}, 250);
navigator.wakeLock?.request("screen").catch(() => {}); // plain http has none; then the phone's own setting holds
