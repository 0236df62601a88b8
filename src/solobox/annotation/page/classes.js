// The field for the name of a class. The last one stays for the next image.

import { make } from "./panel.js";
import { wantsClass } from "./settings.js";

const $ = (id) => document.getElementById(id);
let classes = null;

/** choose: at the start, the only one there is is in the field. */
export function showClasses(names = classes ?? [], { choose = false } = {}) {
  $("classes").hidden = !names.length && !wantsClass();
  if (classes?.join("\n") === names.join("\n")) return;
  if (choose && !classes && names.length === 1 && !$("label").value) setClass(names[0]);
  classes = names;
  $("known-classes").replaceChildren(...names.map((name) => new Option(name, name)));
  $("chips").replaceChildren(...names.slice(0, 9).map((name, at) => {
    const chip = make("button", name);
    chip.type = "button";
    chip.append(make("kbd", at + 1));
    chip.onclick = () => chooseClass(at);
    return chip;
  }));
}

/** By its number; whether there is such a class. */
export function chooseClass(at) {
  if (!classes?.[at] || $("classes").hidden) return false;
  setClass(classes[at]);
  $("live").textContent = `Class ${classes[at]}`;
  return true;
}

export const setClass = (name) => { $("label").value = name; };
export const chosenClass = () => ($("classes").hidden ? "" : $("label").value.trim());
