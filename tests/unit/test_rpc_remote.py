from __future__ import annotations

import pytest

from hypha_common.errors import BadRequest, DeadlineExceeded, NotFound, error_from_wire
from hypha_common.rpc.remote import (
    MethodNotFound,
    RemoteError,
    error_of,
    error_text,
    is_peer_gone,
    status_of_remote_text,
)

TRACE = 'Traceback (most recent call last):\n  File "/home/someone/service.py", line 3, in get\n    fail()\n'

TRACEBACK = """Traceback (most recent call last):
  File "/home/someone/service.py", line 3, in get
    return self.table[key]
           ~~~~~~~~~~^^^^^
KeyError: 'inner'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/someone/service.py", line 5, in get
    raise RuntimeError("broken")
RuntimeError: broken"""


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("KeyError: 'Service not found: public/*:nosvc@*'", 404),
        ("Traceback (most recent call last):\nKeyError: 'x'", 404),
        ("Exception: Workspace Not Found", 404),
        ("PermissionError: not you", 403),
        ("Exception: Permission denied for workspace W", 403),
        ("FileNotFoundError: File 'x' does not exist in the artifact.", 404),
        ("FileExistsError: Artifact with alias 'a' already exists", 409),
        ("NotImplementedError: Git storage is not supported by this server", 501),
        ("TypeError: got an unexpected keyword argument 'x'", 400),
        ("ValueError: bad thing\nof two lines", 400),
        ("AssertionError: Invalid key, key does not exist", 400),
        ("TimeoutError: Method call timed out: ws/c:services.h.hang, context: ", 504),
        ("TimeoutError", 500),
        ("Exception: Login timeout, waited for 10 seconds", 500),
        ("", 500),
        (TRACEBACK, 500),
        (TRACEBACK.replace("RuntimeError: broken", "ValueError: broken"), 400),
    ],
)
def test_status(text: str, status: int) -> None:
    """The exception decides, not what stands in the source lines above it."""
    assert status_of_remote_text(text) == status
    assert RemoteError(text).status == status


def test_last_line() -> None:
    """The whole text is kept; the last line is taken apart."""
    error = RemoteError("RemoteError:" + TRACEBACK + "\n")
    assert error.text == TRACEBACK
    assert (error.last_line, error.rpc_type, error.message) == ("RuntimeError: broken", "RuntimeError", "broken")
    assert RemoteError("something odd, no type").last_line == "something odd, no type"
    assert RemoteError("").last_line == ""


@pytest.mark.parametrize("line", ["KeyError: 'a \"b\" c'", "ValueError: bad", "TimeoutError", "KeyError: unquoted"])
def test_passed_on(line: str) -> None:
    """Answered by us, or sent to another service and answered there, it is the same last line."""
    error = RemoteError(f"Traceback (most recent call last):\n{line}")
    assert error_text(error).splitlines()[-1] == line
    if line != "KeyError: unquoted":
        again = error_from_wire(error.to_wire())
        assert error_text(again).splitlines()[-1] == line
        assert again.status == error.status


def test_text_of_rejections() -> None:
    """What users match on is the last line; a missing method is the whole text."""
    head = "Traceback (most recent call last):\n"
    assert error_text(NotFound("x")) == head + "KeyError: 'x'"
    assert error_text(BadRequest("x")) == head + "ValueError: x"
    assert error_text(DeadlineExceeded("")) == head + "TimeoutError"
    assert error_text(KeyError("x")) == head + "KeyError: 'x'"
    assert error_text(MethodNotFound("a/b:services.x.y")) == "Method expired or not found: a/b:services.x.y"


def test_peer_gone() -> None:
    """Only the router's own words mean that a peer is gone."""
    assert is_peer_gone("Target peer WS/CID is not connected")
    assert is_peer_gone("ConnectionError: Target peer W S/C is not connected")
    assert not is_peer_gone("Traceback\nValueError: Target peer x/y is not connected, sorry")


@pytest.mark.parametrize(
    ("value", "trace", "last_line", "status"),
    [
        ("bad thing", TRACE + "ValueError: bad thing\n", "ValueError: bad thing", 400),
        ("'x'", TRACE + "KeyError: 'x'\n", "KeyError: 'x'", 404),
        (TRACE + "ValueError: x", "Exception: " + TRACE + "ValueError: x\n", "ValueError: x", 400),
        ("TypeError: x", "TypeError: x\n    at f (file:///app.js:1:2)\n    at g (app.js:3:4)", "TypeError: x", 400),
        ("Error: x", "f@http://host/app.js:1:2\n@http://host/app.js:3:4", "Error: x", 500),
        ("x", "", "x", 500),
    ],
)
def test_type_of_the_exception(value: str, trace: str, last_line: str, status: int) -> None:
    """Synchronous Python functions name the exception's type only in the trace, JavaScript only in the value."""
    error = RemoteError(error_of({"_rtype": "error", "_rvalue": value, "_rtrace": trace}))
    assert (error.last_line, error.status) == (last_line, status)
