"""Processes are killed while files are written, committed, uploaded in parts and swept: nothing is lost or left."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import psutil
import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.commands import run_command
from tests.fixtures.file_history import FileHistory

PART_BYTES = 5 * 2**20
BACK_AGAIN_S = 20
SWEEPING = {"HYPHA_S3_CLEANUP_PERIOD": "0.2", "HYPHA_S3_GRACE_PERIOD": "0.5"}


class Refused(Exception):
    """The server answered that it did not, or did not answer."""


class Files:
    """Somebody who uses artifacts over HTTP, and remembers what was acknowledged."""

    def __init__(self, cluster: RunningCluster, http: httpx.AsyncClient) -> None:
        self.workspace = "ws-user-writer"
        self._cluster = cluster
        self._http = http
        self._headers = {"Authorization": f"Bearer {cluster.user_token('writer')}"}
        self.uploaded: dict[str, str] = {}  # SHA-256 of committed files that were sent in parts, by artifact

    async def call(self, method: str, **arguments: Any) -> Any:
        url = f"{self._cluster.url}/public/services/artifact-manager/{method}"
        try:
            answer = await self._http.post(url, json=arguments, headers=self._headers)
        except httpx.HTTPError as error:
            raise Refused(str(error)) from None
        if answer.status_code != 200:
            raise Refused(answer.text)
        return answer.json()

    async def enter(self) -> None:
        """Come to the workspace for the first time, which makes it."""
        url = f"{self._cluster.url}/{self.workspace}/info"
        assert (await self._http.get(url, headers=self._headers)).status_code == 200

    async def put(self, url: str, data: bytes) -> str:
        try:
            answer = await self._http.put(url, content=data)
        except httpx.HTTPError as error:
            raise Refused(str(error)) from None
        if answer.status_code != 200:
            raise Refused(answer.text)
        return str(answer.headers["etag"])

    async def upload(self, stop: asyncio.Event, *, seed: int) -> None:
        """Commit artifacts of one large file each until told to stop."""
        draw = random.Random(seed)
        number = 0
        while not stop.is_set():
            number += 1
            with suppress(Refused):
                await self._upload(f"{self.workspace}/parts-{number}", draw.randbytes(PART_BYTES + 1000))
            await asyncio.sleep(0.05)

    async def _upload(self, artifact: str, data: bytes) -> None:
        await self.call("create", artifact_id=artifact, manifest={"name": "x"}, stage=True)
        begun = await self.call("put_file_start_multipart", artifact_id=artifact, file_path="big", part_count=2)
        pieces = [data[:PART_BYTES], data[PART_BYTES:]]
        parts = [
            {"part_number": part["part_number"], "etag": await self.put(part["url"], piece)}
            for part, piece in zip(begun["parts"], pieces, strict=True)
        ]
        complete = {"artifact_id": artifact, "upload_id": begun["upload_id"], "parts": parts}
        await self.call("put_file_complete_multipart", **complete)
        await self.call("commit", artifact_id=artifact)
        self.uploaded[artifact] = hashlib.sha256(data).hexdigest()

    async def churn(self, stop: asyncio.Event) -> None:
        """Make garbage for the sweep: artifacts that are deleted, drafts that are discarded."""
        number = 0
        while not stop.is_set():
            number += 1
            artifact = f"{self.workspace}/gone-{number}"
            with suppress(Refused):
                await self.call("create", artifact_id=artifact, manifest={"name": "x"}, stage=True)
                await self.call("write_file", artifact_id=artifact, file_path="a", content="1")
                await self.call("commit", artifact_id=artifact)
                await self.call("delete", artifact_id=artifact, delete_files=True)
            await asyncio.sleep(0.05)

    async def check_uploads(self) -> None:
        for artifact, digest in self.uploaded.items():
            url = await self.call("get_file", artifact_id=artifact, file_path="big")
            answer = await self._http.get(url)
            assert hashlib.sha256(answer.content).hexdigest() == digest, artifact

    async def until_back(self) -> None:
        """Wait until somebody answers again."""
        async with asyncio.timeout(BACK_AGAIN_S):
            while True:
                try:
                    await self.call("search")
                    return
                except Refused:
                    await asyncio.sleep(0.1)


async def _kill(cluster: RunningCluster, role: str) -> None:
    """Kill every process of a role, and wait until others have taken their place."""
    before = cluster.pids.get(role, [])
    for pid in before:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(BACK_AGAIN_S):
        while not set(cluster.pids.get(role, [])) - set(before):
            await asyncio.sleep(0.05)


async def _work_while(cluster: RunningCluster, harm: Callable[[], Any], *, seconds: float) -> None:
    """Write, upload and delete while ``harm`` is done; then check that all is well."""
    async with httpx.AsyncClient(timeout=20, limits=httpx.Limits(max_connections=50)) as http:
        files = Files(cluster, http)
        await files.enter()
        history = FileHistory(files.call, Refused)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(history.write(f"{files.workspace}/a{number}", stop, seed=number))
            group.create_task(files.upload(stop, seed=9))
            group.create_task(files.churn(stop))
            await asyncio.sleep(seconds / 2)
            await harm()
            await files.until_back()
            await asyncio.sleep(seconds / 2)
            stop.set()
        await files.until_back()
        assert history.failed > 0
        assert len(history.committed) > 3
        assert files.uploaded
        await history.check()
        await files.check_uploads()
    here = f"--data-dir={cluster.data_dir}"
    swept = await run_command("hypha_artifacts", "gc", "--now", here)
    assert swept.status == 0, swept.err
    found = await run_command("hypha_artifacts", "verify", "--deep", "--json", "--s3-grace-period=0", here)
    assert json.loads(found.out)["findings"] == []
    assert found.status == 0


@pytest.fixture
def sweeping(start_cluster: Callable[..., RunningCluster]) -> RunningCluster:
    return start_cluster(storage=True, environ=SWEEPING)


async def test_a_killed_artifacts_service_loses_nothing(sweeping: RunningCluster) -> None:
    """Twice, in commits, uploads and sweeps."""

    async def harm() -> None:
        for _ in range(2):
            await _kill(sweeping, "artifacts")
            await asyncio.sleep(0.5)

    await _work_while(sweeping, harm, seconds=4)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["s3", "postgres", "gateway", "nats"])
async def test_other_processes_that_are_killed_lose_nothing(sweeping: RunningCluster, role: str) -> None:
    async def harm() -> None:
        await _kill(sweeping, role)

    await _work_while(sweeping, harm, seconds=6)


@pytest.mark.slow
async def test_many_kills_among_two_replicas(start_cluster: Callable[..., RunningCluster]) -> None:
    """One replica after the other, at random moments."""
    cluster = start_cluster("--artifacts-replicas=2", storage=True, environ=SWEEPING)
    draw = random.Random(22)

    async def harm() -> None:
        for _ in range(10):
            await asyncio.sleep(draw.uniform(0.2, 2))
            with suppress(psutil.NoSuchProcess, ProcessLookupError, IndexError):  # both may be away
                os.kill(draw.choice(cluster.pids.get("artifacts", [])), signal.SIGKILL)

    await _work_while(cluster, harm, seconds=4)
