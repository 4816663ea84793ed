from __future__ import annotations

import re
from functools import lru_cache

from hypha_common.ids import MANAGER_ADDRESS, Address, role_of
from hypha_common.subjects import client_frames, partition_of, pinned, role_verb

__all__ = ["Router", "canonical", "instance_of", "takes_whole_frames"]

_PINNED = re.compile(r"i-([A-Za-z0-9]{8})-")
# Sessions made by an RpcPeer: `i-<role replica>-…`, `g-<gateway>-…`.
_OURS = re.compile(r"[gi]-[A-Za-z0-9]{8}-")


class Router:
    """
    Where on the bus a frame goes.

    A client's frames go to the gateway that holds its socket, a role's to any replica of its queue group, and what
    belongs to a session of one replica (answers and callbacks, whose ``method`` starts with it) to that replica.

    """

    def subject_for(self, to: Address, method: str, *, workspace: str = "") -> str:
        """Return the subject; ``workspace`` is the sender's (``ws`` of the header), by default the target's."""
        return _subject_for(to.workspace, to.client, instance_of(method), workspace)


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
def _subject_for(workspace: str, client: str, instance: str | None, sender_workspace: str) -> str:
    role = role_of(workspace, client)
    if role is None:
        return client_frames(workspace, client)
    if instance is not None:
        return pinned(role, instance)
    return role_verb(role, partition_of(sender_workspace or workspace), "call")
