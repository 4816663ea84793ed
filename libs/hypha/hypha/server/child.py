from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

__all__ = ["Child", "Program"]

log = structlog.get_logger()

_FIRST_DELAY_S = 0.2
_LAST_DELAY_S = 10.0
_STEADY_S = 30.0  # a process that ran this long has recovered: its next failure is a first one
_KILL_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1
_MAX_LOG_BYTES = 10 * 2**20

# Loaded before any fork: the child of a fork must not import.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run, as whom, and how to stop it."""

    name: str  # unique in the cluster: gateway-0, nats …
    command: Sequence[str]
    # None: ours. What is only good for one start is made for each.
    environment: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None
    log_file: Path | None = None  # where its output goes; None: where ours goes
    user: tuple[int, int] | None = None  # uid and gid to become
    pass_fds: Sequence[int] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 10.0


class Child:
    """
    One supervised process: started again with growing delays whenever it ends, until :meth:`stop`.

    It lives in a process group of its own, so that Ctrl-C reaches only the supervisor, and the kernel stops it when
    the supervisor dies.

    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.restarts = 0
        # Completed when the process ends before :meth:`settled`: whoever starts the cluster gives up then.
        self.failed: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._process: asyncio.subprocess.Process | None = None
        self._settled = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None while it is not running."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process; from now on it is watched."""
        self._process = await _spawn(self.program)
        self._task = asyncio.create_task(self._watch(), name=f"child-{self.program.name}")

    def settled(self) -> None:
        """Say that it came up: from now on an end is followed by a restart."""
        self._settled = True

    async def stop(self) -> None:
        """Send the stop signal, wait, and kill what does not listen."""
        self._stopping = True
        if self._task is None:
            return
        if self.pid is None:
            self._task.cancel()  # it waits for the next restart
        else:
            self.signal(self.program.stop_signal)
        done, _ = await asyncio.wait({self._task}, timeout=self.program.stop_timeout_s)
        if not done:
            log.warning("process_killed", process=self.program.name, waited_s=self.program.stop_timeout_s)
            self.signal(signal.SIGKILL)
            await asyncio.wait({self._task}, timeout=_KILL_TIMEOUT_S)

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _watch(self) -> None:
        delay_s = _FIRST_DELAY_S
        while True:
            assert self._process is not None
            started = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            if not self._settled:
                if not self.failed.done():
                    self.failed.set_result(code)
                return
            if time.monotonic() - started > _STEADY_S:
                delay_s = _FIRST_DELAY_S
            log.warning("process_ended", process=self.program.name, code=code, restart_in_s=delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LAST_DELAY_S)
            self._process = await _spawn(self.program)
            self.restarts += 1


async def _spawn(program: Program) -> asyncio.subprocess.Process:
    output = _open_log(program.log_file) if program.log_file is not None else None
    environment = program.environment() if callable(program.environment) else program.environment
    try:
        # All of what follows a fork is in one function, because not every event loop knows Popen's `user`.
        return await asyncio.create_subprocess_exec(
            *program.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=None if environment is None else dict(environment),
            pass_fds=tuple(program.pass_fds),
            preexec_fn=_prepare(program, os.getpid()),
        )
    finally:
        if output is not None:
            os.close(output)


def _prepare(program: Program, parent: int) -> Callable[[], None]:
    user, death_signal = program.user, int(program.stop_signal)

    def prepare() -> None:
        os.setpgid(0, 0)
        if user is not None:
            os.setgroups([])
            os.setgid(user[1])
            os.setuid(user[0])
        # After setuid, which clears it.
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _open_log(path: Path) -> int:
    with suppress(FileNotFoundError):
        if path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_suffix(".old.log"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
