// The choice of a model. Knows what the page says about each, and nothing of chats.

import { byId } from "./dom.js";

export function startPicker() {
  const picker = byId("picker");
  const search = byId("picker-search");
  const radios = [...picker.querySelectorAll("input[type=radio]")];
  const chosen = () => radios.find((radio) => radio.checked);

  const show = () => {
    const radio = chosen();
    if (radio) {
      byId("picker-name").textContent = radio.value;
      const isLoaded = "loaded" in radio.dataset;
      byId("picker-dot").classList.toggle("dot-none", !isLoaded);
      byId("picker-dot").title = isLoaded ? "in memory" : "not in memory: the first answer takes longer";
    }
  };
  const close = () => {
    picker.open = false;
    picker.querySelector("summary").focus();
  };

  if (!chosen() && radios.length && !byId("picker-name").dataset.gone) {
    radios[0].checked = !byId("chat").dataset.chat;
  }
  show();
  picker.addEventListener("change", show);
  picker.addEventListener("toggle", () => {
    if (picker.open) {
      (chosen() ?? search)?.scrollIntoView({ block: "nearest" });
      search?.focus();
    }
  });
  picker.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("input")) {
      event.preventDefault();
      if (event.target === search) {
        const first = radios.find((radio) => !radio.closest("label").hidden);
        if (search.value && first) {
          first.checked = true;
          show();
        }
      }
      close();
    } else if (event.key === "ArrowDown" && event.target === search) {
      event.preventDefault();
      const seen = radios.filter((radio) => !radio.closest("label").hidden);
      (seen.find((radio) => radio.checked) ?? seen[0])?.focus();
    }
  });
  // A click chooses and closes; arrow keys choose and stay (their click has no pointer).
  picker.addEventListener("click", (event) => {
    if (event.detail && event.target.closest(".picker-model")) {
      requestAnimationFrame(close);
    }
  });
  search?.addEventListener("input", () => {
    const words = search.value.toLowerCase();
    for (const radio of radios) {
      radio.closest("label").hidden = !radio.value.toLowerCase().includes(words);
    }
    byId("picker-nothing").hidden = radios.some((radio) => !radio.closest("label").hidden);
  });

  return {
    name: () => chosen()?.value ?? "",
    can: (capability) => (chosen()?.dataset.capabilities ?? "").split(" ").includes(capability),
    markLoaded() {
      const radio = chosen();
      if (radio) {
        radio.dataset.loaded = "";
        show();
      }
    },
    open() {
      picker.open = true;
    },
  };
}
