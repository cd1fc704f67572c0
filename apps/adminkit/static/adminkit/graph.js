// Draws a directed graph as SVG, laid out by dagre. Statuses have a colour and a shape.
import { SPRITE, shapeName, svg, tone, wordOf } from "./dom.js";

const WIDTH = 184;
const HEIGHT = 46;
const ORDER = ["failed", "suspended", "running", "ready", "cancelled", "pending", "completed", "skipped"];

function cut(text, most) {
  const letters = [...text];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

// Within a column, steps stand in the order of the file unless another order has fewer crossings.
function placed(picture, direction) {
  const inOrder = laidOut(picture, direction, true);
  const best = laidOut(picture, direction, false);
  return crossings(inOrder) <= crossings(best) ? inOrder : best;
}

// How many pairs of arrows between two neighbouring columns cross.
function crossings(graph) {
  const columns = new Map();
  for (const edge of graph.edges()) {
    const [from, to] = [graph.node(edge.v), graph.node(edge.w)];
    const key = `${from.rank} ${to.rank}`;
    if (!columns.has(key)) columns.set(key, []);
    columns.get(key).push([from.order, to.order]);
  }
  let count = 0;
  for (const pairs of columns.values()) {
    pairs.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    for (let i = 0; i < pairs.length; i += 1) {
      for (let j = i + 1; j < pairs.length; j += 1) if (pairs[j][0] > pairs[i][0] && pairs[j][1] < pairs[i][1]) count += 1;
    }
  }
  return count;
}

function laidOut(picture, direction, keepsOrder) {
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: direction, nodesep: 16, ranksep: direction === "LR" ? 46 : 32, marginx: 10, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  picture.nodes.forEach((_, index) => graph.setNode(String(index), { width: WIDTH, height: HEIGHT }));
  picture.edges.forEach(([from, to]) => graph.setEdge(String(from), String(to)));
  (picture.actions || []).forEach((action, index) => {
    graph.setNode(`a${index}`, { width: WIDTH, height: HEIGHT });
    action.behind.forEach((from) => graph.setEdge(String(from), `a${index}`, { class: "is-beside" }));
    action.before.forEach((to) => graph.setEdge(`a${index}`, String(to), { class: "is-beside", holds: action.barrier }));
  });
  dagre.layout(graph, { disableOptimalOrderHeuristic: keepsOrder });
  return graph;
}

function curve(points) {
  const [first, ...rest] = points;
  let path = `M${first.x},${first.y}`;
  if (rest.length === 1) return `${path}L${rest[0].x},${rest[0].y}`;
  for (let i = 0; i < rest.length - 1; i += 1) {
    const middle = { x: (rest[i].x + rest[i + 1].x) / 2, y: (rest[i].y + rest[i + 1].y) / 2 };
    const end = i === rest.length - 2 ? rest[i + 1] : middle;
    path += `Q${rest[i].x},${rest[i].y} ${end.x},${end.y}`;
  }
  return path;
}

// An arrow head, aligned with the last segment.
function head(points) {
  const [from, to] = points.slice(-2);
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const x = ((to.x - from.x) / length) * 8;
  const y = ((to.y - from.y) / length) * 8;
  return `M${to.x},${to.y}L${to.x - x - y * 0.45},${to.y - y + x * 0.45}L${to.x - x + y * 0.45},${to.y - y - x * 0.45}Z`;
}

export class Graph {
  // `picture.actions`: workflow actions beside the nodes; `chooseAction(index)` is called when one is opened.
  constructor(box, picture, choose, chooseAction) {
    this.box = box;
    this.picture = picture;
    this.choose = choose;
    this.chooseAction = chooseAction;
    this.nodes = [];
    this.actions = [];
    this.scale = 1;
    this.draw();
    new ResizeObserver(() => this.resized()).observe(box);
  }

  get direction() {
    return this.box.clientWidth < 620 ? "TB" : "LR";
  }

  resized() {
    if (this.box.clientWidth && this.drawn !== this.direction) this.draw();
    else if (!this.touched) this.fit();
  }

  draw() {
    this.drawn = this.direction;
    const graph = placed(this.picture, this.drawn);
    const size = graph.graph();
    this.width = Math.max(size.width || 0, WIDTH);
    this.height = Math.max(size.height || 0, HEIGHT);
    // One element for all arrows of a kind: a large flow has thousands.
    const ways = graph.edges().map((edge) => graph.edge(edge));
    const way = (name, among) => svg("path", { class: name, d: among.map(({ points }) => curve(points)).join("") });
    const edges = svg("g", { "aria-hidden": "true" },
      way("st-edges", ways.filter((one) => !one.class)), way("st-edges is-beside", ways.filter((one) => one.class)),
      svg("path", { class: "st-arrow", d: ways.filter((one) => !one.class || one.holds).map(({ points }) => head(points)).join("") }));
    const nodes = svg("g", {});
    const place = (key, open) => {
      const at = graph.node(key);
      const group = svg("g", { class: "st-node", transform: `translate(${at.x - WIDTH / 2},${at.y - HEIGHT / 2})`, role: "button", tabindex: "0" });
      group.addEventListener("click", open);
      group.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); }
      });
      nodes.append(group);
      return group;
    };
    this.nodes = this.picture.nodes.map((node, index) => place(String(index), () => this.choose(index)));
    this.actions = (this.picture.actions || []).map((action, index) => place(`a${index}`, () => this.chooseAction(action.index)));
    this.svg = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, role: "group", "aria-label": "Steps and what they wait for" }, edges, nodes);
    this.box.replaceChildren(this.svg);
    this.picture.nodes.forEach((_, index) => this.paint(index));
    this.actions.forEach((_, index) => this.paintAction(index));
    this.mark(this.marked ?? null);
    this.fit();
  }

  // Only what is in view is in the page.
  enter() {
    this.box.replaceChildren(this.svg);
  }

  leave() {
    this.svg.remove();
  }

  // At first, names stay readable and a wide graph scrolls; `wholly` shows all of it.
  fit(wholly = false) {
    const room = this.box.clientWidth - 2;
    if (room < 50) return;
    const tall = Math.min(1, (Math.max(this.box.clientHeight, 0.7 * window.innerHeight) - 2) / this.height);
    const least = this.drawn === "TB" ? 0.7 : 0.55;
    this.zoom(Math.min(1, wholly ? Math.min(room / this.width, tall) : Math.max(least, room / this.width)));
    if (this.drawn === "TB") this.box.scrollLeft = (this.box.scrollWidth - this.box.clientWidth) / 2;
    this.touched = wholly;
  }

  zoom(scale) {
    this.touched = true;
    this.scale = Math.min(2, Math.max(0.02, scale));
    this.svg.setAttribute("width", Math.round(this.width * this.scale));
    this.svg.setAttribute("height", Math.round(this.height * this.scale));
  }

  update(index, standing) {
    Object.assign(this.picture.nodes[index], standing);
    this.paint(index);
  }

  // `standings`: by the index of the action, {status, progress, reached, total}.
  updateActions(standings) {
    (this.picture.actions || []).forEach((action, index) => {
      Object.assign(action, standings.get(action.index));
      if (this.actions[index]) this.paintAction(index);
    });
  }

  // The index of a node, or `a` and the index of an action.
  mark(index) {
    this.marked = index;
    this.nodes.forEach((group, at) => group.classList.toggle("is-chosen", at === index));
    this.actions.forEach((group, at) => group.classList.toggle("is-chosen", `a${this.picture.actions[at].index}` === index));
  }

  paintAction(index) {
    const action = this.picture.actions[index];
    const group = this.actions[index];
    const status = action.status || "waiting";
    const isChosen = group.classList.contains("is-chosen");
    group.setAttribute("class", `st-node st-action st-${tone(status)} is-${status}${isChosen ? " is-chosen" : ""}`);
    group.setAttribute("data-status", status);
    group.setAttribute("data-label", action.label);
    const words = ["workflow action", action.label, action.trigger, action.progress, status, action.barrier ? "steps wait for it" : ""];
    const count = action.total ? `${action.reached} of ${action.total}` : "";
    const about = status === "waiting" ? action.progress || "waits" : [status, count].filter(Boolean).join(" · ");
    const corner = HEIGHT / 2.6;
    const outline = `M${corner},0H${WIDTH - corner}L${WIDTH},${HEIGHT / 2}L${WIDTH - corner},${HEIGHT}H${corner}L0,${HEIGHT / 2}Z`;
    group.replaceChildren(
      svg("title", {}, words.filter(Boolean).join(", ")),
      svg("path", { class: "st-card", d: outline }),
      svg("use", { class: "st-mark", href: `${SPRITE}#${shapeName(status)}`, x: 19, y: 15, width: 16, height: 16 }),
      svg("text", { class: "st-name", x: 43, y: 20 }, cut(action.label.replace(/^workflow_actions\[/, "action ["), 15)),
      svg("text", { class: "st-kind", x: 43, y: 35 }, cut(about, 21)),
      svg("use", { class: "st-bolt", href: `${SPRITE}#action`, x: WIDTH - 30, y: 7, width: 12, height: 12 }),
    );
  }

  paint(index) {
    const node = this.picture.nodes[index];
    const group = this.nodes[index];
    const many = node.folded || node.loop;
    const isChosen = group.classList.contains("is-chosen");
    group.setAttribute("class", `st-node st-${tone(node.status)} is-${node.status}${isChosen ? " is-chosen" : ""}`);
    group.setAttribute("data-status", node.status);
    group.setAttribute("data-label", node.label);
    const counts = ORDER.filter((status) => node.counts[status]).map((status) => `${node.counts[status]} ${wordOf(status)}`).join(", ");
    const words = [node.label, node.title, node.loop ? "loop" : node.kind, many && counts ? counts : wordOf(node.status), node.description];
    const parts = [svg("title", {}, words.filter(Boolean).join(", "))]; // the accessible name and the tooltip
    if (many) {
      const sheet = (by) => `M${by + 9},${by}h${WIDTH - 18}q9,0 9,9v${HEIGHT - 18}q0,9 -9,9h${18 - WIDTH}q-9,0 -9,-9v${18 - HEIGHT}q0,-9 9,-9Z`;
      parts.push(svg("path", { class: "st-behind", d: sheet(6) + sheet(3) }));
    }
    parts.push(svg("rect", { class: "st-card", width: WIDTH, height: HEIGHT, rx: 9 }));
    parts.push(svg("use", { class: "st-mark", href: `${SPRITE}#${shapeName(node.status)}`, x: 12, y: 15, width: 16, height: 16 }));
    parts.push(svg("text", { class: "st-name", x: 38, y: 20 }, cut(node.label, 19)));
    parts.push(svg("text", { class: "st-kind", x: 38, y: 35 }, many ? this.tally(node) : cut(node.title || `${node.kind}${node.child ? " ↗" : ""}`, 24)));
    if (many && node.total) parts.push(this.bar(node));
    group.replaceChildren(...parts);
  }

  tally(node) {
    const done = (node.counts.completed || 0) + (node.counts.skipped || 0);
    return `${node.loop ? "loop" : node.kind} × ${node.total || node.folded} · ${done} done${node.counts.failed ? ` · ${node.counts.failed} failed` : ""}`;
  }

  bar(node) {
    const bar = svg("g", { transform: `translate(10,${HEIGHT - 6})`, "aria-hidden": "true" });
    const room = WIDTH - 20;
    let x = 0;
    for (const status of ["completed", "skipped", "failed", "cancelled", "suspended", "running", "ready", "pending"]) {
      const width = (room * (node.counts[status] || 0)) / node.total;
      if (width) bar.append(svg("rect", { class: `st-part st-${tone(status)}`, x, width, height: 3 }));
      x += width;
    }
    return bar;
  }
}
