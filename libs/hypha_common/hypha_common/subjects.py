"""
Bus subjects (design.md "Subjects").

Every id becomes one subject token. Letters, digits, ``-`` and ``_`` stand for themselves; every other UTF-8 byte is
written ``=XX``, so the mapping is reversible and no id can contain a separator or a wildcard.
"""

from __future__ import annotations

import re
import zlib

__all__ = [
    "PARTITIONS",
    "broadcast",
    "client_frames",
    "decode_token",
    "encode_token",
    "gateway_verb",
    "no_responders_prefix",
    "parse_client_frames",
    "partition_of",
    "pinned",
    "role_verb",
    "session_token",
    "workspace_events",
]

PARTITIONS = 64
MAX_SESSION_TOKEN = 512  # with two ids in one PUB line this stays below the 4 KiB that NATS takes by default

_UNSAFE = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


def encode_token(text: str) -> str:
    """Encode any id as one subject token; the empty id is ``=``."""
    if not text:
        return "="
    return _UNSAFE.sub(lambda m: b"=%02X" % m.group()[0], text.encode()).decode()


def decode_token(token: str) -> str:
    """Reverse :func:`encode_token`."""
    if token == "=":
        return ""
    return _ESCAPED.sub(lambda m: bytes([int(m.group(1), 16)]), token.encode()).decode()


def session_token(session: str) -> str:
    """Encode a session, or return an empty text where it is too long to be part of a subject."""
    token = encode_token(session) if len(session) <= MAX_SESSION_TOKEN else ""
    return token if len(token) <= MAX_SESSION_TOKEN else ""


def partition_of(workspace: str) -> int:
    """Return the partition (0..63) that owns a workspace. The hash (CRC-32) is fixed for ever."""
    return zlib.crc32(workspace.encode()) % PARTITIONS


def client_frames(workspace: str, client: str) -> str:
    """Frames to one client; the gateway that owns its socket subscribes."""
    return f"hy.f.{partition_of(workspace)}.{encode_token(workspace)}.{encode_token(client)}"


def parse_client_frames(subject: str) -> tuple[str, str]:
    """Return (workspace, client) of a :func:`client_frames` subject."""
    _, _, _, workspace, client = subject.split(".")
    return decode_token(workspace), decode_token(client)


def workspace_events(workspace: str) -> str:
    """Events and broadcasts of a workspace; gateways that hold subscribed members listen."""
    return f"hy.e.{partition_of(workspace)}.{encode_token(workspace)}"


def role_verb(role: str, partition: int | str, verb: str) -> str:
    """Requests to a role, answered by one replica of its queue group. ``partition`` may be ``*`` to subscribe."""
    return f"hy.r.{role}.{partition}.{verb}"


def pinned(role: str, instance: str) -> str:
    """Frames to one replica of a role."""
    # Instances are named by frames of clients too: one that is no name must not become part of the bus protocol.
    if not (instance.isalnum() and instance.isascii()):
        instance = encode_token(instance)
    return f"hy.i.{role}.{instance}"


def no_responders_prefix(owner: str) -> str:
    """Where the bus reports to ``owner`` (a gateway or replica) that nobody listens at a subject."""
    return f"hy.n.{owner}"


def gateway_verb(gateway: str, verb: str) -> str:
    """Requests to one gateway: kick, drain, subscribe …"""
    return f"hy.g.{gateway}.{verb}"


def broadcast(topic: str) -> str:
    """Cluster-wide announcements, such as revoked tokens; every interested process listens."""
    return f"hy.b.{topic}"
