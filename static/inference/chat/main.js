// The chat page: brings its parts together. What a part does stands in its own module.

import { released } from "../../ollamasite/press.js";
import { announce, byId, inOrder, load, nodesOf, post } from "./dom.js";
import { articleOf, end, grow, sourceOf, startThinking, wait } from "./answers.js";
import { startComposer } from "./composer.js";
import { startImages } from "./images.js";
import { startPicker } from "./picker.js";
import { startScrolling } from "./scrolling.js";
import { startSettings } from "./settings.js";
import { startSide } from "./side.js";
import { Line } from "./socket.js";
import { startTemporary } from "./temporary.js";
import { settleResults, startTurns } from "./turns.js";

const page = byId("chat");
const log = byId("log");
const asked = new Map(); // id of a question → what to give back where it is refused
const running = new Set(); // messages that are being answered
const unstopped = new Set(); // those of which the server does not know yet that they shall end
const inTurn = inOrder(); // what changes which messages stand there
const saveInTurn = inOrder();
let changes = 0; // how often the line has told of another message, or of an end

const MOST_OF_A_FRAME = 0.9; // the rest is for texts

const openId = () => page.dataset.chat;
const tell = (text) => {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
};
const tellProblem = (problem) => tell(problem.message);

const scrolling = startScrolling();
const picker = startPicker();
const images = startImages(tell);
const temporary = startTemporary();
const composer = startComposer({
  onSend: () => sendTyped(),
  onStop: () => stop(),
  // In one tab one may sign out and another in.
  draftKey: () => `${page.dataset.user}.${openId() || "new"}`,
});
const settings = startSettings((chosen) => saveSettings(chosen));
const side = startSide({ openId, onRenamed: showTitle, onGone: () => location.assign("/chat") });
const line = new Line({ onFrame: take, onState: showLine, isBusy: () => running.size > 0 });
startThinking(log);
const turns = startTurns({
  onBranch: (message) => switchBranch(message),
  onRegenerate: (article) => regenerate(article),
  onEdited: (article, text) => askAgain(article, text, article),
  onResults: (article, results) =>
    send(
      { type: "result", message: article.dataset.message, results },
      { behind: article, hasResults: true },
    ),
});
log.querySelectorAll('[data-state="running"]').forEach(({ dataset }) => running.add(dataset.message));
showRunning();

// ------------------------------------------------------------------ what the server says

function take(frame) {
  switch (frame.type) {
    case "started":
      started(frame);
      break;
    case "growth":
      if (!grow(frame)) {
        line.send({ type: "follow", message: frame.message, version: -1 });
      }
      scrolling.grown();
      break;
    case "waiting":
      wait(frame);
      break;
    case "ended":
      ended(frame);
      break;
    case "error":
      refused(frame);
      break;
  }
}

function started(frame) {
  const given = asked.get(frame.id) ?? {};
  asked.delete(frame.id);
  changes += 1;
  const isElsewhere = frame.chat && openId() && frame.chat !== openId();
  if (isElsewhere) {
    return;
  }
  byId("welcome").hidden = true;
  temporary.lock();
  running.add(frame.message);
  takeAway(given);
  if (frame.chat && !openId()) {
    becomeChat(frame.chat);
  }
  if (given.behind && !given.behind.isConnected) {
    reload().catch(tellProblem); // the chat was shown anew since this was asked
  } else {
    show(frame, given);
  }
  showTitle(frame.title);
  showRunning();
  scrolling.toEnd();
  side.refresh();
}

/** Let a question and its answer stand where they were asked for. */
function show(frame, { behind, text, images: sent, hasResults }) {
  cutBehind(behind);
  if (hasResults) {
    settleResults(behind);
  }
  if (frame.temporary && text !== undefined) {
    temporary.add(text, sent ?? []);
  }
  log.append(nodesOf(frame.html));
}

/** Take away what stands behind an article; all where there is none before. */
function cutBehind(behind) {
  if (behind === undefined) {
    return;
  }
  while (log.lastElementChild && log.lastElementChild !== behind) {
    log.lastElementChild.remove();
  }
}

/** What the server has need not be sent again; what has been typed since stays. */
function takeAway({ isTyped, text, images: sent }) {
  if (isTyped) {
    const typed = composer.text();
    composer.write(typed.startsWith(text) ? typed.slice(text.length).trimStart() : typed);
    images.clear(sent);
  }
}

