// When each step ran, as bars on one axis.
import { el, shape, tone } from "../adminkit/dom.js";

const MARKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 259200, 604800];

// A step that waits for a decision has begun when it was suspended.
function begun(step) {
  return { ...step, started: step.started || step.suspended };
}

export class Timeline {
  constructor(box, url, open) {
    this.box = box;
    this.url = url;
    this.open_step = open;
    this.steps = new Map();
  }

  async enter() {
    this.isOpen = true;
    const answer = await fetch(this.url);
    if (!answer.ok) return;
    const found = await answer.json();
    if (!this.isOpen) return; // somebody has looked away meanwhile
    this.total = found.total;
    this.steps = new Map(found.rows.map((step) => [step.id, begun(step)]));
    this.draw();
    clearInterval(this.timer);
    this.timer = setInterval(() => { if ([...this.steps.values()].some((step) => !step.ended)) this.draw(); }, 1000);
  }

  leave() {
    this.isOpen = false;
    clearInterval(this.timer);
    this.box.replaceChildren();
  }

  update(steps) {
    if (!this.isOpen) return;
    for (const step of steps.map(begun)) if (step.started && (this.steps.has(step.id) || this.steps.size < 300)) this.steps.set(step.id, step);
    this.draw();
  }

  draw() {
    const steps = [...this.steps.values()].sort((a, b) => Date.parse(a.started) - Date.parse(b.started));
    if (!steps.length) {
      this.box.replaceChildren(el("p", { class: "st-help" }, "No step has begun yet."));
      return;
    }
    const now = Date.now();
    const end = (step) => (step.ended ? Date.parse(step.ended) : now);
    const start = Date.parse(steps[0].started);
    const length = Math.max(100, Math.max(...steps.map(end)) - start);
    const focused = this.box.contains(document.activeElement) ? document.activeElement.dataset.step : null;
    const bars = el("ol", { class: "st-bars" }, ...steps.map((step) => this.bar(step, start, length, end(step))));
    const parts = [this.axis(length / 1000), bars];
    if (this.total > steps.length) parts.push(el("p", { class: "st-help" }, `The first ${steps.length} of ${this.total} steps that have begun.`));
    this.box.replaceChildren(...parts);
    if (focused) this.box.querySelector(`[data-step="${focused}"]`)?.focus();
  }

  axis(seconds) {
    const step = MARKS.find((mark) => seconds / mark <= 5) ?? MARKS[MARKS.length - 1];
    const axis = el("div", { class: "st-axis", "aria-hidden": "true" });
    for (let at = 0; at <= seconds * 0.9; at += step) { // a label at the very end would hang over
      const mark = el("span", {}, at ? window.stroemTimes.spanOf(at).replace(/ 0 (s|min|h)$/, "").replace(/^(\d+)\.0 s/, "$1 s") : "0");
      mark.style.left = `${(100 * at) / seconds}%`;
      axis.append(mark);
    }
    return axis;
  }

  bar(step, start, length, end) {
    const seconds = (end - Date.parse(step.started)) / 1000;
    const bar = el("span", { class: `st-bar st-${tone(step.status)}`, "aria-hidden": "true" });
    bar.style.left = `${(100 * (Date.parse(step.started) - start)) / length}%`;
    bar.style.width = `max(4px, ${(100 * seconds * 1000) / length}%)`;
    const label = `${step.name}, ${step.status}, ${window.stroemTimes.spanOf(seconds)}`;
    return el("li", {},
      el("button", { type: "button", class: "st-bar-row", "data-step": step.id, "aria-label": label, title: label, onclick: () => this.open_step(step) },
        el("span", { class: `st-bar-name st-${tone(step.status)}` }, shape(step.status), el("span", {}, step.name)),
        el("span", { class: "st-track" }, bar)));
  }
}
