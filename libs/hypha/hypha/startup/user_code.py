"""
Telling the author of a startup function what went wrong in it.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import TracebackType

__all__ = ["summary", "tell"]

_OURS = (str(Path(__file__).parent), "<frozen importlib", f"{Path('importlib')}/")


def summary(error: BaseException) -> str:
    """Return the exception in one line: ``ValueError: text``."""
    return "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]


def tell(error: BaseException) -> None:
    """Print the traceback to stderr, from the first line on that is not ours."""
    traceback.print_exception(type(error), error, _from_user_code(error.__traceback__), file=sys.stderr)
    sys.stderr.flush()


def _from_user_code(frames: TracebackType | None) -> TracebackType | None:
    first = frames
    while first is not None:
        file = first.tb_frame.f_code.co_filename
        if not file.startswith(_OURS[:2]) and _OURS[2] not in file:
            return first
        first = first.tb_next
    return None
