// Shows the <title> of a chart's shape beside the pointer at once. Without this script the browser shows it, after a second.
const tip = document.createElement("div");
tip.id = "tip";
document.body.append(tip);
for (const title of document.querySelectorAll(".tip > title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
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
