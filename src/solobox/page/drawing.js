// An image with its box, and the band of its margins, on a canvas.

// image: an element or null, then the box is on grey. answer: as /v1/predict gives it, or null.
// room: width and height that the canvas may take. part: of the way that the box has come, 0 to 1.
export function paint(canvas, room, image, answer, part) {
  const width = image?.naturalWidth || image?.videoWidth || answer?.size?.[0] || 640;
  const height = image?.naturalHeight || image?.videoHeight || answer?.size?.[1] || 400;
  const fit = Math.min(room.width / width, room.height / height, Math.max(1, 420 / Math.max(width, height)));
  const ratio = Math.min(devicePixelRatio || 1, 2), w = Math.max(1, Math.round(width * fit)), h = Math.max(1, Math.round(height * fit));
  canvas.width = w * ratio; canvas.height = h * ratio;
  canvas.style.width = `${w}px`; canvas.style.height = `${h}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  if (image) pen.drawImage(image, 0, 0, w, h);
  else { pen.fillStyle = "#8886"; pen.fillRect(0, 0, w, h); }
  if (!answer?.box) return;
  const sx = w / answer.size[0], sy = h / answer.size[1];
  // A box arrives from the frame of the image.
  const onto = (edges) => edges.map((edge, at) => { const s = at % 2 ? sy : sx, from = [0, 0, w, h][at]; return from + (edge * s - from) * part; });
  const box = onto(answer.box), { lower, upper } = answer.margins || {};
  const rect = (path, [x1, y1, x2, y2]) => path.rect(x1, y1, x2 - x1, y2 - y1);
  if (lower) {
    const outer = onto([lower[0], lower[1], upper[2], upper[3]]), inner = onto([upper[0], upper[1], lower[2], lower[3]]);
    const band = new Path2D();
    rect(band, outer);
    if (inner[0] < inner[2] && inner[1] < inner[3]) rect(band, inner);
    pen.fillStyle = "rgba(255, 138, 31, .3)";
    pen.fill(band, "evenodd");
    pen.lineWidth = 1; pen.strokeStyle = "rgba(255, 138, 31, .9)"; pen.setLineDash([4, 3]);
    pen.stroke(band);
    pen.setLineDash([]);
  }
  const line = new Path2D();
  rect(line, box);
  pen.lineJoin = "round";
  pen.lineWidth = 5; pen.strokeStyle = "rgba(20, 12, 4, .75)"; pen.stroke(line);
  pen.lineWidth = 2.5; pen.strokeStyle = "#ff8a1f"; pen.stroke(line);
}
