// Boxes [x1, y1, x2, y2] in pixels of the original image. Pure functions: a box goes in, a new one comes out.

const SMALLEST = 1; // pixels of a side

const limit = (value, low, high) => Math.min(Math.max(value, low), high);

export const same = (one, other) => Boolean(one && other) && one.every((edge, at) => edge === other[at]);

/** The point of the image nearest to `point`. */
export const inside = ([x, y], width, height) => [limit(x, 0, width), limit(y, 0, height)];

/** The box around all points, within the image. Four extreme clicks, or the two ends of a drag. */
export function around(points, width, height) {
  const xs = points.map((point) => point[0]), ys = points.map((point) => point[1]);
  return clamp([Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], width, height);
}

/** The part within the image, with sides of a pixel at least. */
export function clamp([x1, y1, x2, y2], width, height) {
  const [left, right] = span(x1, x2, width), [top, bottom] = span(y1, y2, height);
  return [left, top, right, bottom];
}

function span(one, other, size) {
  const low = limit(Math.min(one, other), 0, Math.max(0, size - SMALLEST));
  return [low, limit(Math.max(one, other), low + Math.min(SMALLEST, size), size)];
}

/** Moved as a whole; it stops at the border of the image and keeps its size. */
export function move(box, dx, dy, width, height) {
  const x = limit(dx, -box[0], width - box[2]), y = limit(dy, -box[1], height - box[3]);
  return [box[0] + x, box[1] + y, box[2] + x, box[3] + y];
}

/** With the edges of `handle` ("n", "se", ...) moved. An edge dragged past the other one turns the box over. */
export function drag(box, handle, dx, dy, width, height) {
  const [x1, y1, x2, y2] = box;
  return clamp([
    x1 + (handle.includes("w") ? dx : 0), y1 + (handle.includes("n") ? dy : 0),
    x2 + (handle.includes("e") ? dx : 0), y2 + (handle.includes("s") ? dy : 0),
  ], width, height);
}

/** With the bottom right corner moved, and the top left one kept, for the keyboard. */
export function resize(box, dx, dy, width, height) {
  const [x1, y1, x2, y2] = box;
  return clamp([x1, y1, Math.max(x1 + SMALLEST, x2 + dx), Math.max(y1 + SMALLEST, y2 + dy)], width, height);
}

/** What is at a point: a handle's name, "inside", or "" for nothing. `reach` is how near counts as on an edge. */
export function handleAt([x1, y1, x2, y2], [x, y], reach) {
  // Within a small box, handles leave half of each side to move it by.
  const withinX = Math.min(reach, (x2 - x1) / 4), withinY = Math.min(reach, (y2 - y1) / 4);
  const near = (value, low, high, within, names) => {
    if (value < low - reach || value > high + reach) return null;
    if (value <= low + within) return names[0];
    return value >= high - within ? names[1] : "";
  };
  const horizontal = near(x, x1, x2, withinX, "we"), vertical = near(y, y1, y2, withinY, "ns");
  if (horizontal === null || vertical === null) return "";
  return vertical + horizontal || "inside";
}

/** Half as wide and as high as the image, in its middle. */
export const middle = (width, height) => [width / 4, height / 4, width * 3 / 4, height * 3 / 4];

/** Hundredths of a pixel: finer is only noise of the pointer. */
export const rounded = (box) => box.map((edge) => Math.round(edge * 100) / 100);
