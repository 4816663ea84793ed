"""
Runs one command under limits: ``supervisor.py '{limits}' directory command…``. Nothing of it is left afterwards.

A program of its own, which needs the standard library alone. When its standard input ends, because whoever started it
wants that or has died, it stops the command with all that came of it, and removes the directory. Its exit status is
that of the command, 128 and the number of the signal where one ended it.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

__all__ = ["main"]

_GRACE_S = 1.0  # between the wish that it ends and its end
_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38


def main(arguments: Sequence[str]) -> int:
    limits, directory, *command = arguments
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # whatever loses its parent becomes a child of this process
    woken = _wake_up_on(signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, json.loads(limits), supervisor)
    _let_go_of_output()
    try:
        status = _wait(child, woken)
        if status is None:
            status = _stop(child)
    finally:
        _kill_all(child)
        os.chdir("/")
        shutil.rmtree(directory, ignore_errors=True)
    return os.waitstatus_to_exitcode(status) if not os.WIFSIGNALED(status) else 128 + os.WTERMSIG(status)


def _become(command: Sequence[str], limits: Mapping[str, int], supervisor: int) -> None:
    """Turn this process, a new one, into the command."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if os.getppid() != supervisor:
            os._exit(1)  # it died before it could be said that this one is to die with it
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        _limit(limits)
        os.execve(command[0], list(command), os.environ)  # noqa: S606  # there is no shell
    except BaseException as error:  # noqa: BLE001  # of a process that is nothing yet: it must not go on as its parent
        os.write(2, f"It could not be started: {error}\n".encode())
        os._exit(126)


def _limit(limits: Mapping[str, int]) -> None:
    """Set limits that are not 0, as far as this process may."""
    wanted = {
        resource.RLIMIT_CPU: limits["cpu_time_s"],
        resource.RLIMIT_AS: limits["memory_bytes"],
        resource.RLIMIT_FSIZE: limits["file_bytes"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        # It counts all that the user runs, here or elsewhere.
        resource.RLIMIT_NPROC: limits["processes"] and limits["processes"] + _tasks_of_user(),
    }
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind, value in wanted.items():
        _, most = resource.getrlimit(kind)
        if value:
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            hard = value + 5 if kind == resource.RLIMIT_CPU and most == resource.RLIM_INFINITY else value
            resource.setrlimit(kind, (value, hard))


def _wait(child: int, woken: int) -> int | None:
    """Return the status of the command when it has ended; None: it is to be stopped."""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        signals = os.read(woken, 512) if woken in ready else b""
        if (status := _reap(child)) is not None:
            return status
        if set(signals) - {signal.SIGCHLD} or (0 in ready and not os.read(0, 512)):
            return None


def _stop(child: int) -> int:
    """Ask the command and its group to end, and see that they do; return its status."""
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    while (status := _reap(child)) is None:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    return status


def _reap(child: int) -> int | None:
    """Collect who has ended; return the status of the command if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == child:
            return status
        if pid == 0:
            return None


def _kill_all(group: int) -> None:
    """End whatever the command has left."""
    if not _LINUX:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        return
    while True:
        for pid in _children():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.005)
        except ChildProcessError:
            return


def _children() -> list[int]:
    own = os.getpid()
    return [pid for pid, parent in _processes() if parent == own]


def _processes() -> Iterator[tuple[int, int]]:
    """Yield (process, its parent)."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            # After the name of the program, which may hold blanks and brackets itself: state, parent …
            yield int(entry.name), int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])


def _tasks_of_user() -> int:
    """Return how many threads the user of this process has."""
    user, count = os.getuid(), 0
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if entry.stat().st_uid == user:
                count += len(os.listdir(entry / "task"))  # noqa: PTH208  # only how many
    return count


def _wake_up_on(*signals: signal.Signals) -> int:
    """Return a file that can be read when one of the signals has come."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in signals:
        signal.signal(number, lambda *_: None)
    return reading


def _let_go_of_output() -> None:
    """Whoever reads what the command prints shall see when it has ended."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)


def _prctl(option: int, value: int) -> None:
    if not _LINUX:
        return
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
