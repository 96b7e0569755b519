// The clip of a row: its player, which stands on frames, its timeline, and the moments that are edited on it.

import { element, Player, Timeline } from "/page/timeline.js";
import { placeAt, SpanEditor } from "./span_editor.js";

const byId = (id) => document.getElementById(id);

/** `onMoments(spans)`: moments were edited; `tell(text)`: something to say about it. */
export class ClipView {
  constructor({ onMoments, tell }) {
    this.onMoments = onMoments;
    this.tell = tell;
    this.video = byId("video");
    this.player = new Player(this.video, { onTime: () => this.#played(), onFault: (why) => this.tell(`The video does not play here: ${why}`) });
    this.video.addEventListener("play", () => (byId("play").textContent = "Pause"));
    this.video.addEventListener("pause", () => (byId("play").textContent = "Play"));
    this.clear();
  }

  clear() {
    this.player.stop();
    this.clip = this.timeline = this.editor = this.address = null;
    this.points = [0];
    this.place = 0;
    byId("timeline").replaceChildren();
    this.video.removeAttribute("src");
    this.video.load(); // without it the last frame stays
    this.#tellTime();
  }

  /** Another row is worked on, whose clip is not there yet: what is seen is not edited any more. */
  suspend() {
    this.player.stop();
    this.editor = null;
    byId("timeline").inert = true;
  }

  /** Shows a clip as the server describes it, from its beginning or, if it is the one shown, from where it is. */
  show(clip, { spans, proposals }) {
    const isSame = this.address === clip.video && this.clip?.offset_s === clip.offset_s;
    if (this.editor && isSame && this.clip.duration_s === clip.duration_s) {
      this.setRow({ spans, proposals });
      return;
    }
    this.player.stop();
    this.clip = clip;
    // The end of the clip is no frame, but where its last one ends.
    const inside = clip.times_s.filter((time_s) => time_s < clip.duration_s);
    this.points = [...inside, clip.duration_s];
    byId("timeline").replaceChildren();
    byId("timeline").inert = false;
    this.timeline = new Timeline(byId("timeline"), {
      duration_s: clip.duration_s,
      onTime: (time_s) => this.seek(time_s),
      onSpan: (start_s, end_s) => this.player.loop(start_s, end_s),
    });
    this.timeline.setStrip(clip.strip);
    this.editor = new SpanEditor(this.timeline, {
      points: this.points,
      onChange: () => this.#changed(),
      onShow: (time_s) => this.seek(time_s),
      onSelect: () => {},
    });
    this.setRow({ spans, proposals });
    this.player.offset_s = clip.offset_s;
    if (!isSame) {
      this.address = clip.video;
      this.video.src = clip.video;
      this.seek(0);
    } else {
      this.seek(this.points[Math.min(this.place, this.points.length - 1)]);
    }
  }

  /** Moments and proposals of the row, which may have been edited. */
  setRow({ spans, proposals }) {
    if (this.editor === null) return;
    this.editor.set(spans);
    this.timeline.setLanes(
      proposals.slice(0, 9).map(({ spans: proposed, place }, at) => ({
        name: proposals.length > 1 ? `proposal ${at + 1}` : place === "pred" ? "pred" : "proposal",
        spans: proposed,
        kind: 1 + (at % 7),
        note: proposed.length ? undefined : "no moment",
      })),
    );
  }

  get time_s() {
    return this.points[this.place];
  }

  seek(time_s) {
    this.player.span = null;
    this.video.pause();
    this.#stand(placeAt(this.points, time_s));
  }

  step(by) {
    this.player.span = null;
    this.video.pause();
    this.#stand(this.place + by);
  }

  /** Shows a frame: a time within it is asked for, since players round. */
  #stand(place) {
    this.place = Math.min(Math.max(place, 0), this.points.length - 1);
    const frame = Math.min(this.place, this.points.length - 2);
    if (frame >= 0) this.video.currentTime = this.player.offset_s + (this.points[frame] + this.points[frame + 1]) / 2;
    this.#tellTime();
  }

  #played() {
    if (!this.video.paused) {
      this.place = placeAt(this.points, this.video.currentTime - this.player.offset_s);
      this.#tellTime();
    }
  }

  #tellTime() {
    this.timeline?.setTime(this.time_s);
    const frames = this.points.length - 1;
    const which = this.place < frames ? `frame ${this.place + 1} of ${frames}` : "end of the clip";
    byId("time").textContent = this.clip ? `${this.time_s.toFixed(3)} s · ${which}` : "";
  }

  togglePlay() {
    this.player.span = null;
    if (this.video.paused) this.video.play().catch(() => {});
    else this.seek(this.video.currentTime - this.player.offset_s);
  }

  loop() {
    const span = this.editor?.spans[this.editor.selected];
    if (span) this.player.loop(...span);
    else this.tell("No moment to loop: mark one first.");
  }

  #changed(spans = this.editor.spans, selected = this.editor.selected) {
    const chosen = spans[selected];
    const sorted = [...spans].sort((one, other) => one[0] - other[0] || one[1] - other[1]);
    this.editor.set(sorted, sorted.indexOf(chosen));
    this.editor.setPending(null);
    this.onMoments(sorted);
  }

  markStart() {
    const { editor, time_s } = this;
    if (!editor) return this.#wait();
    const span = editor.pending_s === null ? editor.spans[editor.selected] : undefined;
    if (span && time_s < span[1]) {
      span[0] = time_s;
      this.#changed();
    } else {
      this.another();
    }
  }

  another() {
    if (!this.editor) return this.#wait();
    this.editor.setPending(this.time_s);
    this.tell(`A moment starts at ${this.time_s.toFixed(3)} s: go to its end, and mark that.`);
  }

  markEnd() {
    const { editor, time_s } = this;
    if (!editor) return this.#wait();
    const span = editor.spans[editor.selected];
    const start_s = editor.pending_s ?? span?.[0];
    if (start_s === undefined) {
      this.tell("Mark the start first.");
    } else if (time_s <= start_s) {
      this.tell(`The end must come after the start at ${start_s.toFixed(3)} s.`);
    } else if (editor.pending_s !== null) {
      this.#changed([...editor.spans, [start_s, time_s]], editor.spans.length);
    } else {
      span[1] = time_s;
      this.#changed();
    }
  }

  #wait() {
    this.tell("There is no clip yet to mark a moment in.");
  }

  remove() {
    if (!this.editor?.spans.length) return;
    this.#changed(this.editor.spans.filter((_, at) => at !== this.editor.selected), 0);
  }

  /** Chooses the moment before or after. */
  choose(by) {
    const count = this.editor?.spans.length ?? 0;
    if (!count) return;
    this.editor.select((this.editor.selected + by + count) % count);
    this.seek(this.editor.spans[this.editor.selected][0]);
  }

  /** Moments of a proposal as this clip has them: on its frames, and inside it. */
  snapped(spans) {
    return spans
      .map((span) => span.map((time_s) => this.#nearestPoint(time_s)))
      .filter(([start_s, end_s]) => start_s < end_s);
  }

  #nearestPoint(time_s) {
    const before = placeAt(this.points, time_s);
    const after = Math.min(before + 1, this.points.length - 1);
    return this.points[after] - time_s < time_s - this.points[before] ? this.points[after] : this.points[before];
  }
}

export { byId, element };
