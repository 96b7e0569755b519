"""Follows a run: its page from a server on this machine, made anew as the files of the run change."""

import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from vtg.errors import ConfigError
from vtg.report.film_strips import BUDGET_BYTES, FilmStrips
from vtg.report.html_page import Section, render, run_content
from vtg.report.live_state import PHASES, RunState, run_state
from vtg.report.run_reader import RUN_FILES, Run, read_run
from vtg.report.timelines import newest_group
from vtg.serving.request_guard import LOOPBACK, Guard
from vtg.serving.web_server import bind, serve, url_of

PORT = 7862

# What a page is made of, beside `RUN_FILES`.
SHOWN = ("run.json", "environment.json", "skipped.jsonl", "base_predictions.jsonl")


class FollowedRun:
    """The page of one run, and where the run stands. The folder need not be there yet, and may be begun anew.

    Args:
        frames: with film strips.
    """

    def __init__(self, folder: Path, *, frames: bool = True) -> None:
        self.folder, self._budget_bytes = folder, BUDGET_BYTES if frames else 0
        self._films: FilmStrips | None = None
        self._page: tuple[str, str] | None = None
        # Pages are made one at a time, however many browsers ask.
        self._making = threading.Lock()

    def stamp(self) -> str:
        """Changes when what the page shows does."""
        files = [self.folder / name for name in (*RUN_FILES, *SHOWN)]
        files += [path for name in PHASES for path in sorted(self.folder.glob(f"{name}.part*"))]
        files.append(self.folder / "completions")  # a folder's time is that of its newest file
        found = []
        for path in files:
            try:
                status = path.stat()
            except OSError:
                continue
            found.append(f"{path.name}:{status.st_size}:{status.st_mtime_ns}")
        return " ".join(found)

    def state(self) -> RunState:
        """Where the run stands now."""
        run = self._read()
        return RunState("waiting", f"no run in {self.folder} yet") if run is None else run_state(run)

    def page(self) -> str:
        """The page, as HTML; made anew where files have changed."""
        with self._making:
            stamp = self.stamp()
            if self._page is None or self._page[0] != stamp:
                self._page = stamp, self._made()
            return self._page[1]

    def _made(self) -> str:
        run = self._read()
        if run is None:
            nothing = {"source": str(self.folder), "chips": [], "tiles": [], "notes": [], "sections": []}
            return render("live", title=self.folder.name, **nothing)
        if self._films is None or self._films.config != run.config:
            self._films = FilmStrips(run.config, page_folder=None, budget_bytes=self._budget_bytes)
        self._films.next_page()
        newest = Section("Newest answers", "samples", {"groups": newest_group(run, self._films)})
        return render("live", **run_content(run, self._films, before=[newest]))

    def _read(self) -> Run | None:
        try:
            return read_run(self.folder)
        except (ConfigError, OSError):  # not there yet, or just being made anew
            return None


def follow(folder: Path, *, port: int, frames: bool) -> int:
    """Serves the page of a run until Ctrl-C; returns the exit code.

    Raises:
        ConfigError: the port is taken.
    """
    bound = bind(LOOPBACK[0], port)
    application = Guard(
        application_of(FollowedRun(folder, frames=frames)), host=LOOPBACK[0], key=None, max_body_bytes=0
    )
    return serve(
        application, bound, on_start=lambda: print(f"{url_of(bound)}/ shows {folder}; Ctrl-C ends it", flush=True)
    )


def application_of(followed: FollowedRun) -> Starlette:
    """Two addresses: the page, and `state.json`."""

    # Plain functions, which read files: Starlette runs them in threads.
    def page(request: Request) -> HTMLResponse:
        return HTMLResponse(followed.page(), headers=HEADERS)

    def state(request: Request) -> JSONResponse:
        now = followed.state()
        answer: dict[str, Any] = asdict(now) | {"share": now.share, "stamp": followed.stamp()}
        return JSONResponse(answer, headers=HEADERS)

    return Starlette(routes=[Route("/", page), Route("/state.json", state)])


# Nothing of other hosts is loaded, and no other page frames this one.
HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
