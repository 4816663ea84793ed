from __future__ import annotations

from hypha_common.wire import pack_frame

__all__ = ["rejection"]


def rejection(*, sender: str, to: str, session: str, text: str) -> bytes:
    """
    Return the frame that fails the call ``session`` of client ``to`` (contract 01 §1.8).

    ``sender`` must be exactly what the caller addressed, or the caller ignores the frame.

    """
    error = {"_rtype": "error", "_rvalue": text, "_rtrace": ""}
    return pack_frame(
        {"type": "method", "from": sender, "to": to, "method": f"{session}.reject", "ws": to.partition("/")[0]},
        {"args": [error]},
    )
