// Whether something is being pressed just now. What is replaced between the press and the release
// is not clicked: the browser finds no element that has seen both.

let isDown = false;

const isKey = (event) => event.key === " "; // presses a button when it comes up again
const down = () => (isDown = true);
const up = () => (isDown = false);

const options = { capture: true };
document.addEventListener("pointerdown", down, options);
document.addEventListener("keydown", (event) => isKey(event) && down(), options);
// A click follows its release within one task, so nothing is replaced between the two.
document.addEventListener("pointerup", up, options);
document.addEventListener("pointercancel", up, options);
document.addEventListener("keyup", (event) => isKey(event) && up(), options);
window.addEventListener("blur", up);

export function isPressed() {
  return isDown;
}
