// Asks in a dialog before a request is cancelled. Without this the server asks on a page.

import { showAlert, tellFailure } from "../ollamasite/alerts.js";

const NOT_FOUND = 404;

const dialog = document.getElementById("cancel-dialog");
const confirmation = dialog.querySelector("form");

document.addEventListener("submit", (event) => {
  const asked = event.target.closest("form[data-cancel]");
  if (asked) {
    event.preventDefault();
    confirmation.action = asked.action;
    dialog.querySelector("[data-told]").textContent = asked.dataset.cancel;
    dialog.showModal();
  }
});

dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());

confirmation.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = confirmation.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const body = new FormData(confirmation);
    const answer = await fetch(confirmation.action, { method: "POST", body, redirect: "manual" });
    dialog.close();
    if (answer.type === "opaqueredirect") {
      window.location.reload(); // where it leads to: this page, which says that it is done
      return;
    }
    if (answer.status === NOT_FOUND) {
      showAlert("It has ended already.");
    } else {
      tellFailure(answer);
    }
    window.htmx?.trigger("#queue-live", "live");
  } catch (error) {
    dialog.close();
    tellFailure(error);
  } finally {
    button.disabled = false;
  }
});
