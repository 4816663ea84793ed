from __future__ import annotations

import pytest
from hypha_rpc import connect_to_server

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.scripts import StartScript

from .conftest import Snippet


async def test_service_of_an_application(cluster: RunningCluster, start_script: StartScript, snippet: Snippet) -> None:
    """Registered with an app id, a service is found by it."""
    token = cluster.user_token()
    script = await start_script(snippet("worker_service.py", token=token))
    registered = (await script.line(r"Service registered: (\S+)$"))[1]
    await script.line(r"Associated with app: my-distributed-app$")

    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        worker = await server.get_service("worker-service-instance-1@my-distributed-app")
        assert worker.id == registered
        assert await worker.process_task("important-computation") == "Task completed: important-computation"
        assert await worker.get_status() == {"status": "ready", "load": 0.5}
        assert (await server.get_service_info(registered)).app_id == "my-distributed-app"


@pytest.mark.node
async def test_javascript_service_of_an_application(
    cluster: RunningCluster, start_script: StartScript, snippet: Snippet
) -> None:
    token = cluster.user_token()
    script = await start_script(snippet("worker_service.js", token=token), language="js")
    registered = (await script.line(r"Service registered: (\S+)$"))[1]

    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        worker = await server.get_service(registered)
        assert await worker.process_task("a") == "Task completed: a"
