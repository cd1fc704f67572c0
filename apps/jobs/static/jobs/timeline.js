// When each step ran, as bars on one axis, with workflow actions and their nodes in between.
import { SPRITE, el, shape, svg, tone } from "../adminkit/dom.js";

const MARKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400, 259200, 604800];

// A suspended step began when it was suspended.
function begun(step) {
  return { ...step, started: step.started || step.suspended };
}

export class Timeline {
  constructor(box, url, open, openAction) {
    this.box = box;
    this.url = url;
    this.open_step = open;
    this.openAction = openAction;
    this.steps = new Map();
    this.beside = [];
  }

  async enter() {
    this.isOpen = true;
    const answer = await fetch(this.url);
    if (!answer.ok) return;
    const found = await answer.json();
    if (!this.isOpen) return; // the view was closed in the meantime
    this.total = found.total;
    this.steps = new Map(found.rows.map((step) => [step.id, begun(step)]));
    this.draw();
    clearInterval(this.timer);
    this.timer = setInterval(() => { if (this.rows().some((row) => !row.ended)) this.draw(); }, 1000);
  }

  leave() {
    this.isOpen = false;
    clearInterval(this.timer);
    this.box.replaceChildren();
  }

  update(steps) {
    if (!this.isOpen) return;
    if (steps.some((step) => step.attempts > 1 && this.steps.has(step.id) && this.steps.get(step.id).attempts !== step.attempts)) {
      this.enter(); // another attempt has begun: its bar needs those before it
      return;
    }
    for (const step of steps.map((one) => ({ tries: this.steps.get(one.id)?.tries, ...begun(one) }))) if (step.started && (this.steps.has(step.id) || this.steps.size < 300)) this.steps.set(step.id, step);
    this.draw();
  }

  updateActions(actions) {
    this.beside = actions.flatMap((action) => [
      ...action.runs.filter((run) => run.started).map((run) => ({
        ...run, key: `run-${run.id}`, action, icon: "action", what: "workflow action", begun: run.started,
        name: run.number > 1 ? `${action.name}, try ${run.number}` : action.name,
      })),
      ...action.allocations.filter((one) => one.submitted).map((one) => ({
        ...one, key: `nodes-${one.id}`, action, icon: "nodes", what: "Slurm allocation", begun: one.submitted, begins: one.started,
        name: `${one.scheduler} ${one.slurm}`,
      })),
    ]);
    if (this.isOpen) this.draw();
  }

  rows() {
    const steps = [...this.steps.values()].map((step) => ({ ...step, key: `step-${step.id}`, begun: step.tries?.[0]?.started || step.started }));
    return [...steps, ...this.beside].sort((a, b) => Date.parse(a.begun) - Date.parse(b.begun));
  }

  draw() {
    const steps = this.rows();
    if (!steps.length) {
      this.box.replaceChildren(el("p", { class: "st-help" }, "No step has begun yet."));
      return;
    }
    const now = Date.now();
    const end = (step) => (step.ended ? Date.parse(step.ended) : now);
    const start = Date.parse(steps[0].begun);
    const length = Math.max(100, Math.max(...steps.map(end)) - start);
    const focused = this.box.contains(document.activeElement) ? document.activeElement.dataset.row : null;
    const bars = el("ol", { class: "st-bars" }, ...steps.map((step) => this.bar(step, start, length, end(step))));
    const parts = [this.axis(length / 1000), bars];
    if (this.total > this.steps.size) parts.push(el("p", { class: "st-help" }, `The first ${this.steps.size} of ${this.total} steps that have begun.`));
    this.box.replaceChildren(...parts);
    if (focused) this.box.querySelector(`[data-row="${focused}"]`)?.focus();
  }

  axis(seconds) {
    const most = Math.max(2, Math.min(5, Math.floor((this.box.clientWidth - 250) / 55))); // labels that do not touch
    const step = MARKS.find((mark) => seconds / mark <= most) ?? MARKS[MARKS.length - 1];
    const axis = el("div", { class: "st-axis", "aria-hidden": "true" });
    for (let at = 0; at <= seconds * 0.9; at += step) { // a label at the very end would hang over
      const mark = el("span", {}, at ? window.stroemTimes.spanOf(at).replace(/ 0 (s|min|h)$/, "").replace(/^(\d+)\.0 s/, "$1 s") : "0");
      mark.style.left = `${(100 * at) / seconds}%`;
      axis.append(mark);
    }
    return axis;
  }

  bar(row, start, length, end) {
    const part = (from, to, name, status = row.status) => {
      const bar = el("span", { class: `st-bar st-${tone(status)}${name}`, "aria-hidden": "true" });
      bar.style.left = `${(100 * (from - start)) / length}%`;
      bar.style.width = `max(4px, ${(100 * (to - from)) / length}%)`;
      return bar;
    };
    const begun = Date.parse(row.begun);
    const begins = row.icon === "nodes" ? (row.begins ? Date.parse(row.begins) : end) : begun; // nodes wait in Slurm's queue
    const parts = begins > begun ? [part(begun, begins, " is-queued")] : [];
    if (row.tries?.length) parts.push(...row.tries.map((one) => part(Date.parse(one.started), one.ended ? Date.parse(one.ended) : end, "", one.ended ? one.status : row.status)));
    else if (begins < end || !parts.length) parts.push(part(begins, end, row.action ? " is-beside" : ""));
    const tries = row.tries?.length ? `${row.tries.length} attempts` : "";
    const label = [row.what, row.name, row.status, tries, window.stroemTimes.spanOf((end - begun) / 1000)].filter(Boolean).join(", ");
    const open = () => (row.action ? this.openAction(row.action) : this.open_step(row));
    const icon = row.action ? svg("svg", { class: "st-shape", "aria-hidden": "true" }, svg("use", { href: `${SPRITE}#${row.icon}` })) : null;
    return el("li", {},
      el("button", { type: "button", class: "st-bar-row", "data-row": row.key, "data-step": row.action ? null : row.id, "aria-label": label, title: label, onclick: open },
        el("span", { class: `st-bar-name st-${tone(row.status)}` }, shape(row.status), icon, el("span", {}, row.name)),
        el("span", { class: "st-track" }, ...parts),
        el("span", { class: "st-bar-time", "data-took": window.stroemTimes.spanOf((end - begun) / 1000), "aria-hidden": "true" })));
  }
}
