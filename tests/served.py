"""Real servers for tests: uvicorn on a free port of the loopback, in a thread."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from vtg.serving.web_server import WebServer, bind, url_of


class Response(NamedTuple):
    """What a server answers: HTTP's number, headers, and the document, or text where it is no JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


@contextmanager
def running(app: Any) -> Iterator[str]:
    """Serves an application; its address."""
    started = threading.Event()
    with bind("127.0.0.1", 0) as bound:
        server = WebServer(app, on_start=started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        assert started.wait(60)
        try:
            yield url_of(bound)
        finally:
            server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()


def ask(url: str, document: Any = None, *, headers: Mapping[str, str] | None = None) -> Response:
    """GETs an address, or POSTs a document, or bytes as they are."""
    data = document if document is None or isinstance(document, bytes) else json.dumps(document).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return _read(answer.status, answer)
    except urllib.error.HTTPError as error:
        return _read(error.code, error)


def _read(status: int, answer: Any) -> Response:
    text = answer.read().decode()
    is_json = answer.headers.get_content_type() == "application/json"
    return Response(status, answer.headers, json.loads(text) if is_json else text)
