from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack, suppress

from hypha_common.errors import ConfigurationError

__all__ = ["LOOPBACK", "bracketed", "check_free", "free_port", "free_run", "local_host"]

LOOPBACK = "127.0.0.1"
_TRIES = 50
# Below those that Linux (from 32768 on) and macOS (49152) give to connections that go out: one of these could take the
# port between our look and the bind of whom it is for.
_QUIET_PORTS = range(20_000, 32_000)
_ANY_ADDRESS = {"0.0.0.0": LOOPBACK, "::": "::1", "": LOOPBACK}  # noqa: S104


def free_port(host: str = LOOPBACK) -> int:
    """Return a port that nobody listens at, and that no connection of this machine is likely to take meanwhile."""
    for port in random.sample(_QUIET_PORTS, _TRIES):
        with suppress(OSError), _bound(host, port):
            return port
    with _bound(host, 0) as listener:
        given: int = listener.getsockname()[1]
    return given


def free_run(host: str, count: int) -> int:
    """Return the first of ``count`` free ports in a row."""
    for _ in range(_TRIES):
        first = free_port(host)
        try:
            check_free(host, first, count)
        except ConfigurationError:
            continue
        return first
    raise ConfigurationError(f"There are no {count} free ports in a row at {host}")


def check_free(host: str, first: int, count: int = 1, *, flag: str = "--port") -> None:
    """Raise ConfigurationError unless ``count`` ports from ``first`` on can be listened at; ``flag`` chose them."""
    if first + count - 1 > 65535:
        raise ConfigurationError(f"Port {first} leaves no room for {count} gateways")
    with ExitStack() as listeners:
        for port in range(first, first + count):
            try:
                listeners.enter_context(_bound(host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise ConfigurationError(
                        f"Port {port} at {host} is in use: another server listens there; choose another {flag}"
                    ) from None
                raise ConfigurationError(f"Cannot listen at {host}:{port}: {error.strerror or error}") from None


def _bound(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # As servers do: a port with connections in TIME_WAIT is free, one with a listener is not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def local_host(host: str) -> str:
    """Return the host of URLs that reach, from this machine, whoever listens at ``host``."""
    return bracketed(_ANY_ADDRESS.get(host, host))


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
