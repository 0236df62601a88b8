// What the browser remembers: who labels, and whether they name classes.

const $ = (id) => document.getElementById(id);

const stored = {
  get(name, other) { try { return localStorage.getItem(`solobox-${name}`) ?? other; } catch { return other; } },
  set(name, value) { try { localStorage.setItem(`solobox-${name}`, value); } catch { /* then it lasts as long as the page */ } },
};

let person = stored.get("person", "");
if (!person) setPerson(`person-${Math.floor(Math.random() * 0x10000).toString(16).padStart(4, "0")}`);

function setPerson(name) {
  person = name;
  stored.set("person", name);
}

export const who = () => person;
export const wantsClass = () => $("wants-class").checked;

/** The menu. changed(): the wish for classes. */
export function setUpMenu(changed) {
  $("who").textContent = $("person").value = person;
  $("person").onchange = () => {
    setPerson($("person").value.trim() || person);
    $("who").textContent = $("person").value = person;
  };
  $("wants-class").checked = stored.get("class", "") === "1";
  $("wants-class").onchange = () => {
    stored.set("class", wantsClass() ? "1" : "0");
    changed();
  };
  const menu = $("menu");
  document.addEventListener("pointerdown", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.onkeydown = (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    menu.firstElementChild.focus();
  };
}
