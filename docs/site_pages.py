"""A hook of mkdocs: adds the Markdown files that live beside the code to the site, and points links at their pages.

mkdocs publishes docs/ alone, and `mkdocs build --strict` fails on a link that leaves it. In the repository the same
links work as they are.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

PAGES = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "env/README.md": "environments.md",
    "env/BOUNDS.md": "bounds.md",
}
"""File of the repository → page of the site."""

LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[)#])")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in docs/."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The text of a page, each link as seen from docs/."""
    sources = {target: source for source, target in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        target = f"{target}/README.md" if (ROOT / target).is_dir() else target
        return PAGES.get(target, posixpath.relpath(target, "docs"))

    return LINK.sub(in_site, markdown)
