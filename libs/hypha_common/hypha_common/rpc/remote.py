from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from hypha_common.errors import HyphaError, NotFound
from hypha_common.trace import trace_id

__all__ = ["MethodNotFound", "RemoteError", "error_text", "peer_lost", "status_of_remote_text"]

_HEAD = "Traceback (most recent call last):"
_HEAD_LINE = f"{_HEAD}\n"
_PERHAPS_RUN = " any more; it may have run the call"
_NOT_CONNECTED = re.compile(rf"(?:\w+: )?Target peer \S.* is not connected(?:{re.escape(_PERHAPS_RUN)})?\Z")
_LAST_LINE = re.compile(r"([A-Za-z_][\w.]*)(?:: (.*))?\Z", re.DOTALL)
_JAVASCRIPT_FRAME = re.compile(r"^\s*(?:at |\S*@)\S.*:\d+:\d+\)?$", re.MULTILINE)
_STATUSES = {"FileNotFoundError:": 404, "FileExistsError:": 409, "NotImplementedError:": 501}
_CODES = {
    400: "bad_request", 403: "permission_denied", 404: "not_found", 409: "conflict", 501: "not_supported",
    504: "deadline_exceeded",
}  # fmt: skip


class MethodNotFound(NotFound):
    """There is no such method here, or no longer; clients match on the whole text (contract 01 §10.4)."""

    def __init__(self, called: str) -> None:
        super().__init__(f"Method expired or not found: {called}")


class RemoteError(HyphaError):
    """
    The other side rejected a call.

    ``text`` is what it wrote, traceback included; ``last_line`` is what users match on (``KeyError: 'x'``). Raised
    again by a method of ours, or passed between services, it arrives as that same last line.

    """

    def __init__(self, text: str) -> None:
        self.text = text.removeprefix("RemoteError:").strip()
        lines = self.text.splitlines()
        self.last_line = lines[-1].strip() if lines else ""
        match = _LAST_LINE.match(self.last_line)
        rpc_type, message = (match.group(1), match.group(2) or "") if match else ("Exception", self.last_line)
        self.status = status_of_remote_text(self.text)
        self.code = _CODES.get(self.status, "internal")
        super().__init__(_unquoted(message) if rpc_type == "KeyError" else message, rpc_type=rpc_type)

    def __str__(self) -> str:
        return self.last_line

    def rpc_text(self) -> str:
        return self.last_line


def status_of_remote_text(text: str) -> int:
    """Return the HTTP status for what a remote function raised (contract 01 §5.4)."""
    text = _exception_part(text)
    if "KeyError:" in text or "not found" in text.lower():
        return 404
    if "PermissionError:" in text or "Permission denied" in text:
        return 403
    if any(name in text for name in ("TypeError:", "ValueError:", "AssertionError:")):
        return 400
    for name, status in _STATUSES.items():
        if name in text:
            return status
    return 504 if "Method call timed out:" in text else 500


def is_peer_gone(text: str) -> bool:
    """Tell whether a rejection is the router's "the target is not connected" (contract 01 §1.8)."""
    return _NOT_CONNECTED.match(text) is not None


def peer_lost(target: str) -> str:
    """
    Return what a caller is told when whoever had its call is gone.

    That the target ``is not connected`` without these words means that the call never reached anybody.

    """
    return f"Target peer {target} is not connected{_PERHAPS_RUN}"


def error_text(error: BaseException) -> str:
    """Return the text of a rejection: the shape of a traceback without anything of this server in it."""
    if isinstance(error, MethodNotFound):
        return error.message
    last = error.rpc_text() if isinstance(error, HyphaError) else f"{type(error).__name__}: {error}"
    return f"{_HEAD}\n{last.removesuffix(': ')}"


def encoded_error(text: str, error_id: str | None = None) -> dict[str, Any]:
    """
    Return the wire form of a rejection, with the id that an operator finds it by: that of the current trace.

    Clients show ``_rvalue`` and match on its end; where it has the shape of a traceback, the id is a line of that.

    """
    if error_id is None:
        error_id = trace_id()
    # Half a surrogate pair, out of a file name or a JSON string, has no UTF-8.
    shown = text.encode("utf-8", "replace").decode()
    if not error_id:
        return {"_rtype": "error", "_rvalue": shown, "_rtrace": ""}
    if shown.startswith(_HEAD_LINE):
        shown = f"{_HEAD_LINE}  Error id: {error_id}\n{shown[len(_HEAD_LINE) :]}"
    return {"_rtype": "error", "_rvalue": shown, "_rtrace": "", "error_id": error_id}


def error_of(value: Any) -> str:
    """Return the text in what came with a ``reject``, whatever shape a hand-written client gave it."""
    if not isinstance(value, Mapping):
        return "" if value is None else str(value)
    text, trace = str(value.get("_rvalue", value.get("message", ""))), value.get("_rtrace")
    if not isinstance(trace, str) or not trace.strip() or _JAVASCRIPT_FRAME.search(trace):
        return text
    # Of a synchronous Python function only the trace names the type of the exception.
    trace = trace.rstrip()
    return text if text.rstrip().endswith(trace.splitlines()[-1].strip()) else f"{text}\n{trace}"


def _exception_part(text: str) -> str:
    """Return what follows the last traceback entry: source lines and earlier exceptions say nothing of the status."""
    lines = text.splitlines()
    entries = [index for index, line in enumerate(lines) if line.startswith('  File "')]
    if not entries:
        return text
    start = entries[-1] + 1
    while start < len(lines) and lines[start].startswith("    "):
        start += 1
    return "\n".join(lines[start:]) or text


def _unquoted(message: str) -> str:
    # str(KeyError("x")) is "'x'"; HyphaError.rpc_text() puts the quotes back.
    try:
        plain = ast.literal_eval(message)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return message
    return plain if isinstance(plain, str) else message
