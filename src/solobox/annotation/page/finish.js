// The end of the work: write the labels, train the final model, and what comes of it.

import * as api from "./api.js";
import { fail, showError } from "./messages.js";
import { make } from "./panel.js";
import { poll } from "./poll.js";

const $ = (id) => document.getElementById(id);

export async function finish(train) {
  showError(null);
  try {
    await api.post("api/finish", { train, predicted: $("predicted").checked });
    poll();
  } catch (error) {
    fail(error, () => finish(train));
  }
}

const FINISH = { running: "Running …", done: "Done.", failed: "It failed." };

export function showFinish({ state, lines, commands }) {
  $("finish-out").hidden = state === "idle";
  $("write").disabled = $("train").disabled = state === "running";
  if ($("finish-state").textContent !== (FINISH[state] ?? "")) $("finish-state").textContent = FINISH[state] ?? "";
  const text = lines.join("\n"), out = $("finish-lines");
  out.hidden = !text;
  if (out.textContent !== text) {
    out.textContent = text;
    out.scrollTop = out.scrollHeight; // the newest line
  }
  const key = commands.join("\n");
  if ($("commands").dataset.key === key) return;
  $("commands").dataset.key = key;
  $("commands").replaceChildren(...commands.map(command));
}

function command(text) {
  const row = make("div", "", "command"), shown = make("pre", text), button = make("button", "Copy");
  shown.tabIndex = 0;
  button.type = "button";
  button.setAttribute("aria-label", `Copy: ${text}`);
  button.onclick = async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch { // no permission: select it, and the person copies
      getSelection().selectAllChildren(shown);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  };
  row.append(shown, button);
  return row;
}

