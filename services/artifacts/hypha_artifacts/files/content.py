"""
Contents of files as values that clients pass and get (contract 02 §2.3, read_file and write_file). Pure.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["FORMATS", "check_format", "decoded", "encoded"]

FORMATS = ("text", "binary", "base64", "json")
# Encodings of text. Python also knows some that are slow with long texts, or no encodings of text at all.
_ENCODING = re.compile(r"utf-(8|16|32).*|ascii|iso8859-\d+|cp\d+|koi8-\w|mac-\w+|gb\w+|big5\w*|euc_\w+|shift_jis\w*|hz")


def check_format(kind: object, encoding: object) -> None:
    """Raise BadRequest for a format or an encoding that is not known."""
    if kind not in FORMATS:
        raise BadRequest("Invalid format. Expected 'text', 'binary', 'base64', or 'json'.")
    try:
        known = isinstance(encoding, str) and "\x00" not in encoding and codecs.lookup(encoding).name
    except LookupError:
        known = ""
    if not known or not _ENCODING.fullmatch(known):
        raise BadRequest(f"Unknown encoding: {encoding!r}")


def decoded(data: bytes, kind: str, encoding: str, *, cut_before: bool = False, cut_behind: bool = False) -> Any:
    """
    Return a file's bytes as what a client asked for.

    ``cut_before`` and ``cut_behind`` tell that this is a piece: half characters at its ends are no error. Raises
    BadRequest where the bytes are not of that kind.

    """
    if kind == "binary":
        return data
    if kind == "base64":
        return base64.b64encode(data).decode("ascii")
    text = _text(data, encoding, cut_before=cut_before, cut_behind=cut_behind)
    if kind == "text":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        cut = " It was cut: pass a larger limit." if cut_behind else ""
        raise BadRequest(f"The file is not valid JSON: {error}.{cut}") from None


def encoded(content: object, kind: str, encoding: str) -> bytes:
    """Return the bytes that a client means. Raises BadRequest where the content is not of that kind."""
    if kind == "binary":
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise BadRequest("When format='binary', content must be bytes.")
        return bytes(content)
    if kind == "json" and not isinstance(content, str):
        try:
            content = json.dumps(content, indent=2, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            raise BadRequest("When format='json', content must be a JSON value or a string.") from None
    if not isinstance(content, str):
        raise BadRequest(f"When format='{kind}', content must be a string.")
    try:
        if kind == "base64":
            return base64.b64decode(content, validate=True)
        return content.encode(encoding)
    except binascii.Error as error:
        raise BadRequest(f"When format='base64', content must be valid base64: {error}") from None
    except UnicodeError as error:
        raise BadRequest(f"The content cannot be written as {encoding}: {error}") from None


def _text(data: bytes, encoding: str, *, cut_before: bool, cut_behind: bool) -> str:
    decoder = codecs.getincrementaldecoder(encoding)("replace" if cut_before else "strict")
    try:
        return decoder.decode(data, final=not cut_behind)
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"The file is not {encoding} text ({error.reason}); read it with format='binary' or 'base64'."
        ) from None
