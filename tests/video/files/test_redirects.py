"""Where servers may send a client on to. What is tested on one machine: every target that is not public is refused, in
whatever words, and none is connected to; a public target (another machine) is judged by its address alone."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vtg.video.clip import DecodeError
from vtg.video.container import probe
from vtg.video.files import redirects
from vtg.video.files.fetched import FetchedVideos

pytest.importorskip("aiohttp", reason="fsspec reads https:// with aiohttp (pip install 'vtg[stores]')")


class Server(ThreadingHTTPServer):
    """Sends a video, and clients on to whatever follows /to/; notes what it is asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.asked = content, list[str]()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.content
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            content = b""
        elif given := self.headers.get("Range"):
            first, last = given.removeprefix("bytes=").split("-")
            end = min(int(last or len(content)), len(content) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{end}/{len(content)}")
            content = content[int(first) : end + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def servers(write_mp4, monkeypatch) -> Iterator[tuple[Server, Server]]:
    """What the user's address names, and another service of the same machine."""
    monkeypatch.setenv("VTG_ALLOW_HTTP", "1")
    content = Path(write_mp4([0, 100, 200])).read_bytes()
    both = Server(content), Server(content)
    yield both
    for server in both:
        server.shutdown()
        server.server_close()


def fetched_bytes(name: str, folder: Path) -> int:
    with FetchedVideos(str(folder), max_bytes=10**9).local(name) as path:
        return os.path.getsize(path)


def test_an_address_in_a_private_network_is_read_and_may_lead_on_within_its_server(tmp_path, servers):
    own, _ = servers
    for path in ("a.mp4", "to//a.mp4", f"to/{own.address}/b.mp4"):
        assert probe(f"{own.address}/{path}").codec == "h264"
        assert fetched_bytes(f"{own.address}/{path}", tmp_path) == len(own.content)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("{other}/secret", "in a private network"),
        ("http://localhost:{port}/secret", "in a private network"),
        ("http://2130706433:{port}/secret", "in a private network"),
        ("http://0.0.0.0:{port}/secret", "in a private network"),
        ("https://169.254.169.254/latest/meta-data", "in a private network"),
        ("https://10.0.0.1/secret", "in a private network"),
        ("//127.0.0.1:{port}/secret", "in a private network"),
        ("ftp://127.0.0.1/secret", "by another scheme"),
        ("file:///etc/passwd", "by another scheme"),
    ],
)
def test_a_redirect_to_elsewhere_in_private_networks_is_refused_unasked(tmp_path, servers, target, said):
    own, other = servers
    name = f"{own.address}/to/{target.format(other=other.address, port=other.server_port)}"
    for read in (probe, lambda name: fetched_bytes(name, tmp_path)):
        with pytest.raises(DecodeError, match=rf"cannot be fetched \(RedirectRefused: it is redirected to .*{said}"):
            read(name)
    assert own.asked and not other.asked and not list(tmp_path.glob("vtg-videos/*"))


def test_hosts_are_judged_by_every_address_they_have():
    redirects._check_public("a", ["93.184.216.34", "2606:2800:220:1::1"])
    for private in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fe80::1", "::ffff:127.0.0.1", "100.64.0.1"):
        with pytest.raises(redirects.RedirectRefused, match="private network"):
            redirects._check_public("a", ["93.184.216.34", private])
