from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from hypha_common.readings import Readings, counter, gauge

from .traffic import Traffic

if TYPE_CHECKING:
    from .gateway import Gateway

__all__ = ["GATEWAYS"]

_GAUGES = {
    "outbound_queue_bytes": "Bytes that wait for clients to read them",
    "outbound_queue_max_bytes": "Bytes that wait for the client that reads slowest",
    "slow_clients": "Connections whose clients read more slowly than they are sent to",
    "handshakes_waiting": "Clients that wait for a slot to be let in",
    "gateway_draining": "1 while the gateway sends its clients away",
    "lease_age_seconds": "Time since the registry last heard that this gateway lives",
    "client_load_current": "Frames a minute delivered to clients that share load, when the lease was renewed",
}


def _readings(gateways: list[Gateway]) -> Iterable[Metric]:
    """A process has one gateway, and none before it has started."""
    owner = gateways[0] if gateways else None
    traffic = Traffic() if owner is None else owner.router.traffic
    values: Mapping[str, float] = dict.fromkeys(_GAUGES, 0) if owner is None else _values_of(owner)
    owed = Counter({(role,): calls for role, calls in ({} if owner is None else owner.roles.owed()).items()})
    tables = {(name,): size for name, size in ({} if owner is None else owner.tables()).items()}
    return [
        *_frames(traffic, 0 if owner is None else owner.audience.delivered),
        *(gauge(name, text, values[name]) for name, text in _GAUGES.items()),
        gauge("role_calls_owed", "Calls to roles that are not answered yet", owed, ("target",)),
        gauge("gateway_table_entries", "What the gateway keeps in its tables", tables, ("table",)),
    ]


def _frames(traffic: Traffic, events: int) -> list[Metric]:
    frames = {
        ("in", "local"): traffic.local,
        ("in", "bus"): traffic.bus,
        ("in", "role"): traffic.role,
        ("in", "broadcast"): traffic.broadcast,
        ("out", "local"): traffic.local,
        ("out", "bus"): traffic.from_bus,
        ("out", "role"): traffic.from_role,
        ("out", "event"): events,
    }
    about = "Frames: taken from clients, by where they go; given to clients, by where they come from"
    return [
        counter("gateway_frames", about, frames, ("dir", "kind")),
        counter("gateway_frame_bytes", "Bytes of frames taken from clients", traffic.sizes.total),
        traffic.sizes.metric("frame_bytes", "Sizes of frames taken from clients"),
        counter("client_requests", "Calls of clients to other clients", traffic.calls),
        counter("event_bus", "Events published for members of workspaces", traffic.broadcast),
    ]


def _values_of(gateway: Gateway) -> dict[str, float]:
    waiting = [connection.link.queued_bytes for connection in gateway.table]
    return {
        "outbound_queue_bytes": sum(waiting),
        "outbound_queue_max_bytes": max(waiting, default=0),
        "slow_clients": len(gateway.router.slow),
        "handshakes_waiting": gateway.handshake.waiting,
        "gateway_draining": gateway.state.draining,
        "lease_age_seconds": gateway.lease.age_s,
        "client_load_current": gateway.lease.load,
    }


GATEWAYS = Readings(_readings)
