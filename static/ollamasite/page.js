// What every page needs: copy buttons and the account menu. Both work in parts without it:
// the text can be selected, and the menu opens and closes by its own summary.

const COPIED_MS = 2000;

/** Put a node's text on the clipboard; also where the site is not served over https. */
async function copyText(node) {
  const text = node.textContent.trimEnd();
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  if (!isCopied) {
    throw new Error("the browser refused to copy");
  }
}

/** Leave the text selected, so that the keyboard's own copy works. */
function selectText(node) {
  const range = document.createRange();
  range.selectNodeContents(node);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

function startCopyButton(button, announcer) {
  const target = document.getElementById(button.dataset.copy);
  let timer;
  button.hidden = false;
  button.addEventListener("click", async () => {
    let word = "Copied";
    try {
      await copyText(target);
    } catch {
      selectText(target);
      word = "Selected";
    }
    button.focus();
    button.textContent = word;
    button.dataset.done = "";
    announcer.textContent = word === "Copied" ? "Copied to the clipboard" : "Text selected";
    clearTimeout(timer);
    timer = setTimeout(() => {
      button.textContent = "Copy";
      delete button.dataset.done;
      announcer.textContent = "";
    }, COPIED_MS);
  });
}

let announcer;

/** Start the copy buttons in a part of the page: all of it, or what htmx has brought. */
function startCopyButtons(part) {
  const buttons = part.querySelectorAll("[data-copy]");
  if (!buttons.length) {
    return;
  }
  if (!announcer) {
    announcer = document.createElement("p");
    announcer.className = "visually-hidden";
    announcer.setAttribute("role", "status");
    document.body.append(announcer);
  }
  buttons.forEach((button) => startCopyButton(button, announcer));
}

function startMenu(menu) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (menu.open && !menu.contains(event.target)) {
      menu.open = false;
    }
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) {
      menu.open = false;
    }
  });
}

startCopyButtons(document);
document.body.addEventListener("htmx:afterSwap", (event) => startCopyButtons(event.target));
document.querySelectorAll("[data-menu]").forEach(startMenu);
