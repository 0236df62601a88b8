// The page: images come in, a backend predicts them, the answers are shown. `start` names the backend.

import { paint } from "./drawing.js";

const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), stage = $("stage"), still = matchMedia("(prefers-reduced-motion: reduce)");
const MAX_ITEMS = 40, EDGES = ["left", "top", "right", "bottom"];
const items = [];
let backend = null, current = null, stream = null, live = null, moving = 0;

export const makeError = (code, message, hint) => ({ code, message, hint });

// Show what the model is, and predict with it. A backend has
// describe(): name of the model, and levels of its margins;
// predict(blob, level): answer as /v1/predict gives it, ms, and a note on the time; both raise `makeError`'s errors.
export async function start(chosen) {
  backend = chosen;
  try {
    const { name, levels } = await backend.describe();
    $("model").textContent = `${name}: one image in, one box out`;
    const usual = levels.includes(.9) ? .9 : Math.max(...levels);
    $("level").replaceChildren(...levels.map((level) => new Option(`${+(100 * level).toFixed(1)}%`, level, level === usual, level === usual)));
    $("levels").hidden = !levels.length;
    showError(null);
  } catch (error) { showError(error); }
  items.filter((item) => item.error).forEach((item) => predictItem(item));
}

const predict = (blob) => backend.predict(blob, Number($("level").value) || null);

// Images ----------------------------------------------------------------------------------------------

function add(blobs) {
  const fresh = Array.from(blobs).slice(0, MAX_ITEMS).map((blob) => ({ blob, name: blob.name || "image", url: URL.createObjectURL(blob), image: null, found: null, error: null }));
  if (!fresh.length) return;
  stopCamera();
  items.push(...fresh);
  while (items.length > MAX_ITEMS) URL.revokeObjectURL(items.shift().url);
  show(fresh[0]);
  fresh.reduce((before, item) => before.then(() => predictItem(item)), Promise.resolve());
}

async function predictItem(item, tries = 3) {
  item.waiting = true;
  refresh(item);
  if (!item.image) {
    const image = new Image();
    image.src = item.url;
    try { await image.decode(); item.image = image; } catch { /* this browser has no decoder for it; a server may */ }
  }
  try {
    item.found = await predict(item.blob);
    item.error = null;
  } catch (error) {
    if (error.code === "server-busy" && tries > 1) {
      await new Promise((done) => setTimeout(done, 1000 * Math.max(1, error.wait)));
      return predictItem(item, tries - 1);
    }
    item.found = null;
    item.error = error;
  }
  item.waiting = false;
  refresh(item, true);
}

function refresh(item, arrived = false) {
  thumbnails();
  if (item !== current) return;
  $("busy").hidden = !item.waiting;
  showError(item.error);
  showPrediction(item);
  if (arrived && item.found) animateBox(item); else draw(item.image, item.found?.answer);
}

function show(item) {
  current = item;
  stage.classList.add("full");
  $("empty").hidden = $("hint").hidden = true;
  canvas.hidden = false;
  refresh(item);
}

function thumbnails() {
  $("strip").hidden = items.length < 2 || stream !== null;
  $("strip").replaceChildren(...items.map((item) => {
    const button = document.createElement("button"), image = document.createElement("img");
    button.type = "button";
    button.className = item.error ? "bad" : "";
    button.setAttribute("aria-current", String(item === current));
    button.setAttribute("aria-label", `${item.name}${item.error ? ", with an error" : ""}`);
    button.onclick = () => show(item);
    image.src = item.url;
    image.alt = "";
    image.hidden = !item.image && !item.waiting;
    button.append(image);
    return button;
  }));
}

// Drawing ---------------------------------------------------------------------------------------------

function draw(image, answer, part = 1) {
  canvas.hidden = !image && !answer;
  $("blank").hidden = !canvas.hidden || !current || current.waiting;
  paint(canvas, { width: stage.clientWidth, height: Math.max(260, innerHeight * .68) }, image, answer, part);
}

