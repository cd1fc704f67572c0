// The conversation of an agent step: one folded line a turn; what is in it is read when it is opened.
// Everything comes from models and tools: it is inserted as text and never as anything else.
import { badge, el, shape, tone } from "../adminkit/dom.js";

const WORDS = {
  wanted: "not made yet", asked: "waits for a person", approved: "approved", begun: "under way", done: "done",
  failed: "failed", refused: "not made",
};
// Control characters, and those that turn the direction of what follows, would be obeyed instead of shown.
const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const CODE = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;

export const visible = (text) => text.replaceAll("\r\n", "\n").replace(UNSEEN, CODE);

function short(count) {
  for (const [size, name] of [[1e6, "M"], [1e3, "k"]]) if (count >= size) return `${(count / size).toFixed(1)}${name}`;
  return String(count);
}

const dollars = (cost) => (cost === null ? null : `$${cost >= 0.1 || cost === 0 ? cost.toFixed(2) : cost.toFixed(4)}`);
const span = (seconds) => window.stroemTimes.spanOf(seconds);
const since = (moment) => el("span", { "data-since": moment }, span((Date.now() - Date.parse(moment)) / 1000));
const dotted = (...parts) => parts.filter(Boolean).join(" · ");
const tokens = (of) => `${short(of.tokens_in)} in, ${short(of.tokens_out)} out`;
const isSettled = (turn) => turn.answered_at && !turn.calls_open;
const toolOf = (call) => visible(call.tool).replace(/^strom_task_(?=.)/, "") || "(no name)";
const lineOf = (text) => visible(text).trim().split("\n", 1)[0];

function block(text, isProse = false) {
  const more = text.more ? `\n… ${text.more.toLocaleString("en")} more letters` : "";
  return el("pre", { tabindex: 0, class: isProse ? "is-prose" : null }, visible(text.text) + more);
}

function part(name, text, isProse = false) {
  return text.text ? [el("h4", {}, name), block(text, isProse)] : [];
}

export class Transcript {
  constructor(box, { ask, jobUrl }) {
    Object.assign(this, { box, ask, jobUrl });
    this.forget();
  }

  forget() {
    this.url = null;
    this.id = null;
    this.run = "";
    this.turns = new Map(); // seq -> turn in brief
    this.items = new Map(); // seq -> its part of the page
  }

  show(url) {
    this.forget();
    this.url = url;
    this.mark = "";
    this.box.replaceChildren(el("p", { class: "st-help" }, "Loading…"));
    return this.load();
  }

  // Something has moved: read on, unless that is already here.
  told(mark) {
    if (mark !== this.mark) this.load();
  }

  async load() {
    if (this.isBusy) {
      this.isStale = true;
      return;
    }
    this.isBusy = true;
    const wanted = this.url;
    try {
      const open = [...this.turns.values()].find((turn) => !isSettled(turn));
      const answer = await this.read({ from: open ? open.seq : this.turns.size + 1 });
      if (this.url === wanted) this.take(answer);
    } catch (error) {
      if (this.url === wanted && this.id === null) this.box.replaceChildren(el("p", { class: "st-error" }, `Loading failed (${error.message}).`));
    }
    this.isBusy = false;
    if (this.isStale || this.url !== wanted) {
      this.isStale = false;
      await this.load();
    }
  }

  async read(query) {
    const answer = await fetch(`${this.url}?${new URLSearchParams({ ...query, run: this.run })}`);
    if (!answer.ok) throw new Error(`${answer.status}`);
    return (await answer.json()).transcript;
  }

