// Sends an operation from the page of it and shows what comes back, piece by piece. The key that
// one pastes is in its field alone: it is stored nowhere and sent to this site only.

const LONGEST_SHOWN = 200_000;
const MS_PER_S = 1000;

const form = document.getElementById("try-form");
const element = (name) => document.getElementById(`try-${name}`);

function address() {
  let path = form.dataset.path;
  const query = new URLSearchParams();
  for (const input of form.querySelectorAll("[data-in]")) {
    const { name } = input.dataset;
    if (input.dataset.in === "query") {
      if (input.value) {
        query.set(name, input.value);
      }
      continue;
    }
    // Names of models have slashes in them, which stay.
    const value = input.value.split("/").map(encodeURIComponent).join("/");
    path = path.replace(`{${name}}`, () => value);
  }
  return query.size ? `${path}?${query}` : path;
}

/** Return what fetch wants; throws where the body is no JSON. */
function request(signal) {
  const isKey = element("key").checked;
  const headers = isKey
    ? { Authorization: `Bearer ${element("secret").value.trim()}` }
    : JSON.parse(document.body.getAttribute("hx-headers"));
  const options = {
    method: form.dataset.method,
    headers,
    signal,
    cache: "no-store",
    credentials: isKey ? "omit" : "same-origin",
  };
  const body = element("body");
  if (body) {
    JSON.parse(body.value);
    headers["Content-Type"] = "application/json";
    options.body = body.value;
  }
  return options;
}

/** Lay out an answer that is one JSON value; anything else stays as it came. */
function laidOut(text, type) {
  if (!type.startsWith("application/json")) {
    return text;
  }
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function readInto(output, response, isNewest) {
  const type = response.headers.get("content-type") ?? "";
  const decoder = new TextDecoder();
  let text = "";
  let isDrawn = true;
  const draw = () => {
    isDrawn = true;
    if (isNewest()) {
      output.textContent = text;
      output.scrollTop = output.scrollHeight;
    }
  };
  const reader = response.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader.read()) {
    text += decoder.decode(part.value, { stream: true });
    if (text.length > LONGEST_SHOWN) {
      await reader.cancel();
      text = `${text.slice(0, LONGEST_SHOWN)}\n… the rest is not shown`;
      break;
    }
    if (isDrawn) {
      isDrawn = false;
      requestAnimationFrame(draw);
    }
  }
  text = laidOut(text, type);
  draw();
  output.scrollTop = 0;
  if (!text) {
    output.textContent = "The answer has no body.";
  }
}

let running = null;

async function send() {
  const stop = element("stop");
  const status = element("status");
  const output = element("output");
  const problem = element("body-problem");
  running?.abort();
  const mine = new AbortController();
  let options;
  try {
    options = request(mine.signal);
  } catch (error) {
    problem.textContent = `This is no JSON: ${error.message}`;
    element("body").setAttribute("aria-invalid", "true");
    element("body").focus();
    return;
  }
  if (problem) {
    problem.textContent = "";
    element("body").removeAttribute("aria-invalid");
  }
  running = mine;
  stop.hidden = false;
  element("answer").hidden = false;
  element("headers").textContent = "";
  output.textContent = "";
  status.textContent = "Sent, waiting for the answer …";
  const begunMs = performance.now();
  let outcome = "";
  try {
    const response = await fetch(address(), options);
    outcome = `${response.status} ${response.statusText}`.trim();
    status.textContent = `${outcome}, the answer is coming …`;
    element("headers").textContent = [...response.headers]
      .map(([name, value]) => `${name}: ${value}`)
      .join("\n");
    await readInto(output, response, () => running === mine);
  } catch (error) {
    const isStopped = error.name === "AbortError";
    outcome = isStopped ? "Stopped" : "The site cannot be reached, or the connection was lost";
  }
  if (running === mine) {
    const seconds = ((performance.now() - begunMs) / MS_PER_S).toFixed(2);
    status.textContent = `${outcome}, ${seconds} s`;
    stop.hidden = true;
  }
}

// In a long list of operations, the one of this page is in sight.
const list = document.querySelector(".api-side");
const here = list?.querySelector("[aria-current]");
if (here) {
  list.scrollTop = here.offsetTop - list.clientHeight / 2;
}

if (form) {
  const secret = element("secret");
  const chooseKey = () => {
    element("secret-field").hidden = !element("key").checked;
    secret.required = element("key").checked;
  };
  form.hidden = false;
  form.addEventListener("change", chooseKey);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
  element("stop").addEventListener("click", () => running?.abort());
  chooseKey();
}
