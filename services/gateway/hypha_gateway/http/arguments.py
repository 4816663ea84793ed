from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl

from hypha_common.errors import BadRequest, HyphaError, UnsupportedMediaType
from hypha_common.wire import pack, unpack

__all__ = [
    "Arguments",
    "Media",
    "body_arguments",
    "query_arguments",
    "query_parameters",
    "request_media",
    "response_media",
]

MAX_QUERY_FIELDS = 1000

# Names of the route itself; a query that repeats them is not passed on (contract 01 §5.4).
RESERVED = frozenset({"workspace", "service_id", "function_key", "_mode"})

# Unlike float(), no "nan", "inf" or "1_000": those are words that people send as words.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_DIGITS = re.compile(r"\d+", re.ASCII)
_LARGEST_INTEGER = 2**64 - 1  # of msgpack


class Media(Enum):
    """The two formats of arguments and results."""

    JSON = b"application/json"
    MSGPACK = b"application/msgpack"


_MSGPACK_NAMES = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})


@dataclass(slots=True)
class Arguments:
    """What a function is called with. The values keep their wire form (``_rtype`` maps): the provider decodes them."""

    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)


def request_media(content_type: bytes | None) -> Media | None:
    """Return the format that a Content-Type names, whatever its parameters, or None for another one."""
    if content_type == b"application/json":
        return Media.JSON
    if content_type is None:
        return None
    name = content_type.partition(b";")[0].strip().lower().decode("latin-1")
    if name in _MSGPACK_NAMES:
        return Media.MSGPACK
    if name == "application/json" or (name.startswith("application/") and name.endswith("+json")):
        return Media.JSON
    return None


def response_media(content_type: bytes | None, accept: bytes | None) -> Media:
    """Answer in the format of the request; where it names none, ``Accept`` may ask for msgpack."""
    media = request_media(content_type)
    if media is None and accept is not None:
        media = request_media(accept.partition(b",")[0])
    return media or Media.JSON


def query_parameters(query: bytes) -> dict[str, str]:
    """Return the fields of a query string, the last of equal names. Raises BadRequest."""
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=MAX_QUERY_FIELDS
        )
    except ValueError as error:
        raise BadRequest(f"Invalid query: {error}") from None
    return dict(pairs)


def query_arguments(parameters: dict[str, str]) -> Arguments:
    """
    Make keyword arguments of a query: numbers where the text is one, maps from ``{…}``, else text.

    Raises BadRequest.

    """
    return Arguments(kwargs={name: _value(name, text) for name, text in parameters.items() if name not in RESERVED})


def body_arguments(body: bytes, media: Media | None) -> Arguments:
    """
    Decode a body: a map is keyword arguments, a list positional ones, anything else the only argument.

    Raises BadRequest, or UnsupportedMediaType where there is a body and no format for it.

    """
    if not body:
        return Arguments()
    if media is None:
        raise UnsupportedMediaType("Send Content-Type: application/json or application/msgpack")
    value = _decode(body, media)
    if isinstance(value, dict):
        if not all(isinstance(name, str) for name in value):
            raise BadRequest("Invalid request body: the names of arguments must be text")
        return Arguments(kwargs=value)
    if isinstance(value, list):
        return Arguments(args=value)
    return Arguments() if value is None else Arguments(args=[value])


def _decode(body: bytes, media: Media) -> Any:
    try:
        if media is Media.MSGPACK:
            return unpack(body)
        value = json.loads(body)
        # JSON can say what the wire cannot: integers beyond 64 bits, lone surrogates.
        pack(value)
        return value
    except HyphaError as error:
        raise BadRequest(f"Invalid request body: {error.message}") from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadRequest(f"Invalid request body: {_reason(error)}") from None


def _value(name: str, text: str) -> Any:
    if not text or text[0] not in "+-.0123456789{":
        return text
    if text[0] == "{":
        try:
            value = json.loads(text)
            pack(value)
        except (ValueError, OverflowError, RecursionError) as error:
            raise BadRequest(f"Invalid value of {name}: {_reason(error)}") from None
        return value
    if _DIGITS.fullmatch(text):
        # Beyond what an integer of the wire holds it is an identifier: as a float it would lose digits.
        return int(text) if len(text) <= 20 and int(text) <= _LARGEST_INTEGER else text
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number if abs(number) != float("inf") else text
    return text


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error) or type(error).__name__