/** What the server has not taken can be sent again. */
function giveBack({ isTyped, edited, text }) {
  if (edited?.isConnected) {
    turns.edit(edited, text);
  } else if ((isTyped || edited) && !composer.text()) {
    composer.write(text);
  }
}

function becomeChat(chat) {
  const typed = composer.text();
  composer.write(""); // no draft of the next new chat
  page.dataset.chat = chat;
  composer.write(typed);
  history.replaceState(null, "", `/chat/${chat}`);
}

function ended(frame) {
  changes += 1;
  running.delete(frame.message);
  if (!end(frame)) {
    tell(frame.error || "This answer is not there any more.");
  }
  picker.markLoaded();
  showTitle(frame.title);
  showRunning();
  scrolling.grown();
  side.refresh();
}

function refused(frame) {
  const given = asked.get(frame.id) ?? {};
  asked.delete(frame.id);
  if (frame.message && running.delete(frame.message)) {
    reload().catch(tellProblem);
  }
  const id = frame.error_id ? ` (id ${frame.error_id})` : "";
  tell(`${frame.error}${id}`);
  giveBack(given);
  showRunning();
}

// ------------------------------------------------------------------ what is asked

/** Send what asks for an answer; `given` is what belongs to it here. */
function send(frame, given) {
  const id = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
  if (running.size || asked.size) {
    announce("Wait for the answer, or stop it with Escape.");
    return false;
  }
  tell("");
  if (imageCharacters(frame) > Number(page.dataset.frameBytes) * MOST_OF_A_FRAME) {
    tell("These images are too large together. Send fewer at a time.");
    return false;
  }
  if (!line.send({ ...frame, id })) {
    announce("There is no connection. Nothing is lost: send it again when it is back.");
    return false;
  }
  asked.set(id, given);
  showRunning();
  return true;
}

/** How much the images of a question, and of what went before it, take as they are sent. */
function imageCharacters({ images: sent = [], history = [] }) {
  const all = [...sent.map(({ data }) => data), ...history.flatMap((entry) => entry.images ?? [])];
  return all.reduce((sum, data) => sum + data.length, 0);
}

function question(text, sent, behind) {
  const { system, options, think, tools } = settings.read();
  const frame = { type: "ask", text, images: sent, model: picker.name(), system, options, think, tools };
  if (temporary.isOn()) {
    const next = behind === null ? log.firstElementChild : behind?.nextElementSibling;
    return { ...frame, chat: null, parent: null, temporary: true, history: next ? temporary.history(next) : temporary.history() };
  }
  const folder = new URLSearchParams(location.search).get("folder") || page.dataset.folder || null;
  return { ...frame, chat: openId() || null, parent: behind?.dataset.message ?? null, folder };
}

async function sendTyped() {
  const text = composer.text();
  if (running.size) {
    announce("Wait for the answer, or stop it with Escape.");
    return;
  }
  if (!text.trim() && images.isEmpty()) {
    return;
  }
  if (!picker.name()) {
    tell("Pick a model first.");
    picker.open();
    return;
  }
  if (!images.isEmpty() && !picker.can("vision")) {
    tell(`${picker.name()} cannot see images. Pick a model with vision, or remove them.`);
    return;
  }
  try {
    const sent = await images.read();
    await line.begun;
    await inTurn(() => {}); // where the chat is just shown anew, what is asked comes behind that
    if (text ? !composer.text().startsWith(text) : images.isEmpty()) {
      return; // it is there by now, or has been thought better of
    }
    const behind = log.lastElementChild;
    send(question(text, sent, behind), { text, images: sent, behind, isTyped: true });
  } catch (problem) {
    tellProblem(problem);
  }
}

/** Ask a changed question in the place of one that stands there; `edited` is what was changed. */
function askAgain(article, text, edited) {
  const behind = article.previousElementSibling;
  const sent = temporary.isOn() ? temporary.imagesOf(article) : [];
  const frame = question(text, sent, behind);
  const others = temporary.isOn() ? {} : { images_of: article.dataset.message };
  return send({ ...frame, ...others }, { text, behind, images: sent, edited });
}

function regenerate(article) {
  const behind = article.previousElementSibling;
  if (temporary.isOn()) {
    if (behind) {
      askAgain(behind, sourceOf(behind));
    }
    return;
  }
  const { options } = settings.read();
  const frame = { type: "regenerate", message: article.dataset.message, options };
  send(picker.name() ? { ...frame, model: picker.name() } : frame, { behind });
}

