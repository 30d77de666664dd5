// The drawer of a request, and the keyboard's place when older ones are shown. Both are comfort:
// without this file the links lead to pages.

const drawer = document.getElementById("drawer");
const body = document.getElementById("drawer-body");

if (drawer && body) {
  // Whoever wants a tab of its own gets it: htmx would take the click.
  document.addEventListener(
    "click",
    (event) => {
      if (event.target.closest("[data-drawer]") && (event.ctrlKey || event.metaKey || event.shiftKey)) {
        event.stopPropagation();
      }
    },
    true,
  );
  // It opens at once, with lines in the place of what comes.
  document.body.addEventListener("htmx:beforeRequest", (event) => {
    if (event.detail.target !== body) {
      return;
    }
    body.replaceChildren(document.getElementById("drawer-wait").content.cloneNode(true));
    if (!drawer.open) {
      drawer.showModal();
    }
    drawer.scrollTop = 0;
  });
  for (const failed of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
    document.body.addEventListener(failed, (event) => {
      if (event.detail.target === body) {
        drawer.close();
      }
    });
  }
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer && event.offsetX < 0) {
      drawer.close();
    }
  });
  drawer.addEventListener("close", () => body.replaceChildren());
}

// The link that showed older requests is gone: the first of them has the keyboard now.
let count = 0;
document.body.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "more") {
    count = document.querySelectorAll("[data-drawer]").length;
  }
});
document.body.addEventListener("htmx:afterSettle", () => {
  if (count) {
    document.querySelectorAll("[data-drawer]")[count]?.focus();
    count = 0;
  }
});
