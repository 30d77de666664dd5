// What one can do with a question or an answer that stands there: copy, edit, again, its versions.

import { announce, byId, copy, make } from "./dom.js";
import { sourceOf } from "./answers.js";

const COPIED_MS = 2000;

/**
 * `room` has onBranch(message), onRegenerate(article), onEdited(article, text), onResults(…).
 * `edit(article, text)` has a question changed that could not be asked.
 */
export function startTurns(room) {
  const log = byId("log");
  log.addEventListener("click", (event) => {
    const code = event.target.closest(".code-copy");
    if (code) {
      copyWith(code, code.closest(".code").querySelector("pre").textContent);
      return;
    }
    const button = event.target.closest("[data-act]");
    const article = event.target.closest(".turn");
    if (button && article) {
      act(room, button, article);
    }
  });
  return { edit: (article, text) => edit(room, article, text) };
}

function act(room, button, article) {
  switch (button.dataset.act) {
    case "copy":
      copyWith(button, sourceOf(article));
      break;
    case "edit":
      edit(room, article);
      break;
    case "regenerate":
      room.onRegenerate(article);
      break;
    case "branch":
      room.onBranch(button.dataset.to, article);
      break;
    case "results":
      sendResults(room, article);
      break;
  }
}

async function copyWith(button, text) {
  let word = "Copied";
  try {
    await copy(text.trimEnd());
  } catch (problem) {
    word = problem.message;
  }
  announce(word);
  button.dataset.done = "";
  if (button.classList.contains("code-copy")) {
    button.textContent = word;
  } else {
    button.title = word;
  }
  setTimeout(() => {
    delete button.dataset.done;
    if (button.classList.contains("code-copy")) {
      button.textContent = "Copy";
    } else {
      button.title = "Copy";
    }
  }, COPIED_MS);
}

/** Change a question where it stands; what comes of it is a new version beside it. */
function edit(room, article, text = sourceOf(article)) {
  if (article.querySelector(".edit")) {
    return;
  }
  const field = make("textarea", { value: text, dir: "auto", rows: 3 });
  field.setAttribute("aria-label", "Your question");
  const cancel = make("button", { type: "button", className: "button button-quiet" }, "Cancel");
  const send = make("button", { type: "submit", className: "button button-small" }, "Send");
  const hint = make("span", { className: "quiet small" }, "The old version stays beside it.");
  const form = make("form", { className: "edit" }, field, make("div", { className: "row" }, send, cancel, hint));
  const hidden = [...article.querySelectorAll(".said, .turn-foot")];
  const finish = () => {
    form.remove();
    hidden.forEach((part) => (part.hidden = false));
    article.querySelector('[data-act="edit"]')?.focus();
  };
  hidden.forEach((part) => (part.hidden = true));
  article.append(form);
  field.style.height = `${Math.min(field.scrollHeight + 2, 320)}px`;
  field.focus();
  cancel.addEventListener("click", finish);
  const submit = () => {
    if (field.value.trim() && room.onEdited(article, field.value)) {
      finish();
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      finish();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target === field) {
      event.preventDefault();
      submit();
    }
  });
}

/** Give the model what the tools that it called have answered. */
function sendResults(room, article) {
  const calls = [...article.querySelectorAll(".call")].filter((call) => call.querySelector(".call-result"));
  const empty = calls.find((call) => !call.querySelector(".call-result").value.trim());
  if (empty) {
    empty.open = true;
    empty.querySelector(".call-result").focus();
    announce("Write the result of each tool first.");
    return;
  }
  room.onResults(
    article,
    calls.map((call) => ({
      name: call.dataset.call,
      content: call.querySelector(".call-result").value,
    })),
  );
}

/** Show the results that were sent as what they are now: part of the conversation. */
export function settleResults(article) {
  article.querySelectorAll(".call-result").forEach((field) => {
    const label = make("p", { className: "fold-label" }, "Result");
    field.closest("label").replaceWith(label, make("pre", { dir: "auto" }, field.value));
  });
  article.querySelector(".send-results").hidden = true;
}
