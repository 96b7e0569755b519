// The page on which one asks: a clip is chosen, looked at, asked about, and its moments are played.
import { Answers } from "./answers.js";
import { ClipChoice } from "./clip_choice.js";
import { Cost } from "./cost.js";
import { showPages } from "./pages.js";
import { fetched } from "./server.js";
import { Player, Timeline, seconds } from "./timeline.js";

const POLL_MS = 700;
const $ = (id) => document.getElementById(id);

const page = { lanes: [], limits: {}, clip: null, typed: false };
const answers = new Answers($("found"), { play, show });
const cost = new Cost({ fields: ["fps", "max_frames", "max_pixels"].map($), said: $("cost"), seen: $("seen"), frames: $("frames"), onLook, show });
const choice = new ClipChoice({
  drop: $("drop"), file: $("file"), clips: $("clips"), named: $("named"), url: $("url"), said: $("chosen"), onClip, limits: () => page.limits,
});
showPages(document.querySelector("nav"));
let player = null;
let film = null;
let asking = null;

function play(start_s, end_s) {
  if (!player) return;
  player.loop(start_s, end_s);
  $("playing").textContent = `${start_s.toFixed(2)} to ${seconds(end_s)}, in a loop`;
  $("stop-loop").hidden = false;
  $("player").scrollIntoView({ block: "nearest" });
}

function show(time_s) {
  if (!player) return;
  player.stop();
  player.show(time_s);
  $("playing").textContent = seconds(time_s);
  $("stop-loop").hidden = true;
}

/** A clip was chosen: `{video, name, duration_s, start_s, end_s, queries, unplayable}`. */
function onClip(clip) {
  asking?.abort();
  page.clip = clip;
  $("desk").hidden = false;
  $("answers").hidden = true;
  $("said").textContent = "";
  // A new element, so that no listener of the last clip's player is left.
  const video = $("player").cloneNode();
  $("player").replaceWith(video);
  player = null;
  $("playing").textContent = clip.unplayable ?? "";
  $("stop-loop").hidden = true;
  video.hidden = Boolean(clip.unplayable);
  if (!clip.unplayable) {
    video.src = `/videos/${clip.video}/file`;
    player = new Player(video, {
      offset_s: clip.start_s ?? 0,
      onTime: (time_s) => [film, ...answers.timelines].forEach((one) => one?.setTime(time_s)),
      onFault: (reason) => {
        $("playing").textContent = `This browser cannot play the clip (${reason}); it can be asked about all the same.`;
      },
    });
  }
  $("film").replaceChildren();
  film = new Timeline($("film"), { duration_s: clip.duration_s, onTime: show, onSpan: play });
  // What was typed while a clip was on its way is asked about it, unless it brings questions of its own.
  if (clip.queries.length || !page.typed) {
    $("queries").value = clip.queries.slice(0, 3).map((one) => one.query).join("\n");
    page.typed = false;
  }
  annotated(clip);
  cost.choose(clip, queries()[0] ?? "");
}

/** The clip's annotated queries as buttons that add them. */
function annotated(clip) {
  const missing = clip.queries.slice(3);
  $("annotated").hidden = !missing.length;
  $("annotated").replaceChildren(
    ...missing.map(({ query }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = query;
      button.addEventListener("click", () => {
        $("queries").value = [...queries(), query].join("\n");
        button.remove();
      });
      return button;
    }),
  );
}

const queries = () => $("queries").value.split("\n").map((line) => line.trim()).filter(Boolean);

/** What the models would read has come: the first one's frames are the film strip. */
function onLook(look) {
  const strip = look.find((one) => one.strip)?.strip;
  answers.strip = strip;
  if (!strip) return;
  film.setStrip(strip);
  // A picture in the background fails without a word; asked for once more it says why.
  const picture = new Image();
  picture.onerror = () => fetched(strip.picture).catch((error) => ($("playing").textContent = error.message));
  picture.src = strip.picture;
}

$("stop-loop").addEventListener("click", () => {
  player?.stop();
  $("playing").textContent = "";
  $("stop-loop").hidden = true;
});
$("queries").addEventListener("input", () => { page.typed = true; });
$("queries").addEventListener("change", () => cost.ask(queries()[0] ?? ""));
$("queries").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("ask").requestSubmit();
});
$("cancel").addEventListener("click", () => asking?.abort());
$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = queries();
  if (!asked.length) {
    $("said").textContent = "Say in a sentence what to look for.";
    $("queries").focus();
    return;
  }
  asking?.abort();
  const mine = (asking = new AbortController());
  $("answers").hidden = false;
  $("cancel").hidden = false;
  $("said").textContent = "asking";
  const began = performance.now();
  const failed = await answers.ask(page, asked, cost.sampling(), mine.signal, (done, all) => {
    if (mine === asking) $("said").textContent = `${done} of ${all} answers`;
  });
  if (mine !== asking) return;
  asking = null;
  $("cancel").hidden = true;
  const took = `${((performance.now() - began) / 1000).toFixed(1)} s`;
  $("said").textContent = mine.signal.aborted ? "stopped" : failed ? `done in ${took}; ${failed} could not be asked` : `answered in ${took}`;
});

/** Looks how far loading is, until all is there. */
async function poll() {
  try {
    const state = await fetched("/state");
    Object.assign(page, state);
    choice.setLimits(state);
    const loading = state.lanes.filter((lane) => lane.state === "loading");
    const failed = state.lanes.filter((lane) => lane.state === "failed");
    const ready = state.lanes.filter((lane) => lane.state === "ready");
    const said = [
      ready.length ? `ready: ${ready.map((lane) => lane.name).join(", ")}` : "",
      loading.length ? `loading ${loading.map((lane) => lane.name).join(", ")}` : "",
      ...failed.map((lane) => `${lane.name} cannot be asked: ${lane.fault}`),
      ...ready.flatMap((lane) => lane.differences.map((one) => `${lane.name}: ${one}`)),
    ];
    $("status").textContent = said.filter(Boolean).join(" · ");
    $("status").classList.toggle("bad", failed.length > 0);
    $("go").disabled = !ready.length;
    cost.setLanes(state.lanes);
    if (loading.length) setTimeout(poll, POLL_MS);
  } catch (error) {
    $("status").textContent = error.message;
    setTimeout(poll, 3 * POLL_MS);
  }
}

poll();
choice.begin();