  take(read) {
    if (read === null) {
      this.box.replaceChildren(el("p", { class: "st-help" }, "No conversation yet. In a loop, each instance has its own."));
      return;
    }
    if (read.id !== this.id) {
      const isNew = this.id !== null;
      this.id = read.id;
      this.turns.clear();
      this.items.clear();
      this.list = el("ol", { class: "st-talk", "aria-label": "Turns" });
      this.head = el("div", {});
      this.end = el("div", {});
      this.box.replaceChildren(this.head, this.opening(read), this.list, this.end);
      if (isNew) {
        this.isStale = true; // the step runs anew: read from the first turn on
        return;
      }
    }
    this.mark = this.run ? this.mark : read.mark;
    this.head.replaceChildren(...this.facts(read));
    for (const turn of read.turns) this.put(turn);
    this.end.replaceChildren(...this.waits(read));
    window.stroemTimes.refreshTimes(this.box);
  }

  facts(read) {
    const { spent } = read;
    const fact = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, ...value));
    const shown = [
      el("dl", { class: "st-facts" },
        fact("Model", visible(dotted(read.provider, read.model))),
        fact("Turns", String(spent.turns)),
        fact("Tool calls", String(spent.tool_calls)),
        fact("Tokens", tokens(spent)),
        fact("Cost", dollars(spent.cost) ?? "not known"),
        fact("Model's time", span(spent.latency_s)),
        spent.waited_s > 1 ? fact("Waited for people", span(spent.waited_s)) : null),
    ];
    if (read.runs > 1) shown.unshift(this.choice(read));
    return shown;
  }

  choice(read) {
    const select = el("select", { class: "st-input st-talk-run", "aria-label": "Run of the step" },
      ...Array.from({ length: read.runs }, (_, at) => el("option", { value: at + 1, selected: at + 1 === read.run }, `Run ${at + 1} of ${read.runs}`)));
    select.addEventListener("change", () => {
      this.run = Number(select.value) === read.runs ? "" : select.value;
      this.id = null;
      this.turns.clear();
      this.load();
    });
    return select;
  }

  // The prompts, which the first turn answers.
  opening(read) {
    const parts = ["system", "prompt"].filter((name) => read[name].text).map((name) => {
      const title = name === "system" ? "System prompt" : "Prompt";
      const body = el("div", { class: "st-talk-body" });
      const fold = el("details", { class: "st-talk-turn", "data-part": name },
        el("summary", {}, el("span", { class: "st-talk-number" }), el("span", { class: "st-talk-role" }, title),
          el("span", { class: "st-talk-said" }, lineOf(read[name].text))), body);
      fold.addEventListener("toggle", async () => {
        if (!fold.open || body.childElementCount) return;
        const whole = read[name].more ? await this.read({ turn: 1 }).catch(() => null) : read;
        body.replaceChildren(block((whole ?? read)[name], true));
      });
      return fold;
    });
    return el("div", { class: "st-talk" }, ...parts);
  }

  put(turn) {
    const before = this.turns.get(turn.seq);
    if (before && JSON.stringify(before) === JSON.stringify(turn)) return;
    this.turns.set(turn.seq, turn);
    const old = this.items.get(turn.seq);
    const item = el("li", { "data-seq": turn.seq, class: turn.answered_at ? null : "is-open" }, this.fold(turn, old?.firstElementChild));
    this.items.set(turn.seq, item);
    if (old) old.replaceWith(item);
    else this.list.append(item);
  }

  fold(turn, old) {
    const body = old?.open ? old.lastElementChild : el("div", { class: "st-talk-body" });
    const fold = el("details", { class: "st-talk-turn" }, this.summary(turn), body);
    const fill = async () => {
      const whole = await this.read({ turn: turn.seq }).catch(() => null);
      if (whole?.turns[0]) body.replaceChildren(...this.whole(whole.turns[0]));
    };
    if (old?.open) {
      fold.open = true;
      if (old.contains(document.activeElement) && document.activeElement.tagName === "SUMMARY") requestAnimationFrame(() => fold.firstElementChild.focus());
      fill();
    }
    fold.addEventListener("toggle", () => {
      if (fold.open && !body.childElementCount) {
        body.replaceChildren(el("p", { class: "st-help" }, "Loading…"));
        fill();
      }
    });
    return fold;
  }

  summary(turn) {
    const said = lineOf(turn.text.text) || lineOf(turn.output.text ? turn.output.text.replace(/\s+/g, " ") : "");
    const made = turn.answered_at
      ? [el("span", { class: "st-talk-said" }, said || (turn.calls_total ? "" : "says nothing"))]
      : [el("span", { class: "st-talk-said" }, "The model thinks, for ", since(turn.asked_at))];
    const chips = turn.calls.map((call) => el("span", { class: `st-badge st-${tone(call.status)}`, "data-status": call.status },
      shape(call.status), el("span", { class: "st-talk-tool" }, toolOf(call)), el("span", { class: "st-only-read" }, ` (${WORDS[call.status]})`)));
    if (turn.calls_total > chips.length) chips.push(el("span", { class: "st-help" }, `and ${turn.calls_total - chips.length} more`));
    const facts = turn.answered_at ? dotted(tokens(turn), dollars(turn.cost), span(turn.latency_s)) : "";
    return el("summary", {}, el("span", { class: "st-talk-number" }, String(turn.seq)), ...made,
      el("span", { class: "st-talk-calls" }, ...chips), el("span", { class: "st-talk-facts" }, facts));
  }

  whole(turn) {
    const notes = [
      turn.asked > 1 ? `Asked ${turn.asked} times: a process died before the answer was stored.` : "",
      turn.is_last ? "The last word: no tools may follow." : "",
      turn.finish && !["stop", "tool_call"].includes(turn.finish) ? `The provider ended the answer: ${turn.finish}.` : "",
      turn.tokens_cached ? `${short(turn.tokens_cached)} of the tokens came from the provider's cache.` : "",
    ].filter(Boolean);
    const left = turn.calls_total - turn.calls.length;
    const shown = [
      ...notes.map((note) => el("p", { class: "st-help" }, note)),
      ...part("Told to the model", turn.note, true),
      ...(turn.output.text ? part("Answers", turn.output) : part("Says", turn.text, true)),
      ...turn.calls.map((call) => this.call(call)),
      left ? el("p", { class: "st-help" }, `${left.toLocaleString("en")} more calls: the API has them all.`) : null,
    ];
    return shown.filter(Boolean).concat(shown.some(Boolean) ? [] : [el("p", { class: "st-help" }, turn.answered_at ? "An empty answer." : "No answer yet.")]);
  }

  call(call) {
    const took = call.begun_at && call.ended_at ? span((Date.parse(call.ended_at) - Date.parse(call.begun_at)) / 1000) : null;
    const facts = [
      call.begun_at && !call.ended_at ? since(call.begun_at) : took,
      call.approved_by ? `approved by ${visible(call.approved_by)}` : null,
      call.child_job_id ? el("a", { href: this.jobUrl(call.child_job_id) }, "its job") : null,
    ].filter(Boolean);
    return el("section", { class: "st-talk-call", "aria-label": `Call of ${visible(call.tool)}` },
      el("p", { class: "st-talk-head" }, el("code", {}, visible(call.tool) || "(no name)"), " ", badge(call.status, WORDS[call.status]),
        el("span", { class: "st-help" }, ...facts.flatMap((fact, at) => (at ? [" · ", fact] : [fact])))),
      ...part("Arguments", call.arguments), ...part("Result, as the model reads it", call.result));
  }

  waits(read) {
    if (read.asked_at) {
      const go = el("button", { type: "button", class: "st-button st-small st-primary", onclick: this.ask }, "Go to the request");
      return [el("p", { class: "st-box st-talk-waits" }, el("span", {}, "Waits for a person, for ", since(read.asked_at), "."), go)];
    }
    return read.is_parked ? [el("p", { class: "st-help" }, "Waits for the jobs that its tools have started. It holds no slot meanwhile.")] : [];
  }
}
