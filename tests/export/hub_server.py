"""A hub on loopback: what huggingface_hub asks of it to publish a folder, by plain LFS. Keeps what it receives."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"


@dataclass
class Hub:
    """What it was sent. `refuses`: the end of a path → the status that it is answered with."""

    address: str = ""
    created: list[dict[str, Any]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    uploads: int = 0
    public: bool = False
    refuses: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> tuple[int, Any]:
        for end, status in self.refuses.items():
            if end in path:
                return status, {"error": "not now"}
        if method == "PUT":  # of a link of storage, which is asked without a token
            self.uploads += 1
            self.objects[hashlib.sha256(body).hexdigest()] = body
            return 200, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid token"}
        if path.endswith("/whoami-v2"):
            return 200, {"name": "me", "type": "user"}
        if path.endswith("/repos/create"):
            self.created.append(json.loads(body))
            return 200, {"url": f"{self.address}/me/model"}
        if path.endswith("/validate-yaml"):
            return 200, {"warnings": []}
        if "/preupload/" in path:
            modes = [
                {"path": one["path"], "uploadMode": "lfs" if one["path"].endswith("safetensors") else "regular"}
                for one in json.loads(body)["files"]
            ]
            return 200, {"files": [one | {"shouldIgnore": False} for one in modes]}
        if path.endswith("/objects/batch"):
            wanted = json.loads(body)["objects"]
            link = {"upload": {"href": f"{self.address}/storage"}}
            return 200, {"objects": [one | ({} if one["oid"] in self.objects else {"actions": link}) for one in wanted]}
        if "/commit/" in path:
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    self.files[value["path"]] = self.objects[value["oid"]]
            return 200, {"commitUrl": f"{self.address}/me/model/commit/1", "commitOid": "1" * 40}
        if method == "GET" and "/api/models/me/model" in path:
            return 200, {"id": "me/model", "private": not self.public}
        return 404, {"error": f"{method} {path}"}


@contextmanager
def hub_server() -> Iterator[Hub]:
    """Runs one inside."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, document = hub.answer(self.command, self.path.split("?")[0], body, self.headers["Authorization"])
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_HEAD = _respond

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
