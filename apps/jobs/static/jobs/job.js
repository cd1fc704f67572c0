// The page of one job: a stream sends what happens, the views show it, the inspector shows one step.
import { WAITING, badge, el, wordOf } from "../adminkit/dom.js";
import { Graph } from "../adminkit/graph.js";
import { Log } from "../adminkit/log.js";
import { ActionList, current } from "./actions.js";
import { showFailure } from "./failure.js";
import { Found } from "./found.js";
import { StepList } from "./steps.js";
import { Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";

const data = JSON.parse(document.getElementById("job-data").textContent);
const at = (id) => document.getElementById(id);
const views = ["graph", "steps", "actions", "timeline", "details"];
const known = new Map(); // id -> step, of those seen so far
let actions = data.actions; // workflow actions in brief, the newest generation first
let chosen = null; // what the inspector shows: a step, or a workflow action with `runs`
let source = null;
let lastChunk = null;
let chunks = new Set();
let isOver = false;
let fragment = 0;
const NO_JOB = "00000000-0000-0000-0000-000000000000"; // stands for a job's id in `data.urls.job`

// ---- the head ------------------------------------------------------------------------------------------------------

function showState(state, totals) {
  const isWaiting = state.status === "running" && totals.suspended && !totals.running && !totals.ready;
  const status = state.stopping || (isWaiting ? WAITING : state.status);
  if (at("job-state").dataset.shown !== status) {
    at("job-state").dataset.shown = status;
    at("job-state").replaceChildren(badge(isWaiting ? "suspended" : state.status, status));
    document.querySelectorAll("[data-when]").forEach((node) => { node.hidden = !node.dataset.when.split(" ").includes(state.status); });
  }
  showFailure(at("job-error"), state.error, state.failed_step && { name: state.failed_step.name, open: () => openLog(state.failed_step) });
  const span = at("job-span");
  if (state.started && state.ended) span.textContent = window.stroemTimes.spanOf((Date.parse(state.ended) - Date.parse(state.started)) / 1000);
  else if (state.started) span.replaceChildren(el("span", { "data-since": state.started }));
  window.stroemTimes.refreshTimes();
}

function showTotals(totals) {
  at("totals").replaceChildren(...Object.entries(totals).map(([status, count]) =>
    el("li", {}, el("button", { type: "button", class: "st-plain", onclick: () => { openView("steps"); list.filter({ status }); } }, badge(status, `${count} ${wordOf(status)}`)))));
}

// ---- views ---------------------------------------------------------------------------------------------------------

let graph = null;
const list = new StepList({ table: at("step-table"), form: at("step-filter"), pager: at("step-pager"), nodeButton: at("node-filter") }, data.urls.steps, openStep);
const actionList = new ActionList(at("action-table"), openAction);
const timeline = new Timeline(at("timeline"), data.urls.timeline, openStep, openAction);

function openView(name) {
  for (const view of views) {
    at(`view-${view}`).hidden = view !== name;
    at(`tab-${view}`).setAttribute("aria-selected", String(view === name));
    at(`tab-${view}`).tabIndex = view === name ? 0 : -1;
  }
  if (name === "graph" && data.picture && !graph) {
    graph = new Graph(at("graph"), data.picture, openNode, (index) => openAction(current(actions).get(index)));
    graph.updateActions(current(actions));
  }
  for (const [view, shown] of [["graph", graph], ["steps", list], ["timeline", timeline]]) {
    if (view === name) shown?.enter();
    else shown?.leave();
  }
}

function openNode(index) {
  const node = data.picture.nodes[index];
  graph.mark(index);
  if (node.step) openStep({ id: node.step, name: node.label, kind: node.kind, child: node.child, loop: null });
  if (node.folded || node.loop) {
    list.filter({ node: index, label: node.label });
    if (node.folded) openView("steps");
  }
}

function showActions() {
  actionList.show(actions);
  timeline.updateActions(actions);
  if (graph) graph.updateActions(current(actions));
  at("tab-actions").hidden = !actions.length;
  at("graph-legend").hidden = !data.picture?.actions.length;
}

function tabs(bar, open) {
  bar.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) open(tab);
  });
  bar.addEventListener("keydown", (event) => {
    const all = [...bar.querySelectorAll("[role=tab]:not([hidden])")];
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
    next.focus();
    open(next);
  });
}

