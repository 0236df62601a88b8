// What the page says: the status line, errors, and that the program is gone.

import * as api from "./api.js";

const $ = (id) => document.getElementById(id);
const setText = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };

export function say(text, saved = false) {
  $("status").textContent = text;
  $("status").title = text;
  $("status").classList.toggle("saved", saved);
}

/** An error that stays until it is closed, solved or followed by another; null takes it away. */
export function showError(error, retry = null) {
  $("error").hidden = !error;
  if (!error) return;
  const text = error.message;
  $("error-message").textContent = text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
  $("error-hint").textContent = error.hint ?? "";
  $("retry").hidden = !retry;
  $("retry").onclick = retry;
}

let unsaved = false;

/** Whether an answer is on its way. */
export function setUnsaved(value) { unsaved = value; }

/** The program does not answer. Only changed text is set: it would be read aloud again every two seconds. */
export function showGone(error) {
  $("gone").hidden = false;
  setText("gone-message", error.message);
  setText("gone-hint", unsaved ? "Your last box is not saved. It stays here and is sent again every 2 seconds." : error.hint);
}

export function hideGone() { $("gone").hidden = true; }

/** A request that may come twice, repeated until the program answers. */
export async function persist(request) {
  const answer = await api.persist(request, showGone);
  hideGone();
  return answer;
}

/** An error of a request that must not be repeated by itself. */
export function fail(error, retry = null) {
  if (error.code === "unreachable") showGone(error);
  else showError(error, retry);
}

/** Words instead of the image; null shows the image. */
export function cover(title, text = "") {
  $("cover").hidden = title === null;
  setText("cover-title", title ?? "");
  setText("cover-text", text);
}
