// The page as a whole: which image is shown, what is saved, and the keys.

import * as api from "./api.js";
import { middle, same } from "./box.js";
import { seconds, startClock } from "./clock.js";
import { chooseClass, chosenClass, setClass, showClasses } from "./classes.js";
import { finish, showFinish } from "./finish.js";
import { listen } from "./keys.js";
import { cover, fail, persist, say, setUnsaved, showError } from "./messages.js";
import { showState } from "./panel.js";
import { poll, startPolling } from "./poll.js";
import { Review } from "./review.js";
import { setUpMenu, who } from "./settings.js";
import { Stage } from "./stage.js";
import { answerText, badge, boxText, fileName, savedText, suspectText } from "./words.js";

const $ = (id) => document.getElementById(id);

let task = null; // the image on the stage
let ready = false, unshowable = false; // it can be seen, so it can be answered; it never will be, so it can be skipped
let busy = false, saving = false; // a request is on its way; an answer is
let unsaved = false; // the answer could not be saved
let conflict = null; // my answer, where someone else's is shown: {kind, box, drawn, label}
let fromReview = false;
let turn = 0; // of images shown; what belongs to an earlier one comes too late
const own = new Map(); // boxes of this page by image: shown again when an answer is undone, or one was interrupted

// The image on the stage ------------------------------------------------------------------------------------

const stage = new Stage($("canvas"), { onbox: boxChanged, onpoints: pointsChanged });

async function show(next, { review = false } = {}) {
  const mine = ++turn;
  task = next.index === null ? null : next;
  fromReview = review;
  ready = unshowable = false;
  conflict = null;
  unsaved = false;
  $("conflict").hidden = true;
  $("all-done").hidden = true;
  stage.locked = true;
  stage.show(null, { width: task?.width || 1, height: task?.height || 1 });
  stage.setBox(null);
  stage.other = null;
  boxChanged();
  pointsChanged();
  showTask();
  if (!task) {
    cover("All images are answered.", "Finish by writing the labels or training the final model, or look at your last answer again.");
    $("all-done").hidden = false;
    return;
  }
  if (task.error) return unreadable(task.error);
  cover("", "");
  // A quick image is shown without words before it.
  const slow = setTimeout(() => { if (mine === turn) cover("Loading …", ""); }, 400);
  let image = null;
  try {
    image = await persist(() => api.image(task.index));
  } catch (error) {
    if (mine === turn) unreadable(error.message);
    return;
  } finally {
    clearTimeout(slow);
  }
  if (mine !== turn) return image.close();
  cover(null);
  stage.show(image, { width: task.width, height: task.height });
  if (task.given) stage.closeUp([task.given.box, task.suggestion?.box].filter(Boolean));
  stage.locked = false;
  const before = own.get(task.index);
  if (before && !task.answer) restore(before);
  else firstBox();
  requestAnimationFrame(() => { // it is painted in this frame
    if (mine !== turn) return;
    startClock();
    ready = true;
    $("stage").dataset.shown = task.index;
  });
}

function unreadable(text) {
  cover("This image cannot be shown.", `${text} Skip it (S).`);
  unshowable = true;
  startClock();
  $("stage").dataset.shown = task.index;
}

/** The box that is there before anybody does anything: an earlier answer, the suggestion, or none. */
function firstBox() {
  const { answer, given } = task;
  if (given) stage.other = task.suggestion?.box ?? null;
  if (answer?.box) stage.setBox(answer.box, { drawn: answer.source === "drawn" });
  else if (given && !answer) stage.setBox(given.box);
  else if (task.suggestion && !answer) suggest();
  else stage.setBox(null);
  boxChanged();
}

function suggest() {
  const { box, lower, upper } = task.suggestion;
  stage.setBox(box, { dashed: true, band: lower && upper ? { lower, upper } : null });
}

function restore({ box, drawn, label }) {
  if (!drawn && same(box, task.suggestion?.box)) suggest();
  else stage.setBox(box, { drawn });
  setClass(label);
  boxChanged();
}

/** What this person drew and did not save yet, before another image is shown. */
function keepDraft() {
  if (task && ready && stage.box && !stage.dashed && !conflict) own.set(task.index, draft());
}

const draft = () => ({ box: stage.box, drawn: stage.drawn, label: chosenClass() });

function showTask() {
  delete $("stage").dataset.shown;
  $("name").textContent = task ? task.name : "";
  $("name").title = task?.name ?? "";
  const text = task ? badge(task) : "";
  $("badge").hidden = !text;
  $("badge").textContent = text;
  if (task?.answer?.label) setClass(task.answer.label);
  else if (task?.given) setClass(task.given.label); // each label has its own
  $("suspect").hidden = !task?.given;
  if (task?.given) {
    $("why").textContent = suspectText(task);
    $("keep-label").firstChild.data = task.given.box ? "Keep the label" : "Keep “not there”";
    $("take-model").firstChild.data = task.suggestion ? "Take the model's box" : "Take “not there”";
  }
}