tabs(document.querySelector(".st-views .st-tabs"), (tab) => openView(tab.dataset.view));

// ---- the inspector -------------------------------------------------------------------------------------------------

const log = new Log(at("log"));
const found = new Found(at("log-found"), data.urls.search);
const transcript = new Transcript(at("part-talk"), { ask: toCall, jobUrl: (id) => data.urls.job.replace(NO_JOB, id) });

function toCall() {
  at("job-call").scrollIntoView({ block: "center" });
  const call = at("job-call");
  (call.querySelector("textarea") ?? call.querySelector("a"))?.focus({ preventScroll: true });
}

function openPart(name) {
  for (const part of ["log", "step", "talk"]) {
    at(`part-${part}`).hidden = part !== name;
    at(`tab-${part}`).setAttribute("aria-selected", String(part === name));
    at(`tab-${part}`).tabIndex = part === name ? 0 : -1;
  }
  if (name === "log") log.show();
}

tabs(document.querySelector("#inspector .st-tabs"), (tab) => openPart(tab.dataset.part));

function openStep(step, { focus = true } = {}) {
  if (chosen?.runs) graph?.mark(null);
  choose({ ...step, log: String(step.id), url: `${data.urls.steps}${step.id}/` }, `#step=${step.id}`, step.name, "Step");
  openPart(step.kind === "agent" ? "talk" : ["approval", "task"].includes(step.kind) ? "step" : at("part-step").hidden ? "log" : "step");
  if (focus) toInspector();
}

function openLog(step) {
  openStep({ ...step, loop: null });
  openPart("log");
}

// `run`: show only the log of this run.
function openAction(action, { focus = true, run = null } = {}) {
  graph?.mark(`a${action.index}`);
  const title = run ? `${action.name}, run ${action.runs.findIndex((one) => one.id === run) + 1}` : action.name;
  choose({ ...action, run, log: `action-${action.id}${run ? `-${run}` : ""}` }, `#action=${action.id}`, title, "Action");
  openPart(run ? "log" : "step");
  if (focus) toInspector();
}

function choose(what, hash, title, kind) {
  chosen = what;
  history.replaceState(null, "", hash);
  at("inspector-title").textContent = title;
  at("whole-job").hidden = false;
  at("tab-step").hidden = false;
  at("tab-step").textContent = kind;
  at("part-step").replaceChildren(el("p", { class: "st-help" }, "Loading…"));
  log.withSteps = false;
  showTranscript();
  loadStep();
  follow();
}

function showTranscript() {
  at("tab-talk").hidden = chosen.kind !== "agent";
  if (chosen.kind === "agent") transcript.show(`${chosen.url}transcript/`);
}

function toInspector() {
  if (matchMedia("(max-width: 1100px)").matches) at("inspector").scrollIntoView({ behavior: "smooth" });
  at("inspector-title").focus({ preventScroll: true });
}

function openJob() {
  chosen = null;
  history.replaceState(null, "", location.pathname);
  at("inspector-title").textContent = "Log of the job";
  at("whole-job").hidden = true;
  at("tab-step").hidden = true;
  at("tab-talk").hidden = true;
  graph?.mark(null);
  log.withSteps = true;
  openPart("log");
  follow();
}

async function loadStep() {
  const wanted = chosen;
  fragment = Date.now();
  try {
    const answer = await fetch(wanted.url);
    if (chosen !== wanted) return;
    if (!answer.ok) throw new Error(`${answer.status}`);
    at("part-step").innerHTML = await answer.text();
    window.stroemTimes.refreshTimes(at("part-step"));
  } catch (error) {
    at("part-step").replaceChildren(el("p", { class: "st-error" }, `Loading failed (${error.message}).`));
  }
}

async function loadDetails() {
  const answer = await fetch(data.urls.details);
  if (!answer.ok) return;
  at("view-details").innerHTML = await answer.text();
  showCalls();
}

