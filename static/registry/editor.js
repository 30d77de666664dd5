// The Modelfile editor: numbers beside the lines, remarks that lead to their line, and a list of
// models that writes the FROM line. Tab keeps its meaning of going on. Without this the page works:
// the list is then looked at where the text has no FROM line.

const FROM = /^[ \t]*from[ \t].*$/im;

const editor = document.querySelector("[data-editor]");
const text = editor.querySelector("textarea");
const numbers = editor.querySelector(".editor-lines");
const check = document.getElementById("modelfile-check");

function number() {
  const count = text.value.split("\n").length;
  while (numbers.children.length > count) {
    numbers.lastElementChild.remove();
  }
  while (numbers.children.length < count) {
    const line = document.createElement("span");
    line.textContent = numbers.children.length + 1;
    numbers.append(line);
  }
  numbers.scrollTop = text.scrollTop;
}

/** Mark the lines that remarks are about. */
function mark() {
  const wrong = new Set(
    Array.from(check.querySelectorAll(".field-error[data-line]"), (at) => Number(at.dataset.line)),
  );
  Array.from(numbers.children).forEach((line, index) => {
    line.toggleAttribute("data-wrong", wrong.has(index + 1));
  });
}

function goTo(lineNumber) {
  const lines = text.value.split("\n");
  const start = lines.slice(0, lineNumber - 1).reduce((sum, line) => sum + line.length + 1, 0);
  text.focus();
  text.setSelectionRange(start, start + (lines[lineNumber - 1] ?? "").length);
}

text.addEventListener("input", number);
text.addEventListener("scroll", () => {
  numbers.scrollTop = text.scrollTop;
});
check.addEventListener("click", (event) => {
  const line = event.target.closest("[data-go]")?.dataset.go;
  if (line) {
    goTo(Number(line));
  }
});
document.addEventListener("htmx:afterSwap", mark);
document.querySelector("[data-base]").addEventListener("change", (event) => {
  const name = event.target.value;
  if (!name) {
    return;
  }
  const line = `FROM ${name}`;
  text.value = FROM.test(text.value)
    ? text.value.replace(FROM, () => line)
    : `${line}\n${text.value}`;
  text.dispatchEvent(new Event("input", { bubbles: true }));
});
number();
mark();
