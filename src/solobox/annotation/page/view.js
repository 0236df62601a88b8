// Which part of the image the canvas shows. A view is {scale, x, y}: the canvas has image pixel (u, v) at
// (x + u * scale, y + v * scale), in CSS pixels. Pure functions.

const CLOSEST = 24; // CSS pixels for one of the image
const EDGE = 14; // CSS pixels left free around the whole image, so that handles at its border can be grasped

/** The whole image, in the middle. Small images are enlarged. */
export function fit(image, room) {
  const free = Math.min(EDGE, room.width / 20, room.height / 20);
  const scale = Math.min((room.width - 2 * free) / image.width, (room.height - 2 * free) / image.height, CLOSEST / 2);
  return { scale, x: (room.width - image.width * scale) / 2, y: (room.height - image.height * scale) / 2 };
}

/** So close that these boxes have only twice the longest of their sides around them; the whole image where that is more. */
export function closeUp(boxes, image, room) {
  const whole = fit(image, room);
  const [x1, y1] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])));
  const [x2, y2] = [2, 3].map((side) => Math.max(...boxes.map((box) => box[side])));
  const around = 4 * Math.max(...boxes.map((box) => Math.max(box[2] - box[0], box[3] - box[1])));
  const scale = Math.min(room.width / (x2 - x1 + around), room.height / (y2 - y1 + around), CLOSEST / 2);
  if (!boxes.length || scale <= whole.scale) return whole;
  return settle({ scale, x: (room.width - (x1 + x2) * scale) / 2, y: (room.height - (y1 + y2) * scale) / 2 }, image, room);
}

export const toImage = (view, [x, y]) => [(x - view.x) / view.scale, (y - view.y) / view.scale];

export const toCanvas = (view, [u, v]) => [view.x + u * view.scale, view.y + v * view.scale];

export const boxToCanvas = (view, [x1, y1, x2, y2]) => [...toCanvas(view, [x1, y1]), ...toCanvas(view, [x2, y2])];

/** Closer by `factor`; what is at `point` of the canvas stays there. */
export function zoom(view, factor, [x, y], image, room) {
  const least = fit(image, room).scale;
  const scale = Math.min(Math.max(view.scale * factor, least), Math.max(CLOSEST, least));
  const ratio = scale / view.scale;
  return settle({ scale, x: x - (x - view.x) * ratio, y: y - (y - view.y) * ratio }, image, room);
}

export const pan = (view, dx, dy, image, room) => settle({ ...view, x: view.x + dx, y: view.y + dy }, image, room);

/** Nobody loses the image: it covers the canvas, or lies in its middle if it is smaller. */
function settle(view, image, room) {
  const place = (at, size, space) => {
    if (size <= space) return (space - size) / 2;
    const free = Math.min(EDGE, space / 20);
    return Math.min(free, Math.max(at, space - free - size));
  };
  return {
    scale: view.scale,
    x: place(view.x, image.width * view.scale, room.width),
    y: place(view.y, image.height * view.scale, room.height),
  };
}

export const isFit = (view, image, room) => view.scale <= fit(image, room).scale * 1.001;
