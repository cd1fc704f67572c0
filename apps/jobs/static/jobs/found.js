// Lines of the whole log that hold a text: the server searches, also in what the page does not show.
import { el } from "../adminkit/dom.js";

export class Found {
  constructor(box, url) {
    this.box = box;
    this.url = url;
    this.clear();
  }

  clear() {
    this.turn = (this.turn ?? 0) + 1; // answers to older questions are ignored
    this.box.hidden = true;
    this.box.replaceChildren();
  }

  search(text, part) {
    this.clear();
    if (!text) return;
    this.query = { q: text, log: part };
    this.count = 0;
    this.list = el("ol", { class: "st-found-lines" });
    this.told = el("p", { class: "st-help", role: "status" });
    this.box.replaceChildren(this.list, this.told);
    this.box.hidden = false;
    this.more("0");
  }

  async more(after) {
    const { turn } = this;
    this.told.textContent = "Searching the whole log…";
    const answer = await fetch(`${this.url}?${new URLSearchParams({ ...this.query, after })}`).catch(() => null);
    const said = await answer?.json().catch(() => null);
    if (turn !== this.turn) return;
    if (!answer?.ok || !said) {
      this.told.textContent = said?.error ?? "The search failed; try it again.";
      return;
    }
    this.list.append(...said.hits.map((hit) => this.row(hit)));
    this.count += said.hits.length;
    const lines = this.count === 1 ? "1 line" : `${this.count.toLocaleString("en")} lines`;
    if (said.stopped === "end") {
      this.told.textContent = `${lines} of the whole log with this text.`;
      return;
    }
    const why = said.stopped === "limit" ? "there may be more" : "there is more log to search";
    this.told.replaceChildren(`${lines} so far; ${why}. `, el("button", { type: "button", class: "st-button st-small", onclick: () => this.more(said.next) }, "Search on"));
  }

  row(hit) {
    const text = hit.line.replace(/\x1b\[[0-9;]*m/g, "");
    const parts = [el("span", { class: "st-line-time" }, hit.ts.slice(0, 19).replace("T", " ")), el("span", { class: "st-line-step" }, hit.step)];
    const low = text.toLowerCase();
    const line = el("span", { class: "st-line-text" });
    let from = 0;
    for (let at = low.indexOf(this.query.q); at >= 0; at = low.indexOf(this.query.q, from)) {
      line.append(text.slice(from, at), el("mark", {}, text.slice(at, at + this.query.q.length)));
      from = at + this.query.q.length;
    }
    line.append(text.slice(from), hit.is_cut ? " …" : "");
    return el("li", {}, ...parts, line);
  }
}
