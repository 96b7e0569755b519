// Rows looked at, corrected and written. A row at a time is worked on; the server keeps every edit as it is made.

import { showPages } from "/page/pages.js";
import { byId, ClipView, element } from "./clip_view.js";
import { RowsList } from "./rows_list.js";
import { Edits, get } from "./rows_server.js";

const TYPED_MS = 800;
// Looking at all rows anew takes a second where they are many: not while somebody edits.
const CHOICES_MS = 3000;

let row = null;
let shown = 0; // counts the rows that were asked for: an answer that comes late is of no use
let moving = 0; // rows that were asked for and are not there yet
let moved = Promise.resolve();
let typedTimer = 0;
let choicesTimer = 0;

const tell = (text) => (byId("status").textContent = text);
const alarm = (text) => (byId("alert").textContent = text);

const edits = new Edits({
  onWaiting: () => alarm("The server does not answer. What you do is kept here and sent when it is back; leave this page open."),
  onCount: tellBusy,
});
const clipView = new ClipView({ onMoments: (spans) => edit("set", { values: { timestamp: spans.length === 1 ? spans[0] : spans } }), tell });
const list = new RowsList({ onChoose: (key) => choose(key), onFault: alarm });

/** What is seen is not all that was done: an edit or the next row is on its way. */
function tellBusy() {
  document.body.toggleAttribute("data-busy", edits.waiting + moving > 0);
}

// --- the row that is worked on --------------------------------------------------------------------------------------

/** Goes to the row that `find` finds, once all edits are kept; null: there is none. One after the other. */
function move(find) {
  commitQuery();
  moving++;
  tellBusy();
  moved = moved.then(async () => {
    await edits.last;
    try {
      const next = await find();
      if (next && next.key === null && next.state.total_rows) throw new Error("This row is not there any more.");
      if (next) render(next);
    } catch (error) {
      alarm(error.message);
    } finally {
      moving--;
      tellBusy();
    }
  });
  return moved;
}

const choose = (key) => move(() => get(`row/${key}`));

const step = (by) =>
  move(async () => {
    const next = row && (await get(`row/${row.key}/step`, { ...list.filter, by }));
    if (next?.key !== null) return next;
    tell(by > 0 ? "This is the last row." : "This is the first row.");
    return null;
  });

/** Shows a row, or how it is after an edit; its clip follows. */
async function render(next) {
  const state = next.state;
  edits.saw(state.revision);
  renderState(state);
  const before = row;
  if (next.key === null) {
    row = null;
    byId("query").disabled = true;
    clipView.clear();
    byId("row-title").textContent = "No row is left: undo brings the last one back.";
    list.show({});
    return;
  }
  row = next;
  if (location.hash !== `#${row.key}`) history.replaceState(null, "", `#${row.key}`);
  byId("row-title").replaceChildren(`${row.video || "(no video)"} `, element("small", { textContent: row.place }));
  byId("number").value = row.number;
  byId("of").textContent = `of ${state.total_rows.toLocaleString("en")}`;
  const isNew = before?.key !== row.key;
  if (isNew) clipView.suspend();
  // Somebody may have typed on since the edit that is answered here.
  if (isNew || byId("query") !== document.activeElement) byId("query").value = row.sentence;
  byId("query").disabled = byId("take-duration").disabled = !row.is_object;
  byId("text").value = row.text;
  renderProblems();
  renderProposals();
  list.follow(row);
  clipView.setRow(row);
  const isSameClip = !isNew && ["video", "duration", "video_start", "video_end"].every((name) => before.values[name] === row.values[name]);
  if (!isSameClip || !clipView.editor) await showClip(row, isNew);
}

async function showClip(of, isNew) {
  const number = ++shown;
  if (isNew) tell("");
  if (isNew) alarm("");
  try {
    const clip = await get(`row/${of.key}/clip`);
    if (number !== shown) return;
    clipView.show(clip, row);
    byId("take-duration").hidden = row.values.duration === clip.duration_s || !clip.fault && row.values.duration !== undefined;
    if (clip.fault) alarm(`Shown whole: ${clip.fault}`);
  } catch (error) {
    if (number !== shown) return;
    clipView.clear();
    alarm(error.message);
  }
}

function renderState(state) {
  byId("undo").disabled = !state.can_undo;
  byId("redo").disabled = !state.can_redo;
  const open = state.open_rows ? `; ${state.open_rows.toLocaleString("en")} not annotated yet` : "";
  const unsaved = state.revision ? "edits kept, not yet saved in" : "to be saved in";
  const saved = `${state.is_saved ? "saved in" : unsaved} ${state.out}`;
  byId("file").textContent = `${state.name}: ${state.total_rows.toLocaleString("en")} rows${open} · ${saved}`;
  document.title = `${state.is_saved || !state.revision ? "" : "• "}${row ? `row ${row.number}` : "rows"} · vtg`;
}

