// Small words for the document and the server, shared by the chat's modules. Knows no chat.

export const byId = (id) => document.getElementById(id);

/** Nodes out of HTML that the server has made and sanitised; never called with anything else. */
export function nodesOf(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

/** An element with properties, data and children; texts stay texts. */
export function make(tag, properties = {}, ...children) {
  const { dataset, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

/** One of the drawings of icons.svg. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `${byId("chat").dataset.icons}#${name}`);
  svg.append(use);
  return svg;
}

/** Tell those who listen to the page. */
export function announce(text) {
  byId("announcer").textContent = text;
}

function ownHeaders() {
  return {
    ...JSON.parse(document.body.getAttribute("hx-headers") || "{}"),
    "X-Requested-With": "fetch",
    "HX-Request": "true",
  };
}

/** The answer of the server; throws an Error that says in words what went wrong, with the id. */
async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("The site cannot be reached. Try again when the connection is back.");
  }
  if (response.redirected && new URL(response.url).pathname !== new URL(path, location.href).pathname) {
    throw new Error("Your session has ended. Reload the page to sign in again.");
  }
  if (!response.ok) {
    throw new Error(await sentenceOf(response));
  }
  return response;
}

async function sentenceOf(response) {
  const id = response.headers.get("x-request-id");
  let said = "";
  try {
    said = (await response.json()).error;
  } catch {
    // Not JSON: the status has to do.
  }
  return `${said || `The site answered with status ${response.status}`}${id ? ` (id ${id})` : ""}`;
}

/** Send a form's fields. */
export function post(path, fields = {}) {
  const headers = { ...ownHeaders(), Accept: "application/json" };
  return ask(path, { method: "POST", headers, body: new URLSearchParams(fields) });
}

/** Nodes of a page's part. */
export async function load(path) {
  const response = await ask(path, { headers: ownHeaders() });
  return nodesOf(await response.text());
}

/** Put a text on the clipboard; also where the site is not served over https. */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = make("textarea", { value: text, className: "visually-hidden" });
  const before = document.activeElement;
  document.body.append(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  before?.focus();
  if (!isCopied) {
    throw new Error("The browser refused to copy.");
  }
}

/** What has acts done one after another, in the order in which they are asked for. */
export function inOrder() {
  let last = Promise.resolve();
  return (act) => {
    const done = last.then(act);
    last = done.catch(() => {});
    return done;
  };
}

/** Storage of the browser that may be switched off. */
export const memory = (place) => ({
  read(key) {
    try {
      return window[place].getItem(`chat.${key}`) ?? "";
    } catch {
      return "";
    }
  },
  write(key, value) {
    try {
      if (value) {
        window[place].setItem(`chat.${key}`, value);
      } else {
        window[place].removeItem(`chat.${key}`);
      }
    } catch {
      // Nothing is remembered then.
    }
  },
});
