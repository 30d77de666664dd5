// The list of chats: search, folders, more of it, and what one can do with each. Narrow: a drawer.

import { released } from "../../ollamasite/press.js";
import { byId, load, memory, post } from "./dom.js";

const TYPING_MS = 200;
const kept = memory("sessionStorage");

/** `openId()` is the chat of the page; `onRenamed(title)` and `onGone()` tell what became of it. */
export function startSide({ openId, onRenamed, onGone }) {
  const list = byId("side-list");
  const search = byId("search");
  let asked = 0;

  const fetchList = (fields) =>
    load(`/chat/list?${new URLSearchParams({ ...fields, open: openId() })}`);
  /** Put other chats there; whoever has the keyboard on one stays on it. */
  const show = (nodes) => {
    const at = list.contains(document.activeElement) ? document.activeElement : null;
    const chat = at?.closest("[data-chat]")?.dataset.chat;
    const top = list.scrollTop;
    list.replaceChildren(nodes);
    list.scrollTop = top;
    if (chat) {
      list.querySelector(`[data-chat="${chat}"] ${at.localName}`)?.focus({ preventScroll: true });
    }
    openFolders(list);
  };
  const refresh = async () => {
    const number = (asked += 1);
    let nodes;
    try {
      nodes = await fetchList({ q: search.value.trim() });
      await released();
    } catch {
      return; // The old list is better than none.
    }
    if (number === asked) {
      show(nodes);
    }
  };

  let timer;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, TYPING_MS);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && search.value) {
      event.stopPropagation();
      search.value = "";
      refresh();
    }
  });
  list.addEventListener("click", async (event) => {
    const older = event.target.closest("[data-before]");
    if (older) {
      older.disabled = true;
      const folder = older.closest("[data-folder]")?.dataset.folder ?? "";
      const fields = { q: search.value.trim(), folder, before: older.dataset.before };
      try {
        const nodes = await fetchList(fields);
        const first = nodes.querySelector("a");
        older.replaceWith(nodes);
        first?.focus();
      } catch {
        older.disabled = false;
      }
    }
  });
  startFolders(list, fetchList);
  startDrawer();
  startSearchKey(search);
  startChatDialog(list, { openId, onRenamed, onGone, refresh });
  startFolderDialog(list, refresh);
  return { refresh };
}

function openFolders(list) {
  const open = kept.read("folders").split(",");
  list.querySelectorAll(".side-folder").forEach((folder) => {
    folder.open = open.includes(folder.dataset.folder);
  });
}

/** What lies in a folder is fetched when it is opened. */
function startFolders(list, fetchList) {
  list.addEventListener(
    "toggle",
    async (event) => {
      const folder = event.target;
      const open = [...list.querySelectorAll(".side-folder[open]")];
      kept.write("folders", open.map((other) => other.dataset.folder).join(","));
      const box = folder.querySelector(".side-folder-chats");
      if (folder.open && !box.children.length) {
        try {
          box.replaceChildren(await fetchList({ folder: folder.dataset.folder }));
        } catch (problem) {
          box.textContent = problem.message;
        }
      }
    },
    true,
  );
  openFolders(list);
}

function startDrawer() {
  const side = byId("side");
  const opener = byId("side-open");
  const show = (isOpen) => {
    side.classList.toggle("is-open", isOpen);
    opener.setAttribute("aria-expanded", String(isOpen));
    (isOpen ? byId("search") : opener).focus();
  };
  opener.addEventListener("click", () => show(!side.classList.contains("is-open")));
  byId("side-close").addEventListener("click", () => show(false));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && side.classList.contains("is-open") && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      show(false);
    }
  });
  document.addEventListener("click", (event) => {
    const isOutside = !side.contains(event.target) && !opener.contains(event.target);
    if (isOutside && side.classList.contains("is-open") && !event.target.closest("dialog")) {
      side.classList.remove("is-open");
      opener.setAttribute("aria-expanded", "false");
    }
  });
}

function startSearchKey(search) {
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey) {
      event.preventDefault();
      if (getComputedStyle(byId("side")).visibility === "hidden") {
        byId("side-open").click();
      }
      search.focus();
      search.select();
    }
  });
}

