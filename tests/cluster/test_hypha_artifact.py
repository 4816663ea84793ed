"""The package `hypha-artifact`, as it comes, against two gateways and two replicas."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypha_artifact import AsyncHyphaArtifact, HyphaArtifact

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster

# The package leaves sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_LARGE = bytes(range(256)) * 4096 * 11  # 11 MiB: three parts of 5 MiB


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """What the package has left open is found here, and not in the middle of somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
async def artifact(two_gateways: RunningCluster) -> AsyncIterator[AsyncHyphaArtifact]:
    """A new artifact of a new user, with nothing in it."""
    user = f"user-{new_id(8).lower()}"
    alias, url = f"data-{new_id(6).lower()}", two_gateways.gateway_urls[1]
    token = two_gateways.user_token(user)
    async with AsyncHyphaArtifact(f"ws-user-{user}/{alias}", token=token, server_url=url) as client:
        await client.create(type="generic")
        yield client


async def test_files_are_put_listed_read_and_removed(artifact: AsyncHyphaArtifact, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep er").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("alpha")
    (tmp_path / "in" / "deep er" / "ü.bin").write_bytes(b"\x00\x01")
    await artifact.edit(stage=True)
    await artifact.put(f"{tmp_path}/in", "/", recursive=True)
    await artifact.put(f"{tmp_path}/in/a.txt", "b.txt")
    await artifact.commit()
    assert sorted(entry["name"] for entry in await artifact.ls(".", detail=True)) == ["a.txt", "b.txt", "deep er"]
    assert sorted(await artifact.find(".")) == ["a.txt", "b.txt", "deep er/ü.bin"]
    assert await artifact.cat(["a.txt", "b.txt"]) == {"a.txt": "alpha", "b.txt": "alpha"}
    assert (await artifact.info("a.txt"))["size"] == 5
    assert await artifact.isdir("deep er")
    assert await artifact.exists("deep er/ü.bin")
    assert not await artifact.exists("absent")
    assert await artifact.head("a.txt", 2) == b"al"

    await artifact.edit(stage=True)
    await artifact.rm("b.txt")
    await artifact.commit()
    assert not await artifact.exists("b.txt")
    await artifact.get(".", str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "deep er" / "ü.bin").read_bytes() == b"\x00\x01"


async def test_parts(artifact: AsyncHyphaArtifact, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(_LARGE)
    await artifact.edit(stage=True)
    await artifact.put(str(tmp_path / "large"), "large", multipart_config={"enable": True, "chunk_size": 5 * 2**20})
    await artifact.commit()
    await artifact.get("large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == _LARGE


async def test_drafts_are_discarded(artifact: AsyncHyphaArtifact, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("first")
    await artifact.edit(stage=True)
    await artifact.put(str(tmp_path / "x"), "x")
    await artifact.commit(comment="the first")
    (tmp_path / "x").write_text("second")
    await artifact.edit(stage=True)
    await artifact.put(str(tmp_path / "x"), "x")
    assert await artifact.cat("x") == "first"
    assert await artifact.cat("x", version="stage") == "second"
    await artifact.discard()
    assert await artifact.cat("x") == "first"
    await artifact.edit(stage=True, version="new")
    await artifact.put(str(tmp_path / "x"), "y")
    await artifact.commit(version="2.0")
    assert await artifact.ls(".", detail=False) == ["y"]
    assert await artifact.cat("x", version="v0") == "first"


async def test_children_and_deletion(artifact: AsyncHyphaArtifact, two_gateways: RunningCluster) -> None:
    url, token = two_gateways.url, artifact.token
    child = AsyncHyphaArtifact(f"{artifact.artifact_id}-child", token=token, server_url=url)
    await child.create(parent_id=artifact.artifact_id)
    assert [found["alias"] for found in await artifact.list_children()] == [child.artifact_alias]
    await child.delete()
    assert await artifact.list_children() == []
    await child.aclose()


@pytest.fixture
def loop_of_thread() -> Iterator[None]:
    """The package takes the event loop that Python gives a main thread, and that other tests have taken away."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def test_the_blocking_class(two_gateways: RunningCluster, loop_of_thread: None) -> None:
    """Files opened like local ones."""
    user = f"user-{new_id(8).lower()}"
    token = two_gateways.user_token(user)
    name = f"ws-user-{user}/notes-{new_id(6).lower()}"
    artifact = HyphaArtifact(name, token=token, server_url=two_gateways.url)
    artifact.create()
    artifact.edit(stage=True)
    with artifact.open("note.txt", "w") as file:
        file.write("written")
    artifact.commit()
    with artifact.open("note.txt", "r") as file:
        assert file.read() == "written"
    artifact.delete(delete_files=True, recursive=True)
