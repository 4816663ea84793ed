from __future__ import annotations

from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from tests.fixtures.app_worker import app_worker, create_app

from .conftest import ConnectUser
from .kept_cluster import until

MANIFEST = {"name": "Greeter", "type": "custom", "version": "1.0.0"}


async def test_changes_are_a_draft_until_they_are_committed(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await apps.install("one", MANIFEST, "edited")
        await apps.edit_app("edited", manifest={"description": "new", "shelf": 1}, startup_config={"timeout": 20})
        await apps.edit_file("edited", "source", "two")
        await apps.edit_file("edited", "more/notes.txt", "notes")
        await apps.edit_file("edited", "gone.txt", "gone")
        await apps.remove_file("edited", "gone.txt")
        info = await apps.get_app_info("edited")
        assert info["manifest"].get("description") is None
        assert await apps.read_file("edited", "source") == "one"
        draft = await apps.get_app_info("edited", stage=True)
        assert draft["manifest"]["description"] == "new"
        assert draft["manifest"]["services"] == info["manifest"]["services"]
        assert {"_intent": "edit_version"} in draft["staging"]
        assert await apps.read_file("edited", "source", stage=True) == "two"
        committed = await apps.commit_app("edited")
        assert (committed["description"], committed["shelf"]) == ("new", 1)
        assert committed["startup_config"] == {"timeout": 20}
        assert {file["name"] for file in await apps.list_files("edited")} == {"source", "more"}
        assert len(worker.started) == 2
        await apps.edit_app("edited", startup_config={})
        assert (await apps.get_app_info("edited", stage=True))["manifest"]["startup_config"] is None


async def test_a_start_leaves_a_draft_alone(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")

    async def serve(client: Any, config: Any) -> None:
        names = ("default", "extra") if config["stage"] else ("default", "late")
        for name in reversed(names):
            await client.register_service({"id": name, "ping": lambda: 1})

    async with app_worker(server, behaviour=serve):
        await create_app(server, "pending")
        await apps.edit_app("pending", manifest={"description": "draft"})
        session = await apps.start("pending")
        info = await apps.get_app_info("pending")
        assert [service["id"].rpartition(":")[2] for service in info["manifest"]["services"]] == ["default", "late"]
        assert info["manifest"].get("description") is None
        draft = (await apps.get_app_info("pending", stage=True))["manifest"]
        assert draft["description"] == "draft"
        assert draft["services"] == [{"id": "default"}]
        await apps.stop(session["id"])
        session = await apps.start("pending", stage=True)
        draft = (await apps.get_app_info("pending", stage=True))["manifest"]
        assert [service["id"].rpartition(":")[2] for service in draft["services"]] == ["default", "extra"]
        assert (await apps.get_app_info("pending"))["manifest"] == info["manifest"]
        await apps.stop(session["id"])


async def test_what_an_older_version_serves_is_said_of_that_version(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")

    async def serve(client: Any, config: Any) -> None:
        for name in ("extra", "default") if config["version"] == "v0" else ("default",):
            await client.register_service({"id": name, "ping": lambda: 1})

    async with app_worker(server, behaviour=serve):
        await apps.install("old", MANIFEST, "aged")
        await apps.install("new", MANIFEST, "aged", overwrite=True)
        session = await apps.start("aged", version="v0")
        await apps.stop(session["id"])
        served = {}
        for version in ("v0", "v1"):
            manifest = (await apps.get_app_info("aged", version=version))["manifest"]
            served[version] = [service["id"].rpartition(":")[2] for service in manifest["services"]]
    assert served == {"v0": ["default", "extra"], "v1": ["default"]}


async def test_a_start_that_shows_nothing_new_changes_nothing(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server):
        await apps.install("x", MANIFEST, "detached")
        before = (await apps.get_app_info("detached"))["manifest"]
        for wait in (False, "default"):
            session = await apps.start("detached", wait_for_service=wait)
            await apps.stop(session["id"])
    assert (await apps.get_app_info("detached"))["manifest"] == before


async def test_a_disabled_app_stops_and_does_not_start(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await apps.install("x", MANIFEST, "switched")
        session = await apps.start("switched")
        await apps.edit_app("switched", disabled=True)
        assert session["id"] in worker.stopped
        runs = len(worker.started)
        await apps.commit_app("switched")
        with pytest.raises(RemoteException, match="is disabled"):
            await apps.start("switched")
        assert len(worker.started) == runs
        await apps.edit_app("switched", disabled=False)
        await apps.commit_app("switched")
        await apps.stop((await apps.start("switched"))["id"])


async def test_uninstalling_drops_a_draft_first(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await apps.install("x", MANIFEST, "leaving")
        session = await apps.start("leaving")
        await apps.edit_app("leaving", manifest={"description": "draft"})
        await apps.uninstall("leaving")
        assert (await apps.get_app_info("leaving", stage=True))["staging"] is None
        assert [running["id"] for running in await apps.list_running()] == [session["id"]]
        await apps.uninstall("leaving")
        assert worker.stopped[-1] == session["id"]
        assert await apps.list_running() == []
        assert await apps.list_apps() == []
        with pytest.raises(RemoteException, match=r"KeyError: .*does not exist"):
            await apps.uninstall("leaving")
        await apps.install("x", MANIFEST, "leaving", stage=True)
        await apps.uninstall("leaving")
        with pytest.raises(RemoteException, match="does not exist"):
            await apps.get_app_info("leaving", stage=True)


async def test_what_an_author_lists_of_a_group_of_services_stays(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    artifacts = await server.get_service("public/artifact-manager")
    services = [{"id": "worker-service", "type": "worker", "config": {"visibility": "protected"}}]
    await artifacts.create(
        type="application", alias="group", manifest={"type": "application", "name": "Group", "services": services},
        stage=True,
    )  # fmt: skip
    assert (await apps.commit_app("group"))["services"] == services
    with pytest.raises(RemoteException, match="Invalid manifest: 'name' must be a string"):
        await apps.edit_app("group", manifest={"name": 1})


async def test_only_apps_are_apps(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    artifacts = await server.get_service("public/artifact-manager")
    await artifacts.create(alias="notes", manifest={"name": "Notes", "type": "custom"})
    for call in (apps.start, apps.uninstall, apps.commit_app):
        with pytest.raises(RemoteException, match="is not an app"):
            await call("notes")
    async with app_worker(server):
        with pytest.raises(RemoteException, match="already exists"):
            await apps.install("x", MANIFEST, "notes", overwrite=True, stage=True)
    assert (await artifacts.read("notes"))["manifest"] == {"name": "Notes", "type": "custom"}


async def test_a_daemon_runs_from_its_commit_to_its_end(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server) as worker:
        await apps.install("x", {**MANIFEST, "daemon": True}, "always")
        (session,) = await until(apps.list_running)
        assert session["app_id"] == "always"
        await apps.edit_app("always", manifest={"daemon": False})
        await apps.commit_app("always")
        assert [running["id"] for running in await apps.list_running()] == [session["id"]]
        await apps.uninstall("always")
        assert await apps.list_running() == []
        assert worker.stopped[-1] == session["id"]
