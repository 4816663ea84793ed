from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from hypha_common.errors import BadRequest, PayloadTooLarge

if TYPE_CHECKING:
    import httpx

__all__ = ["Downloads"]

MAX_SOURCE_BYTES = 16 * 2**20
_TIMEOUT_S = 20.0
_MAX_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)

Resolve = Callable[[str, int], Awaitable[list[str]]]


class Downloads:
    """
    Fetches sources from the web by HTTPS, in the name of whoever installs them.

    Only from addresses that the whole world can reach: nobody looks into our network with the server's eyes. The
    connection goes to the very address that was looked at.

    """

    def __init__(self, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._resolve = resolve or _public_addresses
        self._tls = tls

    async def fetch(self, url: str) -> str:
        """Return the text at ``url``. Raises BadRequest where it cannot be had, PayloadTooLarge."""
        import httpx  # few apps are installed from the web

        transport = httpx.AsyncHTTPTransport(verify=self._tls or True)
        try:
            async with asyncio.timeout(_TIMEOUT_S), httpx.AsyncClient(transport=transport, trust_env=False) as client:
                for _ in range(_MAX_REDIRECTS + 1):
                    following = await self._step(client, url)
                    if isinstance(following, bytes):
                        return following.decode()
                    url = urljoin(url, following)
        except TimeoutError:
            raise BadRequest(f"The source at {url:.200} did not come in {_TIMEOUT_S:g} seconds") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            raise BadRequest(f"The source at {url:.200} cannot be read: {type(error).__name__}") from None
        raise BadRequest(f"The source at {url:.200} is redirected too often")

    async def _step(self, client: httpx.AsyncClient, url: str) -> bytes | str:
        """Return the body of an answer, or the address that it redirects to."""
        place = urlsplit(url)
        if place.scheme != "https" or not place.hostname:
            raise BadRequest("Only secured https urls are allowed")
        port = place.port or 443
        address = (await self._resolve(place.hostname, port))[0]
        request = client.build_request(
            "GET",
            place._replace(netloc=f"[{address}]:{port}" if ":" in address else f"{address}:{port}").geturl(),
            # Compressed answers could grow beyond any limit.
            headers={"host": place.netloc.rpartition("@")[2], "accept-encoding": "identity"},
            extensions={"sni_hostname": place.hostname},
        )
        answer = await client.send(request, stream=True)
        try:
            if answer.status_code in _REDIRECTS and "location" in answer.headers:
                return str(answer.headers["location"])
            if answer.status_code != 200 or answer.headers.get("content-encoding", "identity") != "identity":
                raise BadRequest(f"The source at {url:.200} cannot be read: status {answer.status_code}")
            body = bytearray()
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > MAX_SOURCE_BYTES:
                    raise PayloadTooLarge(f"A source may have {MAX_SOURCE_BYTES} bytes at most")
            return bytes(body)
        finally:
            await answer.aclose()


async def _public_addresses(host: str, port: int) -> list[str]:
    """Return where a host is. Raises BadRequest unless all of it is public."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise BadRequest(f"There is no host {host:.200}") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(_is_public(address) for address in addresses):
        raise BadRequest(f"The host {host:.200} is not on the public internet")
    return addresses


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_global and not parsed.is_multicast