let announcing = 0;
function boxChanged() {
  const { box } = stage;
  const text = box ? boxText(box) : "";
  $("box-text").textContent = text ? `${text}${stage.dashed ? " (suggested)" : ""}` : task ? "No box yet: drag one, or press B." : "";
  $("canvas").setAttribute("aria-label", task ? `${task.name}. ${text ? `Box: ${text}` : "No box"}` : "No image");
  clearTimeout(announcing);
  // Once it rests: many small steps are one change for who listens.
  announcing = setTimeout(() => { $("live").textContent = text; }, 500);
}

function pointsChanged() {
  const count = stage.points.length;
  $("clicks").setAttribute("aria-pressed", String(stage.clicking));
  $("points-text").hidden = !stage.clicking || (Boolean(stage.box) && !count);
  $("points-text").textContent = count ? `${count} of 4 clicks.` : "Click the top, left, bottom and right-most points.";
  $("box-text").hidden = !$("points-text").hidden;
}

// Answers -----------------------------------------------------------------------------------------------------

function source() {
  const { suggestion, answer, given } = task;
  if (stage.drawn) return "drawn";
  if (given && same(stage.box, given.box)) return "given";
  if (suggestion) return same(stage.box, suggestion.box) ? "accepted" : "corrected";
  return same(stage.box, answer?.box) && answer.source !== "corrected" ? "accepted" : "corrected";
}

function answerBody(kind) {
  const box = kind === "box" ? stage.box : null;
  return {
    person: who(), index: task.index, seen: task.seen, kind, box,
    label: kind === "box" ? chosenClass() : "",
    source: kind === "box" ? source() : "drawn",
    suggested: task.suggestion?.box ?? (box && !stage.drawn ? task.answer?.box ?? task.given?.box ?? null : null),
    blind: task.blind, seconds: Math.round(seconds() * 100) / 100,
  };
}

async function submit(kind) {
  if (busy || !task || !(ready || (unshowable && kind === "skipped"))) return;
  if (stage.points.length && kind === "box") return say(`${4 - stage.points.length} more of the 4 clicks, or Esc.`);
  if (conflict && kind === "box" && (!stage.box || same(stage.box, task.answer?.box))) return keepTheirs();
  if (kind === "box" && !stage.box) return say("Draw a box first, or say “not there” (N).");
  const body = answerBody(kind), mine = { ...draft(), kind };
  busy = saving = true;
  setUnsaved(true);
  unsaved = false;
  stage.locked = true;
  say("saving …");
  try {
    await persist(() => api.post("api/answer", body));
  } catch (error) {
    if (!(error.code === "label-conflict" && error.task && isMine(error.task.answer, body))) return notSaved(error, mine);
  } finally {
    busy = saving = false;
    setUnsaved(false);
    stage.locked = false;
    stage.draw();
  }
  showError(null);
  conflict = null;
  if (kind === "box") own.set(body.index, mine);
  else own.delete(body.index);
  say(savedText(kind, task.name), true);
  poll();
  if (fromReview) openReview();
  else await advance();
}

/** Sent twice, as no answer came the first time: then the answer of "someone else" is the one sent. */
function isMine(answer, { kind, box, label }) {
  return Boolean(answer) && answer.kind === kind && answer.label === label && (kind !== "box" || same(answer.box, box));
}

function notSaved(error, mine) {
  say("not saved");
  if (error.code === "label-conflict" && error.task) return showConflict(error, mine);
  unsaved = true;
  const of = turn;
  const lost = error.code === "disk-full" ? "The disk is full: nothing was saved. Your box stays here." : error.message;
  const hint = error.code === "disk-full" ? error.hint || "Make some room, then try again." : error.hint;
  showError({ message: lost, hint }, () => (of === turn ? submit(mine.kind) : showError(null)));
}

function showConflict(error, mine) {
  const { suggestion, blind } = task;
  // What this person saw before their answer stays: their answer is still recorded as what it was.
  task = { ...error.task, suggestion, blind };
  conflict = mine;
  showError(null);
  showTask();
  $("stage").dataset.shown = task.index;
  firstBox();
  const theirs = task.answer ? answerText(task.answer) : "";
  $("conflict-text").textContent = task.answer ? `Theirs is shown: ${theirs}. Keep it, correct it, or use yours.` : "They took their answer back. Use yours, or go on.";
  $("conflict").hidden = false;
}

async function keepTheirs() {
  conflict = null;
  $("conflict").hidden = true;
  say("theirs is kept");
  if (fromReview) openReview();
  else await advance();
}

function useMine() {
  const mine = conflict;
  if (!mine || busy) return;
  conflict = null;
  $("conflict").hidden = true;
  if (mine.box) restore(mine);
  submit(mine.kind);
}

async function advance() {
  if (busy) return;
  busy = true;
  try {
    const next = await persist(() => api.post("api/next", { person: who(), after: task?.index ?? null }));
    show(next);
  } catch (error) {
    showError(error, () => { showError(null); advance(); });
  } finally {
    busy = false;
  }
}

