// A chat that nobody keeps: what was said lives in the page alone. Knows no socket.

import { byId, icon, make } from "./dom.js";
import { sourceOf } from "./answers.js";

function tool(act, drawing, words) {
  const label = make("span", { className: "visually-hidden" }, words);
  const dataset = { act };
  return make("button", { type: "button", className: "icon-button", title: words, dataset }, icon(drawing), label);
}

/** A question that the server keeps nothing of, in the shape of message.html. */
function questionArticle(text, sent) {
  const message = `own-${Math.random().toString(36).slice(2)}`;
  const source = make("template", { className: "turn-source" });
  source.content.append(text);
  const tools = make("div", { className: "turn-tools" }, tool("copy", "copy", "Copy"), tool("edit", "edit", "Edit"));
  const article = make(
    "article",
    { className: "turn turn-user", id: `m-${message}`, dataset: { message, role: "user", state: "done" } },
    make("div", { className: "said", dir: "auto" }, text),
    make("footer", { className: "turn-foot" }, tools),
    source,
  );
  article.setAttribute("aria-label", "You");
  if (sent.length) {
    const pictures = sent.map(({ name, data }) =>
      make("li", {}, make("img", { src: `data:image/*;base64,${data}`, alt: name })),
    );
    article.prepend(make("ul", { className: "turn-images" }, ...pictures));
  }
  return article;
}

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
    /** Show a question; its images are kept as long as the page. */
    add(text, sent) {
      const article = questionArticle(text, sent);
      images.set(article.dataset.message, sent);
      byId("log").append(article);
    },
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
