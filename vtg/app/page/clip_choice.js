// Which clip is asked about: dropped, picked from those of the run, or named by path or address.
import { fetched } from "./server.js";
import { element, seconds } from "./timeline.js";

const MB = 1e6;
const POLL_MS = 700;

export class ClipChoice {
  /** `onClip(clip)` is called with `{video, name, duration_s, start_s, end_s, queries, unplayable}`. */
  constructor({ drop, file, clips, named, url, said, onClip, limits }) {
    Object.assign(this, { drop, file, clips, named, url, said, onClip, limits });
    this.found = [];
    this.dropped = null;
    this.turn = 0;
    file.addEventListener("change", () => file.files.length && this.upload(file.files[0]));
    clips.addEventListener("change", () => clips.value !== "" && this.#pick(this.found[Number(clips.value)]));
    named.addEventListener("submit", (event) => {
      event.preventDefault();
      if (url.value.trim()) this.#open(fetched("/videos/named", { json: { url: url.value.trim() } }), url.value.trim());
    });
    // Anywhere on the page: a file that misses the box would else be opened by the browser in place of the page.
    for (const kind of ["dragover", "dragleave", "drop"]) {
      document.addEventListener(kind, (event) => {
        if (!event.dataTransfer?.types.includes("Files")) return;
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop" && event.dataTransfer.files.length) this.upload(event.dataTransfer.files[0]);
      });
    }
  }

  setLimits({ limits, opens }) {
    document.getElementById("limits").textContent = `up to ${Math.round(limits.upload_bytes / MB)} MB`;
    this.named.hidden = !opens;
  }

  /** Asks for the clips to begin with, until they are found; shows the first. */
  async begin() {
    try {
      const { ready, clips, notes } = await fetched("/examples");
      if (!ready) return void setTimeout(() => this.begin(), POLL_MS);
      this.found = clips;
      const options = clips.map((clip, at) => element("option", { value: String(at), textContent: clipTitle(clip) }));
      const first = clips.length ? "choose a clip" : "there are none";
      this.clips.replaceChildren(element("option", { value: "", textContent: first }), ...options);
      this.clips.disabled = !clips.length;
      if (notes.length) this.#say(notes.join("; "), true);
      if (clips.length && !this.turn) {
        this.clips.value = "0";
        this.#pick(clips[0]);
      }
    } catch (error) {
      this.#say(error.message, true);
    }
  }

  upload(file) {
    const most = this.limits().upload_bytes;
    // Said here too: a server that refuses while a browser still sends is often not heard.
    if (file.size > most) {
      this.#say(`${file.name}: is larger than ${Math.round(most / MB)} MB; drop a shorter or smaller version`, true);
      return;
    }
    this.#open(fetched(`/videos?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file }), file.name, true);
    this.file.value = ""; // so that the same file can be chosen again
  }

  async #pick(clip) {
    const turn = ++this.turn;
    try {
      const told = await fetched(`/videos/${clip.video}`);
      if (turn === this.turn) this.#choose({ ...clip, unplayable: told.unplayable });
    } catch (error) {
      if (turn === this.turn) this.#say(error.message, true);
    }
  }

  async #open(coming, name, dropped = false) {
    const turn = ++this.turn;
    this.#say(`opening ${name}`);
    try {
      const told = await coming;
      const before = this.dropped;
      if (dropped) this.dropped = told.video;
      // The last one is no longer on the page.
      if (dropped && before) fetched(`/videos/${before}`, { method: "DELETE" }).catch(() => {});
      if (turn !== this.turn) return;
      this.clips.value = "";
      this.#choose({ ...told, start_s: null, end_s: null, queries: [] });
    } catch (error) {
      if (turn === this.turn) this.#say(error.message, true);
    }
  }

  #choose(clip) {
    const part = clip.start_s === null ? "" : `, from ${seconds(clip.start_s)} of the file`;
    this.#say(`${clip.name}: ${seconds(clip.duration_s)}${part}`);
    this.onClip(clip);
  }

  #say(text, bad = false) {
    this.said.textContent = text;
    this.said.classList.toggle("bad", bad);
  }
}

function clipTitle(clip) {
  const part = clip.start_s === null ? "" : ` from ${clip.start_s.toFixed(1)} s`;
  return `${clip.name}${part} (${clip.duration_s.toFixed(1)} s, ${clip.queries.length} queries)`;
}