async function undo() {
  if (busy) return;
  busy = true;
  try {
    // Not repeated by itself: it would undo two, if only the reply was lost.
    const { index } = await api.post("api/undo", { person: who() });
    keepDraft();
    const next = await persist(() => api.get(`api/image/${index}?person=${encodeURIComponent(who())}`));
    closeReview();
    showError(null);
    show(next);
    say(`undone: ${fileName(next.name)}`);
    poll();
  } catch (error) {
    if (error.code === "nothing-to-undo") say("Nothing to undo.");
    else fail(error, undo);
  } finally {
    busy = false;
  }
}

/** One of the two boxes of a suspicious label, as it is; saved at once. */
function choose(box) {
  if (!ready || busy || !task?.given) return;
  if (conflict) return say("Look at the present answer first.");
  if (!box) return submit("absent");
  stage.setBox(box);
  boxChanged();
  pointsChanged();
  submit("box");
}

// Box by keyboard and buttons ---------------------------------------------------------------------------------

function putBox() {
  if (!ready || busy) return;
  if (task.suggestion) suggest();
  else if (!stage.box) stage.setBox(middle(task.width, task.height), { drawn: true });
  boxChanged();
  pointsChanged();
}

function clear() {
  if (!ready || busy) return;
  if (stage.points.length) stage.clearPoints();
  else stage.setBox(null);
  boxChanged();
  pointsChanged();
}

function toggleClicks() {
  stage.clicking = !stage.clicking;
  stage.clearPoints();
  pointsChanged();
}

// Review --------------------------------------------------------------------------------------------------------

const review = new Review({ person: who, correct, fail, saved: () => { showError(null); poll(); } });

async function openReview() {
  $("label-view").hidden = true;
  await review.open();
}

function closeReview() {
  if (!review.isOpen) return;
  review.close();
  $("label-view").hidden = false;
}

async function back() {
  closeReview();
  $("canvas").focus({ preventScroll: true });
  // The image on the stage may have been accepted in the review.
  if (fromReview || !task) await advance();
  else await reload();
}

async function reload() {
  const mine = turn;
  try {
    const now = await persist(() => api.get(`api/image/${task.index}?person=${encodeURIComponent(who())}`));
    if (mine === turn && now.seen !== task.seen) await advance();
  } catch (error) {
    fail(error);
  }
}

async function correct(item) {
  if (busy) return;
  busy = true;
  try {
    const found = await persist(() => api.get(`api/image/${item.index}?person=${encodeURIComponent(who())}`));
    keepDraft();
    closeReview();
    // The person has seen the prediction, so this is no blind image.
    const { box, lower, upper, presence } = item;
    show({ ...found, blind: false, suggestion: { box, lower, upper, presence } }, { review: true });
    say("Correct the box. Enter saves, Esc goes back.");
    $("canvas").focus({ preventScroll: true });
  } catch (error) {
    fail(error);
  } finally {
    busy = false;
  }
}

// Controls --------------------------------------------------------------------------------------------------------

const press = (id, does) => {
  $(id).onclick = (event) => {
    // After a click with the mouse, Enter must accept the next box and not press this button again.
    if (event.detail > 0 && !$("label-view").hidden) $("canvas").focus({ preventScroll: true });
    does();
  };
};
for (const [id, kind] of [["accept", "box"], ["absent", "absent"], ["skip", "skipped"]]) press(id, () => submit(kind));
for (const id of ["undo", "done-undo"]) press(id, undo);
press("keep-label", () => choose(task?.given?.box));
press("take-model", () => choose(task?.suggestion?.box));
press("middle", putBox);
press("clear", clear);
press("clicks", toggleClicks);
press("zoom-in", () => stage.zoom(1.5));
press("zoom-out", () => stage.zoom(1 / 1.5));
press("zoom-fit", () => stage.fit());
press("keep-theirs", keepTheirs);
press("use-mine", useMine);
press("dismiss", () => showError(null));
$("open-review").onclick = $("panel-review").onclick = $("done-review").onclick = () => { if (!busy) openReview(); };
$("back").onclick = back;
$("open-help").onclick = () => $("help").showModal();
for (const id of ["write", "train"]) press(id, () => finish(id === "train"));

setUpMenu(() => showClasses());
// Enter in the field chooses the class; the next Enter accepts.
$("label").onkeydown = (event) => { if (event.key === "Enter" || event.key === "Escape") $("canvas").focus({ preventScroll: true }); };

listen({
  stage, review,
  isModal: () => $("help").open,
  does: {
    accept: () => submit("box"), absent: () => submit("absent"), skip: () => submit("skipped"),
    keepLabel: () => choose(task?.given?.box), takeModel: () => choose(task?.suggestion?.box),
    undo, putBox, toggleClicks, clear, chooseClass, back,
    help: () => $("help").showModal(),
    openReview: () => { if (!busy && !$("open-review").disabled) openReview(); },
    escape: () => { if (fromReview && !stage.points.length && !busy) openReview(); else clear(); },
  },
});

addEventListener("beforeunload", (event) => { if (saving || unsaved) event.preventDefault(); });

startPolling((state) => {
  showState(state);
  showFinish(state.finish);
  showClasses(state.classes, { choose: !state.audit }); // each label that is looked at again has its own
  review.refresh(state.review.ready);
});
advance();
