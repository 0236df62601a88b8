// The page of `solobox serve`: the server predicts.

import { makeError, start } from "./app.js";

const $ = (id) => document.getElementById(id);
let apiKey = "", maxBytes = Infinity;
try { apiKey = sessionStorage.getItem("solobox-key") || ""; } catch { /* a browser without session storage */ }

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  let response;
  try { response = await fetch(path, { ...options, headers, cache: "no-store" }); }
  catch { throw makeError("unreachable", "The server cannot be reached.", "Check that it still runs, then try again."); }
  let body;
  try { body = await response.json(); }
  catch { throw makeError("invalid-response", `The response (${response.status}) is not valid.`, "Is there a proxy between this page and the server?"); }
  if (response.status === 401) { $("keyform").hidden = false; $("key").focus(); }
  if (!response.ok) throw { ...body, wait: Number(response.headers.get("Retry-After")) || 0 };
  return { body, server: /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") || "")?.[1] };
}

async function predict(blob, level) {
  if (blob.size > maxBytes) {
    throw makeError("body-too-large", `The file has ${(blob.size / 1e6).toFixed(1)} MB, and the server accepts ${(maxBytes / 1e6).toFixed(0)}.`, "Save it smaller.");
  }
  const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
  const started = performance.now();
  const { body, server } = await request(`v1/predict${level ? `?margins=${level}` : ""}`, { method: "POST", body: blob, headers: { "Content-Type": type } });
  return { answer: body, ms: performance.now() - started, note: server ? `round trip; ${server} ms of it in the server` : "round trip" };
}

async function describe() {
  const secret = apiKey ? ` -H "Authorization: Bearer $SOLOBOX_API_KEY"` : "";
  $("curl").textContent = `curl${secret} -F file=@photo.jpg ${new URL("v1/predict", location.href)}`;
  const model = (await request("v1/model")).body;
  maxBytes = model.max_bytes;
  $("keyform").hidden = true;
  return { name: model.name, levels: model.margins.filter((level) => [.5, .8, .9, .95, .99].includes(level)) };
}

$("keyform").onsubmit = (event) => {
  event.preventDefault();
  apiKey = $("key").value.trim();
  try { sessionStorage.setItem("solobox-key", apiKey); } catch { /* then it lasts as long as the page */ }
  start({ describe, predict });
};

start({ describe, predict });
