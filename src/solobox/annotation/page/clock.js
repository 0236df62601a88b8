// Seconds that the image was visible: a hidden tab does not count.

let shownAt = 0, hiddenAt = 0;

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hiddenAt = performance.now();
  else shownAt += performance.now() - Math.max(hiddenAt, shownAt);
});

export function startClock() { shownAt = performance.now(); }

export const seconds = () => Math.max(0, (performance.now() - shownAt) / 1000);
