from __future__ import annotations

import asyncio

import pytest

from hypha_common.settings import Settings
from hypha_workspace.cli import build
from tests.manager.rig import Gateway, user


async def test_an_operator_looks_inside(
    gateway: Gateway, stack: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workspaces, clients and services are printed one a line, parted by tabs."""
    a = await gateway.connect("a", user("oper"), "ws-user-oper")
    await a.rpc.register_service({"id": "svc"})
    monkeypatch.setenv("HYPHA_DATABASE_URL", stack.database_url)

    async def printed(*arguments: str) -> list[list[str]]:
        # In a thread, because a command line runs a loop of its own.
        assert await asyncio.to_thread(build().main, arguments) == 0
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    workspaces = {row[0]: row[1:] for row in await printed("list")}
    assert workspaces["ws-user-oper"] == ["loaded", "persistent", "oper,root"]
    assert (await printed("clients", "ws-user-oper"))[0][3:] == ["oper", "registered"]
    assert await printed("services", "ws-user-oper") == [
        ["ws-user-oper/a:built-in", "built-in", "public", "*"],
        ["ws-user-oper/a:svc", "generic", "protected", "*"],
    ]