/** Close buttons, and the server's words where something went wrong. */
function startDialog(dialog) {
  const problem = dialog.querySelector("[data-problem]");
  dialog.querySelectorAll("[data-close]").forEach((button) => {
    button.addEventListener("click", () => dialog.close());
  });
  return async (act) => {
    problem.hidden = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
    }
  };
}

function startChatDialog(list, { openId, onRenamed, onGone, refresh }) {
  const dialog = byId("chat-dialog");
  const [change, sure] = [byId("chat-change"), byId("chat-delete-sure")];
  const run = startDialog(dialog);
  let chat = {};

  const open = ({ id, title, folder, pinned }) => {
    chat = { id, title, folder, isPinned: pinned !== undefined };
    byId("chat-title").value = title;
    byId("chat-folder").value = folder;
    byId("chat-pinned").checked = chat.isPinned;
    [change.hidden, sure.hidden] = [false, true];
    dialog.querySelector("[data-problem]").hidden = true;
    dialog.showModal();
    byId("chat-title").select();
  };
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-edit-chat]");
    if (button) {
      open({ ...button.dataset, id: button.dataset.editChat });
    }
  });
  byId("edit-this-chat").addEventListener("click", (event) => {
    byId("room-menu").open = false;
    const listed = list.querySelector(`[data-edit-chat="${CSS.escape(openId())}"]`);
    open({ ...(listed ?? event.currentTarget).dataset, id: openId() });
  });
  byId("chat-delete").addEventListener("click", () => {
    [change.hidden, sure.hidden] = [true, false];
    sure.querySelector("[data-close]").focus();
  });
  change.addEventListener("submit", (event) => {
    event.preventDefault();
    run(async () => {
      await saveChat(chat, openId() === chat.id ? onRenamed : () => {});
      await refresh();
    });
  });
  sure.addEventListener("submit", (event) => {
    event.preventDefault();
    run(async () => {
      await post(`/chat/${chat.id}/delete`);
      if (chat.id === openId()) {
        onGone();
      } else {
        await refresh();
      }
    });
  });
}

async function saveChat(chat, onRenamed) {
  const title = byId("chat-title").value.trim();
  const folder = byId("chat-folder").value;
  const isPinned = byId("chat-pinned").checked;
  if (title && title !== chat.title) {
    await post(`/chat/${chat.id}/rename`, { title });
    onRenamed(title);
  }
  if (folder !== chat.folder) {
    await post(`/chat/${chat.id}/move`, { folder });
    if (byId("edit-this-chat").dataset.folder !== undefined) {
      byId("edit-this-chat").dataset.folder = folder;
    }
  }
  if (isPinned !== chat.isPinned) {
    await post(`/chat/${chat.id}/pin`, { pinned: isPinned ? "1" : "" });
  }
}

function startFolderDialog(list, refresh) {
  const dialog = byId("folder-dialog");
  const run = startDialog(dialog);
  let folder = "";

  const open = (id, name) => {
    folder = id;
    byId("folder-name").value = name;
    byId("folder-dialog-title").textContent = id ? "Change the folder" : "New folder";
    byId("folder-delete").hidden = byId("folder-hint").hidden = !id;
    dialog.querySelector("[data-problem]").hidden = true;
    dialog.showModal();
    byId("folder-name").select();
  };
  const done = async () => {
    await refreshFolders();
    await refresh();
  };
  byId("new-folder").addEventListener("click", () => open("", ""));
  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-edit-folder]");
    if (button) {
      event.preventDefault();
      open(button.dataset.editFolder, button.dataset.title);
    }
  });
  byId("folder-change").addEventListener("submit", (event) => {
    event.preventDefault();
    const path = folder ? `/chat/folders/${folder}/rename` : "/chat/folders";
    run(async () => {
      await post(path, { name: byId("folder-name").value.trim() });
      await done();
    });
  });
  byId("folder-delete").addEventListener("click", () =>
    run(async () => {
      await post(`/chat/folders/${folder}/delete`);
      await done();
    }),
  );
}

/** The choice of folders in the chat's dialog, from the list as it is now. */
async function refreshFolders() {
  const nodes = await load("/chat/list");
  const select = byId("chat-folder");
  const options = [...nodes.querySelectorAll(".side-folder-change")].map(
    ({ dataset }) => new Option(dataset.title, dataset.editFolder),
  );
  select.replaceChildren(select.options[0], ...options);
}