function renderProblems() {
  byId("problems").replaceChildren(
    ...row.problems.map((one) => element("li", { className: one.severity }, element("b", { textContent: `${one.kind}: ` }), `${one.field} ${one.message}`)),
  );
}

function renderProposals() {
  const shownProposals = row.proposals.slice(0, 9).map((one, at) => {
    const times = one.spans.map(([start_s, end_s]) => `${start_s.toFixed(2)}–${end_s.toFixed(2)} s`).join(", ") || "no moment";
    const text = one.sentence && one.sentence !== row.sentence ? `: ${one.sentence}` : "";
    const button = element("button", { type: "button", title: at ? `accept (${at + 1})` : "accept (A or 1)" }, `Accept ${at + 1}: ${times}${text}`);
    button.addEventListener("click", () => accept(at));
    return button;
  });
  byId("proposals").replaceChildren(...shownProposals);
}

// --- edits ----------------------------------------------------------------------------------------------------------

// Edits that lead to no other row.
const OF_ONE_ROW = { set: true, text: true };

async function edit(action, more = {}, key = row?.key ?? -1) {
  const done = edits.send("edit", { action, key, ...more });
  try {
    const next = await done;
    alarm("");
    // Of several edits on their way the last one's answer is shown, and none of a row that was left since.
    if (edits.waiting || (action in OF_ONE_ROW && row?.key !== next.key)) renderState(next.state);
    else await render(next);
    if (!(action in OF_ONE_ROW)) list.show({ around: row?.key }); // rows came, went, or have other numbers
    renewChoices();
    return next;
  } catch (error) {
    alarm(error.message);
    if (error.status === 409) await renew(key);
    return null;
  }
}

/** Reads everything anew: somebody else has edited. */
async function renew(key) {
  const message = byId("alert").textContent;
  try {
    const state = await readChoices();
    edits.revision = state.revision;
    row = null;
    const next = await get(`row/${key}`);
    await render(next.key === null && state.total_rows ? await get("numbered/1") : next);
    await list.show({});
    alarm(message);
  } catch (error) {
    alarm(error.message);
  }
}

function commitQuery() {
  clearTimeout(typedTimer);
  const text = byId("query").value;
  if (row?.is_object && text !== row.sentence) {
    const key = row.key;
    row.sentence = text; // sent once
    edit("set", { values: { sentence: text } }, key);
  }
}

async function accept(at) {
  const proposal = row?.proposals[at];
  if (!proposal) return tell("There is no such proposal.");
  const spans = clipView.clip ? clipView.snapped(proposal.spans) : proposal.spans;
  if (spans.length < proposal.spans.length) return tell("This proposal is not inside the clip.");
  const values = { timestamp: spans.length === 1 ? spans[0] : spans };
  if (!row.sentence.trim() && proposal.sentence) values.sentence = byId("query").value = proposal.sentence;
  await edit("set", { values });
}

async function save() {
  commitQuery();
  try {
    const done = await edits.send("save", { keeps_bad: byId("keeps-bad").checked });
    renderState(done);
    alarm("");
    const apart = done.apart ? `; ${done.apart} with errors in ${done.rejects}` : "";
    const open = done.open ? `; ${done.open} not annotated yet, in neither` : "";
    tell(`Saved: ${done.written} rows in ${done.out}${apart}${open}.`);
  } catch (error) {
    alarm(error.message);
    if (error.status === 409) await renew(row?.key ?? 0);
  }
}

async function keepText() {
  if (await edit("text", { text: byId("text").value })) tell("The row's text is kept.");
}

function renewChoices() {
  clearTimeout(choicesTimer);
  choicesTimer = setTimeout(() => readChoices().catch((error) => alarm(error.message)), CHOICES_MS);
}

async function readChoices() {
  const state = await get("state");
  list.setChoices(state);
  return state;
}

// --- keys -----------------------------------------------------------------------------------------------------------

const isText = (target) => target.matches("textarea, select, input:not([type=checkbox])");
const toQuery = () => { byId("query").focus(); byId("query").select(); };
const toPlayer = () => byId("stage").focus({ preventScroll: true });

