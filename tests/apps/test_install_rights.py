from __future__ import annotations

from typing import Any

import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import app_worker

from .conftest import ConnectUser

MANIFEST = {"name": "Greeter", "type": "custom", "version": "1.0.0"}


async def test_tenants_see_nothing_of_each_other(connect_user: ConnectUser) -> None:
    one, other = await connect_user(), await connect_user()
    apps, others = [await server.get_service("public/server-apps") for server in (one, other)]
    async with app_worker(one) as worker, app_worker(other) as others_worker:
        await apps.install("mine", {**MANIFEST, "singleton": True}, "same")
        session = await apps.start("same")
        await others.install("theirs", {**MANIFEST, "singleton": True}, "same")
        assert await others.read_file("same", "source") == "theirs"
        await others.edit_app("same", disabled=True)
        await others.uninstall("same")
        await others.uninstall("same")
        assert [running["id"] for running in await apps.list_running()] == [session["id"]]
        assert len(others_worker.started) == 1
        assert session["id"] not in worker.stopped
        full = f"{one.config.workspace}/same"
        for call in (others.get_app_info, others.list_files, others.uninstall, others.commit_app, others.edit_app):
            with pytest.raises(RemoteException, match="is not in workspace"):
                await call(full)
        with pytest.raises(RemoteException, match="does not have permission to install apps"):
            await others.install("x", MANIFEST, workspace=one.config.workspace)
        with pytest.raises(RemoteException, match="PermissionError"):
            await others.install(artifact_id=full)
        await apps.stop(session["id"])


async def test_who_may_only_read_installs_nothing(connect_user: ConnectUser, apps_cluster: RunningCluster) -> None:
    owner = await connect_user()
    apps = await owner.get_service("public/server-apps")
    async with app_worker(owner):
        await apps.install("x", MANIFEST, "readable")
    token = await owner.generate_token({"permission": "read", "workspace": owner.config.workspace})
    async with connect_to_server({"server_url": apps_cluster.gateway_urls[0], "token": token}) as reader:
        seen = await reader.get_service("public/server-apps")
        assert [app["id"] for app in await seen.list_apps()] == ["readable"]
        assert await seen.read_file("readable", "source") == "x"
        for method, arguments in (
            ("install", {"source": "x", "manifest": MANIFEST, "app_id": "no"}),
            ("install", {"source": "x", "manifest": MANIFEST, "app_id": "readable", "overwrite": True}),
            ("commit_app", {"app_id": "readable"}),
            ("edit_app", {"app_id": "readable", "disabled": True}),
            ("edit_file", {"app_id": "readable", "file_path": "source", "file_content": "y"}),
            ("remove_file", {"app_id": "readable", "file_path": "source"}),
            ("uninstall", {"app_id": "readable"}),
            ("launch", {"source": "x", "config": MANIFEST}),
        ):
            with pytest.raises(RemoteException, match="PermissionError"):
                await seen[method](**arguments)
    assert await apps.read_file("readable", "source") == "x"
    assert (await apps.get_app_info("readable", stage=True))["staging"] is None


async def test_who_may_write_installs_and_nothing_is_left_of_a_failure(
    connect_user: ConnectUser, apps_cluster: RunningCluster
) -> None:
    owner = await connect_user()
    token = await owner.generate_token({"permission": "read_write", "workspace": owner.config.workspace})
    async with (
        connect_to_server({"server_url": apps_cluster.gateway_urls[1], "token": token}) as writer,
        app_worker(owner) as worker,
    ):
        apps = await writer.get_service("public/server-apps")
        await apps.install("x", MANIFEST, "shared")
        await apps.edit_file("shared", "source", "y")
        await apps.commit_app("shared")
        assert await apps.read_file("shared", "source") == "y"

        async def fail(client: object, config: object) -> None:
            raise RuntimeError("no luck")

        worker.behaviour = fail
        with pytest.raises(RemoteException, match="no luck"):
            await apps.install("x", MANIFEST, "unlucky")
        with pytest.raises(RemoteException, match="does not exist"):
            await apps.get_app_info("unlucky", stage=True)


async def test_anonymous_users_install_nothing(apps_cluster: RunningCluster) -> None:
    async with connect_to_server({"server_url": apps_cluster.gateway_urls[0]}) as nobody:
        apps = await nobody.get_service("public/server-apps")
        with pytest.raises(RemoteException, match="Anonymous users cannot install apps"):
            await apps.install("x", MANIFEST)
        with pytest.raises(RemoteException, match="Anonymous users cannot publish apps"):
            await apps.publish("x", "y")
        assert await apps.list_apps() == []


