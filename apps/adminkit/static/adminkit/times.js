// Keeps "3 min ago" and running durations current without asking the server.
const UNITS = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];

function spanOf(seconds) {
  if (seconds < 1) return `${Math.round(Math.max(0, seconds) * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  for (const [size, name, next, nextName] of UNITS) {
    if (whole >= size) return `${Math.floor(whole / size)} ${name} ${Math.floor((whole % size) / next)} ${nextName}`;
  }
  return `${whole} s`;
}

function agoOf(seconds) {
  if (seconds < 0) return `in ${spanOf(-seconds)}`;
  if (seconds < 1) return "just now";
  const [size, name] = UNITS.find(([size]) => seconds >= size) ?? [1, "s"];
  return `${Math.floor(seconds / size)} ${name} ago`;
}

function refreshTimes(root = document) {
  const now = Date.now();
  for (const node of root.querySelectorAll("time[data-ago]")) {
    node.textContent = agoOf((now - Date.parse(node.dateTime)) / 1000);
  }
  for (const node of root.querySelectorAll("[data-since]")) {
    node.textContent = spanOf((now - Date.parse(node.dataset.since)) / 1000);
  }
  showLocalTimes(root);
}

// Times of day in the reader's own time zone, which the server cannot know.
const LOCAL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function showLocalTimes(root) {
  for (const node of root.querySelectorAll("time[data-local]:not([data-told])")) {
    node.textContent = LOCAL.format(new Date(node.dateTime));
    node.dataset.told = "";
  }
  for (const node of root.querySelectorAll("[data-zone]")) node.textContent = LOCAL.resolvedOptions().timeZone;
}

window.stroemTimes = { spanOf, agoOf, refreshTimes };
document.addEventListener("DOMContentLoaded", () => {
  refreshTimes();
  setInterval(refreshTimes, 1000);
});
