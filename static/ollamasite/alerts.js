// One quiet line when something fails without a new page: what the server says, the id to report,
// and a way on. Requests of htmx come here by themselves; other modules call `tellFailure`.

const SENTENCES = {
  403: "Your account may not do this.",
  404: "That is not there any more, or you may no longer see it.",
  413: "What was sent is larger than this site accepts.",
  429: "That was too often. Wait a moment.",
};
const UNREACHABLE = "The site cannot be reached. Your connection may be gone.";
const BROKEN = "Something broke on our side. It has been logged.";
const LONGEST_SENTENCE = 400;
const UNAUTHENTICATED = 401;
const SERVER_ERRORS = 500;

const place = document.getElementById("alerts");
let shown = "";
let unreached = null; // the address that "Try again" would ask for

function sentenceOf(status, type, body) {
  if (type.includes("json")) {
    try {
      const { error } = JSON.parse(body);
      const sentence = typeof error === "string" ? error : error?.message;
      if (sentence && sentence !== "forbidden") {
        return sentence;
      }
    } catch {
      // Then the status speaks.
    }
  } else if (type.startsWith("text/plain") && body && body.length <= LONGEST_SENTENCE) {
    return body;
  }
  return SENTENCES[status] ?? (status >= SERVER_ERRORS ? BROKEN : "The request was refused.");
}

function button(label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "button button-quiet";
  made.textContent = label;
  made.addEventListener("click", act);
  return made;
}

function signInLink() {
  const link = document.createElement("a");
  const here = window.location.pathname + window.location.search;
  link.className = "button button-small";
  link.href = `${place.dataset.signin}?next=${encodeURIComponent(here)}`;
  link.textContent = "Sign in";
  return link;
}

/** Take the line away. */
export function clearAlert() {
  shown = "";
  place.replaceChildren();
}

/** Show one line; the same one is not said twice. `id` is what to report, `retry` tries again. */
export function showAlert(sentence, { id = "", retry = null, signIn = false } = {}) {
  if (shown === sentence) {
    return;
  }
  shown = sentence;
  const line = document.createElement("div");
  line.className = "alert";
  const text = document.createElement("p");
  text.textContent = sentence;
  if (id && !sentence.includes(id)) {
    const report = document.createElement("span");
    report.className = "alert-id";
    report.textContent = ` id ${id}`;
    text.append(report);
  }
  const ways = document.createElement("div");
  ways.className = "row";
  if (signIn) {
    ways.append(signInLink());
  }
  if (retry) {
    ways.append(
      button("Try again", () => {
        clearAlert();
        retry();
      }),
    );
  }
  ways.append(button("Dismiss", clearAlert));
  line.append(text, ways);
  place.replaceChildren(line);
}

function tell(status, type, body, id, retry) {
  if (status === UNAUTHENTICATED) {
    showAlert("You are signed out: your session has ended.", { signIn: true });
    return;
  }
  showAlert(sentenceOf(status, type, body), { id, retry });
}

/** Tell of a fetch that went wrong: a Response that is not ok, or the Error that fetch threw. */
export async function tellFailure(failure, retry = null) {
  if (!(failure instanceof Response)) {
    if (failure?.name !== "AbortError") {
      unreached = null;
      showAlert(UNREACHABLE, { retry });
    }
    return;
  }
  const type = failure.headers.get("content-type") ?? "";
  const body = failure.bodyUsed ? "" : await failure.text();
  tell(failure.status, type, body, failure.headers.get("x-request-id") ?? "", retry);
}

/** Return what does once more what an element has asked htmx for; nothing where it repeats. */
function retryOf({ elt, requestConfig, target }) {
  if (requestConfig?.verb !== "get") {
    return elt instanceof HTMLFormElement ? () => elt.requestSubmit() : null;
  }
  if (elt.getAttribute("hx-trigger")?.includes("every")) {
    return null;
  }
  return () => window.htmx.ajax("GET", requestConfig.path, { source: elt, target });
}

document.addEventListener("htmx:responseError", ({ detail }) => {
  const { xhr } = detail;
  const header = (name) => xhr.getResponseHeader(name) ?? "";
  const id = header("x-request-id");
  tell(xhr.status, header("content-type"), xhr.responseText, id, retryOf(detail));
});
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, ({ detail }) => {
    const retry = retryOf(detail);
    if (shown !== UNREACHABLE) {
      unreached = retry && detail.requestConfig.path;
    }
    showAlert(UNREACHABLE, { retry });
  });
}
// What can be reached again needs no line about it; a way to try something again stays until that
// has been answered, for what repeats by itself is answered every few seconds.
document.addEventListener("htmx:afterOnLoad", ({ detail }) => {
  if (shown === UNREACHABLE && [null, detail.requestConfig.path].includes(unreached)) {
    clearAlert();
  }
});
