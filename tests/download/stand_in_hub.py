"""A server on this machine in place of the hub and of GitHub: what `vtg.download` asks them, and the ways they fail."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandIn:
    """What the server has and does.

    Attributes:
        root: OWNER/NAME/… of the hub, OWNER/REPOSITORY/COMMIT/… of GitHub.
        cards: hub name → what its README states.
        breaks: path → bytes after which the connection ends, once.
        holds: path → bytes after which nothing comes until `let_go` is set, once.
        answers: path → what is answered in place of the file.
        asked: (path, Range or None) of every file that was asked for.
    """

    root: Path
    address: str = ""
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    holds: dict[str, int] = field(default_factory=dict)
    let_go: threading.Event = field(default_factory=threading.Event)
    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def description(self, hub: str) -> bytes:
        """The hub's answer about a data set: large files with their SHA-256, small ones with git's name."""
        siblings = []
        for path in sorted((self.root / hub).rglob("*")):
            if path.is_file():
                content = path.read_bytes()
                sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                entry = {
                    "rfilename": path.relative_to(self.root / hub).as_posix(),
                    "size": len(content),
                    "blobId": sha1,
                }
                if path.suffix in (".parquet", ".zip"):
                    sha256 = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
                siblings.append(entry)
        card = self.cards.get(hub, {})
        answer = {"id": hub, "sha": REVISION, "siblings": siblings, "cardData": card, "gated": False, "private": False}
        return json.dumps(answer | {"tags": [], "downloads": 0, "likes": 0}).encode()


@contextmanager
def serving(root: Path) -> Iterator[StandIn]:
    """Serves `root` on a free port of this machine."""
    stand_in = StandIn(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub = path.removeprefix("/api/datasets/")
            if hub != path:
                known = (root / hub).is_dir()
                body = stand_in.answers.get(path) or stand_in.description(hub)
                self._send(200 if known else 404, body if known else b'{"error": "Repository not found"}')
                return
            name = path.removeprefix("/datasets").replace(f"/resolve/{REVISION}", "")
            stand_in.asked.append((name, self.headers.get("Range")))
            file = root / name.lstrip("/")
            if not file.is_file():
                self._send(404, b"no such file")
                return
            content = stand_in.answers.get(name, file.read_bytes())
            wanted = self.headers.get("Range")
            first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            if first and first >= len(content):
                self._send(416, b"")
                return
            held = stand_in.holds.pop(name, None)
            self._send(206 if wanted else 200, content[first:], stop_after=held or stand_in.breaks.pop(name, None))
            if held is not None:
                stand_in.let_go.wait()

        def _send(self, status: int, body: bytes, *, stop_after: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            self.wfile.write(body[:stop_after])
            if stop_after is not None:
                self.wfile.flush()
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
