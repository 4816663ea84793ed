from __future__ import annotations

from hypha_common.wire import pack_frame

__all__ = ["rejection"]


def rejection(*, sender: str, to: str, session: str, text: str, error_id: str) -> bytes:
    """
    Return the frame that fails the call ``session`` of client ``to`` (contract 01 §1.8).

    ``sender`` must be exactly what the caller addressed, or the caller ignores the frame. The id that an operator finds
    the error by is a key of its own: clients match on the whole of these texts.

    """
    error = {"_rtype": "error", "_rvalue": text, "_rtrace": "", "error_id": error_id}
    return pack_frame(
        {"type": "method", "from": sender, "to": to, "method": f"{session}.reject", "ws": to.partition("/")[0]},
        {"args": [error]},
    )
