from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

from hypha_common.errors import BadRequest

__all__ = ["SafeFolder", "UnsafePath", "readable_name"]

_NOT_FOR_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|%]')
_MAX_NAME_BYTES = 200
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none


class UnsafePath(BadRequest):
    """A name would lead out of the folder that files are written to, or through a link."""


class SafeFolder:
    """
    A folder that files of somebody else's naming are written to: nothing lands outside it.

    Symbolic links in it are not followed, whoever made them.

    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()

    def place(self, path: str) -> Path:
        """
        Return where a file belongs, and make the folders above it.

        Raises UnsafePath, or OSError where a folder has the name of a file or the other way round.

        """
        *folders, name = _parts(path)
        folder = self.root
        for part in folders:
            folder = folder / part
            try:
                folder.mkdir()
            except FileExistsError:
                if folder.is_symlink():
                    raise UnsafePath(f"{folder} is a symbolic link: nothing is written through it") from None
                if not folder.is_dir():
                    raise NotADirectoryError(f"{folder} is a file, and {path!r} needs a folder of that name") from None
        place = folder / name
        if place.is_symlink():
            raise UnsafePath(f"{place} is a symbolic link: nothing is written through it")
        if place.is_dir():
            raise IsADirectoryError(f"{place} is a folder, and a file of that name is to be written")
        return place

    def open(self, place: Path, *, append: bool = False, private: bool = False) -> BinaryIO:
        """Open a file that :meth:`place` gave; a link that came in between is refused."""
        flags = os.O_WRONLY | os.O_CREAT | _NO_FOLLOW | (os.O_APPEND if append else os.O_TRUNC)
        try:
            return os.fdopen(os.open(place, flags, 0o600 if private else 0o666), "ab" if append else "wb")
        except OSError as error:
            if place.is_symlink():
                raise UnsafePath(f"{place} is a symbolic link: nothing is written through it") from error
            raise


def readable_name(text: str) -> str:
    """Return a name for a file or folder from any text: readable, and different for different texts."""
    name = _NOT_FOR_NAMES.sub(lambda match: f"%{ord(match[0]):02X}", text)
    if name.strip(".") == "":
        name = name.replace(".", "%2E") or "%"
    if len(name.encode()) > _MAX_NAME_BYTES:
        import hashlib

        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        name = name.encode()[: _MAX_NAME_BYTES - 17].decode(errors="ignore") + "~" + digest
    return name


def _parts(path: str) -> list[str]:
    parts = path.split("/")
    for part in parts:
        if part in ("", ".", "..") or "\x00" in part or os.sep in part or (os.altsep or "\x00") in part:
            raise UnsafePath(f"{path!r} is not the path of a file in a folder")
        if os.name == "nt" and ":" in part:
            raise UnsafePath(f"{path!r} cannot be a file on this system")
    return parts
