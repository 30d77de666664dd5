// Has elements with data-poll="<seconds>" ask for themselves anew (hx-trigger="poll"), as long as
// somebody looks at the page and presses nothing. Through a lost connection they go on trying.

import { isPressed } from "../ollamasite/press.js";

const TICK_MS = 250;
const GONE = [401, 403, 404];
const asked = new Map(); // by id: when it was asked last

function tick() {
  if (document.visibilityState !== "visible" || isPressed()) {
    return;
  }
  const now = performance.now();
  for (const element of document.querySelectorAll("[data-poll]")) {
    const before = asked.get(element.id);
    if (before === undefined) {
      asked.set(element.id, now);
    } else if (now - before >= Number(element.dataset.poll) * 1000) {
      asked.set(element.id, now);
      window.htmx?.trigger(element, "poll");
    }
  }
}

// Asked again, these answer the same; that the connection is lost is told by alerts.js.
document.addEventListener("htmx:responseError", (event) => {
  if (event.target.matches?.("[data-poll]") && GONE.includes(event.detail.xhr.status)) {
    event.target.removeAttribute("data-poll");
  }
});
// Whoever comes back to the page sees what is now.
document.addEventListener("visibilitychange", () => {
  asked.clear();
  if (document.visibilityState === "visible") {
    document.querySelectorAll("[data-poll]").forEach((element) => asked.set(element.id, -Infinity));
    tick();
  }
});
setInterval(tick, TICK_MS);
