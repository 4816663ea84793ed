from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from hypha_rpc import connect_to_server

from .artifacts import Shelf
from .command import add_server_arguments, emit, run
from .cpu import CpuWindow
from .memory import MemoryWindow
from .processes import ProcessTree
from .server_kinds import ROOT_TOKEN

__all__ = ["measure_zip"]

_PIECE = bytes(range(256)) * 4096  # 1 MiB
_SMALL = b"x" * 4096
_UPLOADS_AT_ONCE = 16

Report = dict[str, Any]


async def measure_zip(options: argparse.Namespace) -> Report:
    """Download one archive of large files and one of many small ones, neither kept here."""
    server = ProcessTree(options.pid) if options.pid else None
    connection = await connect_to_server({"server_url": options.url, "token": options.token, "method_timeout": 120})
    headers = {"Authorization": f"Bearer {options.token}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=120)
    async with (
        aiohttp.ClientSession(timeout=timeout, headers=headers) as http,
        aiohttp.ClientSession(timeout=timeout) as stranger,  # addresses carry their own right
    ):
        manager = await connection.get_service("public/artifact-manager")
        shelf = Shelf(options.url, connection, manager, stranger)
        large = await shelf.artifact(stage=True)
        for number in range(options.large_files):
            await _put_large(http, shelf.file_url(large, f"large-{number}.bin"), options.mebibytes)
        await manager.commit(large)
        small = await shelf.artifact(stage=True)
        await _put_small(shelf, small, options.small_files)
        await manager.commit(small)
        results = {
            "large": {
                "files": options.large_files,
                "mebibytes_each": options.mebibytes,
                **await _download(http, shelf, large, server),
            },
            "small": {"files": options.small_files, "bytes_each": len(_SMALL)}
            | await _download(http, shelf, small, server),
        }
    await connection.disconnect()
    return results


async def _put_large(http: aiohttp.ClientSession, url: str, mebibytes: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(mebibytes):
            yield _PIECE

    async with http.put(url, data=body(), headers={"Content-Length": str(mebibytes * 2**20)}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"PUT: {answer.status} {(await answer.text())[:300]}")


async def _put_small(shelf: Shelf, artifact: str, count: int) -> None:
    gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)
    paths = [f"folder-{number % 10}/small-{number}.txt" for number in range(count)]
    addresses = await shelf.manager.put_file(artifact, file_path=paths)

    async def one(path: str) -> None:
        async with gate, shelf.http.put(addresses[path], data=_SMALL) as answer:
            if answer.status != 200:
                raise RuntimeError(f"PUT: {answer.status} {(await answer.text())[:300]}")

    await asyncio.gather(*(one(path) for path in paths))


async def _download(http: aiohttp.ClientSession, shelf: Shelf, artifact: str, server: ProcessTree | None) -> Report:
    url = f"{shelf.url}/{artifact.replace('/', '/artifacts/', 1)}/create-zip-file"
    size, first_byte = 0, 0.0
    with CpuWindow(server) as cpu, MemoryWindow(server) as memory:
        started = time.perf_counter()
        async with http.get(url) as answer:
            if answer.status != 200:
                raise RuntimeError(f"GET: {answer.status} {(await answer.text())[:300]}")
            async for piece in answer.content.iter_any():
                first_byte = first_byte or time.perf_counter() - started
                size += len(piece)
            if size != answer.content_length:
                raise RuntimeError(f"{size} bytes in place of {answer.content_length}")
        seconds = time.perf_counter() - started
    return {
        "bytes": size,
        "seconds": round(seconds, 2),
        "MiB_per_s": round(size / 2**20 / seconds, 1),
        "first_byte_ms": round(first_byte * 1e3, 1),
        "cpu": cpu.report(),
        "growth_MiB": memory.report(),
    }


async def main(arguments: argparse.Namespace) -> None:
    emit("zip_stream", await measure_zip(arguments), url=arguments.url)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Zip archives of artifacts: rate, and memory of every process.")
    add_server_arguments(parser)
    parser.add_argument("--token", default=ROOT_TOKEN, help="of a user whose workspace is persistent")
    parser.add_argument("--large-files", type=int, default=4)
    parser.add_argument("--mebibytes", type=int, default=1025, help="size of each; by default more than 4 GiB in all")
    parser.add_argument("--small-files", type=int, default=2000, help="of 4 KiB each")
    run(main(parser.parse_args()))
