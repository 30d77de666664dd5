// Asks again every few seconds for the parts of a page that change, while somebody looks at it, and
// lets times go on in between. A part: <div data-live hx-get="…" hx-trigger="live">.

import { isPressed } from "../ollamasite/press.js";

const EVERY_MS = 5000;

/** The same words as format_duration in inference/overview.py. */
function formatDuration(seconds) {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const parts = [
    [hours, "h"],
    [minutes, "min"],
    [hours ? 0 : seconds % 60, "s"],
  ];
  return (
    parts
      .filter(([count]) => count)
      .map(([count, unit]) => `${count} ${unit}`)
      .join(" ") || "0 s"
  );
}

/** Whether somebody is in the middle of something that a new part would disturb. */
function isHeld(part) {
  const selection = window.getSelection();
  const isSelecting = !selection.isCollapsed && part.contains(selection.anchorNode);
  return isPressed() || isSelecting || document.querySelector("dialog[open]") !== null;
}

function refresh() {
  if (document.visibilityState !== "visible") {
    return;
  }
  document.querySelectorAll("[data-live]").forEach((part) => {
    if (!isHeld(part)) {
      window.htmx?.trigger(part, "live");
    }
  });
}

// When each shown time was written, by the element that shows it.
const writtenAt = new WeakMap();

function letTimesGoOn() {
  const now = performance.now();
  document.querySelectorAll("[data-countdown], [data-countup]").forEach((shown) => {
    if (!writtenAt.has(shown)) {
      writtenAt.set(shown, now);
    }
    const passed = Math.floor((now - writtenAt.get(shown)) / 1000);
    const { countdown, countup } = shown.dataset;
    if (countup !== undefined) {
      shown.textContent = formatDuration(Number(countup) + passed);
      return;
    }
    const left = Math.max(0, Number(countdown) - passed);
    shown.textContent = left ? formatDuration(left) : "a moment";
  });
}

// A session that has ended leads to another page; that page is no part of this one.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, elt } = event.detail;
  const isElsewhere =
    xhr.responseURL && new URL(xhr.responseURL).pathname !== window.location.pathname;
  if (!elt.matches("[data-live]")) {
    return;
  }
  if (isElsewhere) {
    event.detail.shouldSwap = false;
    window.location.reload();
  } else if (isHeld(elt)) {
    event.detail.shouldSwap = false; // it asks again soon
  }
});
document.addEventListener("htmx:afterSwap", letTimesGoOn);
document.addEventListener("visibilitychange", refresh);
letTimesGoOn();
setInterval(letTimesGoOn, 1000);
setInterval(refresh, EVERY_MS);
