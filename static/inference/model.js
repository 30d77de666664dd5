// The page of a model: what takes a while says so, and the metadata can be searched.

/** A form that takes a while cannot be sent twice, and says what it waits for. */
function startBusy(button) {
  button.form.addEventListener("submit", () => {
    button.textContent = button.dataset.busy;
    button.setAttribute("aria-disabled", "true");
    // Not before the form has been sent: a disabled button's form would not be.
    setTimeout(() => {
      button.disabled = true;
    });
  });
}

/** Come back by the browser's own button: the page may be kept as it was left. */
window.addEventListener("pageshow", (event) => {
  if (event.persisted) {
    window.location.reload();
  }
});

function startFilter(box) {
  const rows = [...document.getElementById(box.dataset.filters).children];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const field = box.querySelector("input");
  const status = box.querySelector("[role=status]");
  box.hidden = false;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every((word) => texts[index].includes(word));
      found += row.hidden ? 0 : 1;
    });
    status.textContent = `${found} of ${rows.length}`;
  });
}

document.querySelectorAll("[data-busy]").forEach(startBusy);
document.querySelectorAll("[data-filters]").forEach(startFilter);
