// Narrows the list of operations while one types; without it the form asks the server.

const field = document.getElementById("api-words");
const none = document.getElementById("api-none");
const told = document.getElementById("api-found");
const items = [...document.querySelectorAll("[data-words]")];

// A list that the server has narrowed is whole again with the next search.
if (!field.value) {
  field.form.querySelector("button").hidden = true;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    let found = 0;
    for (const item of items) {
      item.hidden = !words.every((word) => item.dataset.words.includes(word));
      found += item.hidden ? 0 : 1;
    }
    document.querySelectorAll("[data-group]").forEach((group) => {
      group.hidden = !group.querySelector("[data-words]:not([hidden])");
    });
    none.hidden = found > 0;
    told.textContent = `${found} operations`;
  });
}
