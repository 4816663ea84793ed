from __future__ import annotations

import json

import pytest

from hypha_common.errors import (
    BadRequest,
    DeadlineExceeded,
    HyphaError,
    InternalError,
    NotFound,
    PeerNotFound,
    PermissionDenied,
    Unauthorized,
    Unavailable,
)
from hypha_common.rpc.remote import RemoteError
from hypha_gateway.http.errors import FunctionNotFound, describe_failure, is_missing_method, last_error
from hypha_gateway.http.responses import error_body

TRACEBACK = (
    'Traceback (most recent call last):\n  File "/secret/path.py", line 3, in f\n    raise ValueError("bad thing")\n'
)


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (RemoteError(TRACEBACK + "ValueError: bad thing"), 400, "RemoteException: ValueError: bad thing"),
        (RemoteError("PermissionError: not you"), 403, "RemoteException: PermissionError: not you"),
        (RemoteError(TRACEBACK + "KeyError: 'x'"), 404, "RemoteException: KeyError: 'x'"),
        (RemoteError("Exception: File Not Found"), 404, "RemoteException: Exception: File Not Found"),
        (RemoteError("AssertionError: no"), 400, "RemoteException: AssertionError: no"),
        (RemoteError("TypeError: no"), 400, "RemoteException: TypeError: no"),
        (RemoteError("RuntimeError: no"), 500, "RemoteException: RuntimeError: no"),
        (
            NotFound("Service not found: public/*:x@*"),
            404,
            "RemoteException: KeyError: 'Service not found: public/*:x@*'",
        ),
        (PermissionDenied("no"), 403, "RemoteException: PermissionError: no"),
        (BadRequest("two", rpc_type="AssertionError"), 400, "RemoteException: AssertionError: two"),
        (InternalError("Internal error"), 500, "RemoteException: RuntimeError: Internal error"),
        (FunctionNotFound("f"), 404, "f not found."),
        (DeadlineExceeded("Method call timed out: a:b"), 504, "TimeoutError: Method call timed out: a:b"),
        (PeerNotFound("Target peer a/b is not connected"), 503, "ConnectionError: Target peer a/b is not connected"),
        (Unavailable("away"), 503, "ConnectionError: away"),
    ],
)
def test_status_and_detail(error: HyphaError, status: int, detail: str) -> None:
    """The text of a remote exception decides about the status; its traceback stays away."""
    assert describe_failure(error) == (status, detail)


def test_traceback_only_on_demand() -> None:
    """An operator may have tracebacks told; nobody else gets them."""
    error = RemoteError(TRACEBACK + "ValueError: bad thing")
    assert "/secret" not in describe_failure(error)[1]
    assert "/secret" in describe_failure(error, detailed=True)[1]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (TRACEBACK + "ValueError: line one\nline two", "ValueError: line one\nline two"),
        ("Error: boom\n    at f (/home/a/app.js:1:2)\n    at g (b.js:3)", "Error: boom"),
        (TRACEBACK + "pkg.errors.BadThing: why", "pkg.errors.BadThing: why"),
        ("RemoteError:Traceback (most recent call last):\nTimeoutError", "TimeoutError"),
        ("hypha_rpc.rpc.RemoteException: RemoteError:ValueError: deep", "ValueError: deep"),
        ("just words", "just words"),
        ("", "Exception"),
    ],
)
def test_last_error(text: str, last: str) -> None:
    """Of a rejection only the last exception is told."""
    assert last_error(text) == last


def test_long_messages_are_cut() -> None:
    """A detail is no place for megabytes."""
    assert len(last_error("ValueError: " + "x" * 100_000)) == 2000


def test_missing_method() -> None:
    """A method that is not there differs from one that did not find something."""
    method = "services.s.f"
    assert is_missing_method(RemoteError(f"Exception: Method expired or not found: a/b:{method}"), method)
    assert is_missing_method(RemoteError(f"Method not found: {method}"), method)
    assert not is_missing_method(RemoteError("KeyError: 'Method not found: other'"), method)
    assert not is_missing_method(RemoteError("KeyError: 'row not found'"), method)


def test_error_bodies() -> None:
    """Refused credentials have the form of web frameworks, everything else says success: false."""
    assert json.loads(error_body(Unauthorized("no"))) == {"detail": "no"}
    assert json.loads(error_body(NotFound("no"), "nothing")) == {"success": False, "detail": "nothing"}
