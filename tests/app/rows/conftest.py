"""The rows' page, served on a free port of this machine and opened in a browser."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page

from vtg.app.application import create_app
from vtg.app.media import Media, media_router
from vtg.app.rows.opened_rows import open_rows
from vtg.app.rows.row_store import RowStore
from vtg.app.rows.rows_router import rows_router
from vtg.app.shelf import Shelf
from vtg.serving.request_guard import Guard
from vtg.serving.web_server import WebServer, bind, url_of


class Served(NamedTuple):
    url: str
    store: RowStore


@contextmanager
def served(files: list[str], *, clips: Path, port: int = 0, **options: Any) -> Iterator[Served]:
    """The page of the rows that `open_rows` gives, until the block ends; `clips`: for videos encoded again."""
    store, shelf, ready = open_rows(files, **options), Shelf(), threading.Event()
    router = rows_router(store, address_of=lambda path: f"/videos/{shelf.put(path).key}/file")
    app = Guard(
        create_app(router, media_router(Media(shelf, clips)), pages={"Rows": "/rows"}),
        host="127.0.0.1",
        key=None,
        max_body_bytes=1 << 20,
    )
    bound = bind("127.0.0.1", port)
    server = WebServer(app, on_start=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        assert ready.wait(30)
        yield Served(url_of(bound), store)
    finally:
        server.should_exit = True
        thread.join()
        bound.close()
        store.close()


@pytest.fixture
def served_for(tmp_path: Path) -> Callable[..., AbstractContextManager[Served]]:
    """Serves rows until the block ends."""
    return partial(served, clips=tmp_path / "clips")


@pytest.fixture
def serve(served_for: Callable[..., AbstractContextManager[Served]]) -> Iterator[Callable[..., Served]]:
    """Serves rows until the test ends."""
    with ExitStack() as stack:
        yield lambda files=(), **options: stack.enter_context(served_for(list(files), **options))


@pytest.fixture
def opened_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the page of rows; what it throws fails the test."""
    with ExitStack() as stack:

        def open_page(url: str, *, before: Callable[[Page], Any] = lambda _: None, **options: Any) -> Page:
            """`before`: what is done with the page before it goes to `url`."""
            context = browser.new_context(**options)
            stack.callback(context.close)
            page = context.new_page()
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            stack.callback(lambda: pytest.fail(faults[0]) if faults else None)
            before(page)
            page.goto(url)  # leads to the only page there is
            page.wait_for_selector(".track.edit")
            return page

        yield open_page
