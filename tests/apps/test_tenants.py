from __future__ import annotations

from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser
from .refused import LEFT_OPEN

pytestmark = LEFT_OPEN


async def test_namesakes_have_nothing_to_do_with_each_other(connect_user: ConnectUser) -> None:
    """Trap 1 of contract 03 §1.14: two users, one alias, singletons; nobody sees or ends what is not theirs."""
    ada, bob = await connect_user(), await connect_user()
    adas, bobs = [await one.get_service("public/server-apps") for one in (ada, bob)]
    async with app_worker(ada) as of_ada, app_worker(bob) as of_bob:
        for server in (ada, bob):
            await create_app(server, "same", singleton=True)
        first, second = await adas.start("same"), await bobs.start("same")
        assert first["id"].startswith(f"{ada.config.workspace}/")
        assert second["id"].startswith(f"{bob.config.workspace}/")
        assert (of_ada.started, of_bob.started) == ([first["id"]], [second["id"]])
        assert [one["id"] for one in await bobs.list_running()] == [second["id"]]
        for method in ("stop", "get_logs", "get_session_info", "take_screenshot"):
            with pytest.raises(RemoteException, match="PermissionError: Permission denied for workspace"):
                await bobs[method](first["id"])
        with pytest.raises(RemoteException, match="PermissionError: Permission denied for workspace"):
            await bobs.stop(first["id"], raise_exception=False)
        with pytest.raises(RemoteException, match="not found"):
            await bobs.stop(first["client_id"])  # of his own workspace, where there is none
        with pytest.raises(RemoteException, match="is not in workspace"):
            await bobs.start(f"{ada.config.workspace}/same")
        await bobs.stop(second["id"])
        with pytest.raises(RemoteException, match="is not available"):
            await bobs.start("same", worker_id=first["worker_id"])
        assert [one["id"] for one in await adas.list_running()] == [first["id"]]
        assert await (await ada.get_service("default@same")).hello("Ada") == "hello Ada"
        await adas.stop(first["id"])


async def test_anonymous_caller_sees_and_starts_nothing_of_others(connect_user: ConnectUser) -> None:
    owner = await connect_user()
    apps = await owner.get_service("public/server-apps")

    async def behave(client: Any, config: Any) -> None:
        await client.register_service({"id": "default", "config": {"visibility": "protected"}})

    async with app_worker(owner, behaviour=behave) as worker:
        await create_app(owner, "private")
        session = await apps.start("private")
        stranger = await connect_user(token=None)
        strangers = await stranger.get_service("public/server-apps")
        assert await strangers.list_running() == []
        for method in ("stop", "get_logs", "get_session_info"):
            with pytest.raises(RemoteException, match="Permission denied"):
                await strangers[method](session["id"])
        await apps.stop(session["id"])
        with pytest.raises(RemoteException, match="Permission denied"):
            await stranger.get_service(f"{owner.config.workspace}/default@private")
        assert worker.started == [session["id"]]
