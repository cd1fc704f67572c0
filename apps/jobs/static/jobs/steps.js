// The list of steps: one page of rows at a time, whatever the job's size.
import { badge, el } from "../adminkit/dom.js";

export class StepList {
  constructor(parts, url, open) {
    Object.assign(this, parts);
    this.url = url;
    this.open = open;
    this.isOpen = false;
    this.asked = { q: "", status: "", node: "", page: 0 };
    this.rows = new Map();
    this.form.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.filter({}), 200);
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.nodeButton.addEventListener("click", () => this.filter({ node: "" }));
  }

  filter({ status, node, label }) {
    if (status !== undefined) this.form.elements.status.value = status;
    if (node !== undefined) {
      this.asked.node = node;
      this.nodeButton.hidden = node === "";
      this.nodeButton.textContent = label ? `Only ${label} ×` : "";
      this.nodeButton.setAttribute("aria-label", label ? `Stop showing only ${label}` : "");
    }
    Object.assign(this.asked, { q: this.form.elements.q.value, status: this.form.elements.status.value, page: 0 });
    return this.load();
  }

  async load() {
    const answer = await fetch(`${this.url}?${new URLSearchParams(this.asked)}`);
    if (answer.ok) this.show(await answer.json());
  }

  show(page) {
    this.page = page;
    this.isStale = false;
    if (this.isOpen) this.draw(page);
  }

  // Rows out of sight are not in the page.
  enter() {
    this.isOpen = true;
    this.draw(this.page);
    if (this.isStale) this.load();
  }

  leave() {
    this.isOpen = false;
    this.rows.clear();
    this.table.tBodies[0].replaceChildren();
  }

  draw(page) {
    this.rows.clear();
    const body = this.table.tBodies[0];
    body.replaceChildren(...page.rows.map((step) => this.row(step)));
    if (!page.rows.length) body.append(el("tr", {}, el("td", { colspan: 6 }, "No matching steps.")));
    const last = Math.max(0, Math.ceil(page.total / page.size) - 1);
    const go = (to) => { this.asked.page = to; this.load(); };
    const button = (label, to, isOff) => el("button", { type: "button", class: "st-button st-small", disabled: isOff, onclick: () => go(to) }, label);
    this.pager.replaceChildren();
    if (last > 0) {
      this.pager.append(button("Previous", page.page - 1, page.page === 0), ` ${page.page + 1} of ${last + 1} (${page.total.toLocaleString("en")} steps) `, button("Next", page.page + 1, page.page >= last));
    }
  }

  row(step) {
    const row = el("tr", { "data-step": step.id });
    this.rows.set(step.id, row);
    this.fill(row, step);
    return row;
  }

  fill(row, step) {
    const times = window.stroemTimes;
    const begun = step.started || step.suspended; // a suspended step began when it was suspended
    const took = begun && step.ended ? times.spanOf((Date.parse(step.ended) - Date.parse(begun)) / 1000) : null;
    const name = el("button", { type: "button", class: "st-link" }, step.name);
    row.onclick = () => this.open(step);
    row.replaceChildren(
      el("td", {}, badge(step.status)),
      el("td", { class: "st-wrap" }, name, step.error ? el("div", { class: "st-error st-clip" }, step.error) : null),
      el("td", {}, step.kind),
      el("td", { class: "st-number" }, String(step.attempts || "–")),
      el("td", { class: "st-number st-nowrap" }, begun ? el("time", { datetime: begun, title: begun.replace("T", " ").slice(0, 19), "data-ago": true }, times.agoOf((Date.now() - Date.parse(begun)) / 1000)) : "–"),
      el("td", { class: "st-number st-nowrap" }, took ?? (begun && ["running", "suspended"].includes(step.status) ? el("span", { "data-since": begun }, times.spanOf((Date.now() - Date.parse(begun)) / 1000)) : "–")),
    );
  }

  update(steps) {
    if (!this.isOpen && steps.length) this.isStale = true;
    for (const step of steps) {
      const row = this.rows.get(step.id);
      if (row && !row.contains(document.activeElement)) this.fill(row, step);
      else if (row) row.cells[0].replaceChildren(badge(step.status));
    }
  }
}
