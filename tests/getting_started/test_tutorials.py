"""The tutorials, docs/tutorial: typed as they stand there, they print what they say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster

from .tutorial import Shell, Step, steps

Open = Callable[[RunningCluster], Awaitable[Shell]]


@pytest.fixture
async def terminal(tmp_path: Path) -> AsyncIterator[Open]:
    async with AsyncExitStack() as stack:

        async def open_terminal(server: RunningCluster) -> Shell:
            shell = await Shell.open(tmp_path, HYPHA_DATA_DIR=str(server.data_dir))
            stack.push_async_callback(shell.close)
            return shell

        yield open_terminal


def _of_one_user(page: str, server: RunningCluster) -> list[Step]:
    """A page in which the reader is somebody whom no other test knows."""
    user = f"ada-{new_id(8).lower()}"
    words = {
        "http://127.0.0.1:9527": server.url,
        "ws-user-ada": f"ws-user-{user}",
        "--user-id ada": f"--user-id {user}",
    }
    return steps(page, words)


async def _follow(shell: Shell, page: list[Step]) -> list[str]:
    """Save and type everything, and compare what is to be seen. Returns what each command printed."""
    printed = [""]
    for step in page:
        if step.file:
            shell.save(step)
        elif step.language == "bash":
            printed.append(await shell.type(step.code))
        else:
            assert step.code.strip() in printed[-1]
    return printed[1:]


@pytest.mark.browser
async def test_a_first_service(cluster: RunningCluster, terminal: Open, browser: Browser) -> None:
    save, run, example, *rest = steps("first-service", {"http://127.0.0.1:9527": cluster.url})
    calls, (both, mistake), address = rest[:5], rest[5:7], rest[7:]
    offering, calling = await terminal(cluster), await terminal(cluster)
    offering.save(save)
    line = await offering.leave_running(run.code)
    assert line.startswith("export SERVICE=ws-user-")
    assert example.code.startswith("export SERVICE=ws-user-")

    await calling.type(line)
    await _follow(calling, calls)

    (printed,) = await _follow(calling, [both])
    right, wrong = printed.replace('"{', '"\n{').splitlines()  # curl adds no ends of lines
    assert right == '"Hello Ada!"'
    assert json.loads("{" + mistake.code + "}").items() <= json.loads(wrong).items()

    (url,) = await _follow(calling, address)
    page = await browser.new_page()
    await page.goto(url)
    await expect(page.locator("#answer")).to_have_text("Hello Ada!")
    await page.close()


async def test_sharing_a_data_set(cluster: RunningCluster, terminal: Open) -> None:
    printed = await _follow(await terminal(cluster), _of_one_user("sharing-a-dataset", cluster))
    artifact, _ = json.JSONDecoder().raw_decode(printed[3])
    assert (artifact["type"], artifact["manifest"]["name"]) == ("dataset", "Flowers")


@pytest.mark.browser
async def test_an_app(apps_cluster: RunningCluster, terminal: Open) -> None:
    await _follow(await terminal(apps_cluster), _of_one_user("an-app", apps_cluster))
