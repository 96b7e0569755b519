// Keeps the page of a run as its files are. Where it stands is asked every two seconds; what has changed of the page is put in
// place of what was there, and the rest is left alone: what is open, sorted, playing or scrolled to stays.
const EVERY_MS = 2000;
let shown = null; // the stamp of the files that the page shows
const sources = new Map(); // id of a section → its HTML as the server sent it, before scripts changed it

function clock(seconds) {
  const s = Math.round(seconds);
  const [h, m, rest] = [Math.floor(s / 3600), Math.floor(s / 60) % 60, String(s % 60).padStart(2, "0")];
  return h ? `${h}:${String(m).padStart(2, "0")}:${rest}` : `${m}:${rest}`;
}

function tell(state) {
  const live = document.getElementById("live");
  const said = [state.detail];
  if (state.step) said.push(state.steps ? `step ${state.step.toLocaleString()} of ${state.steps.toLocaleString()}` : `step ${state.step.toLocaleString()}`);
  if (state.left_s != null) said.push(`${clock(state.left_s)} left`);
  if (state.tokens_per_second != null) said.push(`${Math.round(state.tokens_per_second).toLocaleString()} tokens/s`);
  live.className = state.state;
  const text = said.filter(Boolean).join(" · ");
  // Only where it changed: a screen reader reads out what does.
  if (live.children[0].textContent !== state.state) live.children[0].textContent = state.state;
  if (live.children[1].textContent !== text) live.children[1].textContent = text;
  live.children[2].hidden = !state.steps || state.state !== "running";
  live.children[2].value = state.share;
  document.title = `${state.state === "running" && state.steps ? Math.floor(100 * state.share) + " %" : state.state} · ${document.querySelector("h1").textContent}`;
}

function replace(old, fresh) {
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  old.replaceWith(fresh);
  [...fresh.querySelectorAll("details")].forEach((details, at) => (details.open = open[at] ?? details.open));
  prepare(fresh);
}

function inUse(element) {
  const chosen = getSelection();
  const isChosen = !chosen.isCollapsed && element.contains(chosen.anchorNode);
  return isChosen || element.contains(document.activeElement);
}

// Whether all of it could be put in place.
function update(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  let whole = true;
  for (const name of ["header", "nav"]) {
    const [old, fresh] = [document.querySelector(name), page.querySelector(name)];
    if (old.innerHTML === fresh.innerHTML) continue;
    const left = old.scrollLeft;
    if (inUse(old)) whole = false;
    else old.innerHTML = fresh.innerHTML;
    old.scrollLeft = left;
  }
  const main = document.querySelector("main");
  const wanted = [...page.querySelectorAll("main > section")];
  for (const old of [...main.children]) if (!wanted.some((one) => one.id === old.id)) old.remove();
  wanted.forEach((fresh, at) => {
    const source = fresh.outerHTML;
    const old = [...main.children].find((one) => one.id === fresh.id);
    if (!old) {
      main.insertBefore(fresh, main.children[at] ?? null);
      prepare(fresh);
    } else if (sources.get(fresh.id) === source) return;
    else if (inUse(old)) return void (whole = false);
    else replace(old, fresh);
    sources.set(fresh.id, source);
  });
  return whole;
}

async function follow() {
  try {
    const state = await (await fetch("state.json", { cache: "no-store" })).json();
    tell(state);
    if (state.stamp !== shown) {
      const answer = await fetch("", { cache: "no-store" });
      if (answer.ok && update(await answer.text())) shown = state.stamp;
    }
  } catch {
    tell({ state: "not followed", detail: "the program that shows this run has ended; the page stays as it was" });
  }
  setTimeout(follow, EVERY_MS);
}
follow();
