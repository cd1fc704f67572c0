// The workflow actions of a job as a table: what sets each off, its progress, its result.
import { badge, el } from "../adminkit/dom.js";

const TRIGGERS = {
  on_workflow_start: "at the job's start", on_workflow_complete: "at the job's end", on_jobs_ready: "when its steps are ready",
  on_jobs_complete: "when its steps have ended", on_worker_start: "when a worker comes", on_worker_complete: "when a worker leaves",
};
const KINDS = { run_commands: "commands", schedule_nodes: "nodes from Slurm" };

// The newest generation of each action, by its place in the task.
export function current(actions) {
  const found = new Map();
  for (const action of actions) if (!found.has(action.index)) found.set(action.index, action);
  return found;
}

function took(action) {
  const begun = action.runs.filter((run) => run.started);
  const last = begun[begun.length - 1];
  if (!last) return "–";
  if (!last.ended) return el("span", { "data-since": last.started });
  return window.stroemTimes.spanOf((Date.parse(last.ended) - Date.parse(last.started)) / 1000);
}

function nodesOf(action) {
  if (!action.allocations.length) return null;
  const counts = {};
  for (const one of action.allocations) counts[one.status] = (counts[one.status] || 0) + 1;
  const reasons = new Set(action.allocations.map((one) => one.reason).filter(Boolean));
  return el("div", {},
    el("div", { class: "st-marks" }, ...Object.entries(counts).map(([status, count]) => badge(status, `${count} ${status}`))),
    ...[...reasons].map((reason) => el("div", { class: "st-help" }, reason)));
}

export class ActionList {
  constructor(table, open) {
    this.table = table;
    this.open = open;
  }

  show(actions) {
    const focused = this.table.contains(document.activeElement) ? document.activeElement.dataset.action : null;
    const body = this.table.tBodies[0];
    body.replaceChildren();
    let generation = null;
    const newest = actions[0]?.generation ?? 1;
    for (const action of actions) {
      if (action.generation !== generation && newest > 1) {
        const title = action.generation === newest ? "After the restart" : `Before (run ${action.generation} of ${newest})`;
        body.append(el("tr", { class: "st-group" }, el("th", { colspan: 5, scope: "rowgroup" }, title)));
      }
      generation = action.generation;
      body.append(this.row(action));
    }
    if (focused) body.querySelector(`[data-action="${focused}"]`)?.focus();
    window.stroemTimes.refreshTimes(this.table);
  }

  row(action) {
    const last = action.runs[action.runs.length - 1];
    const name = el("button", { type: "button", class: "st-link", "data-action": action.id, onclick: () => this.open(action) }, action.name);
    return el("tr", { "data-name": action.name, "data-status": action.status },
      el("td", { class: "st-wrap" }, name, el("div", { class: "st-help" }, `${action.does.map((kind) => KINDS[kind] || kind).join(", then ")} ${TRIGGERS[action.trigger] || action.trigger}${action.barrier ? "; steps wait for it" : ""}`),
        action.reason ? el("div", { class: `${action.status === "failed" ? "st-error" : "st-help"} st-clip` }, action.reason) : null),
      el("td", {}, badge(action.status), action.progress ? this.progress(action) : null, nodesOf(action)),
      el("td", { class: "st-number st-roomy" }, String(action.run_count || "–")),
      el("td", { class: "st-number st-roomy" }, last && last.exit_code !== null ? String(last.exit_code) : "–"),
      el("td", { class: "st-number st-nowrap st-roomy" }, took(action)),
    );
  }

  progress(action) {
    const bar = el("span", { class: `st-progress st-${action.reached === action.total ? "ok" : "run"}`, "aria-hidden": "true" }, el("span", {}));
    bar.firstChild.style.width = `${action.total ? (100 * action.reached) / action.total : 0}%`;
    return el("div", { class: "st-nowrap st-count-line" }, action.progress, bar);
  }
}
