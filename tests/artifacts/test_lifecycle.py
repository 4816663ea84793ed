"""Artifacts from their creation to their end, by a real client."""

from __future__ import annotations

import pytest
from hypha_rpc.rpc import RemoteException

from tests.artifacts.people import fresh
from tests.manager.rig import Gateway


async def test_an_artifact_is_created_and_read(gateway: Gateway) -> None:
    me = await fresh(gateway)
    made = await me.artifacts.create(alias="first", manifest={"name": "First"}, config={"permissions": {"*": "r"}})
    assert made.id == made["id"] == f"{me.workspace}/first"
    assert (made.type, made.workspace, made.alias, made.parent_id) == ("generic", me.workspace, "first", None)
    assert made.manifest == {"name": "First"}
    assert made.config == {"permissions": {"*": "r", me.principal.id: "*"}}
    assert (made.staging, made.file_count, made.view_count, made.download_count) == (None, 0, 0, 0)
    assert [(v["version"], v["comment"]) for v in made.versions] == [("v0", "Initial version")]
    assert made.created_by == me.principal.id
    assert set(made._permissions["*"]) >= {"read", "list", "get_file"}
    assert "secrets" not in made
    for name in ("first", made.id, made._id):
        assert (await me.artifacts.read(name, silent=True)) == made


async def test_what_is_edited_replaces_what_was_there(gateway: Gateway) -> None:
    me = await fresh(gateway)
    await me.artifacts.create(alias="a", manifest={"name": "A", "tags": ["x"]}, config={"one": 1})
    edited = await me.artifacts.edit("a", manifest={"name": "B"})
    assert edited.manifest == {"name": "B"}
    assert edited.config["one"] == 1
    edited = await me.artifacts.edit("a", config={"two": 2}, type="model")
    assert edited.config == {"two": 2}
    assert edited.type == "model"
    assert [v["version"] for v in edited.versions] == ["v0"]


async def test_a_draft_is_seen_when_it_is_committed(gateway: Gateway) -> None:
    me = await fresh(gateway)
    await me.artifacts.create(alias="a", manifest={"name": "A"})
    draft = await me.artifacts.edit("a", manifest={"name": "B"}, stage=True)
    assert draft.manifest == {"name": "B"}
    assert draft.staging == [{"_intent": "edit_version"}]
    published = await me.artifacts.read("a")
    assert published.manifest == {"name": "A"}
    assert published.staging is None
    assert (await me.artifacts.read("a", version="stage")).manifest == {"name": "B"}
    committed = await me.artifacts.commit("a", comment="better")
    assert committed.manifest == {"name": "B"}
    assert committed.staging is None
    assert [(v["version"], v["comment"]) for v in committed.versions] == [("v0", "better")]
    assert (await me.artifacts.read("a", silent=True)).manifest == {"name": "B"}


async def test_the_application_of_the_document(gateway: Gateway) -> None:
    """The getting-started document commits what was never staged."""
    me = await fresh(gateway)
    app = await me.artifacts.create(
        type="application",
        manifest={"name": "my-distributed-app", "service_selection_mode": "random", "services": [{"id": "worker"}]},
        alias="my-distributed-app",
    )
    assert await me.artifacts.commit(artifact_id=app.id) == app


async def test_an_unknown_artifact(gateway: Gateway) -> None:
    me = await fresh(gateway)
    for name in ("absent", f"{me.workspace}/absent", "01900000-0000-7000-8000-000000000000"):
        with pytest.raises(RemoteException, match="does not exist"):
            await me.artifacts.read(name)
    with pytest.raises(RemoteException, match="Invalid artifact ID format"):
        await me.artifacts.read("a/b/c")
