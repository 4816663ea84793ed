from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "ProcessTree", "role_of"]

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
_OWN_SERVICE = re.compile(r"hypha[_-](gateway|auth|workspace|artifacts|apps|browser[_-]worker)\b")
_BINARY_ROLES = {
    "chrome": "browser",
    "chrome_crashpad_handler": "browser",
    "chromium": "browser",
    "nats-server": "nats",
    "node": "browser-worker",  # Playwright's driver
    "postgres": "postgres",
    "postgres:": "postgres",
    "rclone": "s3",
}


def role_of(arguments: Sequence[str]) -> str:
    """What a process does, told from its command line."""
    if not arguments:
        return "other"
    # A PostgreSQL child rewrites its title to "postgres: checkpointer", a single argument.
    binary = arguments[0].split(" ")[0].rsplit("/", 1)[-1]
    if binary in _BINARY_ROLES:
        return _BINARY_ROLES[binary]
    # Later arguments are left out: a data directory may be named after a service.
    for argument in arguments[:4]:
        if match := _OWN_SERVICE.search(argument.rsplit("/", 1)[-1]):
            return match.group(1).replace("_", "-")
    if any("crossbar" in argument for argument in arguments[:4]):
        return "router"
    return "server"


@dataclass(frozen=True)
class Process:
    pid: int
    role: str
    cpu_s: float
    """User and system time, children that were waited for included."""
    rss_kib: int
    started: int
    """In clock ticks since boot, which tells a process from a later one with the same pid."""

    @property
    def pss_kib(self) -> int:
        """Resident memory with shared pages divided among their users; zero once the process is gone."""
        try:
            text = (_PROC / str(self.pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return 0
        return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)


class ProcessTree:
    """The processes of a server: the given roots and everything below them."""

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = frozenset(roots)

    def processes(self) -> list[Process]:
        children: dict[int, list[int]] = defaultdict(list)
        for entry in _PROC.iterdir():
            if entry.name.isdigit() and (fields := _stat_fields(int(entry.name))):
                children[int(fields[1])].append(int(entry.name))
        pending, seen = list(self._roots), set[int]()
        while pending:
            pid = pending.pop()
            if pid not in seen:
                seen.add(pid)
                pending.extend(children[pid])
        return [process for pid in sorted(seen) if (process := _read(pid))]

    def cpu_by_role(self) -> dict[str, float]:
        return _sum_by_role((process.role, process.cpu_s) for process in self.processes())

    def rss_by_role(self) -> dict[str, float]:
        return _sum_by_role((process.role, process.rss_kib) for process in self.processes())

    def pss_by_role(self) -> dict[str, float]:
        return _sum_by_role((process.role, process.pss_kib) for process in self.processes())


def _sum_by_role(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    totals: dict[str, float] = defaultdict(float)
    for role, value in values:
        totals[role] += value
    return dict(totals)


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat from the state on, because the name before them may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(pid: int) -> Process | None:
    fields = _stat_fields(pid)
    if not fields:
        return None
    try:
        command_line = (_PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # utime, stime, cutime and cstime: with the last two, what a child used is not lost when it ends.
    ticks = sum(int(field) for field in fields[11:15])
    rss_kib = int(fields[21]) * os.sysconf("SC_PAGE_SIZE") // 1024
    return Process(pid, role_of(command_line.rstrip("\0").split("\0")), ticks / _TICKS_PER_S, rss_kib, int(fields[19]))