// Requests to the user stand above every view.
function showCalls() {
  const calls = [...at("view-details").querySelectorAll("[data-call]")];
  const addresses = (nodes) => [...nodes].map((node) => node.querySelector("a").href).join();
  if (addresses(calls) !== addresses(at("job-call").children)) at("job-call").replaceChildren(...calls);
  else calls.forEach((call) => call.remove());
}

at("whole-job").addEventListener("click", openJob);
at("part-step").addEventListener("click", (event) => {
  const { run } = event.target.closest("[data-run]")?.dataset ?? {};
  if (run && chosen.runs) openAction(actions.find((action) => action.id === chosen.id) ?? chosen, { run: Number(run) });
});
at("log-search").addEventListener("input", (event) => { log.search(event.target.value); found.clear(); showHits(); });
at("log-find").addEventListener("click", () => found.search(log.term, chosen ? chosen.log : "all"));
at("log-search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); log.step(event.shiftKey ? -1 : 1); showHits(); }
});
at("log-next").addEventListener("click", () => { log.step(1); showHits(); });
at("log-previous").addEventListener("click", () => { log.step(-1); showHits(); });
at("log-follow").addEventListener("click", () => log.follow(!log.follows));
at("log-times").addEventListener("click", (event) => {
  log.withTimes = !log.withTimes;
  event.currentTarget.setAttribute("aria-pressed", String(log.withTimes));
  log.show();
});
log.onfollow = (on) => at("log-follow").setAttribute("aria-pressed", String(on));
log.onchange = () => { showHits(); showCount(); };

function showHits() {
  const many = log.hits.length;
  at("log-find").hidden = !log.term || !(cutAt || log.dropped);
  at("log-hits").textContent = log.term ? (many ? `${log.hit + 1} of ${many}` : "no match") : "";
}

let cutAt = 0;
let caughtUp = false;
let away = ""; // why stored lines cannot be shown

function showCount() {
  const count = log.lines.length + log.dropped;
  const lines = count === 1 ? "1 line" : `${count.toLocaleString("en")} lines`;
  const cut = cutAt || log.dropped ? " — earlier lines are in the download" : "";
  const child = !chosen?.runs && (known.get(chosen?.id) ?? chosen)?.child;
  at("child-log").hidden = !child;
  if (child) at("child-log").href = data.urls.job.replace(NO_JOB, child);
  at("log-state").textContent = away || (count ? `${lines}${cut}` : data.hidden.logs ? "Not shown to you." : caughtUp ? "No lines yet." : "Reading…");
  at("log-state").classList.toggle("st-error", Boolean(away));
  log.explain(away && !count ? away : count ? "" : child ? "This step runs a job, which has its own log." : caughtUp ? whyEmpty() : "Reading…");
}

const WAITS = {
  pending: "The step has not begun: it waits for other steps, or for its next try.",
  ready: "The step waits for a worker with the tags that it needs and a free slot.",
  running: "The step runs and has printed nothing yet.",
  suspended: "The step waits for a person.",
  skipped: "The step was skipped, so it printed nothing.",
  completed: "The step completed and printed nothing.",
  cancelled: "The step was cancelled before it printed anything.",
  failed: "The step failed and printed nothing.",
};

function whyEmpty() {
  if (data.hidden.logs) return data.hidden.logs;
  if (!chosen) return at("job-error").textContent || "Nothing has been printed yet.";
  if (chosen.runs) return "Nothing has been printed yet.";
  const step = known.get(chosen.id) ?? data.steps.rows.find((row) => row.id === chosen.id) ?? chosen;
  return step.error || WAITS[step.status] || "Nothing has been printed yet.";
}

// ---- the stream ----------------------------------------------------------------------------------------------------

function follow() {
  lastChunk = null;
  chunks = new Set();
  cutAt = 0;
  caughtUp = Boolean(data.hidden.logs); // of a hidden log, no lines come
  away = "";
  log.clear();
  found.clear();
  at("log-search").value = "";
  showHits();
  showCount();
  at("log-download").hidden = Boolean(data.hidden.logs);
  at("log-download").href = chosen ? `${data.urls.log}?log=${chosen.log}` : data.urls.log;
  connect();
}

