// Parameters, system prompt and tools of a chat, in a drawer. Knows their bounds, not the socket.

import { byId, make } from "./dom.js";

const THINK = { "": null, true: true, false: false };
const written = (id) => JSON.parse(byId(id)?.textContent || "null");

/** `onChange(settings)` when somebody has said "Use these". */
export function startSettings(onChange) {
  const drawer = byId("settings");
  const form = byId("settings-form");
  const fields = [...form.querySelectorAll("[data-option]")];
  let current = null;

  fillIn(fields);
  const read = () => ({
    system: byId("system").value,
    think: byId("think").value in THINK ? THINK[byId("think").value] : byId("think").value,
    tools: readTools(),
    options: readOptions(fields),
  });
  const tryRead = () => {
    form.querySelectorAll(".field-error").forEach((line) => line.remove());
    form.querySelectorAll("[aria-invalid]").forEach((field) => field.removeAttribute("aria-invalid"));
    try {
      return read();
    } catch (problem) {
      if (!problem.field) {
        throw problem;
      }
      tellAt(problem.field, problem.message);
      return null;
    }
  };
  const remember = () => {
    const values = [...form.elements].map((field) => [field, field.value]);
    return () => values.forEach(([field, value]) => (field.value = value));
  };

  let goBack = remember();
  current = tryRead() ?? { system: "", think: null, tools: [], options: {} };
  tellSet(current);
  byId("open-settings").addEventListener("click", () => {
    goBack = remember();
    drawer.showModal();
  });
  byId("settings-close").addEventListener("click", () => drawer.close());
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer) {
      drawer.close();
    }
  });
  drawer.addEventListener("close", () => {
    if (drawer.returnValue !== "used") {
      goBack();
    }
    drawer.returnValue = "";
  });
  byId("settings-reset").addEventListener("click", () => {
    [...form.querySelectorAll("input, textarea, select")].forEach((field) => (field.value = ""));
    byId("system").focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const next = tryRead();
    if (next) {
      current = next;
      tellSet(current);
      drawer.close("used");
      onChange(current);
    }
  });
  return { read: () => current };
}

function fillIn(fields) {
  const options = written("chat-options") ?? {};
  for (const field of fields) {
    field.value = options[field.dataset.option] ?? "";
  }
  byId("o-stop").value = [options.stop ?? []].flat().join("\n");
  byId("think").value = written("chat-think") ?? "";
  if (byId("tools").value.trim() === "[]") {
    byId("tools").value = "";
  }
}

function readOptions(fields) {
  const options = {};
  for (const field of fields) {
    const text = field.value.trim().replace(",", ".");
    if (text) {
      options[field.dataset.option] = readNumber(field, text);
    }
  }
  const stop = byId("o-stop").value.split("\n").filter(Boolean);
  return stop.length ? { ...options, stop } : options;
}

function readNumber(field, text) {
  const { low, high, whole } = field.dataset;
  const value = Number(text);
  if (!Number.isFinite(value)) {
    throw problemAt(field, "This must be a number.");
  }
  if (whole !== undefined && !Number.isInteger(value)) {
    throw problemAt(field, "This must be a whole number.");
  }
  if (low !== undefined && value < Number(low)) {
    throw problemAt(field, `This must be ${low} or more.`);
  }
  if (high !== undefined && value > Number(high)) {
    throw problemAt(field, `This must be ${high} or less.`);
  }
  return value;
}

function readTools() {
  const field = byId("tools");
  if (!field.value.trim()) {
    return [];
  }
  let tools;
  try {
    tools = JSON.parse(field.value);
  } catch (error) {
    throw problemAt(field, `This is not JSON: ${error.message}`);
  }
  if (!Array.isArray(tools) || tools.some((tool) => !tool?.function?.name)) {
    throw problemAt(field, "This must be a list of tools, each with a function and its name.");
  }
  return tools;
}

function problemAt(field, text) {
  return Object.assign(new Error(text), { field });
}

function tellAt(field, text) {
  const line = make("p", { className: "field-error", id: `${field.id}-error` }, text);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", line.id);
  field.closest(".field").append(line);
  field.focus();
}

/** Say beside the composer what is not as the model has it. */
function tellSet({ system, tools, options, think }) {
  const words = [];
  if (system.trim()) {
    words.push("system prompt");
  }
  if (tools.length) {
    words.push(`${tools.length} tool${tools.length > 1 ? "s" : ""}`);
  }
  const count = Object.keys(options).length + (think === null ? 0 : 1);
  if (count) {
    words.push(`${count} parameter${count > 1 ? "s" : ""}`);
  }
  byId("composer-set").replaceChildren(
    ...words.map((word) => make("span", { className: "badge" }, word)),
  );
}
