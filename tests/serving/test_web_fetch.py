"""A real web server on the loopback, which is allowed or not by name."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from vtg.serving.admission import Admission
from vtg.serving.limits import Limits
from vtg.serving.refusals import Refused
from vtg.serving.web_fetch import fetch, is_public

LOCAL = ("127.0.0.1",)


class Pages(BaseHTTPRequestHandler):
    """/file, /to/TARGET (a redirect), /slow (never ends), and nothing else."""

    def do_GET(self) -> None:
        path = unquote(self.path)
        if path == "/slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.flush()
            self.server.ending.wait(60)  # type: ignore[attr-defined]
        elif path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path in ("/file", "/a file.mp4?x=1"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"video " * 100)
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.ending = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.ending.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def fetched(url: str, **options) -> bytes:
    blocks: list[bytes] = []
    fetch(url, blocks.append, **{"private_hosts": LOCAL, "timeout_s": 20.0} | options)
    return b"".join(blocks)


def test_a_file_is_fetched_over_redirects(site: str) -> None:
    assert fetched(f"{site}/file") == b"video " * 100
    assert fetched(f"{site}/a file.mp4?x=1") == b"video " * 100
    assert fetched(f"{site}/to//file") == b"video " * 100
    assert fetched(f"{site}/to/{site}/file") == b"video " * 100


def test_this_machine_and_private_networks_are_out_of_reach(site: str) -> None:
    port = site.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]", "0"):
        with pytest.raises(Refused) as refused:
            fetched(f"http://{host}:{port}/file", private_hosts=())
        # Some of these are names of no host, by the resolver of some systems.
        assert refused.value.status == 403 or "there is no such host" in str(refused.value), host
    with pytest.raises(Refused, match="leads into a private network or to this machine"):
        fetched(f"{site}/to/http://localhost:{port}/file")
    with pytest.raises(Refused, match="leads into a private network"):
        fetched(f"{site}/to/http://169.254.169.254/latest/meta-data/")
    with pytest.raises(Refused, match="give http://HOST/FILE"):
        fetched(f"{site}/to/file:///etc/passwd")


def test_what_cannot_be_fetched_is_said(site: str) -> None:
    with pytest.raises(Refused, match=r"/none: answers 404 Not Found"):
        fetched(f"{site}/none")
    with pytest.raises(Refused, match="is redirected more than 5 times"):
        fetched(f"{site}/to//to//to//to//to//to//file")
    for url in ("http://", "http://user:word@host/a", "http://[::1/a", "http://a:99999/"):
        with pytest.raises(Refused, match=r"not an address|give http://HOST/FILE"):
            fetched(url)
    with pytest.raises(Refused, match="there is no such host"):
        fetched("http://no-such-host.invalid/a")


def test_a_server_that_does_not_end_is_left(site: str) -> None:
    with pytest.raises(Refused, match=r"took longer than 0\.5 s") as refused:
        fetched(f"{site}/slow", timeout_s=0.5)
    assert refused.value.status == 504


def test_a_session_fetches_where_it_may_and_no_more_than_it_may(site: str) -> None:
    with Admission(Limits(upload_bytes=600), private_hosts=LOCAL) as admission, admission.session() as session:
        assert session.admit(f"{site}/file").read_bytes() == b"video " * 100
    with Admission(Limits(upload_bytes=500), private_hosts=LOCAL) as admission, admission.session() as session:
        with pytest.raises(Refused, match="is larger than") as refused:
            session.admit(f"{site}/file")
        assert refused.value.status == 413
    with (
        Admission(Limits(), allow_urls=True) as admission,
        admission.session() as session,
        pytest.raises(Refused, match="private network"),
    ):
        session.admit(f"{site}/file")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public
