// The moments that the models answered, a timeline for each query.
import { fetched } from "./server.js";
import { Timeline, element } from "./timeline.js";

const NOTES = {
  waiting: "waiting",
  none: "no such moment",
  malformed: "no time that can be read",
  out_of_range: "outside of the clip",
  reversed: "ends before it begins",
};

export class Answers {
  constructor(host, { play, show }) {
    Object.assign(this, { host, play, show });
    this.timelines = [];
    this.strip = undefined;
  }

  /**
   * Asks every lane that is ready, all lanes at once, each about as many queries together as one request may hold.
   * Returns how many answers failed. `progress(done, all)` is called as they come.
   */
  async ask(page, queries, sampling, signal, progress) {
    const { clip, limits } = page;
    const lanes = page.lanes.map((lane, number) => ({ ...lane, number })).filter((lane) => lane.state === "ready");
    const blocks = queries.map((query) => this.#block(query, clip, lanes));
    this.timelines = blocks.map((block) => block.timeline);
    this.host.replaceChildren(...blocks.map((block) => block.root));
    let [done, failed] = [0, 0];
    await Promise.all(
      lanes.map(async (lane, place) => {
        for (let from = 0; from < queries.length && !signal.aborted; from += limits.queries) {
          const part = queries.slice(from, from + limits.queries);
          const truths = part.map((query) => clip.queries.find((one) => one.query === query)?.spans ?? null);
          const { video, start_s, end_s, duration_s } = clip;
          const json = { video, start_s, end_s, duration_s, lane: lane.number, queries: part, truths, ...sampling };
          let told;
          try {
            told = (await fetched("/ask", { json, signal })).answers;
          } catch (error) {
            const fault = signal.aborted ? "stopped" : error.message;
            failed += part.length;
            told = part.map(() => ({ spans: [], fault }));
          }
          told.forEach((answer, at) => blocks[from + at].set(place, answer));
          progress((done += part.length), queries.length * lanes.length);
        }
      }),
    );
    return failed;
  }

  #block(query, clip, lanes) {
    const root = element("article", {}, element("h3", { textContent: query }));
    const timeline = new Timeline(root, { duration_s: clip.duration_s, onSpan: this.play, onTime: this.show });
    const truth = clip.queries.find((one) => one.query === query && one.spans);
    const shown = lanes.map((lane) => ({ name: lane.name, kind: lane.number, spans: [], note: NOTES.waiting }));
    const draw = () => {
      const first = truth ? [{ name: "truth", kind: "truth", spans: truth.spans, note: truth.spans.length ? "" : NOTES.none }] : [];
      timeline.setLanes([...first, ...shown]);
    };
    const set = (place, answer) => {
      shown[place] = { ...shown[place], ...answered(answer, clip.duration_s) };
      draw();
    };
    draw();
    if (this.strip) timeline.setStrip(this.strip);
    return { root, timeline, set };
  }
}

/** An answer as a lane: its spans as far as they lie in the clip, what is wrong with it, and what was written. */
function answered(answer, duration_s) {
  if (answer.fault) return { spans: [], note: "not answered", text: answer.fault };
  const spans = answer.spans.filter(([start_s, end_s]) => start_s < end_s && start_s < duration_s && end_s > 0);
  const times = answer.spans.map(([start_s, end_s]) => `${start_s.toFixed(2)} to ${end_s.toFixed(2)} s`).join(", ");
  const iou = answer.iou === null ? "" : `IoU ${answer.iou.toFixed(2)}`;
  const wrote = `wrote “${answer.text}” (${answer.completion_tokens} tokens)`;
  return {
    spans,
    note: answer.status === "ok" ? "" : NOTES[answer.status],
    text: [times, iou, wrote].filter(Boolean).join(" · "),
  };
}
