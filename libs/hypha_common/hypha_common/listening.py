from __future__ import annotations

import socket

__all__ = ["bind", "inherited"]


def bind(host: str, port: int) -> list[socket.socket]:
    """Return a socket for every address of ``host``, bound and not listening yet. Raises OSError."""
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(address)
        except OSError:
            for other in (listener, *sockets):
                other.close()
            raise
        listener.setblocking(False)
        sockets.append(listener)
    return sockets


def inherited(descriptors: str) -> list[socket.socket]:
    """Return the sockets that a parent bound, by their comma-separated descriptors. Raises OSError."""
    return [socket.socket(fileno=int(number)) for number in descriptors.split(",")]
