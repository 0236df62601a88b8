"use strict";
(() => {
  const audit = JSON.parse(document.getElementById("audit").textContent);
  const cards = Array.from(document.querySelectorAll("article"));
  if (!cards.length) return;
  const state = document.getElementById("state"), progress = document.getElementById("progress");
  const CHOICES = { a: "accept", m: "model", d: "drop", e: "empty" };
  // Every decision in its order, [card, choice], the choice "" takes one back; the last one of a card holds.
  let history = [], decisions = {}, current = 0, note = "";

  // Some browsers have no storage for a page opened from a file; decisions are then lost when the page is closed.
  const storage = {
    read() { try { const saved = JSON.parse(localStorage.getItem(audit.key)); return Array.isArray(saved) ? saved : []; } catch { return []; } },
    write() { try { localStorage.setItem(audit.key, JSON.stringify(history)); return true; } catch { return false; } },
  };

  const flagged = [], others = [];
  cards.forEach((card, at) => ("flagged" in card.dataset ? flagged : others).push(at));

  const button = (card, choice) => card.querySelector(`button[data-choice="${choice}"]`);

  function show() {
    cards.forEach((card, at) => {
      card.classList.toggle("current", at === current);
      card.querySelectorAll("button[data-choice]").forEach((each) =>
        each.setAttribute("aria-pressed", String(decisions[at] === each.dataset.choice)));
    });
    const count = (those) => those.filter((at) => at in decisions).length;
    const parts = [];
    if (flagged.length) parts.push(`${count(flagged)} of ${flagged.length} flagged labels decided`);
    if (others.length) parts.push(`${count(others)} of ${others.length} labels not flagged${flagged.length ? "" : " decided"}`);
    progress.value = count(flagged.length ? flagged : others);
    state.textContent = parts.join(", ") + note;
  }

  function go(at, scroll = true) {
    current = Math.max(0, Math.min(cards.length - 1, at));
    show();
    cards[current].focus({ preventScroll: true });
    if (scroll) cards[current].scrollIntoView({ block: "nearest" });
  }

  function decide(at, choice) {
    if (choice && button(cards[at], choice).disabled) return false;
    if ((decisions[at] || "") !== choice) {
      history.push([at, choice]);
      store();
    }
    return true;
  }

  function store() {
    decisions = {};
    for (const [at, choice] of history) {
      if (choice) decisions[at] = choice; else delete decisions[at];
    }
    note = storage.write() ? "" : " (this browser does not store decisions: save before you close the page)";
  }

  function undo() {
    if (!history.length) return;
    const [at] = history.pop();
    store();
    go(at);
  }

  function save() {
    const list = Object.keys(decisions).map(Number).sort((a, b) => a - b).map((at) => ({
      image: audit.items[at].image, decision: decisions[at], kind: audit.items[at].kind,
      label: audit.items[at].label, model: audit.items[at].model,
    }));
    const text = JSON.stringify({ format: audit.format, data: audit.data, decisions: list }, null, 1) + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "decisions.json";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    note = `; ${list.length} saved to decisions.json`;
    show();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key === "j" || key === "arrowright") go(current + 1);
    else if (key === "k" || key === "arrowleft") go(current - 1);
    else if (key in CHOICES) { if (decide(current, CHOICES[key])) go(current + 1); }
    else if (key === "u") undo();
    else if (key === "b") document.body.classList.toggle("bare");
    else if (key === "s") save();
    else return;
    event.preventDefault();
  });

  document.addEventListener("click", (event) => {
    const pressed = event.target.closest("button"), card = event.target.closest("article");
    if (pressed && pressed.id === "save") { save(); return; }
    if (!card) return;
    const at = cards.indexOf(card);
    if (pressed) {
      const choice = pressed.dataset.choice;
      decide(at, decisions[at] === choice ? "" : choice);
      current = at;
      show();
    } else go(at, false);
  });

  history = storage.read();
  store();
  const open = cards.findIndex((_, at) => !(at in decisions));
  go(open < 0 ? 0 : open, open > 0);
})();
