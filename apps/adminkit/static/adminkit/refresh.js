// Keeps parts of a page up to date by fetching the page again every few seconds while it is visible.
// <script src="refresh.js" data-refreshes="CSS selector"> ... or elements with data-refresh="id".
(() => {
  const EVERY_MS = 4000;
  const selector = document.currentScript.dataset.refreshes;
  let busy = false;

  function isInUse(part) {
    return part.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), textarea, select")
      || part.querySelector("input:checked, dialog[open], details[open][data-stays]");
  }

  async function refresh() {
    if (busy || document.hidden || document.querySelector("dialog[open]")) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "X-Refresh": "1" }, redirect: "error" });
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const now = document.querySelectorAll(selector);
      const then = fresh.querySelectorAll(selector);
      now.forEach((part, index) => {
        if (!then[index] || isInUse(part)) return;
        const focused = [...part.querySelectorAll("a, button")].indexOf(document.activeElement);
        if (part.innerHTML !== then[index].innerHTML) part.replaceChildren(...then[index].childNodes);
        if (focused >= 0) part.querySelectorAll("a, button")[focused]?.focus();
      });
      // Remove what the server no longer sends; keep what is being filled in.
      if (!fresh.querySelector("[data-open-part]")) document.querySelectorAll("[data-open-part]").forEach((part) => part.remove());
      window.stroemTimes.refreshTimes();
    } catch {
      // The server is unavailable; the next round tries again.
    } finally {
      busy = false;
    }
  }

  setInterval(refresh, EVERY_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
})();
