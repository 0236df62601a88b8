// Asks for the state of the work again and again, less often while nobody looks.

import * as api from "./api.js";
import { hideGone, showError, showGone } from "./messages.js";

const PAUSE = 1500, HIDDEN = 10000; // ms

let timer = 0, running = false, again = false, failed = "", show = () => {};

export function startPolling(onState) {
  show = onState;
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  poll();
}

/** Now, and then as usual. */
export async function poll() {
  clearTimeout(timer);
  if (running) { again = true; return; }
  running = true;
  try {
    const state = await api.get("api/state");
    hideGone();
    failed = "";
    show(state);
  } catch (error) {
    report(error);
  }
  running = false;
  timer = setTimeout(poll, again ? 50 : document.hidden ? HIDDEN : PAUSE);
  again = false;
}

/** Said once, not every time: it would cover an error that asks for something. */
function report(error) {
  if (error.code === "unreachable") showGone(error);
  else if (error.code !== failed) showError(error);
  failed = error.code ?? "unknown";
}
