// Moments on a track, their ends dragged with a pointer or moved by arrow keys, from one frame time to another.

import { element } from "/page/timeline.js";

// Less than this far a pointer has not been dragged but pressed.
const PRESS_PX = 4;
const LONG_STEP = 10;

/** The place of the last of ascending `points` that is not after `time_s` (0 where all are). */
export function placeAt(points, time_s) {
  let [low, high] = [0, points.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    // A player rounds times to microseconds.
    if (points[middle] <= time_s + 2e-6) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The place of the nearest of ascending `points`. */
export function nearestPlace(points, time_s) {
  const before = placeAt(points, time_s);
  const after = Math.min(before + 1, points.length - 1);
  return Math.abs(points[after] - time_s) < Math.abs(points[before] - time_s) ? after : before;
}

/**
 * The moments of one row, on a track as wide as `timeline`'s.
 *
 * `points`: where an end may be moved to, ascending: the clip's frame times, and its end. `onChange(spans)` is called
 * when an end was moved or a moment made, `onShow(time_s)` while one is.
 */
export class SpanEditor {
  constructor(timeline, { points, onChange, onShow, onSelect }) {
    Object.assign(this, { timeline, points, onChange, onShow, onSelect });
    this.spans = [];
    this.selected = -1;
    this.pending_s = null;
    this.track = element("div", { className: "track edit", role: "group", "aria-label": "moments" });
    this.row = element("div", { className: "lane" }, element("span", { className: "name", textContent: "moments" }), this.track);
    timeline.lanes.before(this.row);
    this.track.addEventListener("pointerdown", (event) => this.#draw(event));
  }

  set(spans, selected = this.selected) {
    this.spans = spans.map((span) => [...span]);
    this.selected = Math.min(Math.max(selected, 0), spans.length - 1);
    this.#render();
  }

  select(at) {
    this.selected = at;
    this.onSelect(at);
    this.#render();
  }

  /** Shows where a moment was begun whose end is still to come; null hides it. */
  setPending(time_s) {
    this.pending_s = time_s;
    this.#render();
  }

  /** Moves one end (0: start, 1: end) of a moment to the point nearest to a time, as far as the other end lets it. */
  move(at, end, time_s) {
    const other = this.spans[at][1 - end];
    let place = nearestPlace(this.points, time_s);
    if (end === 0) while (place > 0 && this.points[place] >= other) place--;
    else while (place < this.points.length - 1 && this.points[place] <= other) place++;
    const to = this.points[place];
    if (end === 0 ? to < other : to > other) this.spans[at][end] = to;
  }

  #step(at, end, by) {
    const here = this.spans[at][end];
    const before = placeAt(this.points, here);
    // From between two points a step leads to the nearer one of its direction.
    const off = Math.abs(this.points[before] - here) > 2e-6;
    const place = before + by + (off && by < 0 ? 1 : 0);
    this.move(at, end, this.points[Math.min(Math.max(place, 0), this.points.length - 1)]);
  }

  #render() {
    const focused = document.activeElement?.dataset?.end;
    const made = [];
    this.spans.forEach(([start_s, end_s], at) => {
      const bar = element("span", { className: at === this.selected ? "moment selected" : "moment" });
      bar.style.left = this.timeline.percent(start_s);
      bar.style.width = `calc(${this.timeline.percent(end_s)} - ${this.timeline.percent(start_s)})`;
      made.push(bar, this.#end(at, 0), this.#end(at, 1));
    });
    if (this.pending_s !== null) {
      made.push(element("span", { className: "end pending", style: { left: this.timeline.percent(this.pending_s) } }));
    }
    this.track.replaceChildren(...made);
    // The ends are made anew: whoever was moving one goes on with it.
    if (focused) this.track.querySelector(`[data-end="${focused}"]`)?.focus({ preventScroll: true });
  }

  #end(at, end) {
    const time_s = this.spans[at][end];
    const handle = element("span", {
      className: end ? "end stop" : "end start",
      role: "slider",
      tabIndex: 0,
      "data-end": `${at}.${end}`,
      "aria-label": `${end ? "end" : "start"} of moment ${at + 1}`,
      "aria-valuemin": "0",
      "aria-valuemax": String(this.timeline.duration_s),
      "aria-valuenow": String(time_s),
      "aria-valuetext": `${time_s.toFixed(3)} seconds`,
      title: `${time_s.toFixed(3)} s`,
      style: { left: this.timeline.percent(time_s) },
    });
    handle.addEventListener("pointerdown", (event) => this.#drag(event, at, end));
    handle.addEventListener("focus", () => {
      if (this.selected !== at) this.select(at);
    });
    handle.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
      if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.#step(at, end, by * (event.shiftKey ? LONG_STEP : 1));
      this.onShow(this.spans[at][end]);
      this.#render();
      this.onChange(this.spans);
    });
    return handle;
  }

  #seconds(px) {
    return (px / this.track.getBoundingClientRect().width) * this.timeline.duration_s;
  }

  #drag(event, at, end) {
    event.preventDefault();
    event.stopPropagation();
    const [from_s, from_x] = [this.spans[at][end], event.clientX];
    this.selected = at;
    this.#follow(event, {
      moved: (x) => {
        this.spans[at][end] = from_s;
        this.move(at, end, from_s + this.#seconds(x - from_x));
        this.onShow(this.spans[at][end]);
      },
      left: () => (this.spans[at][end] = from_s),
      done: () => {
        if (this.spans[at][end] !== from_s) this.onChange(this.spans);
        this.onSelect(at);
        this.track.querySelector(`[data-end="${at}.${end}"]`)?.focus({ preventScroll: true });
      },
    });
  }

  /** A drag over the empty track makes a moment; a press shows the time under it. */
  #draw(event) {
    if (event.button !== 0) return;
    const [from_x, from_s] = [event.clientX, this.timeline.timeAt(event.clientX)];
    let made = -1;
    this.#follow(event, {
      moved: (x) => {
        if (made < 0 && Math.abs(x - from_x) < PRESS_PX) return;
        const to_s = this.timeline.timeAt(x);
        const [low, high] = [Math.min(from_s, to_s), Math.max(from_s, to_s)].map((one) => nearestPlace(this.points, one));
        if (low === high) return;
        if (made < 0) made = this.selected = this.spans.push([0, 0]) - 1;
        this.spans[made] = [this.points[low], this.points[high]];
        this.onShow(x < from_x ? this.points[low] : this.points[high]);
      },
      left: () => {
        if (made >= 0) this.spans.splice(made, 1);
      },
      done: () => {
        if (made >= 0) this.onChange(this.spans);
        else this.onShow(from_s);
      },
    });
  }

  /** Calls back while the pointer is down; Escape, or a lost pointer, leaves all as it was. */
  #follow(event, { moved, left, done }) {
    const end = new AbortController();
    const { signal } = end;
    this.track.setPointerCapture(event.pointerId);
    this.track.addEventListener("pointermove", (one) => { moved(one.clientX); this.#render(); }, { signal });
    this.track.addEventListener("pointerup", (one) => { end.abort(); moved(one.clientX); this.#render(); done(); }, { signal });
    const leave = () => { end.abort(); left(); this.#render(); };
    this.track.addEventListener("pointercancel", leave, { signal });
    window.addEventListener("keydown", (one) => { if (one.key === "Escape") leave(); }, { signal });
  }
}
