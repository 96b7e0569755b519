"""What stands before a server's pages: who may ask at all, and how much they may send.

A server on somebody's own machine is within reach of every web page that is open in their browser. A page of another
origin may send requests there, and a name server may answer with this machine's address for a name of its own (DNS
rebinding), whose pages then count as of one origin with the server. So the Host header must be a name that is this
server's, and nothing that comes from a page of another origin is done.
"""

import base64
import binascii
import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from vtg.serving.refusals import Refused, not_allowed, too_large

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HARMLESS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """An ASGI application before another one.

    Args:
        host: what the server is bound to: beside the names of the loopback, its own and any IP address are right in a
            Host header where it is none of those.
        key: what clients must show, as a bearer token or as the password of HTTP's Basic scheme, whatever the user's
            name; None: nothing.
        asks_password: a browser shall ask for it.
        max_body_bytes: of one request; more is refused when it is read, or before where the request says its length.
        open_paths: what is answered without a key.
    """

    def __init__(
        self,
        app: App,
        *,
        host: str,
        key: str | None,
        max_body_bytes: int,
        asks_password: bool = False,
        open_paths: tuple[str, ...] = ("/health",),
    ) -> None:
        self.app, self.key, self.max_body_bytes, self.asks_password = app, key, max_body_bytes, asks_password
        self.open_paths, self.is_local = open_paths, host in LOOPBACK
        self.names = {*LOOPBACK} if self.is_local else {*LOOPBACK, host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            self._check_origin(scope["method"], headers)
            if scope["path"] not in self.open_paths:
                self._check_key(headers.get("authorization", ""))
            self._check_length(headers.get("content-length", ""))
        except Refused as refused:
            await self._refuse(refused, send)
            return
        await self.app(scope, self._counted(receive), send)

    def _check_origin(self, method: str, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        if not self._is_own(_name(f"//{host}")):
            raise not_allowed(f"Host {host[:100]!r} is no name of this server; open it by its address")
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc.lower() != host.lower()
        # Pages of another origin may send forms and simple requests, and cannot read what comes back.
        if method not in HARMLESS and (foreign or headers.get("sec-fetch-site", "") in ("cross-site", "same-site")):
            raise not_allowed(f"a page of another origin ({origin}) may not ask this server")

    def _is_own(self, name: str) -> bool:
        if name in self.names:
            return True
        if self.is_local:
            return False
        try:  # rebinding is of names: what was opened by an address is at that address
            return bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _check_key(self, authorization: str) -> None:
        if self.key is None:
            return
        scheme, _, text = authorization.partition(" ")
        shown = text.strip().encode("latin-1")  # the bytes that were sent
        if scheme.lower() == "basic":
            try:
                shown = base64.b64decode(shown, validate=True).partition(b":")[2]
            except binascii.Error:
                shown = b""
        if not hmac.compare_digest(shown, self.key.encode()):
            raise Refused("the key is missing or wrong", status=401, code="invalid_api_key")

    def _check_length(self, length: str) -> None:
        if length.isdecimal() and int(length) > self.max_body_bytes:
            raise too_large(f"{int(length) / 1e6:.1f} MB: at most {self.max_body_bytes / 1e6:.1f} MB are read")

    def _counted(self, receive: Receive) -> Receive:
        """`receive`, until a body is longer than it may be: not every request says its length before."""
        read = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.max_body_bytes:
                raise too_large(f"the request is larger than {self.max_body_bytes / 1e6:.1f} MB")
            return message

        return counted

    async def _refuse(self, refused: Refused, send: Send) -> None:
        body = json.dumps(error_document(refused)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if refused.status == 401 and self.asks_password:
            headers.append((b"www-authenticate", b'Basic realm="vtg", charset="UTF-8"'))
        # What is left of the body is not read.
        headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def error_document(refused: Refused) -> dict[str, Any]:
    """An error in the form of OpenAI's protocol."""
    kind = "invalid_request_error" if refused.status < 500 else "server_error"
    return {"error": {"message": str(refused), "type": kind, "param": None, "code": refused.code}}


def _name(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""
