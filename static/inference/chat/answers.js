// How an article grows: only blocks that have changed are replaced, so nothing before them moves.

import { announce, make, memory, nodesOf } from "./dom.js";

const READ_ALOUD_CHARACTERS = 1000;
const kept = memory("localStorage");
const shown = new WeakMap(); // block → the HTML it shows

export const articleOf = (message) => document.getElementById(`m-${message}`);
export const sourceOf = (article) =>
  article.querySelector(":scope > .turn-source")?.content.textContent ?? "";

/** Let the blocks from a place on be these. False where something before them is missing. */
function replaceFrom(box, from, blocks) {
  if (from > box.children.length) {
    return false;
  }
  blocks.forEach((html, index) => {
    const block = box.children[from + index];
    if (!block) {
      const added = make("div", { className: "block" });
      added.append(nodesOf(html));
      shown.set(added, html);
      box.append(added);
      box.classList.add("has-grown");
    } else if (shown.get(block) !== html) {
      fill(block, html);
    }
  });
  while (box.children.length > from + blocks.length) {
    box.lastElementChild.remove();
  }
  return true;
}

/** Replace what a block shows; code that was pushed sideways stays where it is. */
function fill(block, html) {
  const lefts = [...block.querySelectorAll("pre")].map((pre) => pre.scrollLeft);
  block.replaceChildren(nodesOf(html));
  shown.set(block, html);
  block.querySelectorAll("pre").forEach((pre, index) => {
    if (lefts[index]) {
      pre.scrollLeft = lefts[index];
    }
  });
}

function write(node, text) {
  if (node && node.textContent !== text) {
    node.textContent = text;
  }
}

function tellWaiting(article, text) {
  write(article.querySelector(".turn-waiting"), text);
}

/** Where the reader wants thinking open or closed, that is how the next ones come. */
export function startThinking(log) {
  const wanted = () => kept.read("thinking") === "open";
  log.addEventListener(
    "click",
    (event) => {
      const summary = event.target.closest(".thinking > summary");
      if (summary) {
        kept.write("thinking", summary.parentElement.open ? "" : "open");
      }
    },
    true,
  );
  log.querySelectorAll('[data-state="running"] .thinking').forEach((fold) => {
    fold.open = wanted();
  });
}

/** Take a `growth` frame. False where the page lacks something: it must follow anew. */
export function grow(frame) {
  const article = articleOf(frame.message);
  if (!article) {
    return true;
  }
  tellWaiting(article, "");
  const thinking = article.querySelector(".thinking-blocks");
  const text = article.querySelector(".blocks");
  if (frame.thinking && !replaceFrom(thinking, frame.thinking_from ?? 0, frame.thinking)) {
    return false;
  }
  if (frame.blocks && !replaceFrom(text, frame.from ?? 0, frame.blocks)) {
    return false;
  }
  const fold = thinking.parentElement;
  if (fold.hidden && thinking.children.length) {
    fold.open = kept.read("thinking") === "open";
    fold.hidden = false;
  }
  write(fold.querySelector(".fold-title"), text.children.length ? "Thoughts" : "Thinking…");
  if (frame.calls) {
    replaceCalls(article, frame.calls);
  }
  tellFigures(article, frame.figures);
  article.dataset.version = frame.version;
  return true;
}

function replaceCalls(article, calls) {
  const box = article.querySelector(".calls");
  const open = [...box.children].map((fold) => fold.open);
  box.replaceChildren(...calls.map((html) => nodesOf(html)));
  [...box.children].forEach((fold, index) => {
    fold.open = open[index] ?? fold.open;
  });
}

function tellFigures(article, figures) {
  if (!figures) {
    return;
  }
  const parts = [];
  if (figures.tokens_per_s) {
    parts.push(`${figures.tokens_per_s.toFixed(1)} tokens/s`);
  }
  if (figures.tokens_out) {
    parts.push(`${figures.tokens_out} tokens`);
  }
  write(article.querySelector(".turn-live"), parts.join(", "));
}

/** Take a `waiting` frame. */
export function wait(frame) {
  const article = articleOf(frame.message);
  if (article) {
    const place = frame.position ? `Number ${frame.position} in the queue` : "";
    const reason = (frame.reason || "").replaceAll("_", " ");
    tellWaiting(article, [place, reason].filter(Boolean).join(": ") || "Waiting");
  }
}

/** Take an `ended` frame: the article as the server shows it from now on. False: it is gone. */
export function end(frame) {
  const article = articleOf(frame.message);
  const fresh = nodesOf(frame.html).firstElementChild;
  if (!article) {
    return true;
  }
  if (!fresh) {
    article.remove();
    return false;
  }
  become(article, fresh);
  const name = article.getAttribute("aria-label");
  const said = sourceOf(article).slice(0, READ_ALOUD_CHARACTERS);
  announce(frame.error ? `${name} could not answer: ${frame.error}` : `${name} has answered: ${said}`);
  return true;
}

/** Let an article be another, without touching the blocks that are the same. */
function become(article, fresh) {
  for (const { name, value } of [...fresh.attributes]) {
    article.setAttribute(name, value);
  }
  tellWaiting(article, "");
  write(article.querySelector(".turn-live"), "");
  for (const place of [".thinking-blocks", ".blocks"]) {
    const blocks = [...fresh.querySelectorAll(`${place} > .block`)];
    becomeBlocks(article.querySelector(place), blocks);
  }
  const fold = article.querySelector(".thinking");
  fold.hidden = fresh.querySelector(".thinking").hidden;
  write(fold.querySelector(".fold-title"), "Thoughts");
  const calls = [...fresh.querySelector(".calls").children];
  replaceCalls(article, calls.map((call) => call.outerHTML));
  for (const place of [".turn-foot", ".turn-source"]) {
    article.querySelector(`:scope > ${place}`).replaceWith(fresh.querySelector(`:scope > ${place}`));
  }
}

function becomeBlocks(box, blocks) {
  blocks.forEach((block, index) => {
    const old = box.children[index];
    if (!old) {
      box.append(block);
    } else if (!old.isEqualNode(block)) {
      fill(old, block.innerHTML);
    }
  });
  while (box.children.length > blocks.length) {
    box.lastElementChild.remove();
  }
}
