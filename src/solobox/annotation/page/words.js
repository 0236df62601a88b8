// Words for an image and its box. Pure functions.

import { percent } from "./panel.js";

export const fileName = (path) => path.split("/").pop();

/** What to know before one draws. */
export function badge({ answer, suggestion, blind, error, given }) {
  if (error) return "";
  if (given && !answer) return "is this label right?";
  if (answer) return `answered: ${answerText(answer)}`;
  if (blind) return "drawn blind: measures the model";
  if (!suggestion) return "";
  const { presence } = suggestion;
  if (presence === null) return "suggested box";
  return `suggested box, presence ${percent(presence)}${presence < .5 ? ": probably not there" : ""}`;
}

/** Why a label is looked at again, and which box is whose. */
export function suspectText({ given, suggestion, why }) {
  const label = given.box ? "The label is orange" : "The label says “not there”";
  const model = suggestion ? "the model's box blue and dashed" : "the model sees no object";
  return `${label}, ${model}: ${why}`;
}

export const answerText = ({ kind, label }) => ({ box: label ? `a box, ${label}` : "a box", absent: "not there", skipped: "skipped" })[kind];

export const savedText = (kind, path) => `saved: ${{ box: "box", absent: "not there", skipped: "skipped" }[kind]}, ${fileName(path)}`;

export const boxText = ([x1, y1, x2, y2]) => `${(x2 - x1).toFixed(0)} × ${(y2 - y1).toFixed(0)} pixels at ${x1.toFixed(0)}, ${y1.toFixed(0)}`;
