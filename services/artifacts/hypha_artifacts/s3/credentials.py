from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import b32encode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hypha_common.subjects import PARTITIONS, partition_of

if TYPE_CHECKING:
    from asyncpg import Record

    from hypha_common.db import Database
    from hypha_common.settings import Settings

__all__ = ["Credential", "CredentialRows", "workspace_secret", "workspace_secrets"]

_PREFIX = "HY"  # then two digits of the partition, and 16 letters
_LENGTH = 20
_FRESH_S = 5.0
_MAX_KNOWN = 4096
_MAX_OF_USER = 100  # in one workspace; the oldest go

_ADD = """
    INSERT INTO s3_credentials (access_key_id, workspace, user_id, read_only, expires_at) VALUES ($1, $2, $3, $4, $5)
"""
_TIDY = """
    DELETE FROM s3_credentials WHERE workspace = $1 AND (expires_at <= now() - interval '1 day' OR access_key_id IN (
        SELECT access_key_id FROM s3_credentials WHERE workspace = $1 AND user_id = $2
        ORDER BY created_at DESC OFFSET $3
    ))
"""
_FIND = "SELECT access_key_id, workspace, user_id, read_only, expires_at FROM s3_credentials WHERE access_key_id = $1"
_DROP = "DELETE FROM s3_credentials WHERE access_key_id = $1 AND workspace = $2"
_DROP_ALL = "DELETE FROM s3_credentials WHERE workspace = $1"


@dataclass(frozen=True, slots=True)
class Credential:
    """A key for the files of one workspace. Its secret is not kept: whoever knows the cluster's can compute it."""

    access_key_id: str
    workspace: str
    user_id: str
    read_only: bool
    expires_at: float | None  # Unix time, seconds

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= time.time()


class CredentialRows:
    """Keys for files of workspaces, in the database of the workspace; one that was found is believed for 5 s."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, tuple[float, Credential]] = OrderedDict()

    async def add(self, workspace: str, user_id: str, *, read_only: bool, expires_at: float | None) -> Credential:
        """Make a new key."""
        letters = b32encode(secrets.token_bytes(10)).decode()
        key_id = f"{_PREFIX}{partition_of(workspace):02d}{letters}"
        until = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC)
        shard = self._database.for_workspace(workspace)
        await shard.execute(_ADD, key_id, workspace, user_id, read_only, until)
        await shard.execute(_TIDY, workspace, user_id, _MAX_OF_USER)
        return Credential(key_id, workspace, user_id, read_only, expires_at)

    async def find(self, access_key_id: str) -> Credential | None:
        known = self._known.get(access_key_id)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        partition = access_key_id[len(_PREFIX) : len(_PREFIX) + 2]
        well_formed = len(access_key_id) == _LENGTH and access_key_id.isascii() and access_key_id.startswith(_PREFIX)
        if not well_formed or not partition.isdigit() or int(partition) >= PARTITIONS:
            return None
        row = await self._database.for_partition(int(partition)).fetchrow(_FIND, access_key_id)
        if row is None:
            return None
        found = _credential(row)
        self._known[access_key_id] = (time.monotonic() + _FRESH_S, found)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
        return found

    async def drop(self, workspace: str, access_key_id: str) -> bool:
        """End a key of a workspace; False where there is none."""
        self._known.pop(access_key_id, None)
        return bool(await self._database.for_workspace(workspace).execute(_DROP, access_key_id, workspace))

    async def drop_all(self, workspace: str) -> None:
        """End all keys of a workspace."""
        for key_id in [key_id for key_id, (_, known) in self._known.items() if known.workspace == workspace]:
            del self._known[key_id]
        await self._database.for_workspace(workspace).execute(_DROP_ALL, workspace)


def workspace_secret(settings: Settings, access_key_id: str) -> str:
    """Return the secret of a key for the files of a workspace."""
    return _secret(settings.jwt_secret, access_key_id)


def workspace_secrets(settings: Settings, access_key_id: str) -> Iterator[str]:
    """Yield what may have signed with a key: the cluster's secret may have been changed since it was made."""
    for known in (settings.jwt_secret, *settings.jwt_previous_secrets):
        yield _secret(known, access_key_id)


def _secret(known: str, access_key_id: str) -> str:
    mark = hmac.new(known.encode(), b"hypha: keys of workspaces\0" + access_key_id.encode(), hashlib.sha256).digest()
    return urlsafe_b64encode(mark)[:40].decode()


def _credential(row: Record) -> Credential:
    until: datetime | None = row["expires_at"]
    return Credential(
        row["access_key_id"],
        row["workspace"],
        row["user_id"],
        row["read_only"],
        None if until is None else until.timestamp(),
    )
