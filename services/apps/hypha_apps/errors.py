from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypha_common.errors import HyphaError, StartFailed, Unavailable, error_from_wire

__all__ = ["StartFailed", "StartLost", "failure_from_wire", "prefixed"]


class StartLost(Unavailable):
    """A start went down with the replica that made it, and is nobody's fault: begin anew."""

    code = "start_lost"


def failure_from_wire(data: Mapping[str, Any]) -> HyphaError:
    """Rebuild the error of a start that was kept as :meth:`HyphaError.to_wire`."""
    if data.get("code") == StartLost.code:
        return StartLost(str(data.get("message", "")))
    return error_from_wire(dict(data))


def prefixed(text: str, error: HyphaError) -> HyphaError:
    """Return an error of the same kind that says first what was being done."""
    return failure_from_wire({**error.to_wire(), "message": f"{text}: {error.message}"})
