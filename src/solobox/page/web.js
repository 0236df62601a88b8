// The page of `solobox export --target web`: this browser predicts, in a worker, so that the page stays quick.

import { makeError, start } from "./app.js";

const worker = new Worker("worker.js", { type: "module" }), waiting = new Map();
let count = 0;

worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error) reject(error); else resolve(result);
};
worker.onerror = (event) => {
  event.preventDefault();
  const error = makeError("worker-failed", "The model does not run in this browser.", "Update the browser, or load the page again.");
  waiting.forEach(({ reject }) => reject(error));
  waiting.clear();
};

const ask = (message) => new Promise((resolve, reject) => {
  waiting.set(++count, { resolve, reject });
  worker.postMessage({ id: count, ...message });
});

async function describe() {
  document.getElementById("model").textContent = "loading the model …";
  const { classes, levels } = await ask({});
  return { name: classes.length === 1 ? classes[0] : "this model", levels };
}

async function predict(blob, level) {
  const started = performance.now();
  return { answer: await ask({ blob, level }), ms: performance.now() - started, note: "in this browser" };
}

start({ describe, predict });
