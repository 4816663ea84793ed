from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from hypha.server.child import Child, Program

Start: TypeAlias = Callable[..., Awaitable[Child]]

_SLEEP = "import time; time.sleep(60)"
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start Python code as a child; whatever is left at the end is stopped."""
    children = []

    async def start(code: str, *, timeout_s: float = 5.0) -> Child:
        command = [sys.executable, "-c", code]
        child = Child(Program(name="test", command=command, log_file=tmp_path / "log", stop_timeout_s=timeout_s))
        children.append(child)
        await child.start()
        return child

    yield start
    for child in children:
        await child.stop()


async def _until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_restart(start: Start) -> None:
    """A settled process that dies is started again."""
    child = await start(_SLEEP)
    child.settled()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await _until(lambda: child.restarts == 1)
    assert child.pid not in (None, first)


async def test_end_before_settled_is_a_failure(start: Start, tmp_path: Path) -> None:
    """What cannot come up is not tried for ever; its output is kept."""
    child = await start("print('sorry'); raise SystemExit(3)")
    assert await child.failed == 3
    assert child.pid is None
    assert (tmp_path / "log").read_text() == "sorry\n"


async def test_stop(start: Start) -> None:
    """The process ends and is not started again."""
    child = await start(_SLEEP)
    child.settled()
    pid = child.pid
    assert pid is not None
    await child.stop()
    assert not _alive(pid)
    assert child.restarts == 0


async def test_stop_while_waiting_for_a_restart(start: Start) -> None:
    child = await start("pass")
    child.settled()
    await _until(lambda: child.pid is None)
    await asyncio.wait_for(child.stop(), 1)
    await asyncio.sleep(0.4)
    assert child.pid is None


async def test_deaf_process_is_killed(start: Start, tmp_path: Path) -> None:
    child = await start(_DEAF, timeout_s=0.2)
    pid = child.pid
    assert pid is not None
    await _until(lambda: "deaf" in (tmp_path / "log").read_text())
    await child.stop()
    assert not _alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
async def test_nothing_outlives_the_supervisor(tmp_path: Path) -> None:
    """SIGKILL of the supervisor stops its children too."""
    code = f"""
import asyncio, sys
from hypha.server.child import Child, Program

async def main():
    child = Child(Program(name="c", command=[sys.executable, "-c", {_SLEEP!r}]))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    assert _alive(pid)
    supervisor.kill()
    await supervisor.wait()
    await _until(lambda: not _alive(pid))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_child_of_another_user(tmp_path: Path) -> None:
    """It has neither our user id nor our groups."""
    command = ["/bin/grep", "-E", "Uid|Groups", "/proc/self/status"]
    child = Child(Program(name="c", command=command, log_file=tmp_path / "log", user=(65534, 65534)))
    await child.start()
    assert await child.failed == 0
    assert (tmp_path / "log").read_text().split() == ["Uid:", *["65534"] * 4, "Groups:"]
