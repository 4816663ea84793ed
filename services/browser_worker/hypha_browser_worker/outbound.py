from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

__all__ = ["Outbound", "OutboundRefused", "is_public"]

log = structlog.get_logger(__name__)

_MAX_CONNECTIONS = 1024
_CONNECT_TIMEOUT_S = 15.0
_CHUNK_BYTES = 65536
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# Of SOCKS 5 (RFC 1928).
_VERSION, _NO_LOGIN, _CONNECT = 5, 0, 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_GRANTED, _NOT_ALLOWED, _UNREACHABLE, _BAD_COMMAND = 0, 2, 4, 7
# Addresses of version 6 that lead to one of version 4, whichever that is.
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


class OutboundRefused(Exception):
    """An address that pages may not reach."""


class Outbound:
    """
    The way of pages to the outside: a SOCKS 5 proxy on loopback that connects to public addresses only.

    It decides about the address that it then connects to, so names that lead to another one the second time, redirects
    and websockets are no way around it. ``allowed``: ``name`` or ``name:port`` that may be reached although private.

    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(name.lower() for name in allowed)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_CHUNK_BYTES)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(list(self._serving))

    async def check(self, url: str) -> None:
        """Raise OutboundRefused where a page may not be fetched from here."""
        parts = urlsplit(url)
        await self._addresses(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._serving) >= _MAX_CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._connect_and_relay(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _connect_and_relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                destination = await _read_request(reader, writer)
            if destination is None:
                await _answer(writer, _BAD_COMMAND)
            else:
                await self._relay_to(*destination, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side hung up
        finally:
            writer.close()

    async def _relay_to(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                other_reader, other = await self._connect(host, port)
        except OutboundRefused:
            log.info("page_request_refused", host=host, port=port)
            await _answer(writer, _NOT_ALLOWED)
            return
        except OSError:
            await _answer(writer, _UNREACHABLE)
            return
        try:
            await _answer(writer, _GRANTED)
            await _relay((reader, other), (other_reader, writer))
        finally:
            other.close()

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        failed: OSError = ConnectionRefusedError()
        for address in await self._addresses(host, port):
            try:
                return await asyncio.open_connection(address, port, limit=_CHUNK_BYTES)
            except OSError as error:
                failed = error
        raise failed

    async def _addresses(self, host: str, port: int) -> list[str]:
        """Return where a name leads. Raises OutboundRefused where nowhere that is allowed, OSError where nowhere."""
        name = host.lower().strip("[]").rstrip(".")
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        shown = f"[{name}]" if ":" in name else name
        if {name, f"{shown}:{port}"} & self._allowed:
            return addresses
        if public := [address for address in addresses if is_public(address)]:
            return public
        raise OutboundRefused(f"{host} is in a private network: apps in browsers may not go there")


def is_public(address: str) -> bool:
    """Tell whether anybody on the Internet could reach an IP address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int] | None:
    """Return where a client of SOCKS 5 wants to; None: it wants something else than a connection."""
    version, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    if version != _VERSION:
        return None
    writer.write(bytes((_VERSION, _NO_LOGIN)))
    version, command, _, kind = await reader.readexactly(4)
    if kind == _NAME:
        (length,) = await reader.readexactly(1)
        host = (await reader.readexactly(length)).decode("ascii", errors="replace")
    else:
        host = str(ipaddress.ip_address(await reader.readexactly(16 if kind == _IPV6 else 4)))
    port = int.from_bytes(await reader.readexactly(2), "big")
    return (host, port) if command == _CONNECT and kind in (_IPV4, _NAME, _IPV6) else None


async def _answer(writer: asyncio.StreamWriter, code: int) -> None:
    writer.write(bytes((_VERSION, code, 0, _IPV4)) + bytes(6))
    await writer.drain()


async def _relay(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Pass bytes on in both directions until both have ended."""
    async with asyncio.TaskGroup() as group:
        for reader, writer in ways:
            group.create_task(_pass_on(reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with suppress(OSError, RuntimeError):
        writer.write_eof()
