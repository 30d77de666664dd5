// A chat that nobody keeps: what was said lives in the page alone. Knows no socket.

import { byId, make } from "./dom.js";
import { sourceOf } from "./answers.js";

export function startTemporary() {
  const toggle = byId("temporary");
  const images = new Map(); // message of a question → what was sent with it
  const show = () => {
    byId("temporary-note").hidden = !toggle.checked;
    byId("chat").classList.toggle("is-temporary", toggle.checked);
  };
  toggle.addEventListener("change", show);
  show();

  const turns = () => [...byId("log").querySelectorAll(".turn")];
  const entryOf = (article) => {
    const entry = { role: article.dataset.role, content: sourceOf(article) };
    const sent = images.get(article.dataset.message);
    return sent?.length ? { ...entry, images: sent.map((image) => image.data) } : entry;
  };

  return {
    isOn: () => toggle.checked,
    /** No way back once something has been said. */
    lock() {
      toggle.disabled = true;
    },
    /** What was said before an article, or all of it. */
    history(article = null) {
      const all = turns();
      return all.slice(0, article ? all.indexOf(article) : all.length).map(entryOf);
    },
    keepImages: (article, sent) => images.set(article.dataset.message, sent),
    imagesOf: (article) => images.get(article.dataset.message) ?? [],
    exportAs(format) {
      const said = turns().map(({ dataset }, index) => ({
        role: dataset.role,
        content: sourceOf(turns()[index]),
      }));
      const isJson = format === "json";
      const text = isJson
        ? JSON.stringify({ messages: said }, null, 2)
        : said.map(({ role, content }) => `## ${role === "user" ? "Question" : "Answer"}\n\n${content}\n`).join("\n");
      const url = URL.createObjectURL(new Blob([text], { type: isJson ? "application/json" : "text/markdown" }));
      make("a", { href: url, download: `temporary-chat.${isJson ? "json" : "md"}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    },
  };
}
