from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import structlog

from hypha_common.audit import Audit
from hypha_common.blocks import Block, BlockKind, blocked_id
from hypha_common.bus import Bus
from hypha_common.errors import BadRequest

from .announcing import Announcer
from .block_repository import BlockRows

__all__ = ["DEFAULT_BLOCK_S", "BlockVerbs", "block_of"]

log = structlog.get_logger(__name__)

DEFAULT_BLOCK_S = 30 * 86400.0
_MAX_BLOCK_S = 100 * 365 * 86400.0
_MAX_REASON = 256
_ROOT = "root"


class BlockVerbs:
    """Keeps users and addresses out: ``hy.r.auth.<p>.block``, ``unblock`` and ``blocked``."""

    def __init__(self, *, rows: BlockRows, announcer: Announcer, audit: Audit) -> None:
        self._rows = rows
        self._announcer = announcer
        self._audit = audit

    async def serve(self, bus: Bus) -> None:
        for verb in (self.block, self.unblock, self.blocked):
            await bus.serve("auth", verb.__name__, verb)

    async def block(self, message: dict[str, Any]) -> dict[str, Any]:
        """``{kind, id, duration_s?, reason?, by?}`` -> ``{id, until}``; a duration of 0 is 30 days."""
        block, by = block_of(message), _text(message, "by")
        await self._rows.put(block, blocked_by=by)
        self._announcer.blocked(block)
        log.info("blocked", kind=str(block.kind), id=block.id, by=by)
        self._audit.record(
            "blocked", user=by, kind=str(block.kind), id=block.id, reason=block.reason, until=round(block.until)
        )
        return {"id": block.id, "until": block.until}

    async def unblock(self, message: dict[str, Any]) -> dict[str, bool]:
        """``{kind, id, by?}`` -> ``{removed}``"""
        kind, by = _kind(message), _text(message, "by")
        name = blocked_id(kind, message.get("id"))
        removed = await self._rows.delete(kind, name)
        self._announcer.unblocked(kind, name)
        if removed:
            log.info("unblocked", kind=str(kind), id=name, by=by)
            self._audit.record("unblocked", user=by, kind=str(kind), id=name)
        return {"removed": removed}

    async def blocked(self, message: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """``{}`` -> ``{users: [{id, reason, until}], ips: [...]}``"""
        blocks = await self._rows.current()

        def of(kind: BlockKind) -> list[dict[str, Any]]:
            return [{"id": b.id, "reason": b.reason, "until": b.until} for b in blocks if b.kind is kind]

        return {"users": of(BlockKind.USER), "ips": of(BlockKind.IP)}


def block_of(message: dict[str, Any], *, now: Callable[[], float] = time.time) -> Block:
    """Read what is asked for: ``{kind, id, duration_s?, reason?}``. Raises BadRequest."""
    kind, seconds = _kind(message), message.get("duration_s") or DEFAULT_BLOCK_S
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0:
        raise BadRequest("duration must be a number of seconds, 0 or more")
    name = blocked_id(kind, message.get("id"))
    if kind is BlockKind.USER and name == _ROOT:
        raise BadRequest("The user root cannot be blocked")
    return Block(kind, name, _text(message, "reason"), now() + min(seconds, _MAX_BLOCK_S))


def _kind(message: dict[str, Any]) -> BlockKind:
    try:
        return BlockKind(message.get("kind") or "")
    except ValueError:
        raise BadRequest("kind must be user or ip") from None


def _text(message: dict[str, Any], name: str) -> str:
    value = message.get(name) or ""
    if not isinstance(value, str) or not value.isprintable():
        raise BadRequest(f"{name} must be text")
    return value[:_MAX_REASON]
