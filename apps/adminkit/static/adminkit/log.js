// Shows any number of log lines; only those in view are in the page. Colours come from ansi_up, which escapes its input.
import { AnsiUp } from "./vendor/ansi_up.js";
import { el } from "./dom.js";

const MOST_LINES = 50000;
const ROW = 19;
const SPARE = 20;
const LINK = /\x1b\]8;[^\x07\x1b]*(?:\x07|\x1b\\)/g; // begins or ends a link (OSC 8); its text stays

export class Log {
  constructor(box, state) {
    this.box = box;
    this.note = state;
    this.inner = el("div", { class: "st-log-inner" });
    this.rows = el("div", { class: "st-log-rows" });
    this.inner.append(this.rows);
    this.empty = el("p", { class: "st-log-empty" }); // says why there is no line
    box.append(this.empty, this.inner);
    this.withTimes = false;
    this.withSteps = true;
    this.clear();
    box.addEventListener("scroll", () => this.scrolled());
    new ResizeObserver(() => this.show()).observe(box);
  }

  clear() {
    this.lines = [];
    this.dropped = 0;
    this.ansi = new Map();
    this.hits = [];
    this.hit = -1;
    this.term = "";
    this.follows = true;
    this.widest = 0;
    this.onfollow?.(true);
    this.show();
  }

  add(records) {
    for (const record of records) {
      const key = record.step;
      if (!this.ansi.has(key)) {
        const painter = new AnsiUp();
        painter.use_classes = true;
        painter.url_allowlist = {};
        this.ansi.set(key, painter);
      }
      const text = record.line.replace(LINK, "");
      const painted = this.ansi.get(key).ansi_to_html(text);
      const line = { ts: record.ts, step: record.step, stream: record.stream, text, html: painted };
      this.lines.push(line);
      this.widest = Math.max(this.widest, text.length);
      if (this.term && this.matches(line)) this.hits.push(this.lines.length - 1 + this.dropped);
    }
    if (this.lines.length > MOST_LINES) {
      const excess = this.lines.length - MOST_LINES;
      this.lines.splice(0, excess);
      this.dropped += excess;
      this.hits = this.hits.filter((at) => at >= this.dropped);
    }
    this.later();
  }

  later() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.show();
      if (this.follows) this.box.scrollTop = this.box.scrollHeight;
      this.onchange?.();
    });
  }

  scrolled() {
    const atEnd = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < ROW * 2;
    if (atEnd !== this.follows && !this.waiting) {
      this.follows = atEnd;
      this.onfollow?.(atEnd);
    }
    this.show();
  }

  // Why there are no lines, while there are none.
  explain(text) {
    this.empty.textContent = text;
    this.empty.hidden = this.lines.length > 0;
  }

  follow(on) {
    this.follows = on;
    this.onfollow?.(on);
    if (on) this.box.scrollTop = this.box.scrollHeight;
  }

  show() {
    const total = this.lines.length;
    this.inner.style.height = `${total * ROW + 8}px`;
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - SPARE);
    const last = Math.min(total, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + SPARE);
    this.rows.style.transform = `translateY(${first * ROW}px)`;
    const shown = [];
    for (let at = first; at < last; at += 1) shown.push(this.row(this.lines[at], at));
    this.rows.replaceChildren(...shown);
    this.rows.style.minWidth = `${Math.min(this.widest, 4000) * 0.62 + 4}em`;
  }

  row(line, at) {
    const isHit = this.hits.length && this.hits[this.hit] === at + this.dropped;
    const row = el("div", { class: `st-line${line.step === "_server" ? " is-server" : line.stream === "stderr" ? " is-stderr" : ""}${isHit ? " is-hit" : ""}` });
    row.append(el("span", { class: "st-line-number" }, String(at + this.dropped + 1)));
    if (this.withTimes) row.append(el("span", { class: "st-line-time" }, line.ts.slice(11, 23)));
    if (this.withSteps) row.append(el("span", { class: "st-line-step" }, line.step));
    const text = el("span", { class: "st-line-text" });
    if (this.term && this.matches(line)) this.highlight(text, line);
    else text.innerHTML = line.html;
    row.append(text);
    return row;
  }

  highlight(text, line) {
    const plain = line.text.replace(/\x1b\[[0-9;]*m/g, "");
    const low = plain.toLowerCase();
    let from = 0;
    for (let at = low.indexOf(this.term); at >= 0; at = low.indexOf(this.term, from)) {
      text.append(plain.slice(from, at), el("mark", {}, plain.slice(at, at + this.term.length)));
      from = at + this.term.length;
    }
    text.append(plain.slice(from));
  }

  matches(line) {
    return line.text.toLowerCase().includes(this.term);
  }

  search(term) {
    this.term = term.toLowerCase();
    this.hits = [];
    this.hit = -1;
    if (this.term) this.lines.forEach((line, at) => { if (this.matches(line)) this.hits.push(at + this.dropped); });
    if (this.hits.length) this.step(-1);
    else this.show();
  }

  step(by) {
    if (!this.hits.length) return;
    this.hit = (this.hit + by + this.hits.length + (this.hit < 0 && by < 0 ? 1 : 0)) % this.hits.length;
    this.follow(false);
    this.box.scrollTop = Math.max(0, (this.hits[this.hit] - this.dropped) * ROW - this.box.clientHeight / 2);
    this.show();
  }
}
