from __future__ import annotations

import sys

__all__ = ["hide_process"]

_PR_SET_DUMPABLE = 4


def hide_process() -> None:
    """
    Keep other processes of the same user from reading what this one holds: its memory, and its first environment.

    Tokens and secrets of a server are there. Where the kernel cannot do that, and from root, nothing is kept.

    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
