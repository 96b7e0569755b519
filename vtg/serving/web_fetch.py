"""A video at an http(s) address that a client names, fetched without being led to where the server alone can go.

A client may name any host, and a host may resolve to any address or redirect to any other. So a host's addresses must
all be public (or its name one that whoever runs the server has allowed), the connection goes to the very address that
was looked at, and every redirect is looked at in the same way. Proxies of the environment are not used.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from urllib.parse import SplitResult, urljoin, urlsplit

from vtg.serving.refusals import Refused, not_allowed, too_slow, wrong

REDIRECTS = 5
REDIRECTING = (301, 302, 303, 307, 308)
BLOCK_BYTES = 1 << 16

# Prefix of IPv6 addresses that a gateway turns into the IPv4 address at their end (RFC 6052).
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def fetch(
    url: str, write: Callable[[bytes], None], *, private_hosts: Collection[str] = (), timeout_s: float = 60.0
) -> None:
    """Gives what lies at `url` to `write`, piece by piece; `write` may raise to end it.

    Args:
        private_hosts: names of hosts that may lie in a private network, or be this machine.
        timeout_s: for all of it.

    Raises:
        Refused: no address of http or https; a host that may not be asked; it answers no file; it takes too long.
    """
    deadline = time.monotonic() + timeout_s
    for _ in range(REDIRECTS + 1):
        parts = _checked(url)
        connection = _connected(parts, private_hosts, timeout_s=max(0.1, deadline - time.monotonic()))
        # Timeouts of sockets begin anew with every byte; this one ends whatever is read.
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _shut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            target = _read(connection, parts, write)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= deadline:
                raise too_slow(f"{url}: took longer than {timeout_s:g} s") from error
            raise wrong(f"{url}: cannot be fetched ({type(error).__name__}: {error})") from error
        finally:
            timer.cancel()
            connection.close()
        if target is None:
            return
        if parts.scheme == "https" and not urljoin(url, target).startswith("https:"):
            raise not_allowed(f"{url}: is redirected to {target}, which is not encrypted")
        url = urljoin(url, target)
    raise wrong(f"{url}: is redirected more than {REDIRECTS} times")


def is_public(address: str) -> bool:
    """Whether an IP address is one that the whole internet can reach, whichever notation hides what it is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def _checked(url: str) -> SplitResult:
    """The parts of an address. Raises Refused for what is none."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # checked only when it is read
    except ValueError as error:
        raise wrong(f"{url[:200]!r}: not an address ({error})") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise wrong(f"{url[:200]!r}: give http://HOST/FILE or https://HOST/FILE, without a user")
    return parts


def _connected(parts: SplitResult, private_hosts: Collection[str], *, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to an address of the host that was found to be allowed."""
    host, is_safe = parts.hostname, parts.scheme == "https"
    assert host is not None
    port = parts.port or (443 if is_safe else 80)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no host can have
        raise wrong(f"{parts.geturl()}: there is no such host ({error})") from error
    addresses = [str(entry[4][0]) for entry in found]
    if host not in private_hosts and not all(map(is_public, addresses)):
        raise not_allowed(f"{parts.geturl()}: leads into a private network or to this machine, which is not allowed")
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.sock = socket.create_connection((addresses[0], port), timeout=timeout_s)
        if is_safe:
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
    except OSError as error:
        connection.close()
        raise wrong(f"{parts.geturl()}: cannot be reached ({error})") from error
    return connection


def _read(connection: http.client.HTTPConnection, parts: SplitResult, write: Callable[[bytes], None]) -> str | None:
    """Hands the file on; where it leads elsewhere instead, returns that."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # What a browser would do: spaces and letters of other scripts in an address that was typed.
    path = "".join(sign if "!" <= sign <= "~" else "".join(f"%{byte:02X}" for byte in sign.encode()) for sign in path)
    connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "vtg", "Accept": "*/*"})
    answer = connection.getresponse()
    location = answer.headers.get("Location")
    if answer.status in REDIRECTING and location is not None:
        return location
    if answer.status != 200:
        raise Refused(f"{parts.geturl()}: answers {answer.status} {answer.reason}", status=400, code="invalid_value")
    while block := answer.read(BLOCK_BYTES):
        write(block)
    return None


def _shut(connection: http.client.HTTPConnection) -> None:
    with suppress(OSError):  # closed already
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
