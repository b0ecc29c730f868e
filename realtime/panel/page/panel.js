// The page: what the run tells comes in by WebSocket, what its user turns goes out by POST.

import { Stage } from "./stage.js";
import { TimePlot, drawStages } from "./plots.js";

const $ = (id) => document.getElementById(id);
const SETTLE_MS = 900; // a control its user has just moved does not jump back to an older status
const LONGEST_RETRY_MS = 5000;

let settings = null;
let status = null;
let before = null; // the status before, for what happens per second
let recordingSince = null;

// --- settings: one POST at a time, the newest values win -----------------------------------

const touched = new Map(); // setting -> when its user last changed it
let queued = {};
let sending = false;

function change(wanted) {
  const { faces, ...rest } = wanted;
  Object.assign(queued, rest);
  if (faces) queued.faces = { ...queued.faces, ...faces };
  for (const name of Object.keys(wanted)) touched.set(name, performance.now());
  for (const name of Object.keys(rest)) settings[name] = rest[name];
  for (const [id, strength] of Object.entries(faces ?? {})) {
    if (strength === null) delete settings.faces[id];
    else settings.faces[id] = strength;
  }
  render();
  flush();
}

async function flush() {
  if (sending) return;
  sending = true;
  while (Object.keys(queued).length) {
    const body = queued;
    queued = {};
    const answer = await post("settings", body);
    if (answer === null) for (const name of Object.keys(body)) touched.delete(name);
  }
  sending = false;
}

