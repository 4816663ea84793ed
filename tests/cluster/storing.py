"""Putting a file into a cluster and getting it back, as clients do."""

from __future__ import annotations

from typing import Any

import httpx
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster

__all__ = ["publish", "read_back"]


async def publish(cluster: RunningCluster, token: str, alias: str, files: dict[str, bytes]) -> dict[str, str]:
    """Create an artifact with files of type text/x-test; returns the addresses that they were put to."""
    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        manager = await server.get_service("public/artifact-manager")
        await manager.create(alias=alias, type="dataset", manifest={"name": alias}, version="stage")
        addresses: dict[str, str] = await manager.put_file(alias, list(files))
        async with httpx.AsyncClient(timeout=30) as http:
            for path, data in files.items():
                answer = await http.put(addresses[path], content=data, headers={"content-type": "text/x-test"})
                assert answer.status_code == 200, answer.text
        await manager.commit(alias)
        return dict(addresses)


async def read_back(cluster: RunningCluster, token: str, alias: str, path: str, **headers: str) -> httpx.Response:
    """Return what the address of a file answers with."""
    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        manager = await server.get_service("public/artifact-manager")
        address: Any = await manager.get_file(alias, path)
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(str(address), headers=headers)
