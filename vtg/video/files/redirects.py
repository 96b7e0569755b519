"""HTTP clients that follow no redirect to where the user's address does not lead.

An address that the user wrote may lie in a private network. A server may send its clients on, though, and a client in a
cluster reaches what the server cannot: other machines, services of this one, the cloud's metadata. So a redirect may
stay where it is (scheme, host and port), or lead to a public host over https or the scheme it came by.
"""

import asyncio
import ipaddress
import socket
from typing import Any


class RedirectRefused(PermissionError):
    """A server sends its client to a place it may not be sent to."""


async def guarded_client(loop: asyncio.AbstractEventLoop | None = None, **options: Any) -> Any:
    """The `get_client` of fsspec's HTTP file system: an aiohttp.ClientSession that refuses such redirects."""
    import aiohttp  # pyright: ignore[reportMissingImports]
    from aiohttp.resolver import DefaultResolver  # pyright: ignore[reportMissingImports]
    from yarl import URL  # pyright: ignore[reportMissingImports]

    redirect_hosts: set[str] = set()

    class Resolver(DefaultResolver):  # pyright: ignore[reportGeneralTypeIssues]
        """Looks hosts up; a host that a redirect named must have public addresses alone."""

        async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
            resolved = await super().resolve(host, port, family)
            # Checked again at the moment of connecting: a name server may answer differently than before (rebinding).
            if host in redirect_hosts:
                _check_public(host, [entry["host"] for entry in resolved])
            return resolved

    async def check(_session: Any, _context: Any, params: Any) -> None:
        # aiohttp follows either header.
        location = params.response.headers.get("Location") or params.response.headers.get("URI")
        if location is None:
            return
        origin = params.response.url
        target = origin.join(URL(location))
        if target.scheme == origin.scheme and (target.host, target.port) == (origin.host, origin.port):
            return
        if target.scheme not in ("https", origin.scheme) or target.host is None:
            raise RedirectRefused(f"it is redirected to {target}, by another scheme, which is not followed")
        entries = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        _check_public(str(target), [entry[4][0] for entry in entries])
        redirect_hosts.add(target.host)

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(check)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver()), trace_configs=[trace], **options)


def _check_public(target: str, addresses: list[Any]) -> None:
    for address in addresses:
        if not ipaddress.ip_address(address).is_global:
            raise RedirectRefused(f"it is redirected to {target} ({address}), in a private network: not followed")