async def test_an_app_is_published_and_installed_elsewhere(connect_user: ConnectUser) -> None:
    author, user = await connect_user(), await connect_user()
    apps, others = [await server.get_service("public/server-apps") for server in (author, user)]
    artifacts = await author.get_service("public/artifact-manager")
    await artifacts.create(
        alias="market", type="collection", manifest={"name": "Market"}, config={"permissions": {"@": "r"}}
    )
    async with app_worker(author), app_worker(user) as worker:
        config = {"secrets": {"key": "hidden"}, "colour": "blue"}
        manifest = await apps.install("code", {**MANIFEST, "config": config}, "original")
        assert manifest["startup_context"]["ws"] == author.config.workspace
        copy = await apps.publish("original", "market", "for-all")
        assert copy["parent_id"] == f"{author.config.workspace}/market"
        assert copy["staging"] is None
        assert copy["manifest"]["id"] == "for-all"
        assert "startup_context" not in copy["manifest"]
        assert copy["manifest"]["config"] == {"colour": "blue"}
        record = await others.install(artifact_id=copy["id"], app_id="mine", stop_after_inactive=30)
        assert record["parent_id"] == f"{user.config.workspace}/applications"
        assert record["manifest"]["id"] == "mine"
        assert record["manifest"]["startup_config"] == {"stop_after_inactive": 30}
        assert record["manifest"]["services"][0]["id"] == f"{user.config.workspace}/*:default"
        assert worker.started == worker.stopped
        assert await others.read_file("mine", "source") == "code"
        assert list(record["config"]["permissions"]) == [user.config.user["id"]]
        with pytest.raises(RemoteException, match="PermissionError"):  # who wrote it does not change what others run
            await artifacts.edit(record["id"], manifest={"name": "Changed"})
        assert [app["id"] for app in await others.list_apps()] == ["mine"]


async def test_launch_installs_and_starts(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    async with app_worker(server):
        session = await apps.launch('<config>{"name": "Launched", "type": "custom"}</config><script>1</script>')
        assert session["name"] == "Launched"
        assert (await apps.list_apps())[0]["id"] == session["app_id"]
        await apps.stop(session["id"])


async def test_manifests_are_validated(connect_user: ConnectUser) -> None:
    server = await connect_user()
    apps = await server.get_service("public/server-apps")
    good = {"name": "x", "type": "window", "version": "1", "description": "x", "tags": ["x"]}
    assert await apps.validate_app_manifest(good) == {"valid": True, "errors": [], "warnings": [], "suggestions": []}
    bad = await apps.validate_app_config({"type": "mcp-server", "version": 1, "entry_point": "x.exe"})
    assert not bad["valid"]
    assert bad["errors"] == [
        "Missing required field: name",
        "Field 'version' must be a string",
        "Type 'mcp-server' requires 'mcpServers' to be a map that is not empty",
    ]
    assert len(bad["warnings"]) == 1
    assert bad["suggestions"] == ["Consider adding a description", "Consider adding tags"]
    agent = {**good, "type": "a2a-agent", "a2aAgents": {"one": {"url": "ftp://x", "headers": 1}, "two": {}}}
    checked = await apps.validate_app_manifest(agent)
    assert checked["errors"] == [
        "'headers' of 'one' in 'a2aAgents' must be a map", "'two' in 'a2aAgents' is missing 'url'",
    ]  # fmt: skip
    assert checked["warnings"] == ["The url of 'one' in 'a2aAgents' is no http address"]


async def test_an_app_has_no_rights_of_its_installer_elsewhere(connect_user: ConnectUser) -> None:
    installer, friend = await connect_user(), await connect_user()
    apps = await installer.get_service("public/server-apps")
    artifacts, friends = [await server.get_service("public/artifact-manager") for server in (installer, friend)]
    user_id = installer.config.user["id"]
    letter = await friends.create(
        alias="letter", manifest={"name": "Letter"}, config={"permissions": {user_id: "rw"}}
    )  # fmt: skip
    own = await artifacts.create(alias="diary", manifest={"name": "Diary"})
    assert (await artifacts.read(letter["id"]))["manifest"] == {"name": "Letter"}

    async def serve(client: Any, config: Any) -> None:
        manager = await client.get_service("public/artifact-manager")

        async def read(artifact_id: str) -> str:
            return str((await manager.read(artifact_id))["manifest"]["name"])

        await client.register_service({"id": "default", "read": read})

    async with app_worker(installer, behaviour=serve):
        await apps.install("x", MANIFEST, "nosy")
        session = await apps.start("nosy")
        service = await installer.get_service(session["service_id"])
        assert await service.read(own["id"]) == "Diary"
        with pytest.raises(RemoteException, match="does not have permission 'read'"):
            await service.read(letter["id"])
        await apps.stop(session["id"])


async def test_everybody_may_read_apps_that_are_installed_in_public(
    connect_user: ConnectUser, apps_cluster: RunningCluster
) -> None:
    root = await connect_user(token=apps_cluster.root_token)
    token = await root.generate_token({"workspace": "public", "permission": "admin"})
    root = await connect_user(token=token, workspace="public")
    apps = await root.get_service("public/server-apps")
    async with app_worker(root, "public-type", service_id="public-worker") as worker:
        await apps.install("x", {**MANIFEST, "type": "public-type"}, "of-the-server")
        assert worker.started == worker.stopped
    artifacts = await (await connect_user()).get_service("public/artifact-manager")
    assert (await artifacts.read("public/of-the-server"))["manifest"]["name"] == "Greeter"
    with pytest.raises(RemoteException, match="PermissionError"):
        await artifacts.edit("public/of-the-server", manifest={"name": "Mine"}, stage=True)
    await apps.uninstall("of-the-server")
    assert "of-the-server" not in [app["id"] for app in await apps.list_apps()]
