from __future__ import annotations

import json

from hypha_common.settings import Settings
from tests.fixtures.commands import Completed, run_command
from tests.manager.rig import Gateway, user


async def test_an_operator_looks_inside(gateway: Gateway, stack: Settings) -> None:
    """Workspaces, clients and services are printed one a line, parted by tabs, or as JSON."""
    a = await gateway.connect("a", user("oper"), "ws-user-oper")
    await a.rpc.register_service({"id": "svc"})
    await a.manager.set_env("SECRET_NAME", "secret value")
    queue = await a.manager.get_service("public/queue")
    await queue.push("jobs", {"n": 1})

    async def printed(*arguments: str) -> Completed:
        done = await run_command("hypha_workspace", *arguments, environ={"HYPHA_DATABASE_URL": stack.database_url})
        assert done.status == 0, done.err
        return done

    workspaces = {row[0]: row[1:] for row in (await printed("list")).rows}
    assert workspaces["ws-user-oper"] == ["loaded", "persistent", "oper,root"]
    assert (await printed("clients", "ws-user-oper")).rows[0][3:] == ["oper", "registered", "*"]
    assert (await printed("services", "ws-user-oper")).rows == [
        ["ws-user-oper/a:built-in", "built-in", "public", "*"],
        ["ws-user-oper/a:svc", "generic", "protected", "*"],
    ]
    services = json.loads((await printed("services", "ws-user-oper", "--json")).out)
    assert services[1]["id"] == "ws-user-oper/a:svc"
    inspected = await printed("inspect", "ws-user-oper")
    about = dict(inspected.rows)
    assert (about["clients"], about["services"], about["environment"], about["queues"]) == (
        "1", "1", "SECRET_NAME", "jobs:1",
    )  # fmt: skip
    assert "secret value" not in inspected.out


async def test_what_cannot_be_done_is_one_sentence(stack: Settings) -> None:
    """And status 1."""

    async def refused(*arguments: str, **environ: str) -> str:
        done = await run_command("hypha_workspace", *arguments, environ=environ)
        assert (done.status, done.out) == (1, "")
        assert done.err.count("\n") == 1, done.err
        return done.err

    url = {"HYPHA_DATABASE_URL": stack.database_url}
    assert "Workspace not found: ws-none" in await refused("inspect", "ws-none", **url)
    assert "nats_url is missing" in await refused("where", **url)
    assert "database_url is missing" in await refused("list")
    nats = {**url, "HYPHA_NATS_URL": stack.nats_url}
    assert "Client not found: ws-none/c" in await refused("kick", "ws-none/c", **nats)
    assert "Invalid address: c" in await refused("kick", "c", **nats)
    assert "Invalid close code: 1005" in await refused("kick", "ws-none/c", "--code", "1005", **nats)
    assert "stands for a service" in await refused("kick", "public/hypha-workspace", **nats)
    assert "Workspace not found: ws-none" in await refused("unload", "ws-none", **nats)
    assert "Workspace public cannot be unloaded" in await refused("unload", "public", **nats)
    elsewhere = {"HYPHA_NATS_URL": "nats://127.0.0.1:1"}
    assert "Cannot reach the bus at nats://127.0.0.1:1" in await refused("where", **url, **elsewhere)
    absent = stack.database_url.rpartition("/")[0] + "/absent"
    assert "database" in await refused("list", HYPHA_DATABASE_URL=absent)
    empty = stack.database_url.rpartition("/")[0] + "/postgres"
    assert "run `hypha-workspace migrate`" in await refused("list", HYPHA_DATABASE_URL=empty)
