"""The store and the database fail; what was acknowledged is there afterwards, and nothing else is left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from hypha_rpc.rpc import RemoteException

import hypha_artifacts.migrate
import hypha_workspace.migrate
from hypha_artifacts.core import Core
from hypha_artifacts.keeping.sweep import Sweep
from hypha_artifacts.keeping.verify import Verifier
from hypha_artifacts.main import ArtifactsService
from hypha_common.settings import Settings
from hypha_workspace.main import WorkspaceService
from tests.artifacts.people import Person, fresh
from tests.fixtures.faulty_store import CUT, DROP, HANG, LOSE, Fault, FaultyStore, status
from tests.fixtures.file_history import FileHistory
from tests.fixtures.object_store import ObjectStore
from tests.fixtures.postgres import PostgresServer
from tests.manager.rig import Gateway

CALL_LIMIT_S = 20


@pytest.fixture(scope="module")
def fragile() -> Iterator[PostgresServer]:
    """A database server of one's own, to be crashed."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def template(stack: Settings, fragile: PostgresServer) -> str:
    """Name of a database there with all tables."""
    settings = stack.replace(database_url=fragile.create())
    for service in (hypha_workspace.migrate, hypha_artifacts.migrate):
        service.migrate(settings)
    return settings.database_url.rpartition("/")[2]


@pytest.fixture
async def faulty(object_store: ObjectStore) -> AsyncIterator[FaultyStore]:
    store = FaultyStore(object_store.url)
    await store.start()
    yield store
    await store.stop()


class Rig:
    """Services behind a faulty store, and somebody who uses them."""

    def __init__(self, core: Core, me: Person) -> None:
        self.core = core
        self.me = me

    async def call(self, method: str, **arguments: Any) -> Any:
        async with asyncio.timeout(CALL_LIMIT_S):
            return await self.me.artifacts[method](**arguments)

    async def check_all_is_well(self) -> None:
        """Sweep, and find nothing wrong."""
        (shard,) = self.core.database.all()
        await Sweep(self.core, grace_s=0.0).sweep(shard)
        report = await Verifier(self.core, deep=True, workspace=self.me.workspace, second_look_s=0.1).run()
        assert report.findings == []


@pytest.fixture
async def rig(stack: Settings, fragile: PostgresServer, template: str, faulty: FaultyStore) -> AsyncIterator[Rig]:
    settings = stack.replace(
        database_url=fragile.create(template), endpoint_url=faulty.url, endpoint_url_public=faulty.url,
        s3_grace_period=0.0,
    )  # fmt: skip
    async with AsyncExitStack() as started:
        await WorkspaceService(settings, on_fatal=pytest.fail).start(started)
        artifacts = ArtifactsService(settings, on_fatal=pytest.fail)
        await artifacts.start(started)
        gateway = Gateway(settings)
        await gateway.start()
        started.push_async_callback(gateway.stop)
        yield Rig(artifacts.core, await fresh(gateway))


async def run_writers(rig: Rig, *, seconds: float, seed: int, writers: int = 4) -> FileHistory:
    history = FileHistory(rig.call, (RemoteException, TimeoutError))
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(writers):
            name = f"{rig.me.workspace}/a{number}"
            group.create_task(history.write(name, stop, seed=seed + number))
        await asyncio.sleep(seconds)
        stop.set()
    return history


async def test_a_store_that_fails_now_and_then_loses_nothing(rig: Rig, faulty: FaultyStore) -> None:
    """500, 503, dropped connections, lost answers and bodies cut short, while writers commit and the sweep runs."""
    draw = random.Random(4)
    faults = [status(500), status(503), DROP, LOSE, CUT]

    def decide(_method: str, _target: str) -> Fault | None:
        return draw.choice(faults) if draw.random() < 0.5 else None

    faulty.decide = decide
    history = await run_writers(rig, seconds=2.5, seed=1)
    faulty.heal()
    assert history.committed
    assert history.failed > 0
    await history.check()
    await rig.check_all_is_well()


