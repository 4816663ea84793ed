from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one script may use, and how many may run. 0: as much as there is."""

    run_time_s: float = 86_400
    cpu_time_s: int = 3_600
    memory_bytes: int = 4096 * MIB  # address space of each of its processes
    file_bytes: int = 256 * MIB  # of each file that it writes
    processes: int = 256  # and threads; not kept by root
    open_files: int = 512
    source_bytes: int = 8 * MIB
    log_entries: int = 2048  # the oldest make room for new ones
    log_bytes: int = MIB
    sessions: int = 50  # that run at a time
