from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypha_common.errors import HyphaError, Unavailable, error_from_wire

__all__ = ["StartFailed", "StartLost", "failure_from_wire", "prefixed"]


class StartFailed(HyphaError):
    """An app did not start: its worker refused, its code failed, or its service did not come in time."""

    status, code, rpc_type = 500, "start_failed", "RuntimeError"


class StartLost(Unavailable):
    """A start went down with the replica that made it, and is nobody's fault: begin anew."""

    code = "start_lost"


def failure_from_wire(data: Mapping[str, Any]) -> HyphaError:
    """Rebuild the error of a start that was kept as :meth:`HyphaError.to_wire`."""
    ours = {error.code: error for error in (StartFailed, StartLost)}.get(str(data.get("code")))
    return error_from_wire(dict(data)) if ours is None else ours(str(data.get("message", "")))


def prefixed(text: str, error: HyphaError) -> HyphaError:
    """Return an error of the same kind that says first what was being done."""
    return failure_from_wire({**error.to_wire(), "message": f"{text}: {error.message}"})
