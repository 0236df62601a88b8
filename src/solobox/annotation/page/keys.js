// Keys of the whole page. No key does anything while somebody types.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const LETTERS = { enter: "accept", n: "absent", s: "skip", u: "undo", b: "putBox", k: "keepLabel", m: "takeModel", x: "toggleClicks", r: "openReview", "?": "help", escape: "escape", delete: "clear", backspace: "clear" };
const ZOOMS = { "+": 1.25, "=": 1.25, "-": 1 / 1.25, 0: 0 };

/** does: what each key does, by name; review: of review.js; isModal(): a dialog is open. */
export function listen({ does, stage, review, isModal }) {
  addEventListener("keydown", (event) => {
    const { target } = event, key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
    if (isModal() || event.isComposing || event.defaultPrevented) return;
    if (target.matches("textarea, select, input:not([type=checkbox])")) return;
    // A button with the focus is pressed by these; it is not the page's turn.
    if ((event.key === "Enter" || event.key === " ") && target.matches("button, summary, a, input")) return;
    if (command && key === "z" && !event.shiftKey) once(event, does.undo);
    else if (review.isOpen) inReview(event, key);
    else if (ARROWS[event.key]) arrow(event);
    else if (!command && !event.altKey) onStage(event, key);
  });
  addEventListener("keyup", (event) => { if (event.key === " ") stage.panning = false; });
  addEventListener("blur", () => { stage.panning = false; });

  function onStage(event, key) {
    if (key === " ") {
      if (event.target.matches("pre")) return;
      stage.panning = true;
      event.preventDefault(); // the page would scroll
    } else if (LETTERS[key]) {
      once(event, does[LETTERS[key]]);
    } else if (key in ZOOMS) {
      event.preventDefault();
      if (ZOOMS[key]) stage.zoom(ZOOMS[key]);
      else stage.fit();
    } else if (/^[1-9]$/.test(key) && does.chooseClass(key - 1)) event.preventDefault();
  }

  function inReview(event, key) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "escape" || key === "r") once(event, does.back);
    else if (key === "u") once(event, does.undo);
    else if (key === "?") once(event, does.help);
    else if (key === "enter") once(event, () => review.accept());
  }

  function arrow(event) {
    const corner = event.altKey || event.ctrlKey;
    if (event.target.matches("pre") && !corner) return;
    if (corner) event.preventDefault(); // Alt and Left would leave the page, also where there is no box
    if (!stage.box || event.metaKey) return;
    event.preventDefault();
    const step = event.shiftKey ? 10 : 1, [x, y] = ARROWS[event.key];
    stage.nudge(step * x, step * y, corner);
  }
}

/** Held down, a key answers one image and not all. */
function once(event, act) {
  event.preventDefault();
  if (!event.repeat) act();
}
