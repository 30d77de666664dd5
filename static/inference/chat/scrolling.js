// Stays at the end while the answer grows, but only where the reader is at the end.

import { byId } from "./dom.js";

const NEAR_PX = 48;

export function startScrolling() {
  const box = byId("scroll");
  const button = byId("to-end");
  let isAtEnd = true;
  let isDue = false;

  const look = () => {
    isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    button.hidden = isAtEnd;
  };
  const toEnd = () => {
    isAtEnd = true;
    button.hidden = true;
    box.scrollTop = box.scrollHeight;
  };
  /** Something has grown: follow it with the next frame, once. */
  const grown = () => {
    if (isDue) {
      return;
    }
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      if (isAtEnd) {
        box.scrollTop = box.scrollHeight;
      } else {
        look();
      }
    });
  };

  box.addEventListener("scroll", look, { passive: true });
  button.addEventListener("click", () => {
    toEnd();
    box.focus();
  });
  new ResizeObserver(grown).observe(box);
  new ResizeObserver(grown).observe(byId("log"));
  toEnd();
  return { toEnd, grown };
}