function animateBox(item) {
  cancelAnimationFrame(moving);
  if (still.matches) return draw(item.image, item.found.answer);
  const started = performance.now();
  const step = (now) => {
    if (item !== current || !item.found) return;
    const at = Math.min(1, Math.max(0, (now - started) / 280));
    draw(item.image, item.found.answer, 1 - (1 - at) ** 3);
    if (at < 1) moving = requestAnimationFrame(step);
  };
  moving = requestAnimationFrame(step);
}

// Text -----------------------------------------------------------------------------------------------

function showError(error) {
  $("error").hidden = !error;
  if (!error) return;
  $("error-message").textContent = capital(error.message) + (/[.!?]$/.test(error.message) ? "" : ".");
  $("error-hint").textContent = error.hint;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const pixels = (value) => value.toFixed(1);

function showScore(id, value, text) {
  $(id).hidden = value === null;
  if (value === null) return;
  $(id).querySelector("b").textContent = text;
  $(id).querySelector("i").style.width = `${100 * value}%`;
}

function showPrediction(item) {
  const found = item.found;
  $("answer").hidden = !found;
  if (!found) return;
  const { box, size, margins, presence, familiarity } = found.answer;
  $("name").textContent = `${item.name}, ${size[0]} × ${size[1]}`;
  const unfamiliar = familiarity !== null && familiarity < .02, absent = presence !== null && presence < .5;
  const headline = absent ? "Probably no object" : `${(box[2] - box[0]).toFixed(0)} × ${(box[3] - box[1]).toFixed(0)} pixels at ${box[0].toFixed(0)}, ${box[1].toFixed(0)}`;
  $("box").textContent = headline;
  $("unfamiliar").hidden = !unfamiliar;
  $("time").textContent = `${found.ms.toFixed(0)} ms`;
  $("where").textContent = found.note;
  document.querySelectorAll("th.band").forEach((cell) => { cell.hidden = !margins; });
  $("edges").replaceChildren(...EDGES.map((edge, at) => {
    const row = document.createElement("tr");
    const cell = (kind, text, name = "") => { const made = document.createElement(kind); made.textContent = text; made.className = name; row.append(made); };
    cell("th", edge);
    cell("td", pixels(box[at]), "edge");
    if (margins) { cell("td", pixels(margins.lower[at])); cell("td", pixels(margins.upper[at])); }
    return row;
  }));
  showScore("presence", presence, presence === null ? "" : `${Math.round(100 * presence)}%`);
  showScore("familiarity", familiarity, familiarity === null ? "" : familiarity.toFixed(2));
  $("json").textContent = JSON.stringify(found.answer, null, 1);
  if (!item.live) $("live").textContent = `${item.name}: ${absent ? "probably no object; " : ""}${unfamiliar ? "hardly any training image is like this one; " : ""}box from ${pixels(box[0])}, ${pixels(box[1])} to ${pixels(box[2])}, ${pixels(box[3])}`;
}

async function copy() {
  if (!current?.found) return;
  const text = JSON.stringify(current.found.answer, null, 1);
  let done = true;
  try { await navigator.clipboard.writeText(text); }
  catch {  // no clipboard where the page is not from this machine or over https
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  const words = $("copy").firstChild, before = "Copy as JSON";
  words.data = done ? "Copied" : "Open JSON below and copy it";
  $("live").textContent = words.data;
  setTimeout(() => { words.data = before; }, 1600);
}

// The camera ------------------------------------------------------------------------------------------

async function startCamera() {
  if (!navigator.mediaDevices?.getUserMedia) return $("snapshot").click(); // pages over plain http, but for localhost
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } }, audio: false });
  } catch (error) {
    return showError(error.name === "NotFoundError"
      ? makeError("no-camera", "There is no camera.", "Choose an image instead.")
      : makeError("camera-refused", "The camera was not allowed.", "Allow it for this page in the browser, or choose an image."));
  }
  const video = document.createElement("video");
  Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  const item = { name: "camera", live: true, image: video, found: null, error: null };
  live = item;
  cameraButtons();
  show(item);
  const paint = () => { if (live !== item) return; draw(video, item.found?.answer); requestAnimationFrame(paint); };
  paint();
  while (live === item) {
    const frame = await grab(video);
    try {
      const found = await predict(frame);
      if (live !== item) break;
      Object.assign(item, { found, frame, error: null });
    } catch (error) {
      if (live !== item) break;
      item.error = error;
      await new Promise((done) => setTimeout(done, 1000 * Math.max(1, error.wait || 0)));
    }
    if (live === item) { showError(item.error?.code === "server-busy" ? null : item.error); showPrediction(item); }
  }
}

