// A clip's time axis: spans as bars in lanes, the frames that were seen under them, and a player that loops a span.

// A span is played from a second before it, so that one sees it begin.
export const LEAD_S = 1;
const TICKS = 6;

/** An element with properties, attributes (`data-…`, `aria-…`, `role`) and children; text is set as text, never as HTML. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.includes("-") || name === "role" || name === "for") made.setAttribute(name, value);
    else if (name === "style") Object.assign(made.style, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export const seconds = (time_s) => `${time_s.toFixed(2)} s`;

/** Round seconds of an axis of `duration_s`: 1, 2 or 5 times a power of ten apart. */
export function ticks(duration_s, most = TICKS) {
  const least = duration_s / most;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= least);
  const found = [];
  for (let at = 0; at * step < 0.88 * duration_s; at++) found.push(Number((at * step).toPrecision(12)));
  return found;
}

/**
 * The timeline of one clip inside `host`.
 *
 * Lanes are `{name, spans: [[start_s, end_s], …], kind, note, text}`: `kind` is `truth` or the number of a colour (0 to
 * 7), `note` stands where bars would, `text` is what the model wrote. A bar is a button; pressing it calls
 * `onSpan(start_s, end_s, bar)`, a press on the axis or on a frame `onTime(time_s)`.
 */
export class Timeline {
  constructor(host, { duration_s, onSpan = () => {}, onTime = () => {} }) {
    this.duration_s = duration_s;
    this.onSpan = onSpan;
    this.onTime = onTime;
    this.scale = element("div", { className: "scale" });
    for (const tick of ticks(duration_s)) {
      this.scale.append(element("span", { textContent: String(tick), style: { left: this.percent(tick) } }));
    }
    this.scale.append(element("span", { className: "end", textContent: `${duration_s.toFixed(1)} s` }));
    this.scale.addEventListener("click", (event) => this.onTime(this.timeAt(event.clientX)));
    this.lanes = element("div", { className: "lanes" });
    this.film = element("div", { className: "film" });
    this.filmRow = element("div", { className: "lane", hidden: true }, element("span", { className: "name", textContent: "frames" }), this.film);
    this.head = element("i", { className: "head", hidden: true });
    this.root = element(
      "div",
      { className: "timeline" },
      element("div", { className: "lane" }, element("span", { className: "name" }), this.scale),
      this.lanes,
      this.filmRow,
    );
    this.scale.append(this.head);
    host.append(this.root);
  }

  percent(time_s) {
    return `${(100 * Math.min(Math.max(time_s, 0), this.duration_s)) / this.duration_s}%`;
  }

  /** Seconds of the clip under a pointer. */
  timeAt(clientX) {
    const box = this.scale.getBoundingClientRect();
    return Math.min(Math.max((clientX - box.left) / box.width, 0), 1) * this.duration_s;
  }

