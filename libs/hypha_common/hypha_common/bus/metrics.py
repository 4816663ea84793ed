from __future__ import annotations

from prometheus_client import Counter, Gauge

__all__ = ["CONNECTED", "ERRORS", "FRAGMENTS_DROPPED", "RECONNECTS", "REFUSED"]

CONNECTED = Gauge("bus_connected", "1 while the bus connection is up")
RECONNECTS = Counter("nats_reconnects", "Times the bus connection was re-established")
ERRORS = Counter("nats_errors", "Errors that the bus client reported", ["kind"])
REFUSED = Counter("bus_publish_refused", "Publishes refused because the bus was away")
FRAGMENTS_DROPPED = Gauge("bus_fragments_dropped", "Unfinished fragmented messages given up")
