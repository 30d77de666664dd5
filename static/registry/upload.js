// Brings a file to the server in pieces that can be taken up again. How much has come is asked of
// the server after everything that went wrong; what the file is, this browser remembers
// (localStorage), so that a reload costs nothing but choosing the file once more. The server hashes.

const PIECE_BYTES = 64 * 1024 * 1024;
const PAUSES_MS = [1000, 2000, 4000, 8000, 15000];
const SPEED_WINDOW_MS = 5000;
const MAGIC = "GGUF";
const UNITS = ["B", "KB", "MB", "GB", "TB"];

const form = document.querySelector("[data-upload]");
const part = (name) => form.querySelector(`[data-${name}]`);
const fileInput = document.getElementById("id_file");
const nameInput = document.getElementById("id_name");
const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
const memory = `ollamasite-upload:${form.dataset.user}`;

let file = null;
let begun = null; // {session, repository, url, name, size, fileName, modified}
let request = null;
let isStarting = false;
let isSending = false;
let isPaused = false;
let wakeUp = null;
let upload = null; // over when it has ended
let samples = [];

class Refusal extends Error {
  constructor(message, status, received) {
    super(message);
    this.status = status;
    this.received = received;
  }
}

// ------------------------------------------------------------------ words

function sizeInWords(bytes) {
  let size = bytes;
  let unit = 0;
  while (size >= 999.5 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit && size < 9.95 ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

function timeInWords(seconds) {
  if (seconds < 60) {
    return `${Math.max(1, Math.round(seconds))} s`;
  }
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A model's name out of a file's: lower case, the quantization as its tag. */
function nameOf(fileName) {
  const plain = fileName
    .replace(/\.gguf$/i, "")
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[^a-z0-9._-]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "");
  const found = /^(.+?)[-.]((?:i?q\d[a-z0-9_]*)|f16|bf16|f32)$/.exec(plain);
  const [model, tag] = found ? [found[1], found[2]] : [plain, "latest"];
  return model ? `${model.slice(0, 80)}:${tag.slice(0, 80)}` : "";
}

const say = (words) => {
  part("said").textContent = words;
};
const complain = (words) => {
  part("error").textContent = words;
};

// ------------------------------------------------------------------ what is shown

function showFile() {
  part("file-name").textContent = file ? file.name : "or drop it here";
  part("file-size").textContent = file ? sizeInWords(file.size) : "";
}

function showProgress(received) {
  if (!begun) {
    return;
  }
  const percent = begun.size ? Math.floor((100 * received) / begun.size) : 0;
  const now = performance.now();
  samples.push([now, received]);
  samples = samples.filter(([at]) => now - at <= SPEED_WINDOW_MS);
  const [since, before] = samples[0];
  const speed = now > since ? (1000 * (received - before)) / (now - since) : 0;
  part("bar").value = percent;
  part("percent").textContent = `${percent} %`;
  part("amount").textContent = `${sizeInWords(received)} of ${sizeInWords(begun.size)}`;
  const isMoving = isSending && !isPaused && speed > 0;
  part("speed").textContent = isMoving ? `${sizeInWords(speed)}/s` : "";
  part("remaining").textContent = isMoving
    ? `${timeInWords((begun.size - received) / speed)} left`
    : "";
}

function showState() {
  part("going").hidden = !isSending;
  part("start").hidden = isSending;
  part("pause").hidden = !isSending;
  part("cancel").hidden = !isSending;
  part("pause").textContent = isPaused ? "Resume" : "Pause";
  fileInput.disabled = isSending;
  nameInput.readOnly = isSending;
}

// ------------------------------------------------------------------ memory

function remember() {
  try {
    localStorage.setItem(memory, JSON.stringify(begun));
  } catch {
    // Then a reload begins anew.
  }
}

function forget() {
  begun = null;
  try {
    localStorage.removeItem(memory);
  } catch {
    // There was nothing.
  }
  part("left").hidden = true;
}

function remembered() {
  try {
    return JSON.parse(localStorage.getItem(memory));
  } catch {
    return null;
  }
}

const isSameFile = (known) =>
  file !== null &&
  known.fileName === file.name &&
  known.size === file.size &&
  known.modified === file.lastModified;

// ------------------------------------------------------------------ the server

async function ask(method, url, body) {
  const answer = await fetch(url, { method, body, headers: { "X-CSRFToken": token } });
  const received = Number(answer.headers.get("X-Upload-Bytes") ?? Number.NaN);
  if (!answer.ok) {
    throw new Refusal(await wordsOf(answer), answer.status, received);
  }
  return { answer, received };
}

async function wordsOf(answer) {
  try {
    const told = await answer.json();
    return told.error ?? told.errors?.[0]?.message ?? `the site answers ${answer.status}`;
  } catch {
    return `the site answers ${answer.status}`;
  }
}

function fields(values) {
  const body = new FormData();
  Object.entries(values).forEach(([name, value]) => body.append(name, value));
  return body;
}

/** Send a piece that begins at `first`; return how much the server has afterwards. */
function sendPiece(first) {
  const piece = file.slice(first, Math.min(first + PIECE_BYTES, file.size));
  return new Promise((resolve, reject) => {
    request = new XMLHttpRequest();
    request.open("PATCH", begun.url);
    request.setRequestHeader("X-CSRFToken", token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Content-Range", `${first}-${first + piece.size - 1}`);
    request.upload.addEventListener("progress", (event) => showProgress(first + event.loaded));
    request.addEventListener("load", () => {
      const received = Number(request.getResponseHeader("X-Upload-Bytes") ?? Number.NaN);
      if (request.status === 202) {
        resolve(received);
        return;
      }
      let words = `the site answers ${request.status}`;
      try {
        words = JSON.parse(request.responseText).errors[0].message;
      } catch {
        // The status has to do.
      }
      reject(new Refusal(words, request.status, received));
    });
    request.addEventListener("error", () => reject(new Refusal("the connection is lost", 0)));
    request.addEventListener("abort", () => reject(new Refusal("", 0)));
    request.send(piece);
  });
}

/** Wait, or until somebody pauses, resumes, or is online again. */
function rest(milliseconds) {
  return new Promise((resolve) => {
    const timer = milliseconds === null ? 0 : setTimeout(resolve, milliseconds);
    wakeUp = () => {
      clearTimeout(timer);
      resolve();
    };
  });
}

// The same thing may go well a moment later: no connection, a busy upload, a server that restarts.
const isPassing = (error) =>
  error.status === undefined || [0, 408, 409, 416, 429].includes(error.status) || error.status >= 500;

// ------------------------------------------------------------------ one upload

async function sendAll() {
  let failures = 0;
  let received = null;
  while (isSending && received !== begun.size) {
    if (isPaused) {
      say("Paused. What has come is kept.");
      received = null;
      await rest(null);
      continue;
    }
    try {
      if (received === null) {
        received = (await ask("GET", begun.url)).received;
        samples = [];
        showProgress(received);
        continue; // it may have been paused or cancelled meanwhile
      }
      if (received < begun.size) {
        say("");
        received = await sendPiece(received);
        showProgress(received);
      }
      failures = 0;
    } catch (error) {
      if (!isSending) {
        return false;
      }
      if (!isPassing(error) || error.status === 507) {
        throw error;
      }
      received = null;
      if (!isPaused) {
        say(error.status === 409 ? "One moment …" : "The connection is lost. Trying again …");
        await rest(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
        failures += 1;
      }
    }
  }
  return isSending;
}

async function makeModel() {
  part("pause").hidden = true;
  part("cancel").hidden = true;
  say("All of it is there. The site looks at it …");
  const { session, repository, size } = begun;
  const body = fields({ session, repository, size, name: nameInput.value });
  const job = await finish(body);
  forget();
  isSending = false;
  window.location.assign(job);
}

/** End the upload, and return the page to go to. */
async function finish(body) {
  for (let failures = 0; ; failures += 1) {
    try {
      const { answer } = await ask("POST", form.dataset.finish, body);
      return (await answer.json()).job;
    } catch (error) {
      if (error.status === 404 && failures) {
        return form.dataset.jobs; // it was ended, and the answer lost
      }
      if (error.status !== undefined) {
        throw error;
      }
      say("The connection is lost. Trying again …");
      await rest(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]);
    }
  }
}

async function checkFile() {
  if (file === null) {
    throw new Refusal("Choose a file first.");
  }
  if (!nameInput.value.trim()) {
    throw new Refusal("Give the model a name.");
  }
  if (file.size > Number(form.dataset.most)) {
    throw new Refusal(`The file is larger than ${sizeInWords(Number(form.dataset.most))}.`);
  }
  if ((await file.slice(0, 4).text()) !== MAGIC) {
    throw new Refusal("This is no GGUF file.");
  }
}

async function begin() {
  if (begun && isSameFile(begun) && begun.name === nameInput.value) {
    return;
  }
  if (begun) {
    await discard();
  }
  const name = nameInput.value;
  const body = fields({ name, size: file.size });
  const { answer } = await ask("POST", form.dataset.begin, body);
  begun = {
    ...(await answer.json()),
    name,
    size: file.size,
    fileName: file.name,
    modified: file.lastModified,
  };
  remember();
}

async function start() {
  complain("");
  isStarting = true;
  try {
    await recalled;
    await checkFile();
    await begin();
    part("left").hidden = true;
    [isStarting, isSending, isPaused] = [false, true, false];
    showState();
    showProgress(0);
    if (await sendAll()) {
      await makeModel();
    }
  } catch (error) {
    if (error.status === 404) {
      forget();
    }
    complain(sentence(error));
  } finally {
    isStarting = false;
    if (isSending) {
      isSending = false;
      showState();
    }
  }
}

function sentence(error) {
  if (error instanceof TypeError) {
    return "The site cannot be reached. What has come is kept: try again.";
  }
  if (error.status === 401) {
    return "You are signed out. Sign in again in another tab, then go on here.";
  }
  if (error.status === 404) {
    return "The site no longer has what was sent. Begin again.";
  }
  const words = error.message || "Something went wrong.";
  return `${words[0].toUpperCase()}${words.slice(1)}`;
}

async function discard() {
  if (!begun) {
    return;
  }
  const { url } = begun;
  forget();
  try {
    await ask("DELETE", url);
  } catch {
    // The site removes it by itself after a while.
  }
}

// ------------------------------------------------------------------ what people do

function choose(chosen) {
  if (!chosen || isStarting || isSending) {
    return;
  }
  file = chosen;
  showFile();
  complain("");
  nameInput.value = nameOf(file.name);
  compareWithBegun();
}

function compareWithBegun() {
  if (!begun || !file) {
    return;
  }
  if (!isSameFile(begun)) {
    complain("This is not the file that was begun: uploading it discards the other one.");
  } else if (nameInput.value === nameOf(file.name)) {
    nameInput.value = begun.name;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!isStarting && !isSending) {
    upload = start();
  }
});
fileInput.addEventListener("change", () => choose(fileInput.files[0]));
part("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  showState();
  if (isPaused) {
    request?.abort();
  }
  wakeUp?.();
});
part("cancel").addEventListener("click", async () => {
  isSending = false;
  request?.abort();
  wakeUp?.();
  await upload; // another one begins when this one is over
  showState();
  await discard();
});
part("discard").addEventListener("click", discard);
window.addEventListener("online", () => wakeUp?.());
window.addEventListener("beforeunload", (event) => {
  if (isSending) {
    event.preventDefault();
  }
});

const drop = part("drop");
for (const name of ["dragenter", "dragover"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.dataset.over = "";
  });
}
for (const name of ["dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    delete drop.dataset.over;
  });
}
drop.addEventListener("drop", (event) => choose(event.dataTransfer.files[0]));

/** Say what was begun and not ended, if the server still has it. */
async function recall() {
  const known = remembered();
  if (!known) {
    return;
  }
  try {
    const { received } = await ask("GET", known.url);
    begun = known;
    const percent = Math.floor((100 * received) / known.size);
    part("left-text").textContent =
      `The upload of ${known.fileName} has stopped at ${percent} %. Choose the same file again to go on.`;
    part("left").hidden = false;
    if (file) {
      compareWithBegun();
    } else if (!nameInput.value) {
      nameInput.value = known.name;
    }
  } catch (error) {
    if (error.status === 404) {
      forget();
    }
  }
}

part("start").disabled = false; // without this script it would send nothing
showFile();
const recalled = recall();
choose(fileInput.files[0]); // before this script was here
