from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any

from hypha_common.errors import BadRequest

__all__ = ["AppFiles"]


class AppFiles:
    """
    The files of an app while it is compiled, as ``install`` takes them: ``{name or path, content, format}`` each.

    Files that nothing asks for stay as they are. Raises BadRequest for what is no list of such files.

    """

    def __init__(self, files: Iterable[Mapping[str, Any]] | None) -> None:
        self._files: dict[str, dict[str, Any]] = {}
        for file in files or ():
            path = (file.get("path") or file.get("name")) if isinstance(file, Mapping) else None
            if not isinstance(path, str) or not path:
                raise BadRequest("Each file of an app must have a 'name' or 'path'")
            name = file.get("name") or path.rpartition("/")[2]
            self._files[path] = {**file, "name": name, "path": path}

    def __contains__(self, path: str) -> bool:
        return path in self._files

    def text(self, path: str) -> str:
        """Return the content of a text file. Raises BadRequest."""
        file = self._files[path]
        content = file.get("content")
        if file.get("format") == "base64" and isinstance(content, str):
            encoded = content.partition(",")[2] if content.startswith("data:") else content
            try:
                content = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                raise BadRequest(f"File '{path}' is not base64") from None
        if isinstance(content, bytes | bytearray | memoryview):
            try:
                content = bytes(content).decode()
            except UnicodeDecodeError:
                raise BadRequest(f"File '{path}' is not UTF-8 text") from None
        if not isinstance(content, str):
            raise BadRequest(f"File '{path}' has no text")
        return content

    def put(self, path: str, text: str) -> None:
        """Add or replace a text file."""
        self._files[path] = {
            "name": path.rpartition("/")[2],
            "path": path,
            "content": text,
            "format": "text",
        }

    def remove(self, path: str) -> None:
        del self._files[path]

    def list(self) -> list[dict[str, Any]]:
        return list(self._files.values())
