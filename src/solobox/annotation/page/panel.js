// The panel beside the image: the state of the work in words, figures and one line chart.

const $ = (id) => document.getElementById(id);
export const percent = (share) => `${Math.round(100 * share)}%`;

export function showState(state) {
  const { counts, review } = state;
  $("folder").textContent = `${state.folder} → ${state.labels}`;
  document.title = `${counts.box + counts.absent} ${state.audit ? "checked" : "labelled"} – Solobox`;
  $("labelled").textContent = counts.box + counts.absent;
  $("left").textContent = `of ${state.total}, ${counts.left} left`;
  showCounts(counts, state.audit);
  $("model").textContent = modelText(state.model, counts.box);
  showQuality(state.quality);
  $("labels-file").textContent = `Every answer is saved. This writes ${state.labels}.`;
  $("panel-review").disabled = $("open-review").disabled = !review.total;
  for (const id of ["model-card", "open-review", "done-review", "predicted-line"]) $(id).hidden = Boolean(state.audit);
  $("labelled-title").textContent = state.audit ? "Labels checked" : "Labelled";
  $("predicting").hidden = !review.ready || review.ready >= review.total;
  $("predicting-text").textContent = `${review.ready} of ${review.total}`;
  Object.assign($("predicting-bar"), { max: Math.max(1, review.total), value: review.ready });
}

function showCounts(counts, audit) {
  const rows = [["drawn", counts.drawn], [audit ? "the model's box" : "accepted as suggested", counts.accepted], [audit ? "corrected" : "suggestion corrected", counts.corrected], ...(counts.given ? [[audit ? "label kept" : "given before", counts.given]] : []), ["not there", counts.absent], ["skipped", counts.skipped]];
  $("counts").replaceChildren(...rows.flatMap(([name, count]) => [make("dt", name), make("dd", count)]));
  const answers = counts.box + counts.absent;
  $("time").textContent = answers ? `${duration(counts.seconds)} in all, ${(counts.seconds / answers).toFixed(1)} s each` : "";
}

export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function modelText(model, labels) {
  const boxes = (count) => `${count} ${count === 1 ? "box" : "boxes"}`;
  if (model.error) return sentence(model.error);
  if (model.training) return `Learning from ${boxes(labels)} …`;
  return model.labels ? `Learned from ${boxes(model.labels)}.` : "It begins to learn after a few boxes.";
}

function showQuality(quality) {
  $("quality").hidden = !quality;
  if (!quality) return;
  $("iou").textContent = quality.iou.toFixed(2);
  $("interval").textContent = `between ${quality.low.toFixed(2)} and ${quality.high.toFixed(2)}, by ${quality.count} blind ${quality.count === 1 ? "image" : "images"}`;
  $("advice").textContent = quality.advice ? sentence(quality.advice) : "";
  $("sentence").textContent = (quality.enough ? "✓ " : "") + sentence(quality.sentence);
  $("sentence").classList.toggle("enough", quality.enough);
  // Drawn again only if it changed: a reader's place in it stays.
  const key = JSON.stringify([quality.trend, quality.low, quality.high]);
  if ($("trend").dataset.key === key) return;
  $("trend").dataset.key = key;
  $("trend").replaceChildren(...(quality.trend.length > 1 ? [chart(quality)] : []));
}

const sentence = (text) => text && text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

const WIDTH = 288, HEIGHT = 96, LEFT = 26, RIGHT = 10, TOP = 8, BOTTOM = 18;

/** Mean IoU over labels, with the interval at the last point. */
function chart({ trend, low, high }) {
  const floor = Math.max(0, Math.floor(Math.min(low, ...trend.map(([, iou]) => iou)) * 10) / 10);
  const first = trend[0], last = trend[trend.length - 1], wide = Math.max(1, last[0] - first[0]);
  const x = (labels) => LEFT + (labels - first[0]) / wide * (WIDTH - LEFT - RIGHT);
  const y = (iou) => TOP + (1 - iou) / Math.max(.1, 1 - floor) * (HEIGHT - TOP - BOTTOM);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "trend", role: "img", "aria-label": `Mean IoU: ${first[1].toFixed(2)} at ${first[0]} labels, ${last[1].toFixed(2)} at ${last[0]}` });
  for (const level of [floor, 1]) {
    svg.append(draw("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(level), y2: y(level), class: "grid-line" }));
    svg.append(draw("text", { x: LEFT - 5, y: y(level) + 4, "text-anchor": "end" }, level === 1 ? "1" : level.toFixed(1)));
  }
  svg.append(draw("text", { x: LEFT, y: HEIGHT - 3 }, `${first[0]} labels`));
  svg.append(draw("text", { x: WIDTH - RIGHT, y: HEIGHT - 3, "text-anchor": "end" }, String(last[0])));
  svg.append(draw("line", { x1: x(last[0]), x2: x(last[0]), y1: y(low), y2: y(high), class: "whisker" }));
  svg.append(draw("polyline", { points: trend.map(([labels, iou]) => `${x(labels).toFixed(1)},${y(iou).toFixed(1)}`).join(" "), class: "path" }));
  svg.append(draw("circle", { cx: x(last[0]), cy: y(last[1]), r: 4, class: "dot" }));
  return svg;
}

export function draw(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

export function make(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}
