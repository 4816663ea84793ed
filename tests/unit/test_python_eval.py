from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from hypha.workers.log import SessionLog
from hypha.workers.python_eval.limits import MIB, Limits
from hypha.workers.python_eval.lines import Lines
from hypha.workers.python_eval.script import Script

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="what a script started is found in /proc")


class Run:
    """One script, and what it printed."""

    def __init__(self, script: Script, log: SessionLog) -> None:
        self.script = script
        self._log = log

    def lines(self, kind: str = "stdout") -> list[str]:
        return [item["content"] for item in self._log.page(kind)["items"]]

    async def line(self, number: int = 0) -> str:
        """Wait for a line."""
        async with asyncio.timeout(20):
            while len(self.lines()) <= number:
                await asyncio.sleep(0.01)
        return self.lines()[number]


async def start(source: str, *, environ: dict[str, str] | None = None, **limits: Any) -> Run:
    chosen = Limits(**limits)
    log = SessionLog(max_entries=chosen.log_entries, max_bytes=chosen.log_bytes)
    code = textwrap.dedent(source).encode()
    return Run(await Script.start(code, "main.py", environ or {"PATH": os.defpath}, limits=chosen, log=log), log)


async def gone(*pids: int) -> None:
    """Wait until processes have ended."""
    await until(lambda: not any(_lives(pid) for pid in pids))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_what_a_script_prints_is_kept_in_order() -> None:
    run = await start("import sys\nprint('one\\n\\nünf')\nprint('wrong', file=sys.stderr)\nprint('no end', end='')")
    assert await run.script.ended() is None
    assert run.lines() == ["one", "", "ünf", "no end"]
    assert run.lines("stderr") == ["wrong"]


async def test_why_a_script_failed() -> None:
    run = await start("raise ValueError('this')")
    assert await run.script.ended() == "it ended with exit status 1"
    assert run.lines("stderr")[-1] == "ValueError: this"
    run = await start("import os; os.kill(os.getpid(), 11)")
    assert await run.script.ended() == "it was ended by SIGSEGV"


async def test_a_script_finds_nothing_of_its_worker() -> None:
    run = await start(
        "import os, sys\nprint(*sorted(os.environ))\n"
        "print(repr(sys.stdin.read()))\nprint(os.getcwd())\nprint(__file__)",
        environ={"PATH": os.defpath, "HYPHA_TOKEN": "t"},
    )
    assert await run.script.ended() is None
    names, read, directory, file = run.lines()
    assert set(names.split()) <= {"PATH", "HYPHA_TOKEN", "LC_CTYPE"}
    assert read == "''"
    assert file == f"{directory}/main.py"
    assert not Path(directory).exists()


async def test_a_script_is_stopped_with_all_that_it_started() -> None:
    run = await start("""
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        same = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
        own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
        print(os.getpid(), same.pid, own.pid)
        time.sleep(100)
    """)
    pids = [int(pid) for pid in (await run.line()).split()]
    assert all(_lives(pid) for pid in pids)
    began = time.monotonic()
    await run.script.stop("it was stopped")
    assert time.monotonic() - began < 10
    assert not any(_lives(pid) for pid in pids)
    assert await run.script.ended() == "it was stopped"
    await run.script.stop("again")


@needs_linux
async def test_what_a_script_leaves_behind_ends_with_it() -> None:
    run = await start("""
        import os, subprocess, sys
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
        print(left.pid)
    """)
    assert await run.script.ended() is None
    await gone(int(run.lines()[0]))


async def test_a_script_may_tidy_up_when_it_is_stopped() -> None:
    run = await start("""
        import signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("tidy"))
        print("ready")
        time.sleep(100)
    """)
    await run.line()
    await run.script.stop("it was stopped")
    assert run.lines("stderr") == ["tidy"]


_WORKER = """
import asyncio, os, sys
from hypha.workers.python_eval.limits import Limits
from hypha.workers.log import SessionLog
from hypha.workers.python_eval.script import Script

SOURCE = b'''
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
print(os.getpid(), os.getppid(), child.pid, os.getcwd())
time.sleep(100)
'''

async def main():
    log = SessionLog(max_entries=10, max_bytes=1000)
    await Script.start(SOURCE, "main.py", {"PATH": os.defpath}, limits=Limits(), log=log)
    while not log.page()["items"]:
        await asyncio.sleep(0.01)
    print(log.page()["items"][0]["content"], flush=True)
    await asyncio.sleep(100)

asyncio.run(main())
"""


