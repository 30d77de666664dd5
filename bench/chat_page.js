// Counts frames and what moves on the page, from now until `counted()` is called.
() => {
  const frame = 1000 / 60;
  const halt = 100;
  const start = performance.now();
  const found = { frames: 0, dropped: 0, longest_ms: 0, halts: 0, shift: 0 };
  let last = start;
  let isOver = false;
  const look = (now) => {
    const gap = now - last;
    last = now;
    found.frames += 1;
    found.dropped += Math.max(0, Math.round(gap / frame) - 1);
    found.longest_ms = Math.max(found.longest_ms, gap);
    found.halts += gap > halt ? 1 : 0;
    if (!isOver) {
      requestAnimationFrame(look);
    }
  };
  requestAnimationFrame((now) => {
    last = now;
    requestAnimationFrame(look);
  });
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      found.shift += entry.hadRecentInput ? 0 : entry.value;
    }
  });
  observer.observe({ type: "layout-shift" });
  window.counted = () => {
    isOver = true;
    return { ...found, lasted_s: (performance.now() - start) / 1000 };
  };
}