function grab(video) {
  const small = document.createElement("canvas"), fit = Math.min(1, 960 / Math.max(video.videoWidth, video.videoHeight));
  small.width = Math.round(video.videoWidth * fit); small.height = Math.round(video.videoHeight * fit);
  small.getContext("2d").drawImage(video, 0, 0, small.width, small.height);
  return new Promise((done) => small.toBlob(done, "image/jpeg", .85));
}

function stopCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = live = null;
  cameraButtons();
}

function cameraButtons() {
  $("camera").firstChild.data = stream ? "Stop the camera" : "Camera";
  $("freeze").hidden = !stream;
}

function freeze() {
  if (live?.frame) add([new File([live.frame], `camera ${new Date().toLocaleTimeString()}`, { type: "image/jpeg" })]);
}

function toggleCamera() {
  if (!stream) return startCamera();
  stopCamera();
  if (items.length) return show(items[items.length - 1]);
  current = null;
  stage.classList.remove("full");
  $("empty").hidden = $("hint").hidden = false;
  canvas.hidden = $("blank").hidden = $("answer").hidden = true;
}

// Controls -----------------------------------------------------------------------------------------------

const choose = () => $("files").click();
$("choose").onclick = choose;
$("camera").onclick = toggleCamera;
$("freeze").onclick = freeze;
$("copy").onclick = copy;
for (const id of ["files", "snapshot"]) $(id).onchange = (event) => { add(event.target.files); event.target.value = ""; };
$("level").onchange = () => { items.forEach((item) => { item.found = null; }); if (current && !current.live) predictItem(current); items.filter((item) => item !== current).reduce((before, item) => before.then(() => predictItem(item)), Promise.resolve()); };

let depth = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); depth++; stage.classList.add("over"); });
addEventListener("dragleave", () => { if (--depth <= 0) stage.classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  stage.classList.remove("over");
  if (event.dataTransfer.files.length) add(event.dataTransfer.files);
  else showError(makeError("no-file", "That was not an image file.", "Save the image first, then drop the file."));
});
addEventListener("paste", (event) => {
  const files = Array.from(event.clipboardData?.files || []);
  if (files.length) { event.preventDefault(); add(files); }
  else if (!/^(INPUT|TEXTAREA)$/.test(event.target.tagName || "")) showError(makeError("no-file", "There is no image in the clipboard.", "Copy an image, not its address, and paste again."));
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const other = (step) => { const at = items.indexOf(current) + step; if (items[at]) show(items[at]); };
  const does = { o: choose, c: toggleCamera, j: copy, arrowleft: () => other(-1), arrowright: () => other(1) };
  const what = event.key === " " && stream && event.target.tagName !== "BUTTON" ? freeze : does[event.key.toLowerCase()];
  if (what && !(event.target.tagName === "PRE" && event.key.startsWith("Arrow"))) { event.preventDefault(); what(); }
});
let resizing = 0;
addEventListener("resize", () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(() => { if (current && !current.live) draw(current.image, current.found?.answer); }); });
