from __future__ import annotations

import re
from functools import lru_cache

from hypha_common.ids import MANAGER_ADDRESS, ROLE_SENDER_PREFIX, Address, role_of
from hypha_common.subjects import client_frames, colleague, partition_of, pinned, role_verb

__all__ = ["Router", "canonical", "instance_of", "is_of_a_role", "is_said_by", "role_sender", "takes_whole_frames"]

_PINNED = re.compile(r"i-([A-Za-z0-9]{8})-")
# Sessions made by an RpcPeer: `i-<role replica>-…`, `g-<gateway>-…`.
_SENDER = re.compile(rf"{ROLE_SENDER_PREFIX}([a-z]+)-([A-Za-z0-9]{{8}})")
_OURS = re.compile(r"[gi]-[A-Za-z0-9]{8}-")


class Router:
    """
    Where on the bus the frames of a replica of ``role`` go.

    A client's frames go to the gateway that holds its socket, another role's to any replica of its queue group, and
    what belongs to one replica (answers and callbacks, whose ``method`` starts with its session; what is sent to an
    address of its own) to that replica.

    """

    def __init__(self, role: str) -> None:
        self._role = role

    def subject_for(self, to: Address, method: str, *, workspace: str = "") -> str:
        """Return the subject; ``workspace`` is the sender's (``ws`` of the header), by default the target's."""
        return _subject_for(self._role, to.workspace, to.client, instance_of(method), workspace)


def role_sender(role: str, instance: str) -> str:
    """Return the client id that a replica calls as, in any workspace."""
    return f"{ROLE_SENDER_PREFIX}{role}-{instance}"


def is_of_a_role(address: Address) -> bool:
    """Tell whether a role answers at an address, any replica or one."""
    return role_of(address.workspace, address.client) is not None or _SENDER.fullmatch(address.client) is not None


def is_said_by(role: str, sender: object) -> bool:
    """Tell whether ``sender``, the ``from`` of a header, is an address of a role."""
    if not isinstance(sender, str):
        return False
    workspace, _, client = sender.partition("/")
    own = _SENDER.fullmatch(client)
    return own[1] == role if own is not None else role_of(workspace, client) == role


def instance_of(method: str) -> str | None:
    """Return the replica that a method is pinned to, or None where any replica may take it."""
    match = _PINNED.match(method)
    return match.group(1) if match else None


def takes_whole_frames(to: Address, method: str) -> bool:
    """Tell whether the receiver is one of ours, which needs no chunking (contract 01 §2.8): the bus fragments."""
    return role_of(to.workspace, to.client) is not None or _OURS.match(method) is not None


def canonical(address: str) -> str:
    """Return the one name of an address that has aliases: any ``*/manager-…`` is the workspace manager."""
    return MANAGER_ADDRESS if address.startswith("*/manager-") else address


@lru_cache(maxsize=8192)
def _subject_for(by: str, workspace: str, client: str, instance: str | None, sender_workspace: str) -> str:
    own = _SENDER.fullmatch(client)
    if own is not None:
        return colleague(pinned(own[1], own[2]), by)
    role = role_of(workspace, client)
    if role is None:
        return client_frames(workspace, client)
    if instance is not None:
        return colleague(pinned(role, instance), by)
    return colleague(role_verb(role, partition_of(sender_workspace or workspace), "call"), by)
