// Why a job failed: the last lines, which hold the reason, the rest on request, and the way to the log of the step.
import { el } from "../adminkit/dom.js";

const LINES = 4;

// `step`: {name, open()} of the step that failed, or null.
export function showFailure(box, text, step) {
  if (box.dataset.shown === text && box.dataset.step === (step?.name ?? "")) return;
  Object.assign(box.dataset, { shown: text, step: step?.name ?? "" });
  box.hidden = !text;
  const lines = text.trimEnd().split("\n");
  const short = el("pre", { class: "st-error", tabindex: "0" });
  const hidden = lines.length - LINES;
  const more = el("button", { type: "button", class: "st-button st-small", "aria-expanded": "false", onclick: () => fold(more.getAttribute("aria-expanded") === "true") });
  function fold(isFolded) {
    more.setAttribute("aria-expanded", String(!isFolded));
    more.textContent = isFolded ? `Show all ${lines.length} lines` : "Show the last lines";
    short.textContent = (isFolded ? lines.slice(-LINES) : lines).join("\n");
  }
  fold(true);
  box.replaceChildren(
    hidden > 0 ? el("p", { class: "st-help" }, `The last ${LINES} of ${lines.length} lines`) : "",
    short,
    el("div", { class: "st-buttons st-left" },
      hidden > 0 ? more : null,
      step && el("button", { type: "button", class: "st-button st-small", onclick: step.open }, `Go to the log of ${step.name}`)),
  );
}
