// The review: predicted boxes of images that nobody answered, accepted a page at a glance.

import * as api from "./api.js";
import { draw, make, percent } from "./panel.js";

const $ = (id) => document.getElementById(id);
const COUNT = 24;

export class Review {
  offset = 0;
  items = [];
  total = 0;
  ready = 0;
  busy = false;
  /** Images left out. They stay so, also on a page that is loaded anew. */
  out = new Set();

  /** person(): who reviews. correct(item): opens an image on the stage. fail(error, retry): says it. saved(): all went well. */
  constructor({ person, correct, fail, saved }) {
    Object.assign(this, { person, correct, fail, saved });
    $("accept-page").onclick = () => this.accept();
    $("previous").onclick = () => this.load(this.offset - COUNT);
    $("next").onclick = () => this.load(this.offset + COUNT);
    $("grid").onkeydown = (event) => this.#key(event);
  }

  get isOpen() { return !$("review-view").hidden; }

  async open() {
    $("review-view").hidden = false;
    $("review-status").textContent = "";
    await this.load(this.offset);
    (this.#cards()[0] ?? $("review-title")).focus();
  }

  close() { $("review-view").hidden = true; }

  async load(offset) {
    const wanted = Math.max(0, offset);
    try {
      let page = await api.get(`api/review?offset=${wanted}&count=${COUNT}`);
      if (!page.items.length && wanted) page = await api.get("api/review?offset=0&count=" + COUNT);
      Object.assign(this, { items: page.items, total: page.total, ready: page.ready, offset: page.items.length && wanted < page.ready ? wanted : 0 });
    } catch (error) {
      return this.fail(error);
    }
    this.since = performance.now();
    this.#show();
    scrollTo(0, 0);
  }

  /** More predictions are ready: a page that was empty or short fills. */
  refresh(ready) {
    if (this.isOpen && !this.busy && ready > this.ready && this.items.length < COUNT) this.load(this.offset);
  }

  async accept() {
    const items = this.items.filter(({ index }) => !this.out.has(index));
    if (this.busy) return;
    if (!items.length) {
      $("review-status").textContent = "All of this page are left out.";
      return;
    }
    this.busy = true;
    $("accept-page").disabled = true;
    const left = this.items.length - items.length;
    try {
      const { accepted, conflicts } = await api.post("api/accept", {
        person: this.person(),
        items: items.map(({ index, seen, box }) => ({ index, seen, box })),
        seconds: (performance.now() - this.since) / 1000,
      });
      // Those left out stay in the list: the next page begins behind them.
      await this.load(this.offset + left);
      const had = conflicts.length ? ` ${conflicts.length} had an answer by now, which stays.` : "";
      $("review-status").textContent = `Saved: ${accepted} accepted.${had}`;
      this.saved();
      (this.#cards()[0] ?? $("review-title")).focus({ preventScroll: true });
    } catch (error) {
      this.fail(error, () => this.accept());
    } finally {
      this.busy = false;
      this.#count();
    }
  }

  #cards() { return [...$("grid").querySelectorAll(".crop")]; }

  #key(event) {
    const card = event.target.closest(".crop");
    if (!card || event.ctrlKey || event.metaKey || event.altKey) return;
    const cards = this.#cards(), at = cards.indexOf(card);
    const across = cards.filter((other) => other.offsetTop === cards[0].offsetTop).length;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
    if (step) cards[at + step]?.focus();
    else if (event.key.toLowerCase() === "e") this.correct(this.items[at]);
    else if (event.key === "Enter") { if (!event.repeat) this.accept(); } // Space is what leaves a card out
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #show() {
    $("grid").replaceChildren(...this.items.map((item) => this.#card(item)));
    $("review-empty").hidden = this.items.length > 0;
    $("review-empty").textContent = this.total ? "No predictions yet. They come as soon as the model has learned." : "Nothing is left to review.";
    $("previous").disabled = this.offset === 0;
    $("next").disabled = this.offset + this.items.length >= this.ready;
    const of = this.ready < this.total ? `${this.ready} predicted of ${this.total}` : this.total;
    $("pages").textContent = this.items.length ? `${this.offset + 1} – ${this.offset + this.items.length} of ${of}` : "";
    this.#count();
  }

  #count() {
    const kept = this.items.filter(({ index }) => !this.out.has(index)).length;
    $("accept-page").firstChild.data = kept === 1 ? "Accept this one" : `Accept these ${kept}`;
    $("accept-page").disabled = this.busy || !kept;
  }

  #card(item) {
    const { name, presence, index } = item, line = make("li"), button = make("button", "", "crop");
    const frame = make("span", "", "image"), words = make("span", "", "words");
    button.type = "button";
    button.setAttribute("aria-pressed", String(this.out.has(index)));
    const there = presence === null ? "" : `presence ${percent(presence)}`;
    button.setAttribute("aria-label", `Leave out ${name}${there && `, ${there}`}`);
    frame.append(crop(item), make("span", "left out", "out"));
    words.append(make("span", name.split("/").pop(), "file"), make("span", there, "presence"));
    words.firstChild.title = name;
    button.append(frame, words);
    button.onclick = () => {
      if (!this.out.delete(index)) this.out.add(index);
      button.setAttribute("aria-pressed", String(this.out.has(index)));
      this.#count();
    };
    const pencil = make("button", "✎", "pencil");
    pencil.type = "button";
    pencil.setAttribute("aria-label", `Correct ${name}, key E`);
    pencil.onclick = () => this.correct(item);
    button.ondblclick = () => this.correct(item); // its two clicks cancel each other out
    line.append(button, pencil);
    return line;
  }
}

/** The thumbnail with its box and margins, in pixels of the original. */
function crop({ index, width, height, box, lower, upper }) {
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  svg.append(draw("image", { href: `images/${index}/thumbnail`, width, height, preserveAspectRatio: "none" }));
  const rect = ([x1, y1, x2, y2]) => `M${x1} ${y1}H${x2}V${y2}H${x1}Z`;
  if (lower && upper) {
    const inner = [upper[0], upper[1], lower[2], lower[3]];
    const hole = inner[0] < inner[2] && inner[1] < inner[3] ? rect(inner) : "";
    svg.append(draw("path", { d: rect([lower[0], lower[1], upper[2], upper[3]]) + hole, class: "band" }));
  }
  for (const name of ["casing", "edge"]) svg.append(draw("path", { d: rect(box), class: name }));
  return svg;
}
