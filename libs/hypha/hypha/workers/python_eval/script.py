from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hypha.workers.log import SessionLog

from .limits import Limits
from .lines import Lines

__all__ = ["Script"]

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_CHUNK = 65536
_BYTES_A_SECOND = 4 * 2**20  # of each stream: who prints more waits
_STOP_S = 5.0
_DRAIN_S = 2.0  # for what is left to read once it has ended
_SIGNAL = 128  # and the number of the signal: the exit status of a supervisor


class Script:
    """A Python program in a process of its own, with a supervisor that leaves nothing of it."""

    def __init__(self, process: asyncio.subprocess.Process, limits: Limits, log: SessionLog) -> None:
        self._process = process
        self._limits = limits
        self._log = log
        self._reason = ""  # why it was stopped
        streams = ((process.stdout, "stdout"), (process.stderr, "stderr"))
        self._readers = [asyncio.create_task(self._read(stream, kind)) for stream, kind in streams if stream]
        self._ended = asyncio.create_task(self._wait())

    @classmethod
    async def start(
        cls, source: bytes, name: str, environ: Mapping[str, str], *, limits: Limits, log: SessionLog
    ) -> Script:
        """Run ``source`` as a file of this name, in a directory that is removed afterwards, with only ``environ``."""
        directory = Path(tempfile.mkdtemp(prefix="hypha-python-eval-"))
        try:
            file = directory / (Path(name).name or "script.py")
            file.write_bytes(source)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_SUPERVISOR), json.dumps(_for_supervisor(limits)), str(directory),
                sys.executable, "-u", str(file),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                cwd=directory, env=dict(environ), start_new_session=True,
            )  # fmt: skip
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return cls(process, limits, log)

    async def ended(self) -> str | None:
        """Wait until it has ended; return why that is an error, or None."""
        return await asyncio.shield(self._ended)

    async def stop(self, reason: str) -> None:
        """End it with all that it started; returns when nothing is left."""
        self._reason = self._reason or reason
        self._leave()
        try:
            async with asyncio.timeout(_STOP_S):
                await self.ended()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self.ended()

    def _leave(self) -> None:
        """Tell the supervisor that it is over."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _wait(self) -> str | None:
        timer = None
        if self._limits.run_time_s:
            timer = asyncio.get_running_loop().call_later(self._limits.run_time_s, self._take_too_long)
        try:
            code = await self._process.wait()
        finally:
            if timer is not None:
                timer.cancel()
        self._leave()
        _, late = await asyncio.wait(self._readers, timeout=_DRAIN_S)
        for reader in late:
            reader.cancel()
        return self._reason or _fault(code, self._limits)

    def _take_too_long(self) -> None:
        self._reason = self._reason or f"it ran for more than {self._limits.run_time_s:g} s"
        self._leave()

    async def _read(self, stream: asyncio.StreamReader, kind: str) -> None:
        now = asyncio.get_running_loop().time
        lines, since, taken = Lines(), now(), 0
        while True:
            data = await stream.read(_CHUNK)
            for line in lines.feed(data):
                self._log.add(kind, line)
            if not data:
                return
            taken += len(data)
            if now() - since >= 1.0:
                since, taken = now(), 0
            elif taken > _BYTES_A_SECOND:
                await asyncio.sleep(since + 1.0 - now())


def _for_supervisor(limits: Limits) -> dict[str, int]:
    return {
        name: getattr(limits, name)
        for name in ("cpu_time_s", "memory_bytes", "file_bytes", "processes", "open_files")
    }  # fmt: skip


def _fault(code: int, limits: Limits) -> str | None:
    """Return what the exit status of a supervisor says; None: all went well."""
    if code == 0:
        return None
    if code == _SIGNAL + signal.SIGXCPU:
        return f"it used more than {limits.cpu_time_s} s of processor time"
    if code > _SIGNAL:
        with suppress(ValueError):
            return f"it was ended by {signal.Signals(code - _SIGNAL).name}"
    return f"it ended with exit status {code}"