function connect() {
  source?.close();
  const query = new URLSearchParams({ log: data.hidden.logs ? "none" : chosen ? chosen.log : "all" });
  if (lastChunk !== null) query.set("after", lastChunk);
  if (data.hidden.logs) document.body.dataset.live = "1";
  source = new EventSource(`${data.urls.live}?${query}`);
  source.addEventListener("state", (event) => told(JSON.parse(event.data)));
  source.addEventListener("log", (event) => lines(JSON.parse(event.data)));
  source.addEventListener("progress", (event) => {
    const { step, mark } = JSON.parse(event.data);
    if (chosen?.id !== step) return;
    if (chosen.kind === "agent") transcript.told(mark);
    else showTranscript(Object.assign(chosen, { kind: "agent" })); // the address did not say so
  });
  source.addEventListener("away", (event) => { away = JSON.parse(event.data).reason; });
  source.addEventListener("cut", () => { cutAt = 1; });
  source.addEventListener("caught-up", () => { caughtUp = true; showCount(); document.body.dataset.live = "1"; });
  source.addEventListener("bye", (event) => {
    source.close();
    source = null;
    const { reason } = JSON.parse(event.data);
    if (reason) at("log-state").textContent = reason;
    else isOver = true;
  });
}

function lines(batch) {
  if (chunks.has(batch.chunk)) return; // a batch may come again after the connection was lost
  chunks.add(batch.chunk);
  lastChunk = Math.max(lastChunk ?? 0, batch.chunk);
  log.add(batch.lines);
}

function told(news) {
  showState(news.job, news.totals);
  showTotals(news.totals);
  if (data.picture) {
    for (const [index, standing] of Object.entries(news.nodes)) {
      if (graph) graph.update(Number(index), standing);
      else Object.assign(data.picture.nodes[index], standing);
    }
  }
  for (const step of news.steps) known.set(step.id, step);
  if (caughtUp) showCount();
  list.update(news.steps);
  timeline.update(news.steps);
  if (news.actions) toldActions(news.actions);
  if (chosen && !chosen.runs && news.steps.some((step) => step.id === chosen.id || step.loop === chosen.id) && Date.now() - fragment > 400) loadStep();
  if (news.steps.length || news.actions || news.job.ended) detailsSoon();
}

function toldActions(news) {
  actions = news;
  showActions();
  const fresh = chosen?.runs && actions.find((action) => action.id === chosen.id);
  if (!fresh || JSON.stringify({ ...chosen, ...fresh }) === JSON.stringify(chosen)) return;
  const hasMoreRuns = !chosen.run && fresh.run_count > chosen.run_count;
  Object.assign(chosen, fresh);
  loadStep();
  if (hasMoreRuns) connect(); // the choice of lines is fixed when the stream begins
}

let detailsTimer = 0;

function detailsSoon() {
  clearTimeout(detailsTimer);
  detailsTimer = setTimeout(loadDetails, 700);
}

document.addEventListener("visibilitychange", () => {
  // Browsers limit connections per server: a hidden page needs none.
  if (document.hidden) { source?.close(); source = null; }
  else if (!source && !isOver) connect();
});
window.addEventListener("pagehide", () => source?.close());

// ---- begin ---------------------------------------------------------------------------------------------------------

at("zoom-in").addEventListener("click", () => graph.zoom(graph.scale * 1.25));
at("zoom-out").addEventListener("click", () => graph.zoom(graph.scale / 1.25));
at("zoom-fit").addEventListener("click", () => graph.fit(true));
list.show(data.steps);
showCalls();
showActions();
showState(data.state, data.totals);
showTotals(data.totals);
if (!data.picture) {
  at("tab-graph").hidden = true;
  at("graph-note").hidden = false;
  at("graph-note").textContent = "This flow is too large for a graph; here are its steps as a list.";
}
openView(data.picture ? "graph" : "steps");
openPart("log");
const wanted = /^#step=(\d+)$/.exec(location.hash);
const action = actions.find((one) => location.hash === `#action=${one.id}`);
const row = wanted && (data.steps.rows.find((step) => step.id === Number(wanted[1])) || { id: Number(wanted[1]), name: `Step ${wanted[1]}`, loop: null });
if (row) openStep(row, { focus: false });
else if (action) openAction(action, { focus: false });
else follow();