  setLanes(lanes) {
    this.lanes.replaceChildren(...lanes.map((lane) => this.#lane(lane)));
  }

  /** Moves a bar (of `onSpan`, or of `.bar` in `lanes`) to another span. */
  place(bar, start_s, end_s) {
    bar.style.left = this.percent(start_s);
    bar.style.width = `calc(${this.percent(end_s)} - ${this.percent(start_s)})`;
    bar.dataset.start = start_s;
    bar.dataset.end = end_s;
    bar.setAttribute("aria-label", `${bar.dataset.lane}: ${start_s.toFixed(2)} to ${end_s.toFixed(2)} s; play`);
    bar.title = `${start_s.toFixed(2)} to ${end_s.toFixed(2)} s`;
  }

  #lane({ name, spans, kind, note, text }) {
    const track = element("div", { className: `track ${kind === "truth" ? "truth" : `color${kind}`}` });
    for (const [start_s, end_s] of spans) {
      const bar = element("button", { type: "button", className: "bar", "data-lane": name });
      this.place(bar, start_s, end_s);
      bar.addEventListener("click", () => this.onSpan(Number(bar.dataset.start), Number(bar.dataset.end), bar));
      track.append(bar);
    }
    if (note) track.append(element("b", { textContent: note }));
    const row = element("div", { className: "lane" }, element("span", { className: "name", textContent: name, title: name }), track);
    return text === undefined ? row : element("div", {}, row, element("p", { className: "raw", textContent: text }));
  }

  /**
   * Frames under the axis: `{picture, columns, count, times_s, width, height}`: `picture` is the address of one image
   * of `count` frames of equal size, `columns` in a row, taken at `times_s`.
   */
  setStrip(strip) {
    this.strip = strip;
    this.filmRow.hidden = false;
    this.film.replaceChildren();
    const aspect = strip.width / strip.height;
    const cells = Math.max(4, Math.min(20, Math.round(12 / aspect)));
    for (let at = 0; at < cells; at++) {
      const middle_s = ((at + 0.5) * this.duration_s) / cells;
      const cell = frameCell(strip, nearest(strip.times_s, middle_s));
      cell.addEventListener("click", () => this.onTime(Number(cell.dataset.time)));
      this.film.append(cell);
    }
  }

  /** Shows where the player is; null hides the mark. */
  setTime(time_s) {
    this.head.hidden = time_s === null;
    if (time_s !== null) this.head.style.left = this.percent(time_s);
  }
}

/** Frame number `at` of a strip, as an element that fills its place. */
export function frameCell(strip, at) {
  const rows = Math.ceil(strip.count / strip.columns);
  const [column, row] = [at % strip.columns, Math.floor(at / strip.columns)];
  const place = (number, many) => (many > 1 ? `${(100 * number) / (many - 1)}%` : "0%");
  const cell = element("span", { className: "frame", title: `seen at ${seconds(strip.times_s[at])}`, "data-time": strip.times_s[at] });
  cell.style.aspectRatio = `${strip.width} / ${strip.height}`;
  cell.style.backgroundImage = `url("${strip.picture}")`;
  cell.style.backgroundSize = `${100 * strip.columns}% ${100 * rows}%`;
  cell.style.backgroundPosition = `${place(column, strip.columns)} ${place(row, rows)}`;
  return cell;
}

/** The place in ascending `times_s` that is nearest to `time_s`. */
export function nearest(times_s, time_s) {
  let best = 0;
  times_s.forEach((one, at) => {
    if (Math.abs(one - time_s) < Math.abs(times_s[best] - time_s)) best = at;
  });
  return best;
}

/**
 * Plays spans of a clip in a `<video>` element.
 *
 * `offset_s`: where the clip begins in the file. `onTime(time_s)` is called while it plays, in seconds of the clip.
 */
export class Player {
  constructor(video, { offset_s = 0, onTime = () => {}, onFault = () => {} } = {}) {
    this.video = video;
    this.offset_s = offset_s;
    this.span = null;
    video.addEventListener("timeupdate", () => {
      if (this.span && !video.paused && video.currentTime > this.offset_s + this.span[1]) this.seek(this.span[0] - LEAD_S);
      onTime(video.currentTime - this.offset_s);
    });
    // A span at the very end of the file: the element stops before it can be turned back.
    video.addEventListener("ended", () => {
      if (this.span) this.loop(...this.span);
    });
    video.addEventListener("error", () => onFault(video.error?.message || "this browser cannot play it"));
  }

  /** Shows a time of the clip, and forgets the span. */
  show(time_s) {
    this.span = null;
    this.seek(time_s);
  }

  seek(time_s) {
    this.video.currentTime = Math.max(0, this.offset_s + Math.max(0, time_s));
  }

  /** Plays a span again and again, each time from a second before it. */
  loop(start_s, end_s) {
    this.span = [start_s, end_s];
    this.seek(start_s - LEAD_S);
    // A browser may want a click first; a file that it cannot play is told by the error event.
    return this.video.play().catch(() => {});
  }

  stop() {
    this.span = null;
    this.video.pause();
  }
}
