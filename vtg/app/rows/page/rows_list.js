// The list of rows beside the one that is worked on: filtered and paged by the server.

import { element } from "/page/timeline.js";
import { byId } from "./clip_view.js";
import { get } from "./rows_server.js";

const PAGE = 50;
const TYPING_MS = 300;
const FIELDS = { words: "text", finding: "finding", source: "source", "min-iou": "min_iou", "max-iou": "max_iou" };

const moments = (spans) => spans.map(([start_s, end_s]) => `${start_s.toFixed(1)}–${end_s.toFixed(1)}`).join(", ");

function note(row) {
  const said = [];
  if (row.is_open) said.push("not annotated");
  else if (!row.has_moments) said.push("no timestamp");
  else said.push(row.spans.length ? `${moments(row.spans)} s` : "no moment");
  if (row.iou !== null) said.push(`IoU ${row.iou.toFixed(2)}`);
  if (row.severity) said.push(row.severity);
  if (row.is_edited) said.push("edited");
  return said.join(" · ");
}

/** `onChoose(key)`: a row was chosen; `onFault(text)`: the list could not be read. */
export class RowsList {
  constructor({ onChoose, onFault }) {
    this.onChoose = onChoose;
    this.onFault = onFault;
    this.offset = this.total = 0;
    this.key = null;
    this.asked = this.shown = 0; // counts of pages: an answer that comes late is of no use
    let timer = 0;
    for (const id of Object.keys(FIELDS)) {
      byId(id).addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(() => this.show({ offset: 0, chooses: true }), TYPING_MS);
      });
    }
    byId("filter").addEventListener("submit", (event) => event.preventDefault());
    byId("earlier").addEventListener("click", () => this.show({ offset: Math.max(0, this.offset - PAGE) }));
    byId("later").addEventListener("click", () => this.show({ offset: this.offset + PAGE }));
  }

  /** What the fields ask for. */
  get filter() {
    return Object.fromEntries(Object.entries(FIELDS).map(([id, name]) => [name, byId(id).value.trim()]));
  }

  /** Reads a page of the list: from `offset`, or the one that holds the row `around`; `chooses`: and takes its first. */
  async show({ offset = this.offset, around, chooses = false }) {
    const number = ++this.asked;
    try {
      const page = await get("list", { ...this.filter, offset, around, limit: PAGE });
      if (number !== this.asked) return;
      this.shown = number;
      this.offset = page.offset;
      this.total = page.total;
      byId("list").replaceChildren(...page.rows.map((row) => this.#item(row)));
      const last = page.offset + page.rows.length;
      byId("range").textContent = page.total ? `${page.offset + 1}–${last} of ${page.total.toLocaleString("en")}` : "no row fits";
      byId("earlier").disabled = page.offset === 0;
      byId("later").disabled = last >= page.total;
      this.mark(this.key);
      if (chooses && page.rows.length && !page.rows.some((row) => row.key === this.key)) this.onChoose(page.rows[0].key);
    } catch (error) {
      this.onFault(error.message);
    }
  }

  /** Shows which row is worked on; reads the page that holds it if it is not the one shown. */
  async follow(row) {
    this.key = row.key;
    const item = byId("list").querySelector(`[data-key="${row.key}"]`);
    if (item) item.replaceWith(this.#item(row));
    // A page that is on its way may have been read before the row became this.
    if (!item || this.shown !== this.asked) await this.show({ around: row.key });
    this.mark(row.key);
  }

  mark(key) {
    for (const item of byId("list").children) {
      const button = item.firstChild;
      if (item.dataset.key === String(key)) {
        button.setAttribute("aria-current", "true");
        item.scrollIntoView({ block: "nearest" });
      } else button.removeAttribute("aria-current");
    }
  }

  #item(row) {
    const text = row.sentence || row.video || "a row that cannot be read";
    const button = element("button", { type: "button" }, `${row.number.toLocaleString("en")}. ${text}`, element("small", { textContent: note(row) }));
    button.addEventListener("click", () => this.onChoose(row.key));
    return element("li", { "data-key": String(row.key) }, button);
  }

  /** The choices of findings and sources, with their numbers. */
  setChoices({ kinds, sources, open_rows }) {
    const found = Object.entries(kinds).map(([kind, [count, severity]]) => [kind, `${kind} (${severity}, ${count})`]);
    const open = open_rows ? [["open", `not annotated yet (${open_rows})`]] : [];
    choices(byId("finding"), [["", "all rows"], ["any", "any finding"], ["none", "without finding"], ["edited", "edited here"], ...open, ...found]);
    choices(byId("source"), [["", "all sources"], ...Object.entries(sources).map(([name, count]) => [name, `${name} (${count})`])]);
  }
}

function choices(select, options) {
  const { value } = select;
  // A finding that is gone stays chosen: the list says that no row has it.
  const kept = options.some(([one]) => one === value) ? options : [...options, [value, `${value} (0)`]];
  select.replaceChildren(...kept.map(([one, text]) => element("option", { value: one, textContent: text, selected: one === value })));
}
