from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request
from websockets.server import ServerProtocol

__all__ = ["Upgrade", "has_old_parameters", "is_upgrade", "refused_upgrade"]

# Old clients pass these in the address; they are told to upgrade themselves (contract 01 §1.1).
_OLD_PARAMETERS = ("workspace", "client_id", "token", "reconnection_token")


@dataclass(slots=True)
class Upgrade:
    """The answer to an upgrade request: ``response`` to send, and whether the socket is a websocket after it."""

    response: bytes
    accepted: bool
    forwarded_for: bytes = b""
    old_client: bool = False

    @classmethod
    def of(cls, head: bytes) -> Upgrade:
        """Judge a whole request head, from the request line to the empty line."""
        protocol = ServerProtocol()
        protocol.receive_data(head)
        requests = [event for event in protocol.events_received() if isinstance(event, Request)]
        if not requests:
            return cls(b"".join(protocol.data_to_send()) or refused_upgrade(400, "Bad Request"), accepted=False)
        request = requests[0]
        response = protocol.accept(request)
        protocol.send_response(response)
        return cls(
            b"".join(protocol.data_to_send()),
            accepted=response.status_code == 101,
            forwarded_for=",".join(request.headers.get_all("X-Forwarded-For")).encode("latin-1", "replace"),
            old_client=has_old_parameters(urlsplit(request.path).query),
        )


def has_old_parameters(query: str) -> bool:
    names = parse_qs(query, keep_blank_values=True, max_num_fields=64)
    return any(name in names for name in _OLD_PARAMETERS)


def is_upgrade(head: bytes, path: bytes) -> bool:
    """Tell whether a request head asks for a websocket at ``path``."""
    line, _, fields = head.partition(b"\r\n")
    method, _, rest = line.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    return method == b"GET" and target == path and b"\r\nupgrade: websocket\r\n" in b"\r\n" + fields.lower()


def refused_upgrade(status: int, reason: str) -> bytes:
    """Return a whole response that refuses; 503 is tried again by clients, 403 never (contract 01 §1.1)."""
    return (f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n").encode()
