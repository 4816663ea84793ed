from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find_descendant", "is_alive", "private_bytes"]

_PROC = Path("/proc")


def find_descendant(mark: str) -> int | None:
    """Return the topmost process below this one that has ``mark`` in its command line; None where nobody can tell."""
    for pid in _below(os.getpid()):
        try:
            if mark in (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                return pid
        except OSError:
            continue
    return None


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and was not collected does not."""
    try:
        return _state(pid) not in "ZX"
    except OSError:
        return False


def private_bytes(pid: int) -> int:
    """Return the memory that a process and all below it have for themselves; 0 where nobody can tell."""
    return sum(_private(one) for one in (pid, *_below(pid)))


def _below(pid: int) -> Iterator[int]:
    """Yield the descendants of a process, parents before their children."""
    children: dict[int, list[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            children.setdefault(_parent(int(entry.name)), []).append(int(entry.name))
        except OSError:
            continue
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(0), ()):
            waiting.append(child)
            yield child


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _state(pid: int) -> str:
    return _stat(pid)[0]


def _stat(pid: int) -> list[str]:
    """Return the fields after the name of a program, which may hold blanks and brackets itself."""
    return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _private(pid: int) -> int:
    try:
        pages = (_PROC / str(pid) / "statm").read_text().split()
    except OSError:
        return 0
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")
