"""A server on this machine that speaks OpenAI's chat protocol, and answers as it is told: well, badly, late, or not."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StandInModel:
    """What the server does.

    Attributes:
        answer: makes the text of the answer to a request's body.
        statuses: HTTP statuses of the next answers, before those that are well.
        hangs: whether nothing is answered until `let_go`.
        asked: the bodies of all requests.
    """

    answer: Callable[[dict[str, Any]], str]
    address: str = ""
    statuses: list[int] = field(default_factory=list)
    hangs: bool = False
    let_go: threading.Event = field(default_factory=threading.Event)
    asked: list[dict[str, Any]] = field(default_factory=list)


def prompt_of(body: dict[str, Any]) -> str:
    """The last text of a request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


@contextmanager
def serving(answer: Callable[[dict[str, Any]], str]) -> Iterator[StandInModel]:
    model = StandInModel(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model.asked.append(body)
            if model.hangs:
                model.let_go.wait()
            status = model.statuses.pop(0) if model.statuses else 200
            message = {"role": "assistant", "content": model.answer(body) if status == 200 else ""}
            said = json.dumps({"choices": [{"index": 0, "message": message}]} if status == 200 else {"error": "busy"})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    model.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield model
    finally:
        model.let_go.set()
        server.shutdown()
        server.server_close()
