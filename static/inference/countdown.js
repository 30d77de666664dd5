// Counts down the time until a loaded model leaves. The server has written the first value.

/** The same words as format_duration in inference/overview.py. */
function formatDuration(seconds) {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  const parts = [
    [hours, "h"],
    [minutes, "min"],
    [hours ? 0 : seconds % 60, "s"],
  ];
  return parts
    .filter(([count]) => count)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(" ");
}

const startedAt = performance.now();
const counters = document.querySelectorAll("[data-countdown]");

function update() {
  const passed = Math.floor((performance.now() - startedAt) / 1000);
  counters.forEach((counter) => {
    const left = Math.max(0, Number(counter.dataset.countdown) - passed);
    counter.textContent = left ? formatDuration(left) : "a moment";
  });
}

if (counters.length) {
  setInterval(update, 1000);
}