@needs_linux
@pytest.mark.parametrize("victim", ["worker", "supervisor"])
async def test_nothing_is_left_of_a_script_whose_worker_is_killed(victim: str) -> None:
    worker = subprocess.Popen([sys.executable, "-c", _WORKER], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        words = (await asyncio.to_thread(worker.stdout.readline)).split()
        script, supervisor, child = map(int, words[:3])
        os.kill(worker.pid if victim == "worker" else supervisor, signal.SIGKILL)
        if victim == "worker":
            await gone(script, supervisor, child)
            await until(lambda: not Path(words[3]).exists())
        else:  # its own death can only take the script itself along
            await gone(script, supervisor)
            os.kill(child, signal.SIGKILL)
    finally:
        worker.kill()
        worker.communicate()


async def test_limits() -> None:
    run = await start("x = bytearray(900 * 2**20)", memory_bytes=512 * MIB)
    assert await run.script.ended() == "it ended with exit status 1"
    assert "MemoryError" in run.lines("stderr")
    run = await start("open('large', 'wb').write(bytes(2 * 2**20))", file_bytes=MIB)
    assert await run.script.ended() == "it ended with exit status 1"
    assert "File too large" in run.lines("stderr")[-1]
    run = await start("while True: pass", cpu_time_s=1)
    assert await run.script.ended() == "it used more than 1 s of processor time"
    run = await start("import time; time.sleep(100)", run_time_s=0.3)
    assert await run.script.ended() == "it ran for more than 0.3 s"
    run = await start("import os\nfiles = [os.open('/dev/null', 0) for _ in range(100)]", open_files=50)
    assert "Too many open files" in ((await run.script.ended() and run.lines("stderr")[-1]) or "")


@pytest.mark.skipif(os.getuid() == 0, reason="root is not kept from making processes")
async def test_the_number_of_processes_is_limited() -> None:
    run = await start(
        "import os\nfor _ in range(200):\n    os.fork() or os.execlp('sleep', 'sleep', '9')", processes=50
    )
    assert await run.script.ended() == "it ended with exit status 1"
    assert "BlockingIOError" in run.lines("stderr")[-1]


async def test_a_log_keeps_the_newest() -> None:
    run = await start("for number in range(10_000): print(number)", log_entries=100)
    assert await run.script.ended() is None
    assert run.lines() == [str(number) for number in range(9_900, 10_000)]
    log = SessionLog(max_entries=10, max_bytes=10)
    for text in ("aaaa", "bbbb", "cccc", "d" * 50):
        log.add("info", text)
    assert [item["content"] for item in log.page()["items"]] == ["d" * 50]


async def test_who_prints_without_end_waits() -> None:
    run = await start("import os\nwhile True: os.write(1, b'x' * 65535 + b'\\n')", log_bytes=MIB)
    worker = psutil.Process()
    before, began = worker.cpu_times().user, time.monotonic()
    await asyncio.sleep(2)
    busy = (worker.cpu_times().user - before) / (time.monotonic() - began)
    await run.script.stop("it was stopped")
    assert busy < 0.5
    assert sum(len(line) for line in run.lines()) <= MIB


def test_pages_of_a_log() -> None:
    log = SessionLog(max_entries=10, max_bytes=1000)
    for number in range(4):
        log.add("out" if number % 2 else "err", str(number))
    assert log.page("out") == {
        "items": [{"type": "out", "content": "1"}, {"type": "out", "content": "3"}], "total": 2, "offset": 0,
        "limit": None,
    }  # fmt: skip
    page = log.page(offset=1, limit=2)
    assert ([item["content"] for item in page["items"]], page["total"]) == (["1", "2"], 4)


def test_lines_of_a_stream() -> None:
    lines = Lines()
    assert lines.feed("ü".encode()[:1]) == []
    assert lines.feed("ü".encode()[1:] + b"a\nb") == ["üa"]
    assert lines.feed(b"") == ["b"]
    long = Lines()
    assert [len(line) for line in long.feed(b"x" * 20_000)] == [*[2048] * 9, 1568]
    assert long.feed(b"") == []


@needs_linux
def test_scripts_cannot_look_into_their_worker() -> None:
    code = (
        "import ctypes\nfrom hypha.workers.python_eval.hiding import hide_process\nprctl = ctypes.CDLL(None).prctl\n"
        "print(prctl(3, 0, 0, 0, 0))\nhide_process()\nprint(prctl(3, 0, 0, 0, 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "0"]  # PR_GET_DUMPABLE
