"""
JSON schemas that collections have for the manifests of their children (contract 02 §1.4).

They are written by users, and so are the texts that their regular expressions are tried on: nothing is fetched, and a
check that takes long is broken off, because it would hold up everybody else.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["check_against", "check_schema"]

MAX_CHECK_S = 0.5  # of processor time
_MAX_SHOWN = 1000


def check_schema(schema: object) -> None:
    """Raise BadRequest unless this is a schema of JSON Schema, draft 7. None is none."""
    from jsonschema import Draft7Validator, SchemaError

    if schema is None:
        return
    if not isinstance(schema, dict):
        raise BadRequest("collection_schema must be a JSON schema")
    with _bounded():
        try:
            Draft7Validator.check_schema(schema)
        except SchemaError as error:
            raise BadRequest(f"collection_schema is not a valid JSON schema: {error.message:.{_MAX_SHOWN}}") from None


def check_against(schema: object, manifest: dict[str, Any]) -> None:
    """Raise BadRequest where a manifest is not what the schema of its collection wants."""
    if not isinstance(schema, dict):
        return
    from jsonschema import Draft7Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # With a registry of its own a validator looks nowhere else for what `$ref` names.
    validator = Draft7Validator(schema, registry=Registry())
    with _bounded():
        try:
            error = best_match(validator.iter_errors(manifest))
        except Unresolvable as missing:
            raise BadRequest(f"collection_schema refers to what it does not contain: {missing}") from None
    if error is not None:
        place = error.json_path.removeprefix("$").removeprefix(".")
        where = f" (at {place})" if place else ""
        raise BadRequest(f"ValidationError: {error.message:.{_MAX_SHOWN}}{where}")


class _TooLongError(Exception):
    pass


@contextmanager
def _bounded() -> Iterator[None]:
    """
    Break off what runs too long or too deep, as a fault of who wrote the schema.

    The engine for regular expressions looks for signals while it searches; a thread would not help, because it holds
    the interpreter all the while.

    """
    try:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGVTALRM, _too_long)
        signal.setitimer(signal.ITIMER_VIRTUAL, MAX_CHECK_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before)
    except _TooLongError:
        raise BadRequest("Checking against collection_schema takes too long") from None
    except RecursionError:
        raise BadRequest("collection_schema is too deep, or refers to itself without end") from None
    except re.error as error:
        raise BadRequest(f"collection_schema has an invalid pattern: {error}") from None


def _too_long(number: int, frame: FrameType | None) -> None:
    raise _TooLongError