function stop() {
  running.forEach((message) => unstopped.add(message));
  tellStopped();
}

/** Tell the server what shall end; what the line does not take is told when it is back. */
function tellStopped() {
  for (const message of unstopped) {
    if (!running.has(message) || line.send({ type: "stop", message })) {
      unstopped.delete(message);
    }
  }
}

async function switchBranch(message) {
  if (!message) {
    return;
  }
  try {
    await inTurn(() => post(`/chat/${openId()}/head`, { message }));
    await reload();
    articleOf(message)?.querySelector(".branches button:not([disabled])")?.focus();
  } catch (problem) {
    tellProblem(problem);
  }
}

/** Show the chat as the server has it, and follow what is running in it. */
async function reload() {
  if (openId()) {
    await inTurn(showAnew);
  }
}

async function showAnew() {
  let nodes;
  let known;
  do {
    known = changes;
    nodes = await load(`/chat/${openId()}/messages`);
    await released();
  } while (known !== changes);
  const before = byId("scroll").scrollTop;
  log.replaceChildren(nodes);
  byId("scroll").scrollTop = before;
  running.clear();
  log.querySelectorAll('[data-state="running"]').forEach(({ dataset }) => running.add(dataset.message));
  follow();
  showRunning();
}

function follow() {
  for (const message of running) {
    const version = Number(articleOf(message)?.dataset.version ?? -1);
    line.send({ type: "follow", message, version });
  }
}

async function saveSettings({ system, options, tools, think }) {
  if (!openId()) {
    return;
  }
  const texts = { system, options: JSON.stringify(options), model: picker.name() };
  const others = { tools: JSON.stringify(tools), think: JSON.stringify(think) };
  try {
    await saveInTurn(() => post(`/chat/${openId()}/system`, { ...texts, ...others }));
    announce("Kept for this chat");
  } catch (problem) {
    tellProblem(problem);
  }
}

// ------------------------------------------------------------------ what is shown

function showRunning() {
  composer.showRunning(running.size > 0);
  page.classList.toggle("is-running", running.size > 0);
  const isSaid = Boolean(log.children.length);
  byId("edit-this-chat").hidden = !openId();
  byId("menu-hint").hidden = isSaid;
  document.querySelectorAll("[data-export]").forEach((button) => {
    button.hidden = !isSaid;
  });
}

function showTitle(title) {
  if (title && !temporary.isOn()) {
    byId("title").textContent = title;
    byId("edit-this-chat").dataset.title = title;
    document.title = `${title} – ollamasite`;
  }
}

/** What was asked as the line broke: the server knows whether it has arrived. */
async function recover() {
  const unsure = [...asked.values()];
  asked.clear();
  follow();
  tellStopped();
  if (!unsure.length) {
    return;
  }
  showRunning();
  if (openId()) {
    const before = log.querySelectorAll(".turn").length;
    await reload();
    if (running.size || log.querySelectorAll(".turn").length > before) {
      unsure.forEach(takeAway);
      return;
    }
  }
  side.refresh();
  unsure.forEach(giveBack);
  tell("The connection was lost as you sent this. Send it again, unless it stands in the list of chats.");
}

function showLine(state) {
  const words = {
    lost: "Connection lost, trying again",
    ended: "Your session has ended. Reload the page to sign in again; what you have typed stays.",
  };
  byId("connection").textContent = words[state] ?? "";
  byId("connection").hidden = state === "open";
  if (state === "open") {
    recover().catch(tellProblem);
  }
}

// ------------------------------------------------------------------ what one does on the page

document.addEventListener("keydown", (event) => {
  const isOpen = document.querySelector("dialog[open], details[data-menu][open], .edit, .side.is-open");
  if (event.key === "Escape" && !isOpen && running.size) {
    event.preventDefault();
    stop();
  }
});

byId("welcome").addEventListener("click", (event) => {
  const example = event.target.closest(".example");
  if (example) {
    composer.write(example.textContent);
    composer.focus();
  }
});

byId("room-menu").addEventListener("click", (event) => {
  const format = event.target.closest("[data-export]")?.dataset.export;
  if (format) {
    byId("room-menu").open = false;
    if (temporary.isOn()) {
      temporary.exportAs(format);
    } else {
      location.assign(`/chat/${openId()}/export?format=${format}`);
    }
  }
});

// A page that comes back from the browser's memory shows what has become of it meanwhile.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    reload().catch(tellProblem);
  }
});

page.dataset.ready = "";
