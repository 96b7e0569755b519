// Shows the <title> of a chart's shape beside the pointer at once. Without this script the browser shows it, after a second.
const tip = document.createElement("div");
tip.id = "tip";
document.body.append(tip);
document.addEventListener("pointermove", (event) => {
  const hit = event.target.closest?.("[data-tip]");
  tip.style.display = hit ? "block" : "none";
  if (!hit) return;
  tip.textContent = hit.dataset.tip;
  const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
  const top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8);
  tip.style.left = `${left}px`;
  tip.style.top = `${top}px`;
});

// A click on a moment plays it in a loop, from a second before. The address is relative: it works where the page lies
// beside its videos, and says so where it does not.
const LEAD_S = 1;
function play(article, start, end) {
  let player = article.querySelector(".player");
  if (!player) {
    player = document.createElement("div");
    player.className = "player";
    player.innerHTML = "<video controls muted playsinline></video><span></span>";
    const video = player.firstChild;
    video.addEventListener("error", () => {
      player.lastChild.textContent = `${video.dataset.name} is not there, or this browser cannot play it`;
    });
    video.addEventListener("timeupdate", () => {
      if (video.currentTime > Number(video.dataset.until) && !video.paused) video.currentTime = Number(video.dataset.from);
    });
    video.dataset.name = decodeURI(article.dataset.video);
    video.src = article.dataset.video;
    article.append(player);
  }
  const video = player.firstChild;
  const offset = Number(article.dataset.offset);
  video.dataset.from = Math.max(offset, offset + start - LEAD_S);
  video.dataset.until = offset + end;
  player.lastChild.textContent = `${start.toFixed(2)} to ${end.toFixed(2)} s, in a loop`;
  video.currentTime = Number(video.dataset.from);
  video.play().catch(() => {}); // a browser may want a second click; the error event tells of a file that is missing
}
// What the elements below `root` do.
function prepare(root) {
  for (const title of root.querySelectorAll(".tip > title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.remove();
  }
  for (const bar of root.querySelectorAll("article[data-video] [data-start]")) {
    const [start, end] = [Number(bar.dataset.start), Number(bar.dataset.end)];
    bar.tabIndex = 0;
    bar.setAttribute("role", "button");
    bar.setAttribute("aria-label", `play ${bar.title}`);
    const begin = () => play(bar.closest("article"), start, end);
    bar.addEventListener("click", begin);
    bar.addEventListener("keydown", (event) => event.key === "Enter" && begin());
  }
  // A click on a heading of a table of runs sorts it: numbers the largest first, again the smallest.
  for (const head of root.querySelectorAll("table.sortable thead th")) {
    head.tabIndex = 0;
    const sort = () => {
      const body = head.closest("table").tBodies[0];
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const text = (row) => row.children[head.cellIndex].textContent.trim();
      const number = (row) => parseFloat(text(row).replaceAll(",", ""));
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [number(a), number(b)];
        if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || text(a).localeCompare(text(b)) * (down ? -1 : 1);
        return down ? y - x : x - y;
      });
      body.append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
  }
}
prepare(document);
