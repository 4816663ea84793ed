from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .local_files import LocalFile

__all__ = ["UploadState", "cache_folder"]

_MARGIN_S = 600  # addresses that expire sooner are not worth a start


@dataclass(frozen=True, slots=True)
class _Begun:
    """What must be the same for an upload to go on, and what it goes on with."""

    size: int
    modified_ns: int
    part_bytes: int
    upload_id: str
    urls: dict[int, str]  # by number of the part
    expires_at: float  # Unix time, seconds


class UploadState:
    """
    What is remembered of an upload in parts, so that the next run goes on with it.

    A file of the user's own cache folder: first how it began, then a line for each part that is there. The addresses of
    parts are good for writing those parts, so nobody else may read it.

    """

    def __init__(self, place: Path, file: LocalFile) -> None:
        self._place = place
        self._file = file
        self.done: dict[int, str] = {}  # etags by number of the part
        self.begun: _Begun | None = None

    @classmethod
    def of(cls, server_url: str, artifact_id: str, path: str, file: LocalFile) -> UploadState:
        """Return what is remembered of sending a file to a place, if it is still of use."""
        name = "\n".join((server_url, artifact_id, path, str(file.path.resolve())))
        state = cls(cache_folder() / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.jsonl", file)
        state._load()
        return state

    def begin(self, upload_id: str, urls: dict[int, str], *, part_bytes: int, life_s: float) -> None:
        self.done = {}
        self.begun = _Begun(self._file.size, self._file.modified_ns, part_bytes, upload_id, urls, time.time() + life_s)
        self._place.parent.mkdir(parents=True, exist_ok=True)
        self.forget()
        with os.fdopen(os.open(self._place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(asdict(self.begun)) + "\n")

    def add(self, number: int, etag: str) -> None:
        """Note that a part is there."""
        self.done[number] = etag
        with suppress(OSError), self._place.open("a") as file:
            file.write(json.dumps([number, etag]) + "\n")

    def forget(self) -> None:
        self._place.unlink(missing_ok=True)

    def _load(self) -> None:
        try:
            first, *others = self._place.read_text().splitlines()
            known = json.loads(first)
            begun = _Begun(**{**known, "urls": {int(number): url for number, url in known["urls"].items()}})
        except (OSError, ValueError, TypeError, KeyError):
            return
        same = (begun.size, begun.modified_ns) == (self._file.size, self._file.modified_ns)
        if not same or begun.expires_at < time.time() + _MARGIN_S:
            return
        self.begun = begun
        for line in others:
            with suppress(ValueError, TypeError):  # the last one may have been cut short
                number, etag = json.loads(line)
                self.done[int(number)] = str(etag)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypha" / "uploads"
