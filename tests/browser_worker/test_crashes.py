"""Browsers that end, grow, or are not needed."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import Any

import psutil
import pytest

from hypha.workers.base import WorkerError, WorkerNotAvailableError
from hypha_browser_worker.worker import BrowserWorker

from .hub import Hub, browser_worker
from .pages import eventually

pytestmark = pytest.mark.browser


async def _pid(worker: BrowserWorker) -> int:
    """Return the process of the worker's only browser."""

    async def known() -> list[int]:
        return worker.browsers.pids

    (pid,) = await eventually(known)
    return int(pid)


async def _ended(worker: BrowserWorker, session_id: str) -> str:
    """Wait until a session has failed, and return why."""

    async def failed() -> Any:
        info = await worker.get_session_info(session_id)
        return info["error"] if info["status"] == "failed" else None

    return str(await eventually(failed))


@pytest.mark.parametrize("what", ["browser", "driver"])
async def test_a_browser_that_is_killed(served: Hub, worker: BrowserWorker, what: str) -> None:
    """Its sessions end and say why, whether it was the browser or Playwright's own process; the next start works."""
    infos = [await worker.start(served.config(app)) for app in ("one", "two")]
    pid = await _pid(worker)
    parent = psutil.Process(pid).parent()
    assert parent is not None
    os.kill(pid if what == "browser" else parent.pid, signal.SIGKILL)
    for info in infos:
        assert "ended unexpectedly" in await _ended(worker, info["session_id"])
        logs = await worker.get_logs(info["session_id"], type="error")
        assert "ended unexpectedly" in logs["items"][-1]["content"]
        with pytest.raises(WorkerNotAvailableError, match="ended unexpectedly"):
            await worker.take_screenshot(info["session_id"])
        await worker.stop(info["session_id"])  # as its controller does
    info = await worker.start(served.config("one"))
    assert await worker.execute(info["session_id"], "1 + 1") == 2
    assert await _pid(worker) != pid
    assert _gone(pid)


async def test_a_page_that_ends(served: Hub, worker: BrowserWorker) -> None:
    """By a crash, or because something closed it; the others go on."""
    infos = [await worker.start(served.config(app)) for app in ("one", "two", "three")]
    crashing, closing, other = (info["session_id"] for info in infos)
    pages = {session_id: session._page for session_id, session in worker._live.items()}
    page = pages[crashing]
    assert page is not None
    chrome = await page.context.new_cdp_session(page)
    crash = asyncio.ensure_future(chrome.send("Page.crash"))
    assert "crashed" in await _ended(worker, crashing)
    await asyncio.gather(crash, return_exceptions=True)
    page = pages[closing]
    assert page is not None
    await page.close()
    assert await _ended(worker, closing) == "its page was closed"
    assert await worker.execute(other, "1 + 1") == 2

    async def left() -> bool:
        return [info["session_id"] for info in await worker.list_sessions("ws-user-ada")] == [other]

    await eventually(left)


async def test_no_more_than_a_worker_takes(served: Hub) -> None:
    async with browser_worker(served, max_browser_sessions=1) as worker:
        info = await worker.start(served.config("one"))
        with pytest.raises(WorkerError, match="already exists"):
            await worker.start(served.config("one"))
        with pytest.raises(WorkerNotAvailableError, match="runs 1 apps, and no more"):
            await worker.start(served.config("two"))
        await worker.stop(info["session_id"])
        await worker.start(served.config("two"))


async def test_a_browser_that_has_grown(served: Hub) -> None:
    """It takes no more apps; those that run in it go on, and it ends with them."""
    async with browser_worker(served, max_browser_memory=256) as worker:
        large = await worker.start(served.config("large"))
        first = await _pid(worker)
        await worker.execute(large["session_id"], "window.kept = new Uint8Array(300e6).fill(1); 0")
        small = await worker.start(served.config("small"))

        async def both() -> bool:
            return len(worker.browsers.pids) == 2

        await eventually(both)
        assert await worker.execute(large["session_id"], "kept.length") == 300_000_000
        await worker.stop(large["session_id"])

        async def replaced() -> bool:
            return _gone(first)

        await eventually(replaced)
        assert len(worker.browsers.pids) == 1
        assert await worker.execute(small["session_id"], "1 + 1") == 2


async def test_a_browser_that_nobody_needs(served: Hub) -> None:
    """It is not there before the first app, and gone some time after the last."""
    others = _processes()
    async with browser_worker(served, idle_s=0.2) as worker:
        assert _processes() == others
        for _ in range(2):
            info = await worker.start(served.config())
            assert _processes() != others
            await worker.stop(info["session_id"])

            async def idle() -> bool:
                return _processes() == others

            await eventually(idle)


async def test_a_page_that_lost_its_hub(served: Hub) -> None:
    """One that had a connection and has none any more cannot be called: it ends after a while."""
    script = "window.socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws')"
    async with browser_worker(served, alone_limit_s=0.3) as worker:
        info, silent = await worker.start(served.config("one", script)), await worker.start(served.config("two"))
        assert await worker.execute(info["session_id"], "new Promise((done) => setTimeout(done, 800, 1))") == 1
        await worker.execute(info["session_id"], "socket.close()")
        assert await _ended(worker, info["session_id"]) == "its connection to the server has ended"

        async def left() -> bool:
            listed = await worker.list_sessions("ws-user-ada")
            return [found["session_id"] for found in listed] == [silent["session_id"]]

        await eventually(left)


def _processes() -> list[int]:
    """Return the drivers of Playwright that this process has started; clusters of other tests have their own."""
    found = []
    for process in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith("node") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
