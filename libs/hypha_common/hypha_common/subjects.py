"""
Bus subjects (design.md "Subjects").

Every id becomes one subject token. Letters, digits, ``-`` and ``_`` stand for themselves; every other UTF-8 byte is
written ``=XX``, so the mapping is reversible and no id can contain a separator or a wildcard.
"""

from __future__ import annotations

import re
import zlib

from .ids import ROLE_SENDER_PREFIX

__all__ = [
    "PARTITIONS",
    "answers",
    "broadcast",
    "client_frames",
    "colleague",
    "decode_token",
    "encode_token",
    "gateway_verb",
    "no_responders_prefix",
    "parse_client_frames",
    "partition_of",
    "pinned",
    "role_verb",
    "sender_role",
    "session_token",
    "workspace_events",
]

PARTITIONS = 64
MAX_SESSION_TOKEN = 512  # with two ids in one PUB line this stays below the 4 KiB that NATS takes by default

_SENDER = re.compile(rf"({ROLE_SENDER_PREFIX}[a-z]+)-([A-Za-z0-9]+)")
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
    """
    Frames to one client; the gateway that owns its socket subscribes.

    What a replica of a role calls as (``client-role-<role>-<instance>``) is two tokens: so NATS can tell these
    addresses from those of clients, and one role's from another's.

    """
    head = f"hy.f.{partition_of(workspace)}.{encode_token(workspace)}"
    if client.startswith(ROLE_SENDER_PREFIX) and (sender := _SENDER.fullmatch(client)) is not None:
        return f"{head}.{sender[1]}.{sender[2]}"
    return f"{head}.{encode_token(client)}"


def parse_client_frames(subject: str) -> tuple[str, str]:
    """Return (workspace, client) of a :func:`client_frames` subject."""
    _, _, _, workspace, *client = subject.split(".")
    return decode_token(workspace), "-".join(map(decode_token, client))


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


def colleague(subject: str, role: str) -> str:
    """Where a replica of ``role`` sends what it would send to ``subject`` of another role, were it a gateway."""
    return f"{subject}.from.{role}"


def sender_role(subject: str) -> str:
    """Return the role that sent to a :func:`colleague` subject, empty where it is none."""
    head, _, role = subject.rpartition(".")
    return role if head.endswith(".from") else ""


def answers(role: str, instance: str, token: str) -> str:
    """Where a process of ``role`` takes the answer to one request; ``token`` may be ``*`` to subscribe."""
    return f"hy.a.{role}.{instance}.{token}"


def no_responders_prefix(owner: str) -> str:
    """Where the bus reports to ``owner`` (a gateway or replica) that nobody listens at a subject."""
    return f"hy.n.{owner}"


def gateway_verb(gateway: str, verb: str) -> str:
    """Requests to one gateway: kick, drain, subscribe …"""
    return f"hy.g.{gateway}.{verb}"


def broadcast(topic: str) -> str:
    """Cluster-wide announcements, such as revoked tokens; every interested process listens."""
    return f"hy.b.{topic}"
