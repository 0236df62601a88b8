// Decodes images and runs the model, away from the page. A message without an image asks what the model is.

import * as ort from "./runtime/ort.wasm.min.js";
import { resizeToSquare } from "./resize.js";

const STRIP = 1 << 20;  // pixels that are read at once: a canvas of a whole photograph is more than phones allow
const makeError = (code, message, hint) => ({ code, message, hint });

const build = new URL("runtime/ort-wasm-simd-threaded", import.meta.url).href;
ort.env.wasm.wasmPaths = { mjs: `${build}.js`, wasm: `${build}.wasm` };
// Threads share memory, which browsers allow only to pages with the headers of cross-origin isolation.
ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

async function load() {
  try {
    const [description, content] = await Promise.all(["model.json", "model.onnx"].map(async (name) => {
      const response = await fetch(new URL(name, import.meta.url));
      if (!response.ok) throw new Error(`${name}: ${response.status}`);
      return name.endsWith(".json") ? response.json() : response.arrayBuffer();
    }));
    return { about: description, session: await ort.InferenceSession.create(content, { executionProviders: ["wasm"] }) };
  } catch (error) {
    throw makeError("model-missing", `The model cannot be loaded (${error.message}).`, "Check the connection and that all files of the folder were copied, then load the page again.");
  }
}
const loaded = load();
loaded.catch(() => { /* each message tells it */ });

async function decode(blob) {
  try {
    // As in Python: turned upright by EXIF, colours as they are stored, whatever the profile says.
    return await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    throw makeError("image-unreadable", "This browser cannot read the file as an image.", "Convert it to JPEG or PNG.");
  }
}

function pixelsOf(bitmap) {
  const { width, height } = bitmap, rows = Math.min(height, Math.max(1, Math.floor(STRIP / width)));
  const pen = new OffscreenCanvas(width, rows).getContext("2d", { willReadFrequently: true, alpha: false });
  const pixels = new Uint8Array(3 * width * height);
  for (let top = 0, to = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    pen.fillStyle = "#fff";  // below transparent pixels, as in Python
    pen.fillRect(0, 0, width, count);
    pen.drawImage(bitmap, 0, -top);
    const { data } = pen.getImageData(0, 0, width, count);
    for (let from = 0; from < data.length; from += 4) {
      pixels[to++] = data[from]; pixels[to++] = data[from + 1]; pixels[to++] = data[from + 2];
    }
  }
  return pixels;
}

async function predict({ about, session }, blob, level) {
  const bitmap = await decode(blob), { side } = about, { width, height } = bitmap;
  const square = resizeToSquare(pixelsOf(bitmap), width, height, side);
  bitmap.close();
  const pixels = new ort.Tensor("uint8", square, [1, side, side, 3]);
  const outputs = await session.run({ pixels });
  // The model sees a square; what it says is scaled to the image.
  const toImage = (edges) => Array.from(edges, (edge, at) => Math.round(1000 * edge * (at % 2 ? height : width) / side) / 1000);
  const box = toImage(outputs.boxes.data);
  if (!box.every(Number.isFinite)) throw makeError("model-damaged", "The box is not finite.", "Is the model damaged? Export it again.");
  const at = about.levels.indexOf(level), row = (output) => toImage(output.data.subarray(4 * at, 4 * at + 4));
  const score = (output) => (output ? Math.round(1e6 * output.data[0]) / 1e6 : null);
  return {
    size: [width, height], box,
    margins: at < 0 ? null : { level, lower: row(outputs.lower), upper: row(outputs.upper) },
    presence: score(outputs.presence), familiarity: score(outputs.familiarity),
  };
}

onmessage = async ({ data: { id, blob, level } }) => {
  try {
    const model = await loaded;
    postMessage({ id, result: blob ? await predict(model, blob, level) : { levels: model.about.levels, classes: model.about.metadata.classes || [] } });
  } catch (error) {
    postMessage({ id, error: error.code ? { ...error } : makeError("failed", `The model failed (${error.message}).`, "Try another image, or load the page again.") });
  }
};
