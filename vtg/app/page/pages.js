// The links between the pages of an app: which there are depends on what it was started with.
import { element } from "./timeline.js";

/** Fills `nav`, which holds a link to this page until then. */
export async function showPages(nav) {
  const response = await fetch("/pages").catch(() => null);
  if (!response?.ok) return;
  const links = Object.entries(await response.json()).map(([name, href]) => {
    const current = href === location.pathname ? { "aria-current": "page" } : {};
    return element("a", { href, textContent: name, ...current });
  });
  nav.replaceChildren(...links);
  nav.hidden = links.length < 2;
}
