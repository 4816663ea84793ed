from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from hypha_common.ids import ROLE_CLIENTS
from hypha_common.readings import SECONDS, begin_at_zero

__all__ = [
    "ADMISSION_WAIT",
    "CONNECTIONS",
    "ESTABLISHED",
    "HANDSHAKE_SECONDS",
    "INVALID_FRAMES",
    "PEER_NOT_FOUND",
    "RATE_LIMITED",
    "REFUSED",
    "ROLE_CALLS",
    "ROLE_SECONDS",
    "ROUTE_SECONDS",
    "SLOW_CLOSED",
    "SUPERSEDED",
    "WEB_CALLS",
]

CONNECTIONS = Gauge("websocket_connections", "Open client connections", ["transport"])
ESTABLISHED = Counter("websocket_connections_established", "Handshakes that succeeded")
REFUSED = Counter("websocket_refused", "Handshakes that were refused", ["code"])
RATE_LIMITED = Counter("websocket_rate_limited_disconnects", "Connections closed for sending too many frames")
SLOW_CLOSED = Counter("slow_client_closed", "Connections closed because the client did not read")
SUPERSEDED = Counter("supersede", "Connections replaced by a newer one of the same client")
INVALID_FRAMES = Counter("gateway_invalid_frames", "Frames that could not be parsed")
PEER_NOT_FOUND = Counter("peer_not_found", "Calls of a client that is not, or no longer, connected", ["reason"])
ROUTE_SECONDS = Histogram(
    "frame_route_seconds",
    "Time to send a frame on its way, of one in 64",
    buckets=(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25),
)
ROLE_CALLS = Counter("role_calls", "Calls of clients to roles", ["target", "outcome"])
ROLE_SECONDS = Histogram(
    "role_call_seconds", "Time until a role answered a call, seen at the gateway", ["target"], buckets=SECONDS
)
begin_at_zero(REFUSED, "1013")
begin_at_zero(PEER_NOT_FOUND, "bus_lost", "left", "nobody", "silent")
begin_at_zero(ROLE_CALLS, *((role, outcome) for role in ROLE_CLIENTS.values() for outcome in ("answered", "failed")))
ADMISSION_WAIT = Histogram("admission_wait_seconds", "Time a client waited for a slot to be let in", buckets=SECONDS)
WEB_CALLS = Gauge("web_service_calls", "Requests and websockets that clients' ASGI applications are answering")
HANDSHAKE_SECONDS = Histogram(
    "handshake_seconds",
    "First message to connection_info",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
