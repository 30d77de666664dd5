// Keys that lead from page to page: `?` opens the list of them, `g` and a letter goes. They rest
// while somebody types or a dialog is open, and whoever wants none switches them off in the list.

const PAUSE_MS = 1500;
const KEPT = "ollamasite.shortcuts";
const FIELDS = "input, textarea, select, [contenteditable], [role=textbox]";

/** Return what the browser remembers; one that refuses to remember has them on. */
function areOn() {
  try {
    return localStorage.getItem(KEPT) !== "off";
  } catch {
    return true;
  }
}

function remember(isOn) {
  try {
    localStorage.setItem(KEPT, isOn ? "on" : "off");
  } catch {
    // Then it holds for this page alone.
  }
}

function start(dialog) {
  const box = dialog.querySelector("#shortcuts-on");
  let lastG = -Infinity;
  box.checked = areOn();
  box.addEventListener("change", () => remember(box.checked));

  document.querySelectorAll("[data-opens=shortcuts]").forEach((button) => {
    button.hidden = false;
    button.addEventListener("click", () => {
      button.closest("details")?.removeAttribute("open");
      dialog.showModal();
    });
  });

  document.addEventListener("keydown", (event) => {
    const isPlain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.isComposing;
    const isTyping = event.target instanceof Element && event.target.closest(FIELDS);
    if (!box.checked || !isPlain || isTyping || event.defaultPrevented) {
      return;
    }
    if (document.querySelector("dialog[open]")) {
      return;
    }
    if (event.key === "?") {
      event.preventDefault();
      dialog.showModal();
      return;
    }
    const isSecond = event.timeStamp - lastG < PAUSE_MS;
    lastG = event.key === "g" ? event.timeStamp : -Infinity;
    const way = isSecond && dialog.querySelector(`[data-go="${CSS.escape(event.key)}"]`);
    if (way) {
      event.preventDefault();
      window.location.assign(way.href);
    }
  });
}

const list = document.getElementById("shortcuts");
if (list) {
  start(list);
}
