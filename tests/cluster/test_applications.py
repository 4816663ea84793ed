from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster

MANIFEST = {
    "name": "App",
    "service_selection_mode": "random",
    "services": [{"id": "worker", "type": "compute"}],
}


def worker(name: str, app: str) -> dict[str, Any]:
    return {"id": name, "app_id": app, "config": {"visibility": "public"}, "who": lambda: name}


async def test_services_of_an_application_at_several_gateways(two_gateways: RunningCluster) -> None:
    """Whichever replica is asked: registered at both gateways, found at each, over RPC and HTTP."""
    token = two_gateways.user_token("appsam")
    here, there = two_gateways.gateway_urls
    async with (
        connect_to_server({"server_url": here, "token": token}) as a,
        connect_to_server({"server_url": there, "token": token}) as b,
    ):
        manager = await a.get_service("public/artifact-manager")
        await manager.create(type="application", alias="app", manifest=MANIFEST)
        for client, name in ((a, "worker-1"), (b, "worker-2")):
            await client.register_service(worker(name, "app"))
        for client in (a, b):
            found = {await (await client.get_service("worker@app")).who() for _ in range(20)}
            assert found == {"worker-1", "worker-2"}
        async with httpx.AsyncClient(timeout=10) as http:
            for url in (here, there):
                answer = await http.get(f"{url}/ws-user-appsam/services/worker@app/who")
                assert answer.json() in ("worker-1", "worker-2")
                exact = await http.get(f"{url}/ws-user-appsam/services/worker@app/who", params={"_mode": "last"})
                assert exact.json() == "worker-2"
        with pytest.raises(Exception, match="Application id `none` not found in workspace ws-user-appsam"):
            await b.register_service(worker("worker-3", "none"))
        await manager.delete("app")


async def test_connection_of_an_application(cluster: RunningCluster) -> None:
    """`app_id` of the connection: its services must belong to an application that exists; the connection need not."""
    token = cluster.user_token("connectedsam")
    async with connect_to_server({"server_url": cluster.url, "token": token, "app_id": "app"}) as server:
        with pytest.raises(Exception, match="Application id `app` not found"):
            await server.register_service({"id": "worker-1", "who": lambda: "worker-1"})
        async with connect_to_server({"server_url": cluster.url, "token": token}) as owner:
            manager = await owner.get_service("public/artifact-manager")
            await manager.create(type="application", alias="app", manifest=MANIFEST)
            # hypha-rpc keeps what was refused, and would refuse it by itself.
            await server.register_service({"id": "worker-1", "who": lambda: "worker-1"}, {"overwrite": True})
            assert await (await owner.get_service("worker@app")).who() == "worker-1"
            with pytest.raises(Exception, match="Service not found"):
                await owner.get_service("built-in-x@app")
