from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from .artifact_bulk import measure_bulk
from .artifact_rows import seed_collection, seed_files
from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .processes import ProcessTree
from .server_kinds import ROOT_TOKEN
from .stats import percentile

__all__ = ["measure_artifacts"]

STEP_LIMIT_S = 300
_SMALL = b"x" * 4096
_FILES_OF_COMMIT = 10

Report = dict[str, Any]


class Shelf:
    """Artifacts of one benchmark, in the workspace of the user whose token it has."""

    def __init__(self, url: str, server: Any, manager: Any, http: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self.workspace: str = server.config.workspace
        self.manager = manager
        self.http = http
        self._run = uuid4().hex[:8]
        self._numbers = 0

    @property
    def alias(self) -> str:
        """A new alias each time."""
        self._numbers += 1
        return f"bench-{self._run}-{self._numbers}"

    async def artifact(self, *, stage: bool, **options: Any) -> str:
        """Make an artifact and return its id, ``workspace/alias``."""
        alias = self.alias
        await self.manager.create(alias=alias, manifest={"name": alias}, stage=stage, **options)
        return f"{self.workspace}/{alias}"

    async def put(self, artifact: str, path: str) -> None:
        """Ask where a file goes, and send it there."""
        await self._send(await self.manager.put_file(artifact, file_path=path))

    async def put_many(self, artifact: str, paths: list[str]) -> None:
        """The same for files of which one asks at once: not every server can be asked for several at a time."""
        urls = await self.manager.put_file(artifact, file_path=paths)
        await asyncio.gather(*(self._send(urls[path]) for path in paths))

    async def _send(self, url: str) -> None:
        async with self.http.put(url, data=_SMALL) as answer:
            if answer.status != 200:
                raise RuntimeError(f"PUT: {answer.status} {(await answer.text())[:300]}")

    async def get(self, artifact: str, path: str) -> None:
        url = await self.manager.get_file(artifact, file_path=path)
        async with self.http.get(url) as answer:
            if await answer.read() != _SMALL:
                raise RuntimeError(f"GET: {answer.status}")

    def file_url(self, artifact: str, path: str) -> str:
        return f"{self.url}/{artifact.replace('/', '/artifacts/', 1)}/files/{path}"


async def measure_calls(shelf: Shelf, options: argparse.Namespace, server: ProcessTree | None) -> Report:
    """One call after the other, then many at once."""
    manager = shelf.manager
    committed = await shelf.artifact(stage=True)
    for number in range(_FILES_OF_COMMIT):
        await shelf.put(committed, f"file-{number}.txt")
    await manager.commit(committed)
    draft = await shelf.artifact(stage=True)
    await manager.write_file(draft, file_path="written.txt", content="x" * 4096)
    actions: dict[str, Callable[[int], Awaitable[Any]]] = {
        "create": lambda _: shelf.artifact(stage=False),
        "read": lambda _: manager.read(committed),
        "put_file": lambda n: manager.put_file(draft, file_path=f"put-{n}.txt"),
        "get_file": lambda n: manager.get_file(committed, file_path=f"file-{n % _FILES_OF_COMMIT}.txt"),
        "list_files": lambda _: manager.list_files(committed),
        "write_file": lambda n: manager.write_file(draft, file_path=f"written-{n}.txt", content="x" * 4096),
        "read_file": lambda _: manager.read_file(draft, file_path="written.txt", stage=True),
        "put_file_and_PUT": lambda n: shelf.put(draft, f"sent-{n}.txt"),
        "get_file_and_GET": lambda n: shelf.get(committed, f"file-{n % _FILES_OF_COMMIT}.txt"),
    }
    results = {}
    for name, action in actions.items():
        async with asyncio.timeout(STEP_LIMIT_S):
            with CpuWindow(server) as window:
                one = await _one_by_one(action, seconds=options.seconds)
                many = await _at_once(action, seconds=options.seconds, first=1_000_000, concurrency=options.concurrency)
            results[name] = {**one, **many, "cpu": window.report()}
    results["commit_10_files"] = await measure_commits(shelf, options.seconds)
    return results


async def measure_commits(shelf: Shelf, seconds: float) -> Report:
    """Commit drafts of ten files each; only the commit is timed."""
    samples: list[float] = []
    deadline = time.perf_counter() + 3 * seconds
    while time.perf_counter() < deadline or len(samples) < 3:
        artifact = await shelf.artifact(stage=True)
        await shelf.put_many(artifact, [f"file-{number}.txt" for number in range(_FILES_OF_COMMIT)])
        started = time.perf_counter()
        await shelf.manager.commit(artifact)
        samples.append(time.perf_counter() - started)
    return _latencies(samples)


async def measure_collection(shelf: Shelf, options: argparse.Namespace) -> Report:
    """Pages of 100 out of a large collection, with filters and order."""
    manager = shelf.manager
    collection = await shelf.artifact(stage=False, type="collection")
    identifier = (await manager.read(collection))["_id"]
    await seed_collection(Path(options.data_dir), shelf.workspace, identifier, options.artifacts)
    pages: dict[str, dict[str, Any]] = {
        "plain": {},
        "paginated": {"pagination": True},
        "ordered": {"order_by": "download_count>"},
        "ordered_by_manifest": {"order_by": "manifest.rank<"},
        "filtered": {"filters": {"manifest": {"rank": 42}}},
        "keyword": {"keywords": ["item 4242"]},
        "deep": {"offset": options.artifacts // 2},
    }
    results: Report = {"artifacts": options.artifacts}
    for name, arguments in pages.items():

        async def page(_: int, arguments: dict[str, Any] = arguments) -> None:
            await manager.list(parent_id=collection, limit=100, silent=True, **arguments)

        results[name] = await _one_by_one(page, seconds=options.seconds)
    return results


async def measure_many_files(shelf: Shelf, options: argparse.Namespace) -> Report:
    """An artifact of many files: a page of a flat folder, its middle, and the root with its folders."""
    manager = shelf.manager
    artifact = await shelf.artifact(stage=False)
    await seed_files(Path(options.data_dir), shelf.workspace, (await manager.read(artifact))["_id"], options.files)
    half = options.files // 2
    return {
        "files": 2 * options.files,
        "root": await _one_by_one(lambda _: manager.list_files(artifact), seconds=options.seconds),
        "folder_100": await _one_by_one(
            lambda _: manager.list_files(artifact, dir_path="flat", limit=100), seconds=options.seconds
        ),
        "folder_100_middle": await _one_by_one(
            lambda _: manager.list_files(artifact, dir_path="flat", limit=100, offset=half), seconds=options.seconds
        ),
        "folder_1000": await _one_by_one(
            lambda _: manager.list_files(artifact, dir_path="flat", limit=1000), seconds=options.seconds
        ),
    }


async def measure_artifacts(options: argparse.Namespace) -> Report:
    server = ProcessTree(options.pid) if options.pid else None
    connection = await connect_to_server({"server_url": options.url, "token": options.token, "method_timeout": 120})
    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    headers = {"Authorization": f"Bearer {options.token}"}
    results: Report = {}
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as http:
        manager = await connection.get_service("public/artifact-manager")
        shelf = Shelf(options.url, connection, manager, http)
        if "calls" in options.step:
            results |= await measure_calls(shelf, options, server)
        if "bulk" in options.step:
            artifact = await shelf.artifact(stage=True)
            async with aiohttp.ClientSession(timeout=timeout, headers=headers) as own:
                url = shelf.file_url(artifact, "big.bin")
                results["bulk"] = await measure_bulk(own, url, mebibytes=options.mebibytes, server=server)
        if options.data_dir:
            if "collection" in options.step:
                results["collection"] = await measure_collection(shelf, options)
            if "files" in options.step:
                results["files"] = await measure_many_files(shelf, options)
    await connection.disconnect()
    return results


async def _one_by_one(action: Callable[[int], Awaitable[Any]], *, seconds: float) -> Report:
    """Repeat a call; one that fails ends the measurement."""
    await action(0)
    samples: list[float] = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or len(samples) < 3:
        started = time.perf_counter()
        await action(len(samples) + 1)
        samples.append(time.perf_counter() - started)
    return _latencies(samples)


async def _at_once(
    action: Callable[[int], Awaitable[Any]], *, seconds: float, first: int, concurrency: int
) -> dict[str, Any]:
    """Make many calls at the same time; what fails does not count, and how much did is told."""
    done = failed = 0
    started = time.perf_counter()

    async def repeat(worker: int) -> None:
        nonlocal done, failed
        number = first * (worker + 1)
        while time.perf_counter() - started < seconds:
            number += 1
            try:
                await action(number)
                done += 1
            except (RemoteException, RuntimeError):  # a hub on SQLite refuses some: "database is locked"
                failed += 1

    await asyncio.gather(*(repeat(worker) for worker in range(concurrency)))
    rate = round(done / (time.perf_counter() - started), 1)
    return {"calls_per_s": rate, "concurrency": concurrency, **({"failed": failed} if failed else {})}


def _latencies(samples: list[float]) -> Report:
    return {
        "count": len(samples),
        "p50_ms": round(percentile(samples, 0.5) * 1e3, 3),
        "p95_ms": round(percentile(samples, 0.95) * 1e3, 3),
    }


async def main(arguments: argparse.Namespace) -> None:
    emit("artifacts", await measure_artifacts(arguments), url=arguments.url)


if __name__ == "__main__":
    steps = ["calls", "bulk", "collection", "files"]
    parser = argparse.ArgumentParser(description="Artifacts: calls, small files, one large file, large collections.")
    add_server_arguments(parser)
    parser.add_argument("--token", default=ROOT_TOKEN, help="of a user whose workspace is persistent")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each call is repeated")
    parser.add_argument("--concurrency", type=int, default=16, help="calls at once, where rates are measured")
    parser.add_argument("--mebibytes", type=int, default=1024, help="size of the large file")
    parser.add_argument("--data-dir", help="of the hub: also measure large collections, whose rows are put there")
    parser.add_argument("--artifacts", type=int, default=100_000, help="size of the collection")
    parser.add_argument("--files", type=int, default=100_000, help="files of an artifact, in one folder and in many")
    parser.add_argument("--step", action="append", choices=steps, help="repeatable; default: all")
    options = parser.parse_args()
    options.step = options.step or steps
    run(main(options))
