// Images that go with a question: by paste, by drop or by the file dialog. Knows no socket.

import { byId, icon, make } from "./dom.js";

const PREVIEW_PX = 128;

/** `tell(text)` says what is wrong with a file. */
export function startImages(tell) {
  const list = byId("attached");
  const picker = byId("files");
  const place = byId("drop");
  const { images: most, imageBytes: mostBytes } = byId("chat").dataset;
  let chosen = [];

  const refuse = (file) => {
    if (!file.type.startsWith("image/")) {
      return `${file.name} is not an image.`;
    }
    if (file.size > Number(mostBytes || Infinity)) {
      return `${file.name} is larger than ${Math.round(mostBytes / 1e6)} MB.`;
    }
    return chosen.length >= Number(most || Infinity) ? `At most ${most} images fit one question.` : "";
  };
  const remove = (entry) => {
    chosen = chosen.filter((other) => other !== entry);
    entry.item.remove();
    list.hidden = !chosen.length;
    byId("question").focus();
  };
  const add = (files) => {
    for (const file of files) {
      const problem = refuse(file);
      if (problem) {
        tell(problem);
        continue;
      }
      const name = file.name || "pasted image";
      const button = make("button", { type: "button", className: "icon-button" }, icon("close"));
      button.setAttribute("aria-label", `Remove ${name}`);
      const picture = make("span", { className: "attached-picture" });
      const entry = { item: make("li", { title: name }, picture, button) };
      button.addEventListener("click", () => remove(entry));
      entry.sent = asBase64(file).then((data) => (entry.image = { name, data }));
      chosen.push(entry);
      list.append(entry.item);
      list.hidden = false;
      preview(file, name).then((drawing) => picture.append(drawing));
    }
  };

  byId("add-images").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    add([...picker.files]);
    picker.value = "";
  });
  byId("question").addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) {
      event.preventDefault();
      add(files);
    }
  });
  startDrop(byId("chat"), place, add);

  return {
    isEmpty: () => !chosen.length,
    read: () => Promise.all(chosen.map(({ sent }) => sent)),
    /** Take away what was sent; what has come since stays. */
    clear(sent) {
      chosen.filter(({ image }) => sent.includes(image)).forEach(({ item }) => item.remove());
      chosen = chosen.filter(({ image }) => !sent.includes(image));
      list.hidden = !chosen.length;
    },
  };
}

function startDrop(area, place, add) {
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  area.addEventListener("dragover", (event) => {
    if (hasFiles(event)) {
      event.preventDefault();
      place.classList.add("is-target");
    }
  });
  area.addEventListener("dragleave", (event) => {
    if (!area.contains(event.relatedTarget)) {
      place.classList.remove("is-target");
    }
  });
  area.addEventListener("drop", (event) => {
    if (hasFiles(event)) {
      event.preventDefault();
      place.classList.remove("is-target");
      add([...event.dataTransfer.files]);
    }
  });
}

function asBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(new Error(`${file.name} cannot be read.`)));
    reader.readAsDataURL(file);
  });
}

/** A small drawing of an image, or its name where the browser cannot read it. */
async function preview(file, name) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, PREVIEW_PX / Math.max(bitmap.width, bitmap.height));
    const canvas = make("canvas", {
      width: Math.max(1, Math.round(bitmap.width * scale)),
      height: Math.max(1, Math.round(bitmap.height * scale)),
    });
    canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", name);
    return canvas;
  } catch {
    return make("span", { className: "attached-name" }, name);
  }
}
