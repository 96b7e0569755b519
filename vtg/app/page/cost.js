// What a question would cost, told before it is asked: tokens, frames, and the times that the model reads.
import { fetched } from "./server.js";
import { element, frameCell } from "./timeline.js";

const WAIT_MS = 350;
const number = new Intl.NumberFormat("en");

export class Cost {
  constructor({ fields, said, seen, frames, onLook, show }) {
    Object.assign(this, { fields, said, seen, frames, onLook, show });
    this.lanes = [];
    this.clip = null;
    this.query = "";
    this.turn = 0;
    for (const field of fields) field.addEventListener("input", () => this.#later());
  }

  /** Numbers of the fields that are filled in. */
  sampling() {
    return Object.fromEntries(this.fields.filter((one) => one.value !== "" && one.checkValidity()).map((one) => [one.id, Number(one.value)]));
  }

  setLanes(lanes) {
    const before = this.lanes.filter((lane) => lane.reads).length;
    this.lanes = lanes;
    for (const field of this.fields) {
      const trained = [...new Set(lanes.map((lane) => lane.sampling[field.id]))];
      field.placeholder = trained.map((one) => number.format(one)).join(" | ");
    }
    // Other policies take max_frames, whatever the rate.
    this.fields[0].disabled = lanes.length > 0 && lanes.every((lane) => !["fps", "molmo2"].includes(lane.policy));
    if (lanes.filter((lane) => lane.reads).length !== before) this.#look();
  }

  choose(clip, query) {
    this.clip = clip;
    this.query = query;
    this.seen.hidden = true;
    this.#say("");
    this.#look();
  }

  ask(query) {
    this.query = query;
    this.#later();
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#look(), WAIT_MS);
  }

  async #look() {
    const wrong = this.fields.find((one) => !one.checkValidity());
    if (wrong) return this.#say(`${wrong.labels[0].textContent.trim()}: ${wrong.validationMessage}`, true);
    if (!this.clip || !this.lanes.length) return;
    if (!this.lanes.some((lane) => lane.reads)) return this.#say("the cost is told when the model's processor is loaded");
    const turn = ++this.turn;
    const { video, start_s, end_s, duration_s } = this.clip;
    try {
      const json = { video, start_s, end_s, duration_s, query: this.query, ...this.sampling() };
      const { lanes } = await fetched("/look", { json });
      if (turn !== this.turn) return;
      this.#tell(lanes);
      this.onLook(lanes);
    } catch (error) {
      if (turn === this.turn) this.#say(error.message, true);
    }
  }

  #tell(look) {
    const told = new Map();
    look.forEach((one, at) => {
      const text = costLine(one);
      told.set(text, [...(told.get(text) ?? []), this.lanes[at].name]);
    });
    const several = told.size > 1;
    this.said.replaceChildren(
      ...[...told].map(([text, names]) => element("span", { className: "line", textContent: several ? `${names.join(", ")}: ${text}` : text })),
    );
    this.said.classList.toggle("bad", look.some((one) => one.error || one.tokens > one.max_length));
    this.#showFrames(look);
  }

  /** The frames, once for all models that see and read alike. */
  #showFrames(look) {
    const distinct = new Map();
    look.forEach((one, at) => {
      if (!one.strip) return;
      const key = JSON.stringify([one.strip.times_s, one.read_s, one.width, one.height]);
      distinct.set(key, { one, names: [...(distinct.get(key)?.names ?? []), this.lanes[at].name] });
    });
    this.seen.hidden = !distinct.size;
    const grids = [...distinct.values()].flatMap(({ one, names }) => [
      distinct.size > 1 ? element("h3", { textContent: names.join(", ") }) : null,
      ...frameGrid(one, this.show),
    ]);
    this.frames.replaceChildren(...grids.filter(Boolean));
  }

  #say(text, bad = false) {
    this.said.textContent = text;
    this.said.classList.toggle("bad", bad);
  }
}

function costLine(one) {
  if (one.error) return one.error;
  if (one.loading) return "loading";
  const frames = `${number.format(one.frames)} frames of ${one.width} × ${one.height}`;
  const room = one.tokens > one.max_length ? `, more than the ${number.format(one.max_length)} that the model is given` : ` of ${number.format(one.max_length)}`;
  return `${frames}: ${number.format(one.vision_tokens)} vision tokens, a question about ${number.format(one.tokens)}${room}`;
}

/** Every shown frame, with its true time and the time that the model reads for the patch it is in. */
function frameGrid(look, show) {
  const perPatch = Math.max(1, Math.round(look.frames / look.read_s.length));
  const all = look.strip.count === look.frames;
  const grid = element("div", { className: "frames", role: "group", "aria-label": "frames", tabIndex: 0 }); // it scrolls
  look.strip.times_s.forEach((time_s, at) => {
    const cell = frameCell(look.strip, at);
    cell.addEventListener("click", () => show(time_s));
    const read_s = all ? look.read_s[Math.floor(at / perPatch)] : undefined;
    const read = read_s === undefined ? "" : ` · read ${read_s.toFixed(1)}`;
    grid.append(element("figure", {}, cell, element("figcaption", { textContent: `${time_s.toFixed(2)} s${read}` })));
  });
  const shown = all ? "all frames" : `${look.strip.count} of ${look.frames} frames, evenly`;
  const error = look.max_error_s === null ? "the model reads another number of times than there are" : `read times are off by at most ${look.max_error_s.toFixed(2)} s`;
  const each = perPatch > 1 ? `; it reads one time for ${perPatch} frames` : "";
  return [element("p", { className: "said", textContent: `${shown}; ${error}${each}` }), grid];
}