// What is pressed, as the page's table of keys shows it.
const KEYS = {
  ArrowLeft: ["one frame back (Shift: ten); at a moment's end: moves that", (event) => clipView.step(event.shiftKey ? -10 : -1)],
  ArrowRight: ["one frame on (Shift: ten)", (event) => clipView.step(event.shiftKey ? 10 : 1)],
  Home: ["to the clip's start", () => clipView.seek(0)],
  End: ["to the clip's end", () => clipView.seek(Infinity)],
  " ": ["play or pause", () => clipView.togglePlay()],
  l: ["play the moment again and again, from a second before it", () => clipView.loop()],
  i: ["the moment starts here", () => clipView.markStart()],
  o: ["the moment ends here", () => clipView.markEnd()],
  m: ["another moment starts here", () => clipView.another()],
  ",": ["to the moment before", () => clipView.choose(-1)],
  ".": ["to the moment after", () => clipView.choose(1)],
  Delete: ["remove the moment; with Shift: delete the row", (event) => (event.shiftKey ? edit("delete") : clipView.remove())],
  0: ["no moment: it does not happen in the clip", () => edit("set", { values: { timestamp: [] } })],
  Enter: ["write the query; in it: done (with Ctrl: done, and the next row)", toQuery],
  Escape: ["leave the query or a field", toPlayer],
  a: ["accept the first proposal; 1 to 9: that one", () => accept(0)],
  n: ["next row", () => step(1)],
  p: ["previous row", () => step(-1)],
  r: ["another row of this video", () => edit("new")],
  g: ["go to a row by its number", () => byId("number").select()],
  "/": ["search", () => byId("words").focus()],
  u: ["undo (or Ctrl+Z)", () => edit("undo")],
  y: ["redo (or Ctrl+Y)", () => edit("redo")],
  s: ["save (or Ctrl+S, also while writing)", save],
  "?": ["these keys", () => (byId("help").open = !byId("help").open)],
};

const CAPS = { ArrowLeft: "←", ArrowRight: "→", " ": "Space", Delete: "Del", Escape: "Esc", Home: "Home", End: "End", Enter: "Enter" };

function onKey(event) {
  const { key, target } = event;
  const name = key.length === 1 ? key.toLowerCase() : key;
  if (event.altKey || event.isComposing) return;
  const action = event.ctrlKey || event.metaKey ? withControl(event, name) : alone(name, target);
  const isWritten = target === byId("query") || target === byId("text");
  if (action || (moving && isWritten && !event.ctrlKey && !event.metaKey)) event.preventDefault();
  // What is pressed meanwhile is meant for the row that is to come.
  if (action && (!moving || (!isText(target) && "np".includes(name)))) action(event);
}

function withControl({ shiftKey, target }, name) {
  if (name === "s") return save;
  if (name === "Enter" && target === byId("query")) return () => { toPlayer(); step(1); };
  if (isText(target)) return null;
  return { z: () => edit(shiftKey ? "redo" : "undo"), y: () => edit("redo") }[name];
}

function alone(name, target) {
  if (name === "Escape") return toPlayer;
  if (name === "Enter" && target === byId("query")) return () => { commitQuery(); toPlayer(); };
  if (isText(target)) return null;
  // A focused button, link or summary is pressed by these.
  if (target.matches("button, a, summary, input") && (name === " " || name === "Enter")) return null;
  if (/^[1-9]$/.test(name)) return () => accept(Number(name) - 1);
  return KEYS[name]?.[1];
}

// --- start ----------------------------------------------------------------------------------------------------------

const BUTTONS = {
  previous: () => step(-1),
  next: () => step(1),
  undo: () => edit("undo"),
  redo: () => edit("redo"),
  save,
  back: () => clipView.step(-1),
  forth: () => clipView.step(1),
  play: () => clipView.togglePlay(),
  loop: () => clipView.loop(),
  "mark-start": () => clipView.markStart(),
  "mark-end": () => clipView.markEnd(),
  another: () => clipView.another(),
  remove: () => clipView.remove(),
  "no-moment": () => edit("set", { values: { timestamp: [] } }),
  new: () => edit("new"),
  delete: () => edit("delete"),
  "keep-text": keepText,
  "take-duration": () => edit("set", { values: { duration: clipView.clip.duration_s } }),
};

async function start() {
  for (const [id, action] of Object.entries(BUTTONS)) byId(id).addEventListener("click", action);
  byId("keys").replaceChildren(
    ...Object.entries(KEYS).map(([key, [what]]) => element("tr", {}, element("td", {}, element("kbd", { textContent: CAPS[key] ?? key.toUpperCase() })), element("td", { textContent: what }))),
  );
  document.addEventListener("keydown", onKey);
  showPages(document.querySelector("nav"));
  byId("query").addEventListener("input", () => {
    clearTimeout(typedTimer);
    typedTimer = setTimeout(commitQuery, TYPED_MS);
  });
  byId("query").addEventListener("change", commitQuery);
  byId("jump").addEventListener("submit", (event) => {
    event.preventDefault();
    const number = Number(byId("number").value.replaceAll(",", "")) || 0;
    toPlayer();
    move(() => get(`numbered/${number}`));
  });
  window.addEventListener("beforeunload", (event) => {
    if (edits.waiting) event.preventDefault();
  });
  window.addEventListener("pagehide", commitQuery);
  toPlayer(); // at once: nothing that comes late takes the keys away from where somebody writes
  try {
    const state = await readChoices();
    renderState(state);
    let first = await get(`row/${Number(location.hash.slice(1)) || 0}`);
    if (first.key === null && state.total_rows) first = await get("numbered/1");
    await render(first);
    await list.show({ around: row?.key });
    if (state.faults.length) alarm(state.faults.join(" "));
  } catch (error) {
    alarm(error.message);
  }
}

start();
