// The canvas: draws the image with its box, and turns pointers into boxes.

import * as boxes from "./box.js";
import * as views from "./view.js";

const ORANGE = "#ff8a1f", BLUE = "#4fb3ff", CASING = "rgba(20, 12, 4, .75)";
const REACH = { mouse: 9, pen: 14, touch: 24 }; // CSS pixels around an edge that still grasp it
const STILL = 4; // a pointer that moves less has clicked
const CURSORS = { n: "ns-resize", s: "ns-resize", w: "ew-resize", e: "ew-resize", nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize", inside: "move" };

export class Stage {
  box = null;
  other = null; // a second box, only to be seen
  band = null; // {lower, upper} of a suggestion
  dashed = false; // the box is a suggestion as it came
  drawn = false; // the box began with the person, not with a suggestion
  clicking = false; // extreme clicks make the box
  points = [];
  locked = true;
  panning = false; // the space bar is down

  /** onbox(): the box changed. onpoints(): one more click of four. */
  constructor(canvas, { onbox, onpoints }) {
    Object.assign(this, { canvas, onbox, onpoints, image: null, size: { width: 1, height: 1 }, room: { width: 1, height: 1 } });
    this.view = { scale: 1, x: 0, y: 0 };
    this.pointers = new Map();
    this.gesture = null;
    this.hover = null;
    this.coarse = matchMedia("(pointer: coarse)").matches;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#cancel(event));
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.draw(); });
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    // A drag is no fling: after one, browsers ignore a quick tap on a button. Phones also magnify on a long press.
    canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    canvas.addEventListener("contextmenu", (event) => { if (this.gesture) event.preventDefault(); });
    new ResizeObserver(() => this.#fill()).observe(canvas.parentElement);
    this.#fill();
  }

  /** Another image; `size` is that of the original, whose pixels boxes are in. */
  show(image, size) {
    this.image?.close?.();
    Object.assign(this, { image, size, points: [], gesture: null });
    this.view = views.fit(this.size, this.room);
    this.draw();
  }

  setBox(box, { band = null, dashed = false, drawn = false } = {}) {
    Object.assign(this, { box, band, dashed, drawn, points: [], gesture: null });
    this.draw();
  }

  clearPoints() {
    this.points = [];
    this.draw();
  }

  zoom(factor, at = [this.room.width / 2, this.room.height / 2]) {
    this.view = views.zoom(this.view, factor, at, this.size, this.room);
    this.draw();
  }

  fit() {
    this.view = views.fit(this.size, this.room);
    this.draw();
  }

  /** Show these boxes large enough to be judged. */
  closeUp(boxes) {
    this.view = views.closeUp(boxes, this.size, this.room);
    this.draw();
  }

  /** Pixels as the keyboard moves them: the whole box, or its bottom right corner. */
  nudge(dx, dy, corner) {
    if (!this.box || this.locked) return;
    this.#change((corner ? boxes.resize : boxes.move)(this.box, dx, dy, this.size.width, this.size.height), "moved");
  }

  get isFit() { return views.isFit(this.view, this.size, this.room); }

  // Pointers ----------------------------------------------------------------------------------------------

  #at(event) {
    const frame = this.canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  #inImage(at) {
    return boxes.inside(views.toImage(this.view, at), this.size.width, this.size.height);
  }

  #down(event) {
    this.canvas.focus({ preventScroll: true });
    const at = this.#at(event);
    if (!this.image || (event.button !== 0 && event.button !== 1)) return;
    event.preventDefault(); // no text selection, no automatic scrolling by the middle button
    try { this.canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that a script made up */ }
    this.pointers.set(event.pointerId, at);
    if (this.pointers.size === 2 && event.pointerType === "touch") return this.#pinch();
    if (this.pointers.size > 1) return;
    if (event.button === 1 || this.panning) {
      this.gesture = { kind: "pan", at };
    } else if (!this.locked) {
      const handle = this.#handle(at, event);
      const kind = !handle ? "draw" : handle === "inside" ? "move" : "edge";
      this.gesture = { kind, handle, from: at, start: this.#inImage(at), before: this.#state(), moved: false };
    }
    this.draw();
  }

  #handle(at, event) {
    if (!this.box || event.shiftKey) return "";
    return boxes.handleAt(views.boxToCanvas(this.view, this.box), at, REACH[event.pointerType] ?? REACH.mouse);
  }

  #state() {
    return { box: this.box, band: this.band, dashed: this.dashed, drawn: this.drawn };
  }

  /** A second finger: what the first one did to the box was no drawing. */
  #pinch() {
    if (this.gesture?.before) {
      Object.assign(this, this.gesture.before);
      if (this.gesture.moved) this.onbox();
    }
    this.gesture = { kind: "pinch", ...this.#fingers() };
  }

  #fingers() {
    const [[ax, ay], [bx, by]] = [...this.pointers.values()];
    return { middle: [(ax + bx) / 2, (ay + by) / 2], apart: Math.max(1, Math.hypot(ax - bx, ay - by)) };
  }

  #move(event) {
    const at = this.#at(event), gesture = this.gesture;
    this.hover = event.pointerType === "touch" ? null : at;
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    if (!gesture) {
      this.#cursor(at, event);
    } else if (gesture.kind === "pinch") {
      if (this.pointers.size < 2) return;
      const { middle, apart } = this.#fingers();
      this.view = views.pan(this.view, middle[0] - gesture.middle[0], middle[1] - gesture.middle[1], this.size, this.room);
      this.view = views.zoom(this.view, apart / gesture.apart, middle, this.size, this.room);
      Object.assign(gesture, { middle, apart });
    } else if (gesture.kind === "pan") {
      this.view = views.pan(this.view, at[0] - gesture.at[0], at[1] - gesture.at[1], this.size, this.room);
      gesture.at = at;
    } else {
      this.#pull(gesture, at, event);
    }
    this.draw();
  }

  #pull(gesture, at, event) {
    if (!gesture.moved && Math.hypot(at[0] - gesture.from[0], at[1] - gesture.from[1]) < STILL) return;
    gesture.moved = true;
    const { width, height } = this.size, end = this.#inImage(at);
    if (gesture.kind === "draw") return this.#change(boxes.around([gesture.start, end], width, height), "drawn");
    const free = views.toImage(this.view, at), first = views.toImage(this.view, gesture.from);
    const dx = free[0] - first[0], dy = free[1] - first[1], { box } = gesture.before;
    this.#change(gesture.kind === "move" ? boxes.move(box, dx, dy, width, height) : boxes.drag(box, gesture.handle, dx, dy, width, height), "moved");
    this.#cursor(at, event, gesture.handle);
  }

  #up(event) {
    const gesture = this.gesture;
    if (!this.pointers.delete(event.pointerId)) return;
    // One finger of two is up: the other one must not begin to draw.
    if (this.pointers.size) return;
    this.gesture = null;
    if (gesture?.from && !gesture.moved && this.clicking && !this.locked) this.#click(gesture.start);
    this.#cursor(this.#at(event), event);
    this.draw();
  }

  #cancel(event) {
    if (this.gesture?.before && this.gesture.moved) {
      Object.assign(this, this.gesture.before);
      this.onbox();
    }
    this.pointers.delete(event.pointerId);
    if (!this.pointers.size) this.gesture = null;
    this.draw();
  }

  #click(point) {
    this.points = [...this.points, point];
    if (this.points.length === 4) this.#change(boxes.around(this.points, this.size.width, this.size.height), "drawn");
    this.onpoints();
  }

  #change(box, how) {
    this.box = boxes.rounded(box);
    this.drawn ||= how === "drawn";
    this.dashed = false;
    this.band = null;
    this.points = [];
    this.onbox();
    this.draw();
  }

  #wheel(event) {
    if (!this.image) return;
    // At the whole image, the wheel scrolls the page on.
    if (event.deltaY > 0 && this.isFit && !event.ctrlKey) return;
    event.preventDefault(); // ctrl and wheel, which is also a trackpad's pinch, would zoom the page
    const lines = event.deltaMode === 1 ? 16 : 1;
    const delta = Math.max(-240, Math.min(240, event.deltaY * lines));
    this.zoom(Math.exp(-delta * (event.ctrlKey ? 0.01 : 0.002)), this.#at(event));
  }

  #cursor(at, event, handle = null) {
    const name = handle ?? (event.pointerType === "touch" ? "" : this.#handle(at, event));
    this.canvas.style.cursor = this.panning || this.gesture?.kind === "pan" ? "grab" : this.locked ? "default" : CURSORS[name] ?? "crosshair";
  }

  // Drawing -----------------------------------------------------------------------------------------------

  #fill() {
    const { clientWidth, clientHeight } = this.canvas.parentElement;
    if (!clientWidth || !clientHeight) return;
    const wasFit = this.isFit;
    this.room = { width: clientWidth, height: clientHeight };
    this.view = wasFit || !this.image ? views.fit(this.size, this.room) : views.pan(this.view, 0, 0, this.size, this.room);
    this.#paint(); // at once: a canvas is empty after its size changed
  }

  /** Once for each frame at most. */
  draw() {
    this.waiting ??= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.waiting = null;
    const { canvas, room, view } = this, ratio = devicePixelRatio || 1;
    const width = Math.round(room.width * ratio), height = Math.round(room.height * ratio);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, room.width, room.height);
    if (!this.image) return;
    pen.imageSmoothingEnabled = view.scale < 6; // closer, one sees the pixels that one chooses between
    pen.drawImage(this.image, view.x, view.y, this.size.width * view.scale, this.size.height * view.scale);
    this.#paintOther(pen);
    this.#paintBox(pen);
    this.#paintPoints(pen);
    this.#paintCross(pen);
  }

  /** The box that one may take instead, which cannot be dragged. */
  #paintOther(pen) {
    if (!this.other) return;
    const [x1, y1, x2, y2] = views.boxToCanvas(this.view, this.other);
    pen.lineJoin = "round";
    pen.lineWidth = 4.5; pen.strokeStyle = CASING; pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.setLineDash([9, 6]);
    pen.lineWidth = 2.5; pen.strokeStyle = BLUE; pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
    pen.setLineDash([]);
  }

  #paintBox(pen) {
    if (!this.box) return;
    const rect = (path, [x1, y1, x2, y2]) => path.rect(x1, y1, x2 - x1, y2 - y1);
    const edges = views.boxToCanvas(this.view, this.box);
    if (this.band) {
      const { lower, upper } = this.band;
      const outer = views.boxToCanvas(this.view, [lower[0], lower[1], upper[2], upper[3]]);
      const inner = views.boxToCanvas(this.view, [upper[0], upper[1], lower[2], lower[3]]);
      const band = new Path2D();
      rect(band, outer);
      if (inner[0] < inner[2] && inner[1] < inner[3]) rect(band, inner);
      pen.fillStyle = "rgba(255, 138, 31, .28)";
      pen.fill(band, "evenodd");
    }
    const line = new Path2D();
    rect(line, edges);
    pen.lineJoin = "round";
    pen.lineWidth = 4.5; pen.strokeStyle = CASING; pen.stroke(line);
    pen.setLineDash(this.dashed ? [9, 6] : []);
    pen.lineWidth = 2.5; pen.strokeStyle = ORANGE; pen.stroke(line);
    pen.setLineDash([]);
    if (!this.locked) this.#paintHandles(pen, edges);
  }

  #paintHandles(pen, [x1, y1, x2, y2]) {
    const side = this.coarse ? 14 : 9, roomy = Math.min(x2 - x1, y2 - y1) > 5 * side;
    const corners = [[x1, y1], [x2, y1], [x1, y2], [x2, y2]];
    const edges = [[(x1 + x2) / 2, y1], [(x1 + x2) / 2, y2], [x1, (y1 + y2) / 2], [x2, (y1 + y2) / 2]];
    pen.lineWidth = 1.5; pen.strokeStyle = CASING; pen.fillStyle = "#fff";
    for (const [x, y] of roomy ? [...corners, ...edges] : corners) {
      pen.fillRect(x - side / 2, y - side / 2, side, side);
      pen.strokeRect(x - side / 2, y - side / 2, side, side);
    }
  }

  #paintPoints(pen) {
    for (const point of this.points) {
      const [x, y] = views.toCanvas(this.view, point), cross = new Path2D();
      cross.moveTo(x - 8, y); cross.lineTo(x + 8, y);
      cross.moveTo(x, y - 8); cross.lineTo(x, y + 8);
      cross.moveTo(x + 5, y); cross.arc(x, y, 5, 0, 7);
      pen.lineWidth = 4.5; pen.strokeStyle = CASING; pen.stroke(cross);
      pen.lineWidth = 2; pen.strokeStyle = ORANGE; pen.stroke(cross);
    }
  }

  /** Lines through the pointer, to start at the right place. */
  #paintCross(pen) {
    if (!this.hover || this.locked || this.panning || this.gesture || (this.box && !this.clicking)) return;
    const [x, y] = this.hover, { width, height } = this.room, cross = new Path2D();
    pen.save();
    pen.beginPath();
    pen.rect(this.view.x, this.view.y, this.size.width * this.view.scale, this.size.height * this.view.scale);
    pen.clip();
    cross.moveTo(0, y); cross.lineTo(width, y);
    cross.moveTo(x, 0); cross.lineTo(x, height);
    pen.lineWidth = 3; pen.strokeStyle = "rgba(20, 12, 4, .35)"; pen.stroke(cross);
    pen.lineWidth = 1; pen.strokeStyle = "rgba(255, 255, 255, .85)"; pen.stroke(cross);
    pen.restore();
  }
}
