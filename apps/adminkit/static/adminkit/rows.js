// A click anywhere in a row of a list opens what its first link opens. Keyboards and screen readers use the link.
document.addEventListener("click", (event) => {
  const row = event.target.closest("#result_list tbody tr");
  if (!row || event.defaultPrevented || event.target.closest("a, button, input, label, select, summary")) return;
  if (String(getSelection())) return; // text is being selected
  const link = row.querySelector("a[href]");
  if (event.ctrlKey || event.metaKey) window.open(link.href, "_blank", "noopener");
  else if (link) link.click();
});
// On phones, rows are lists of labels and values. The theme calls the first column a checkbox, even where there is none.
document.addEventListener("DOMContentLoaded", () => {
  const title = document.querySelector("#result_list thead th .text")?.textContent.trim();
  for (const cell of document.querySelectorAll('#result_list td[data-label="Select record"]')) {
    if (title && !cell.querySelector("input")) cell.dataset.label = title;
  }
});
// Icons are letters of a font: their names are not for screen readers. A button that has only an icon gets a name.
const NAMES = { search: "Search", water: "Dashboard" };
for (const moment of ["DOMContentLoaded", "htmx:afterSwap"]) {
  document.addEventListener(moment, () => {
    for (const icon of document.querySelectorAll(".material-symbols-outlined:not([aria-hidden])")) {
      icon.setAttribute("aria-hidden", "true");
      const name = icon.textContent.trim();
      const owner = icon.closest("a, button");
      if (owner?.matches("a:not([href])")) owner.setAttribute("role", "button");
      if (owner && owner.textContent.trim() === name && !owner.getAttribute("aria-label")) owner.setAttribute("aria-label", owner.title || NAMES[name] || name.replaceAll("_", " "));
    }
  });
}
// The theme calls all parts that scroll by the same name.
addEventListener("load", () => {
  document.querySelectorAll(".simplebar-content-wrapper").forEach((part) => part.setAttribute("aria-label", part.closest("#nav-sidebar") ? "Side bar" : "List"));
});
