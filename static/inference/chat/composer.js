// The field to write in: it grows, keeps what was typed, and says when something is to be sent.

import { byId, memory } from "./dom.js";

const MOST_PX = 240;
const kept = memory("sessionStorage");

/** `onSend()`, `onStop()`; `draftKey()` says whose draft it is. */
export function startComposer({ onSend, onStop, draftKey }) {
  const form = byId("composer");
  const field = byId("question");
  const isTouch = matchMedia("(pointer: coarse)").matches;

  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight, MOST_PX)}px`;
  };
  const write = (text) => {
    field.value = text;
    kept.write(`draft.${draftKey()}`, text);
    fit();
  };

  if (!field.value) {
    field.value = kept.read(`draft.${draftKey()}`);
  }
  fit();
  field.addEventListener("input", () => {
    kept.write(`draft.${draftKey()}`, field.value);
    fit();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !isTouch) {
      event.preventDefault();
      onSend();
    }
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onSend();
  });
  byId("stop").addEventListener("click", onStop);
  byId("send").disabled = field.disabled; // without this script it would lead to another page
  if (isTouch) {
    byId("hint").hidden = true;
  } else if (document.activeElement === document.body) {
    field.focus({ preventScroll: true });
  }

  return {
    text: () => field.value,
    write,
    focus: () => field.focus(),
    showRunning(isRunning) {
      const hadFocus = document.activeElement === byId("stop");
      byId("stop").hidden = !isRunning;
      byId("send").hidden = isRunning;
      byId("hint").textContent = isRunning
        ? "Esc stops the answer"
        : "Enter sends, Shift+Enter makes a new line";
      if (hadFocus && !isRunning) {
        field.focus();
      }
    },
  };
}
