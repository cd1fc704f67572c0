// Builds pages from data: text is always inserted as text.
export const SPRITE = "/static/adminkit/shapes.svg";
const SVG = "http://www.w3.org/2000/svg";
const LOOKS = {
  pending: "idle", held: "idle", ready: "next", running: "run", suspended: "wait", completed: "ok",
  failed: "bad", skipped: "idle", cancelled: "off",
  waiting: "idle", armed: "next", succeeded: "ok", superseded: "idle", lost: "bad", requested: "idle", active: "run", complete: "ok",
  wanted: "idle", asked: "wait", approved: "next", begun: "run", done: "ok", refused: "off",
};
// Statuses that use the shape of another one.
const SHAPES = {
  held: "pending", waiting: "pending", armed: "ready", succeeded: "completed", superseded: "skipped", lost: "failed",
  requested: "pending", active: "running", complete: "completed",
  wanted: "pending", asked: "suspended", approved: "ready", begun: "running", done: "completed", refused: "cancelled",
};

export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  fill(node, attributes, children);
  return node;
}

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  fill(node, attributes, children);
  return node;
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") node.addEventListener("click", value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
}

export function tone(status) {
  return LOOKS[status] || "idle";
}

export function shapeName(status) {
  return SHAPES[status] || (LOOKS[status] ? status : "pending");
}

export function shape(status) {
  return svg("svg", { class: "st-shape", "aria-hidden": "true" }, svg("use", { href: `${SPRITE}#${shapeName(status)}` }));
}

// What readers see where the status alone would not tell them who has to act.
export const WAITING = "waiting for a person";

export function wordOf(status) {
  return status === "suspended" ? WAITING : status;
}

export function badge(status, label) {
  return el("span", { class: `st-badge st-${tone(status)}`, "data-status": status }, shape(status), label || wordOf(status));
}
