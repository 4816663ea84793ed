from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from hypha_artifacts.blobs.layout import ARTIFACTS_PREFIX, blob_key
from hypha_artifacts.files.bounded import gather_bounded

from .orphans import without_rows
from .verify_rows import BlobState, Finding, blob_states, read_states, row_findings

if TYPE_CHECKING:
    from hypha_artifacts.blobs import BlobStore, StoredBlob
    from hypha_artifacts.core import Core
    from hypha_common.db import Shard

__all__ = ["Report", "Verifier"]

_PAGE = 1000
_PIECE_BYTES = 8 * 2**20
_SECOND_LOOK_S = 2.0
_OVERDUE_SLACK_S = 60.0
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass
class Report:
    """What was looked at, by kind, and what is wrong."""

    checked: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


class Verifier:
    """
    Compares rows with each other and with the objects in the store, while both are in use.

    What looks wrong is looked at again a moment later, and told only where it still is.

    """

    def __init__(
        self, core: Core, *, workspace: str | None = None, deep: bool = False, second_look_s: float = _SECOND_LOOK_S
    ) -> None:
        settings = core.settings
        self._core = core
        self._workspace = workspace
        self._deep = deep
        self._second_look_s = second_look_s
        self._grace_s = settings.s3_grace_period
        # A sweep comes each period; one may have just begun.
        self._overdue = timedelta(seconds=settings.s3_grace_period + 2 * settings.s3_cleanup_period + _OVERDUE_SLACK_S)
        self._shards = core.database.all() if workspace is None else [core.database.for_workspace(workspace)]

    async def run(self) -> Report:
        report = Report()
        suspects: dict[Shard, list[UUID]] = {}
        for shard in self._shards:
            suspects[shard] = await self._rows(shard, report)
        objects = await self._objects(report)
        await asyncio.sleep(self._second_look_s)
        for shard, ids in suspects.items():
            for start in range(0, len(ids), _PAGE):
                states = await read_states(shard, ids[start : start + _PAGE], overdue=self._overdue)
                report.findings += await self._check(states, Counter())
            report.findings += await self._twice(shard)
        report.findings += await self._still_there(objects)
        return report

    async def _rows(self, shard: Shard, report: Report) -> list[UUID]:
        """Look at each blob and its object; return those where something looks wrong."""
        suspects = []
        async for states in blob_states(shard, self._workspace, overdue=self._overdue):
            report.checked["rows"] += len(states)
            wrong = {finding.place for finding in await self._check(states, report.checked)}
            suspects += [state.id for state in states if state.key in wrong]
        return suspects

    async def _twice(self, shard: Shard) -> list[Finding]:
        """Return what is wrong among rows now and a moment later."""
        first = await row_findings(shard, self._workspace, overdue=self._overdue)
        if not first:
            return []
        await asyncio.sleep(self._second_look_s)
        second = set(await row_findings(shard, self._workspace, overdue=self._overdue))
        return [finding for finding in first if finding in second]

    async def _check(self, states: Sequence[BlobState], checked: Counter[str]) -> list[Finding]:
        findings = [finding for state in states for finding in state.findings()]
        settled = [state for state in states if state.has_object]
        checked["objects"] += len(settled)
        for found in await gather_bounded(self._compare, settled):
            findings += found
        return findings

    async def _compare(self, state: BlobState) -> list[Finding]:
        """Compare a row with its object."""
        stored = await self._core.store.head(state.key)
        if stored is None:
            return [Finding("missing", state.key, f"{_use(state)}, but the store does not have it")]
        if stored.size != state.size:
            return [
                Finding("wrong_size", state.key, f"{_use(state)} with {state.size} bytes, stored are {stored.size}")
            ]
        if _differ(state.etag, stored.etag):
            return [Finding("wrong_etag", state.key, f"{_use(state)} as {state.etag}, stored is {stored.etag}")]
        if self._deep and state.etag and _MD5.fullmatch(state.etag):
            digest = await _digest(self._core.store, stored)
            if digest != state.etag:
                return [Finding("wrong_bytes", state.key, f"{_use(state)} as {state.etag}, its MD5 is {digest}")]
        return []

    async def _objects(self, report: Report) -> list[Finding]:
        """Look through the store for objects without rows, and for two in one folder."""
        prefix = ARTIFACTS_PREFIX
        if self._workspace is not None:
            prefix = "/".join(blob_key(self._workspace, "-", UUID(int=0), "").split("/")[:2]) + "/"
        suspects: list[Finding] = []
        page: list[StoredBlob] = []
        last_folder = ""
        async for stored in self._core.store.list(prefix, page=_PAGE):
            folder = "/".join(stored.key.split("/", 4)[:4])
            if folder == last_folder:
                suspects.append(Finding("shared_folder", stored.key, "another object is in this folder"))
            last_folder = folder
            page.append(stored)
            if len(page) == _PAGE:
                suspects += await self._orphans(page, report)
                page = []
        return suspects + await self._orphans(page, report)

    async def _orphans(self, page: list[StoredBlob], report: Report) -> list[Finding]:
        report.checked["stored"] += len(page)
        young = self._young()
        lost = await without_rows(self._core.database.all(), [stored for stored in page if stored.modified_at < young])
        return [
            Finding("orphan", stored.key, f"no row stands for these {stored.size} bytes: hypha-artifacts gc --orphans")
            for stored in lost
        ]

    def _young(self) -> float:
        """Return the Unix time after which an object is too new to be missed by anybody."""
        return time.time() - self._grace_s

    async def _still_there(self, suspects: list[Finding]) -> list[Finding]:
        heads = await gather_bounded(lambda finding: self._core.store.head(finding.place), suspects)
        there = [head for head in heads if head is not None]
        lost = {stored.key for stored in await without_rows(self._core.database.all(), there)}
        kept = {stored.key for stored in there}
        return [finding for finding in suspects if finding.place in (lost if finding.kind == "orphan" else kept)]


def _use(state: BlobState) -> str:
    return f"committed as {state.committed}" if state.committed else f"staged as {state.staged}"


def _differ(noted: str | None, stored: str) -> bool:
    """Tell whether two etags speak of different bytes; one of a joined upload says nothing about an MD5."""
    if not noted or not stored or ("-" in noted) != ("-" in stored):
        return False
    return noted != stored


async def _digest(store: BlobStore, stored: StoredBlob) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for first in range(0, stored.size, _PIECE_BYTES):
        digest.update(await store.read(stored.key, first=first, size=min(_PIECE_BYTES, stored.size - first)))
    return digest.hexdigest()
