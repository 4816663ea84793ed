from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from uuid import UUID

from hypha_common.errors import BadRequest
from hypha_common.ids import is_text
from hypha_common.subjects import PARTITIONS, partition_of

__all__ = ["ArtifactName", "Reference", "first_uuid_now", "new_uuid", "parse_reference", "partition_in"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class ArtifactName:
    """An artifact by name: ``workspace/alias``."""

    workspace: str
    alias: str

    def __str__(self) -> str:
        return f"{self.workspace}/{self.alias}"


Reference = UUID | ArtifactName


def parse_reference(text: object, default_workspace: str) -> Reference:
    """
    Parse what names an artifact (contract 02 §0): its UUID, ``workspace/alias``, or an alias of the default workspace.

    Raises BadRequest.

    """
    if not isinstance(text, str) or not text or "\x00" in text or not is_text(text):
        raise BadRequest(f"Invalid artifact ID: {text!r}")
    if _UUID.fullmatch(text):
        return UUID(text)
    if text.count("/") > 1:
        raise BadRequest("Invalid artifact ID format, it should be `workspace/alias`.", rpc_type="AssertionError")
    workspace, slash, alias = text.rpartition("/")
    if not alias or (slash and not workspace):
        raise BadRequest(f"Invalid artifact ID: {text!r}")
    return ArtifactName(workspace if slash else default_workspace, alias)


def new_uuid(workspace: str) -> UUID:
    """
    Return a UUID of version 7 (RFC 9562: sorted by time) whose last six bits are the partition of a workspace.

    So whoever has nothing but the UUID knows which database holds the row.

    """
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=number & ~(PARTITIONS - 1) | partition_of(workspace))


def first_uuid_now() -> UUID:
    """Return what is smaller than every UUID that :func:`new_uuid` makes from now on, and larger than earlier ones."""
    return UUID(int=time.time_ns() // 1_000_000 << 80)


def partition_in(identifier: UUID) -> int:
    """Return the partition that :func:`new_uuid` wrote into a UUID; any number for another UUID."""
    return identifier.int & (PARTITIONS - 1)