@pytest.mark.parametrize("fault", [status(500), DROP, LOSE], ids=["refused", "dropped", "answer-lost"])
async def test_a_commit_that_the_store_failed_can_be_repeated(rig: Rig, faulty: FaultyStore, fault: Fault) -> None:
    """For as long as the store does not say that the bytes are there, readers see the old version."""
    await rig.call("create", alias="a", manifest={"name": "A"}, stage=True)
    await rig.call("write_file", artifact_id="a", file_path="x", content="old")
    await rig.call("commit", artifact_id="a")
    await rig.call("edit", artifact_id="a", stage=True)
    url = await rig.call("put_file", artifact_id="a", file_path="x", use_proxy=False)
    async with httpx.AsyncClient() as http:
        assert (await http.put(url, content=b"new")).status_code == 200
    faulty.decide = lambda method, _: fault if method in ("HEAD", "PUT") else None
    with pytest.raises(RemoteException, match="ConnectionError: The store"):
        await rig.call("commit", artifact_id="a")
    faulty.heal()
    assert (await rig.call("read_file", artifact_id="a", file_path="x"))["content"] == "old"
    await rig.call("commit", artifact_id="a")
    assert (await rig.call("read_file", artifact_id="a", file_path="x"))["content"] == "new"
    await rig.check_all_is_well()


async def test_an_upload_whose_end_nobody_heard_of_can_be_completed_again(rig: Rig, faulty: FaultyStore) -> None:
    await rig.call("create", alias="a", manifest={"name": "A"}, stage=True)
    begun = await rig.call("put_file_start_multipart", artifact_id="a", file_path="big", part_count=2, use_proxy=False)
    parts, pieces = [], [b"1" * 5 * 2**20, b"2" * 1000]
    async with httpx.AsyncClient() as http:
        for part, piece in zip(begun["parts"], pieces, strict=True):
            answer = await http.put(part["url"], content=piece)
            parts.append({"part_number": part["part_number"], "etag": answer.headers["etag"]})
    complete = {"artifact_id": "a", "upload_id": begun["upload_id"], "parts": parts}
    lost = iter([LOSE])
    faulty.decide = lambda method, target: next(lost, None) if method == "POST" and "uploadId" in target else None
    try:
        await rig.call("put_file_complete_multipart", **complete)
    except RemoteException:
        faulty.heal()
        await rig.call("put_file_complete_multipart", **complete)
    await rig.call("commit", artifact_id="a")
    listed = await rig.call("list_files", artifact_id="a")
    assert [(file["name"], file["size"]) for file in listed] == [("big", 5 * 2**20 + 1000)]
    await rig.check_all_is_well()


async def test_a_store_that_hangs_holds_up_those_alone_who_wait_for_it(rig: Rig, faulty: FaultyStore) -> None:
    await rig.call("create", alias="a", manifest={"name": "A"}, stage=True)
    faulty.decide = lambda method, _: HANG if method == "PUT" else None
    writing = asyncio.create_task(rig.call("write_file", artifact_id="a", file_path="x", content="1"))
    async with asyncio.timeout(5):
        await rig.call("read", artifact_id="a", stage=True)
        await rig.call("list_files", artifact_id="a", stage=True)
        await rig.call("edit", artifact_id="a", stage=True, manifest={"name": "B"})
    assert not writing.done()
    faulty.heal()
    await writing
    await rig.call("commit", artifact_id="a")
    assert (await rig.call("read_file", artifact_id="a", file_path="x"))["content"] == "1"
    await rig.check_all_is_well()


async def test_a_removal_whose_answer_is_lost_is_repeated(rig: Rig, faulty: FaultyStore) -> None:
    await rig.call("create", alias="a", manifest={"name": "A"}, stage=True)
    await rig.call("write_file", artifact_id="a", file_path="x", content="1")
    await rig.call("delete", artifact_id="a", delete_files=True)
    (shard,) = rig.core.database.all()
    faulty.decide = lambda method, _: LOSE if method == "POST" else None
    swept = await Sweep(rig.core, grace_s=0.0).sweep(shard)
    assert swept == {"stuck": 1}
    faulty.heal()
    assert await Sweep(rig.core, grace_s=0.0).sweep(shard) == {"object": 1}
    await rig.check_all_is_well()


async def test_a_database_that_crashes_among_commits_loses_none(rig: Rig, fragile: PostgresServer) -> None:
    """Every process of it is killed, twice, while writers commit."""
    writing = asyncio.create_task(run_writers(rig, seconds=4, seed=7))
    for _ in range(2):
        await asyncio.sleep(0.7)
        await asyncio.to_thread(fragile.crash)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(fragile.start)
    history = await writing
    assert history.failed > 0
    assert len(history.committed) > 4
    await history.check()
    await rig.check_all_is_well()
