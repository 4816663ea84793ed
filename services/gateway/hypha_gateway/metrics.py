from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "CONNECTIONS",
    "ESTABLISHED",
    "FRAMES",
    "FRAMES_BYTES",
    "HANDSHAKE_SECONDS",
    "INVALID_FRAMES",
    "PEER_NOT_FOUND",
    "RATE_LIMITED",
    "REFUSED",
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
FRAMES = Counter("gateway_frames", "Frames taken from clients", ["to"])
FRAMES_BYTES = Counter("gateway_frame_bytes", "Bytes of frames taken from clients")
INVALID_FRAMES = Counter("gateway_invalid_frames", "Frames that could not be parsed")
PEER_NOT_FOUND = Counter("peer_not_found", "Frames to a client that is not connected")
WEB_CALLS = Gauge("web_service_calls", "Requests and websockets that clients' ASGI applications are answering")
HANDSHAKE_SECONDS = Histogram(
    "handshake_seconds",
    "First message to connection_info",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
)
