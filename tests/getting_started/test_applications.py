from __future__ import annotations

import re

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.scripts import Script, StartScript

from .conftest import Snippet


@pytest.fixture(params=["py", pytest.param("js", marks=pytest.mark.node)])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ending(code: str, language: str) -> str:
    """Let a JavaScript program end: its connection keeps it running, where Python's `async with` closes it."""
    head, call = code.rstrip().rsplit("\n", 1)
    return f"{head}\nawait {call} process.exit(0)" if language == "js" else code


async def worker(start_script: StartScript, snippet: Snippet, token: str, language: str) -> tuple[Script, str]:
    """Start the document's worker; returns it and the id of its service."""
    script = await start_script(snippet(f"worker_service.{language}", token=token), language=language)
    registered = (await script.line(r"Service registered: (\S+)$"))[1]
    await script.line(r"Associated with app: my-distributed-app$")
    return script, registered


async def test_application(cluster: RunningCluster, start_script: StartScript, snippet: Snippet, language: str) -> None:
    """Create and commit it, register two services with its id, look up what its manifest names, and call it."""
    token = cluster.user_token()
    created = await start_script(
        ending(snippet(f"create_application.{language}", token=token), language), language=language
    )
    output = await created.end()
    assert re.search(r"^Application created with ID: ws-user-[\w-]+/my-distributed-app$", output, re.M), output
    workers = [await worker(start_script, snippet, token, language) for _ in range(2)]
    assert workers[0][1] != workers[1][1]
    used = await start_script(
        ending(snippet(f"use_distributed_service.{language}", token=token), language), language=language
    )
    output = await used.end()
    assert "Result: Task completed: important-computation" in output
    status = {"py": "{'status': 'ready', 'load': 0.5}", "js": "[object Object]"}  # a template literal of an object
    assert f"Service status: {status[language]}" in output

    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        assert (await server.get_service_info(workers[0][1])).app_id == "my-distributed-app"
        exact = await server.get_service("worker-service-instance-1@my-distributed-app", {"mode": "last"})
        assert exact.id == workers[1][1]
        # "random": both are used, whichever language they are written in.
        chosen = {(await server.get_service("worker-service@my-distributed-app")).id for _ in range(20)}
        assert chosen == {registered for _, registered in workers}


@pytest.mark.parametrize("mode", ["first", "last", "exact"])
async def test_other_selection_modes(
    cluster: RunningCluster, start_script: StartScript, snippet: Snippet, mode: str
) -> None:
    """The document's other modes, with instances that have the same id and with ones that have ids of their own."""
    token = cluster.user_token()
    code = snippet("create_application.py", token=token)
    assert '"service_selection_mode": "random"' in code
    created = await start_script(
        code.replace('"service_selection_mode": "random"', f'"service_selection_mode": "{mode}"')
    )
    await created.end()
    options = {"server_url": cluster.url, "token": token}
    async with connect_to_server(options) as older, connect_to_server(options) as newer:
        for name in ("worker-service-instance-1", "worker-service-instance-2"):
            registered = [
                (
                    await server.register_service(
                        {
                            "id": name,
                            "type": "compute",
                            "app_id": "my-distributed-app",
                            "which": lambda which=which: which,
                        }
                    )
                ).id
                for server, which in ((older, "older"), (newer, "newer"))
            ]
            assert len(set(registered)) == 2
        if mode == "exact":
            for query in ("worker-service", "worker-service-instance-2"):
                with pytest.raises(RemoteException, match="AssertionError: Multiple services found for"):
                    await newer.get_service(f"{query}@my-distributed-app")
            await older.unregister_service("worker-service-instance-2")
            one = await older.get_service("worker-service-instance-2@my-distributed-app")
            assert await one.which() == "newer"
            return
        for query in ("worker-service", "worker-service-instance-2"):
            found = [await newer.get_service(f"{query}@my-distributed-app") for _ in range(5)]
            assert {await service.which() for service in found} == {{"first": "older", "last": "newer"}[mode]}
        # What the call says counts before what the manifest says.
        by_call = await newer.get_service("worker-service@my-distributed-app", {"mode": "last"})
        assert await by_call.which() == "newer"


async def test_unknown_application(cluster: RunningCluster, start_script: StartScript, snippet: Snippet) -> None:
    """A service that names an application that was never created is refused."""
    script = await start_script(snippet("worker_service.py", token=cluster.user_token()))
    await script.line(r"KeyError: 'Application id `my-distributed-app` not found in workspace ws-user-")


@pytest.mark.node
async def test_unknown_application_in_javascript(
    cluster: RunningCluster, start_script: StartScript, snippet: Snippet
) -> None:
    script = await start_script(snippet("worker_service.js", token=cluster.user_token()), language="js")
    await script.line(r"KeyError: 'Application id `my-distributed-app` not found in workspace ws-user-")
