"""A web application on a port of this machine: bound before weights are read, told, and ended gracefully."""

import asyncio
import signal
import socket
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import uvicorn
from starlette.requests import Request

from vtg.errors import ConfigError
from vtg.serving.refusals import gone, too_slow
from vtg.serving.request_guard import LOOPBACK

# Answers that are being written when the server is to stop get so long.
GRACE_S = 10


class WebServer(uvicorn.Server):
    """Uvicorn with vtg's settings: no version told, no foreign log, one line when it can be asked."""

    def __init__(self, app: Any, *, on_start: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_level="warning",
                log_config=None,  # lines go where vtg's own go
                proxy_headers=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            self._on_start()


def bind(host: str, port: int) -> socket.socket:
    """A socket on a port, 0 for a free one. Nobody is answered there yet.

    Raises:
        ConfigError: the port is taken, or there is no such address on this machine.
    """
    if not 0 <= port < 2**16:  # resolvers take what is left of it
        raise ConfigError(f"--port {port}: must be 0 (a free one) to {2**16 - 1}")
    try:
        [(family, kind, protocol, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"--host {host} --port {port}: no address of this machine ({error})") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"--host {host} --port {port}: cannot be served ({error}); another program may have the port: --port 0 "
            "takes a free one"
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """The address of a server, to be opened on this machine."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = LOOPBACK[0]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Any, bound: socket.socket, *, on_start: Callable[[], None]) -> int:
    """Serves until Ctrl-C or SIGTERM; answers that are being written are finished (`GRACE_S`).

    Returns:
        The exit code: 0, or 130 for Ctrl-C.
    """
    # Uvicorn ends gracefully, and then raises the signal again: SIGTERM would kill what is still to be tidied up.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        WebServer(app, on_start=on_start).run(sockets=[bound])
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        bound.close()
    return 0


async def answer_unless_gone(request: Request, future: "Future[Any]", *, timeout_s: float) -> Any:
    """What a worker's future becomes; cancels it where its client goes away, or waits for too long.

    `request`: its body has been read.

    Raises:
        Refused: after `timeout_s`, or the client has gone. Whatever else the future raises.
    """
    asked = asyncio.wrap_future(future)
    leaving = asyncio.ensure_future(_until_gone(request))
    try:
        done, _ = await asyncio.wait({asked, leaving}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if asked in done:
            return asked.result()
        if leaving in done:
            raise gone()
        raise too_slow(f"not answered within {timeout_s:.0f} s; ask about a shorter part, or when fewer others do")
    finally:
        asked.cancel()
        leaving.cancel()


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
