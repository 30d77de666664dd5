// Whether something is being pressed just now. What is replaced between the press and the release
// is not clicked, nor is what moves: the browser finds no element that has seen both.

const LOOK_MS = 50;
const held = new Set(); // of "pointer" and "key"

const isKey = (event) => event.key === " "; // presses a button when it comes up again
const options = { capture: true };
const on = (name, act) => document.addEventListener(name, act, options);

// A list of choices opens with its press, and the release may never be told.
on("pointerdown", (event) => event.target.closest?.("select") || held.add("pointer"));
on("keydown", (event) => isKey(event) && held.add("key"));
// A click follows its release within one task, so nothing is replaced between the two.
on("pointerup", () => held.delete("pointer"));
on("pointercancel", () => held.delete("pointer"));
on("keyup", (event) => isKey(event) && held.delete("key"));
// The release was somewhere else.
on("pointermove", (event) => event.buttons || held.delete("pointer"));
on("contextmenu", () => held.delete("pointer"));
window.addEventListener("blur", () => held.clear());

export function isPressed() {
  return held.size > 0;
}

/** Over once nothing is pressed, and what was pressed has been clicked. */
export async function released() {
  while (isPressed()) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

async function askAgain({ elt, target, requestConfig }) {
  await released();
  if (target.closest("dialog:not([open])")) {
    return; // what was pressed has closed it
  }
  try {
    await window.htmx.ajax(requestConfig.verb, requestConfig.path, { source: elt, target });
  } catch {
    // alerts.js tells of it.
  }
}

// What htmx would show under a press is asked for again after it.
document.addEventListener("htmx:beforeSwap", ({ detail }) => {
  if (isPressed() && detail.shouldSwap) {
    detail.shouldSwap = false;
    askAgain(detail);
  }
});