/** The answer of an API call; null if it failed, which is told to the user. */
async function post(what, body) {
  try {
    const response = await fetch(`api/${what}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (response.ok) return answer;
    say(answer.error, true);
  } catch {
    say("CAGFace Live does not answer; nothing was changed.", true);
  }
  return null;
}

function say(text, bad = false) {
  $("message").textContent = text;
  $("message").classList.toggle("bad", bad);
}

function takeSettings(fresh) {
  const now = performance.now();
  const kept = Object.keys(fresh).filter((name) => now - (touched.get(name) ?? -Infinity) < SETTLE_MS);
  const mine = Object.fromEntries(kept.map((name) => [name, settings?.[name] ?? fresh[name]]));
  settings = { ...fresh, ...mine };
}

// --- what is shown -------------------------------------------------------------------------

const strengthOf = (id) => settings?.faces[id] ?? settings?.strength ?? 1;

function toggleFace(id) {
  if (!settings) return;
  const on = strengthOf(id) > 0;
  change({ faces: { [id]: on ? 0 : settings.strength > 0 ? null : 1 } });
}

const stage = new Stage($("stage"), { onFace: toggleFace, strengthOf });

/** Radio buttons for the values, made anew only when those change. */
function choose(name, values, current, label) {
  const box = $(name);
  if (box.dataset.values !== String(values)) {
    box.dataset.values = values;
    box.replaceChildren(...values.map((value) => {
      const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
      input.addEventListener("change", () => change({ [name]: value }));
      const item = document.createElement("label");
      item.append(input, label(value));
      return item;
    }));
  }
  for (const input of box.querySelectorAll("input")) input.checked = input.value === String(current);
}

function render() {
  if (!settings) return;
  for (const name of ["enhance", "governor"]) $(name).checked = settings[name];
  if (document.activeElement !== $("strength") || !touched.has("strength")) {
    $("strength").value = settings.strength;
  }
  $("strength-value").textContent = `${Math.round(100 * settings.strength)} %`;
  $("freeze").setAttribute("aria-pressed", settings.freeze);
  choose("scale", [1, 2, 4], settings.scale, (value) => `${value}×`);
  choose("preset", status.presets, settings.preset, (value) => value);
  const most = Math.max(8, settings.max_faces);
  choose("max_faces", [most, 1], settings.max_faces, (value) => (value === 1 ? "Largest" : "All"));
  const { level, what } = settings.governor ? status.governor : { level: 0, what: "" };
  $("spared").textContent = what ? `now: ${what}` : "holds the frame rate";
  $("spared").classList.toggle("warn", level > 0);
  renderFaces();
  stage.drawBoxes();
}

function renderFaces() {
  const list = $("faces");
  const known = new Map([...list.children].map((item) => [Number(item.dataset.id), item]));
  $("no-faces").hidden = status.faces.length > 0;
  const spared = settings.governor && status.governor.level > 0 && status.governor.what;
  $("no-faces").textContent = !settings.enhance ? "Enhancement is off."
    : `No face is seen${spared ? `; the governor spares time: ${spared}` : ""}.`;
  for (const { id } of status.faces) {
    const item = known.get(id) ?? newFace(id);
    known.delete(id);
    const strength = strengthOf(id);
    const own = id in settings.faces;
    const [toggle, slider] = item.querySelectorAll("input");
    toggle.checked = strength > 0;
    if (document.activeElement !== slider) slider.value = strength;
    slider.disabled = strength === 0;
    item.querySelector("output").textContent = own ? `${Math.round(100 * strength)} %` : "as all";
  }
  known.forEach((item) => item.remove());
}

function newFace(id) {
  const item = document.createElement("li");
  item.dataset.id = id;
  const name = document.createElement("span");
  name.textContent = `Face ${id}`;
  const value = document.createElement("output");
  const toggle = Object.assign(document.createElement("input"), { type: "checkbox" });
  toggle.setAttribute("role", "switch");
  toggle.setAttribute("aria-label", `Enhance face ${id}`);
  toggle.addEventListener("change", () => toggleFace(id));
  const slider = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 1, step: 0.01 });
  slider.setAttribute("aria-label", `Strength of face ${id}`);
  slider.addEventListener("input", () => change({ faces: { [id]: Number(slider.value) } }));
  item.append(name, value, toggle, slider);
  $("faces").append(item);
  return item;
}

const plots = {
  fps: new TimePlot($("plot-fps"), { lines: [{ name: "delivered", colour: "a" }], top: 10 }),
  latency: new TimePlot($("plot-latency"), {
    lines: [{ name: "p50", colour: "a" }, { name: "p95", colour: "b" }, { name: "p99", colour: "c" }], top: 20,
  }),
  drops: new TimePlot($("plot-drops"), { lines: [{ name: "dropped", colour: "c" }], top: 5, bars: true }),
  hits: new TimePlot($("plot-hits"), { lines: [{ name: "% of looks", colour: "a" }], top: 100, fixed: true }),
  governor: new TimePlot($("plot-governor"), { lines: [{ name: "level", colour: "b" }], low: -4, top: 4, steps: true }),
};

function tell(name, text) {
  $(`now-${name}`).textContent = text;
  const canvas = $(`plot-${name}`);
  canvas.setAttribute("aria-label", `${canvas.parentElement.querySelector("figcaption").firstChild.textContent}: ${text}`);
}

function renderStats() {
  const { stats, governor } = status;
  const latency = stats.stages.latency;
  const seconds = before ? stats.seconds - before.seconds : 0;
  const since = (name) => stats[name] - before[name];
  const drops = seconds > 0 ? Math.max(0, since("dropped") / seconds) : NaN;
  const looks = before ? since("attention_hits") + since("attention_misses") : 0;
  const hits = looks > 0 ? (100 * since("attention_hits")) / looks : NaN;

  const comes = stats.captured_fps || stats.rate;  // a camera in dim light gives half of what it says
  const slow = comes < 0.9 * stats.rate;
  $("figure-fps").textContent = `${stats.fps.toFixed(1)} / ${comes.toFixed(0)}`;
  $("figure-fps").title = slow ? `The source gives ${comes.toFixed(1)} frames a second, and says ${stats.rate.toFixed(0)}: most cameras do so in dim light.` : "";
  $("figure-latency").textContent = latency ? `${latency.p50.toFixed(0)} ms` : "–";
  $("figure-dropped").textContent = stats.dropped;
  plots.fps.goal = comes;
  plots.fps.add([stats.fps]);
  tell("fps", `${stats.fps.toFixed(1)} of ${comes.toFixed(0)}${slow ? `; the source says ${stats.rate.toFixed(0)}` : ""}`);
  plots.latency.add(latency ? [latency.p50, latency.p95, latency.p99] : [NaN, NaN, NaN]);
  if (latency) tell("latency", `${latency.p50.toFixed(0)} · ${latency.p95.toFixed(0)} · ${latency.p99.toFixed(0)} ms`);
  plots.drops.add([drops]);
  tell("drops", Number.isFinite(drops) ? drops.toFixed(1) : "");
  plots.hits.add([hits]);
  tell("hits", Number.isFinite(hits) ? `${hits.toFixed(0)} %` : "");
  plots.governor.add([governor.level]);
  tell("governor", governor.what || (settings.governor ? "spares nothing" : "off"));

  const inner = Object.entries(stats.stages).filter(([name]) => name.startsWith("enhance."));
  const outer = ["capture", "deliver"].filter((name) => name in stats.stages).map((name) => [name, stats.stages[name]]);
  const stages = [...outer.slice(0, 1), ...inner, ...outer.slice(1)]
    .map(([name, times]) => ({ name: name.replace("enhance.", "").replaceAll("_", " "), ...times }));
  drawStages($("plot-stages"), stages);
  const enhance = stats.stages.enhance;
  tell("stages", enhance ? `enhance ${enhance.p50.toFixed(0)} · ${enhance.p95.toFixed(0)} · ${enhance.p99.toFixed(0)} ms` : "");
  before = stats;
}

function renderDecisions() {
  const { decisions } = status.governor;
  const newest = decisions.at(-1)?.time_s ?? "";
  $("no-decisions").hidden = decisions.length > 0;
  $("decisions").hidden = decisions.length === 0;
  if ($("decisions").dataset.newest === String(newest)) return;
  $("decisions").dataset.newest = newest;
  $("decisions").replaceChildren(...decisions.toReversed().map((decision) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = new Date(1000 * decision.time_s).toLocaleTimeString();
    const what = document.createElement("span");
    what.textContent = `${decision.level}: ${decision.what || "all that is asked for"}`;
    const reason = document.createElement("small");
    reason.textContent = decision.reason;
    item.append(time, what, reason);
    return item;
  }));
}

function renderRecording() {
  recordingSince = status.recording ? (recordingSince ?? performance.now()) : null;
  const seconds = recordingSince === null ? 0 : Math.floor((performance.now() - recordingSince) / 1000);
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  $("record").setAttribute("aria-pressed", status.recording !== null);
  $("record-label").textContent = status.recording ? `Stop ${clock}` : "Record";
  $("record").title = status.recording ?? "";
}

function showState() {
  const lost = socket?.readyState !== WebSocket.OPEN;
  const [word, kind] = lost ? ["not connected", "lost"] : settings?.freeze ? ["frozen", "frozen"] : ["live", "live"];
  $("state").textContent = word;
  $("state").className = `state ${kind}`;
}

// --- connection ----------------------------------------------------------------------------

let socket = null;
let retryMs = 500;

function connect() {
  const address = new URL("ws", location.href);
  address.protocol = "ws:";
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.addEventListener("open", () => {
    retryMs = 500;
    $("banner").hidden = true;
    socket.send("status");
    askForPicture();
  });
  socket.addEventListener("message", async ({ data }) => {
    const from = socket;
    if (typeof data === "string") {
      takeStatus(JSON.parse(data));
      from.send("status");
    } else {
      await stage.show(data);
      askForPicture();
    }
  });
  socket.addEventListener("close", () => {
    showState();
    $("banner").textContent = "No connection: CAGFace Live has ended or starts again. "
      + "After a new start, open the new address that the terminal shows.";
    $("banner").hidden = false;
    setTimeout(connect, retryMs);
    retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
  });
}

/** A page that nobody sees needs no pictures. */
function askForPicture() {
  if (!document.hidden && socket.readyState === WebSocket.OPEN) socket.send("picture");
}

function takeStatus(fresh) {
  status = fresh;
  takeSettings(fresh.settings);
  render();
  renderStats();
  renderDecisions();
  renderRecording();
  showState();
}

// --- controls ------------------------------------------------------------------------------

for (const name of ["enhance", "governor"]) {
  $(name).addEventListener("change", ({ target }) => settings && change({ [name]: target.checked }));
}
$("strength").addEventListener("input", ({ target }) => settings && change({ strength: Number(target.value) }));
$("freeze").addEventListener("click", () => settings && change({ freeze: !settings.freeze }));
$("show-boxes").addEventListener("change", ({ target }) => $("boxes").classList.toggle("hidden", !target.checked));
$("snapshot").addEventListener("click", async () => {
  const answer = await post("snapshot", {});
  if (answer) say(`Saved ${answer.file}`);
});
$("record").addEventListener("click", async () => {
  const answer = await post("record", { on: !status?.recording });
  if (!answer) return;
  const nothing = "Nothing was recorded: no frame came";
  say(answer.file ? `${answer.recording ? "Recording into" : "Recorded"} ${answer.file}` : nothing);
});
document.addEventListener("visibilitychange", askForPicture);
const redraw = () => Object.values(plots).forEach((plot) => plot.draw());
new ResizeObserver(redraw).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

connect();
