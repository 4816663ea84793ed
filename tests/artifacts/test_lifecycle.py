"""Artifacts from their creation to their end, by a real client."""

from __future__ import annotations

import asyncio

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.reference import ArtifactName
from hypha_common.ids import new_id
from hypha_common.principal import Permission
from tests.artifacts.draft_files import committed, put
from tests.artifacts.people import enter, fresh
from tests.manager.rig import Gateway

A = {"name": "A"}


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


async def test_views_are_counted(gateway: Gateway) -> None:
    """Unless silently; every answer tells of those that are not written yet; they can be counted anew."""
    me = await fresh(gateway)
    made = await me.artifacts.create(alias="a", manifest=A)
    for n in range(1, 4):
        assert (await me.artifacts.read("a")).view_count == n
        assert (await me.artifacts.read(made.id, silent="true")).view_count == n
    await me.artifacts.reset_stats("a")
    assert (await me.artifacts.read("a", silent=True)).view_count == 0


async def test_weights(gateway: Gateway) -> None:
    me = await fresh(gateway)
    a = me.artifacts
    await a.create(alias="a", manifest=A, config={"download_weights": {"create-zip-file": 3}})
    await a.set_download_weight("a", "/dir/./file", 1.5)
    assert (await a.read("a")).config["download_weights"] == {"create-zip-file": 3, "dir/file": 1.5}
    await a.edit("a", config={"x": 1}, stage=True)
    await a.set_download_weight("a", "file", 2)
    await a.set_download_weight("a", "dir/file", 0)
    assert (await a.read("a")).config["download_weights"] == {"create-zip-file": 3, "file": 2}
    assert (await a.commit("a")).config == {"x": 1, "download_weights": {"file": 2}}
    with pytest.raises(RemoteException, match="ValueError: Download weight must be non-negative, got: -1"):
        await a.set_download_weight("a", "file", -1)
    with pytest.raises(RemoteException, match="leads out of the root folder"):
        await a.set_download_weight("a", "../file", 1)


async def test_secrets(gateway: Gateway, services: ArtifactsService) -> None:
    """Told by one method only, and sealed in the database (FIX-9)."""
    me, core = await fresh(gateway), services.core
    a = me.artifacts
    made = await a.create(alias="a", manifest=A, secrets={"one": "hidden-1"})
    await a.set_secret("a", "two", "hidden-2")
    assert await a.get_secret("a") == {"one": "hidden-1", "two": "hidden-2"}
    assert await a.get_secret("a", "one") == "hidden-1"
    assert await a.get_secret("a", "three") is None
    await a.set_secret("a", "one", None)
    assert await a.get_secret("a") == {"two": "hidden-2"}
    await a.edit("a", secrets={"two": "hidden-3"}, stage=True)
    await a.set_secret("a", "four", "hidden-4")
    assert await a.get_secret("a") == {"two": "hidden-2", "four": "hidden-4"}
    answers = [made, await a.read("a"), await a.read("a", version="stage"), await a.commit("a")]
    assert await a.get_secret("a") == {"two": "hidden-3", "four": "hidden-4"}
    answers += [await a.edit("a", secrets={"five": "hidden-5"}), await a.duplicate("a"), await a.get_status("a")]
    assert "hidden" not in str(answers)
    assert "secrets" not in answers[-3]
    row = await core.rows.shard(ArtifactName(me.workspace, "a")).fetchrow(
        "SELECT a.*, (SELECT json_agg(v) FROM artifact_versions v WHERE v.artifact_id = a.id) AS versions "
        "FROM artifacts a WHERE workspace = $1 AND alias = 'a'",
        me.workspace,
    )
    assert row is not None
    assert row["secrets"]
    assert "hidden" not in str(dict(row))
    with pytest.raises(RemoteException, match="Secrets is larger than 65536 bytes"):
        await a.set_secret("a", "big", "x" * 70_000)


async def test_an_artifact_is_deleted(gateway: Gateway, services: ArtifactsService) -> None:
    """Rows go at once; the bytes are loose, for the sweep."""
    me, core = await fresh(gateway), services.core
    made = await me.artifacts.create(alias="a", manifest=A, stage=True)
    await put(core, made.id, "x", b"x")
    await me.artifacts.commit("a")
    await me.artifacts.edit("a", stage=True)
    await put(core, made.id, "y", b"y")
    assert await me.artifacts.delete("a", delete_files=True) is None
    with pytest.raises(RemoteException, match="does not exist"):
        await me.artifacts.read("a")
    shard = core.database.for_workspace(me.workspace)
    loose = "SELECT count(*) FROM loose_blobs l JOIN blobs b ON b.id = l.blob_id WHERE b.workspace = $1"
    assert await shard.fetchval(loose, me.workspace) == 2
    again = await me.artifacts.create(alias="a", manifest=A)
    assert (again._id != made._id, again.file_count) == (True, 0)


async def test_a_tree_is_deleted(gateway: Gateway) -> None:
    """On all levels, drafts and all (FIX-7); otherwise children are in no collection."""
    me = await fresh(gateway)
    a = me.artifacts
    collection = {"type": "collection", "manifest": A}
    for root in ("keep", "drop"):
        await a.create(alias=root, **collection)
        await a.create(alias=f"{root}-1", parent_id=root, stage=True, **collection)
        await a.create(alias=f"{root}-2", parent_id=f"{root}-1", **collection)
        await asyncio.gather(*(a.create(alias=f"{root}-{n}", parent_id=f"{root}-2", manifest=A) for n in range(3, 40)))
    await a.delete("drop", recursive=True)
    await a.delete("keep")
    orphan = await a.read("keep-1")
    assert orphan.parent_id is None
    assert (await a.read("keep-39")).parent_id == f"{me.workspace}/keep-2"
    for alias in ("drop", "drop-1", "drop-2", "drop-3", "drop-39", "keep"):
        with pytest.raises(RemoteException, match="does not exist"):
            await a.read(alias)


async def test_a_tree_with_what_is_not_ones_own(gateway: Gateway) -> None:
    """Who may delete a collection need not be able to delete what others put there."""
    owner, keeper = await fresh(gateway, "owner"), await fresh(gateway, "keeper")
    permissions = {keeper.principal.id: "*"}
    root = await owner.artifacts.create(type="collection", manifest=A, config={"permissions": permissions})
    child = await owner.artifacts.create(parent_id=root.id, manifest=A)
    with pytest.raises(
        RemoteException, match="PermissionError: User does not have permission 'delete' on the artifact '"
    ):
        await keeper.artifacts.delete(root.id, recursive=True)
    assert (await owner.artifacts.read(child.id)).parent_id == root.id
    await owner.artifacts.edit(child.id, config={"permissions": permissions})
    await keeper.artifacts.delete(root.id, recursive=True)


async def test_artifacts_move_between_collections(gateway: Gateway) -> None:
    me, other = await fresh(gateway), await fresh(gateway, "other")
    a = me.artifacts
    for alias in ("one", "two", "thing"):
        await a.create(alias=alias, manifest=A, config={"permissions": {"*": "r"}})
    moved = await a.set_parent("thing", "one")
    assert moved.parent_id == f"{me.workspace}/one"
    assert (await a.read("one")).config["child_count"] == 1
    await a.set_parent("one", "two")
    for child, parent, text in (
        ("two", "two", "ValueError: An artifact cannot be its own parent"),
        ("two", "one", "ValueError: Cannot set parent: this would create a circular dependency"),
        ("two", "thing", "circular dependency"),
    ):
        with pytest.raises(RemoteException, match=text):
            await a.set_parent(child, parent)
    theirs = await other.artifacts.create(alias="theirs", manifest=A)
    with pytest.raises(RemoteException, match=r"Cannot move artifact to a different workspace. Artifact is in '"):
        await (await fresh(gateway, "root", **{"*": Permission.ADMIN})).artifacts.set_parent(
            f"{me.workspace}/thing", theirs.id
        )
    for call, text in (
        (other.artifacts.set_parent(f"{me.workspace}/thing"), "to detach artifact from the collection 'one'"),
        (other.artifacts.set_parent(f"{me.workspace}/two", f"{me.workspace}/one"), "'edit' on the artifact"),
    ):
        with pytest.raises(RemoteException, match=f"PermissionError: User does not have permission.*{text}"):
            await call
    assert (await a.set_parent("thing")).parent_id is None
    pairs = [("one", "thing"), ("thing", "one")] * 3
    await a.set_parent("one")
    await asyncio.gather(*(a.set_parent(child, parent) for child, parent in pairs), return_exceptions=True)
    parents = {alias: (await a.read(alias)).parent_id for alias in ("one", "thing")}
    assert list(parents.values()).count(None) == 1


async def test_duplicates(gateway: Gateway, services: ArtifactsService) -> None:
    """The files of the latest version and nothing else (FIX-22), in whichever workspace or collection."""
    me, other, core = await fresh(gateway), await fresh(gateway, "other"), services.core
    config = {"permissions": {"*": "r"}, "id_parts": {"a": "b"}, "zenodo": {"id": 1}, "kept": 1}
    made = await me.artifacts.create(
        alias="a", type="model", manifest=A, config=config, secrets={"key": "hidden"}, stage=True
    )
    await put(core, made.id, "old", b"old")
    await me.artifacts.commit("a")
    for name in ("v1", "v10"):
        await me.artifacts.edit("a", version="new", stage=True)
        await put(core, made.id, "x/é", name.encode())
        await me.artifacts.commit("a", version=name)
    await me.artifacts.edit("a", manifest={"name": "draft"}, stage=True)
    await put(core, made.id, "draft", b"draft")

    copy = await other.artifacts.duplicate(made.id, target_alias="copy", remove_secrets=False)
    assert (copy.id, copy.type, copy.manifest) == (f"{other.workspace}/copy", "model", A)
    assert ([v["version"] for v in copy.versions], copy.staging, copy.file_count) == (["v0"], None, 1)
    assert copy.config == {
        "kept": 1, "permissions": {"*": "r", me.principal.id: "*", other.principal.id: "*"}
    }  # fmt: skip
    assert await committed(core, copy.id, "v0") == {"x/é": b"v10"}
    assert await other.artifacts.get_secret("copy") == {}
    await me.artifacts.delete("a")
    assert await committed(core, copy.id, "v0") == {"x/é": b"v10"}

    a = other.artifacts
    await a.create(alias="c", type="collection", manifest=A)
    draft = await a.duplicate("copy", target_parent_id="c", stage=True)
    assert (draft.parent_id, draft.versions) == (f"{other.workspace}/c", [])
    assert draft.staging == [{"path": "x/é"}, {"_intent": "new_version"}]
    assert (await a.commit(draft.id)).file_count == 1


async def test_duplicates_over_others(gateway: Gateway, services: ArtifactsService) -> None:
    """With the permission, and what was there goes when the copy is complete; of one that fails nothing is left."""
    me, other, core = await fresh(gateway), await fresh(gateway, "other"), services.core
    a = me.artifacts
    for alias in ("a", "b"):
        made = await a.create(alias=alias, manifest={"name": alias}, config={"permissions": {"*": "r"}}, stage=True)
        await put(core, made.id, f"of-{alias}", alias.encode())
        await a.commit(alias)
    before = await a.read("b", silent=True)
    with pytest.raises(RemoteException, match="FileExistsError"):
        await a.duplicate("a", target_alias="b")
    done = await a.duplicate("a", target_alias="b", overwrite=True)
    assert (done._id, done.manifest, done.file_count) == (before._id, {"name": "a"}, 1)
    assert await committed(core, done.id, "v0") == {"of-a": b"a"}
    assert (await a.duplicate("a", target_alias="a", overwrite=True)).file_count == 1
    assert await committed(core, f"{me.workspace}/a", "v0") == {"of-a": b"a"}

    for call, text in (
        (other.artifacts.duplicate(done.id, target_workspace=me.workspace), "to create an artifact in workspace '"),
        (a.duplicate("a", target_workspace=other.workspace), "to create an artifact in workspace '"),
        (a.duplicate("a", target_parent_id="b", target_workspace=other.workspace), "Target workspace must match"),
    ):
        with pytest.raises(RemoteException, match=text):
            await call
    await a.create(alias="draft", manifest=A, stage=True)
    with pytest.raises(RemoteException, match="Source artifact 'draft' must be committed before it can be duplicated"):
        await a.duplicate("draft")

    count = "SELECT count(*) FROM artifacts WHERE workspace = $1"
    shard = core.database.for_workspace(me.workspace)
    known = await shard.fetchval(count, me.workspace)
    await core.store.delete([blob.key async for blob in core.store.list(f"artifacts/{me.workspace}/")])
    for arguments in ({}, {"target_alias": "b", "overwrite": True}):
        with pytest.raises(RemoteException, match="FileNotFoundError"):
            await a.duplicate("a", **arguments)
    assert await shard.fetchval(count, me.workspace) == known
    assert (await a.read("b")).file_count == 1


async def test_a_deleted_workspace_takes_its_artifacts_along(gateway: Gateway, services: ArtifactsService) -> None:
    me, core = await fresh(gateway), services.core
    shared = await me.client.manager.create_workspace({"name": f"shared-{new_id(6).lower()}", "persistent": True})
    there = await enter(gateway, me.principal, shared["id"])
    collection = await there.artifacts.create(type="collection", manifest=A)
    await asyncio.gather(*(there.artifacts.create(parent_id=collection.id, manifest=A) for _ in range(5)))
    kept = await me.artifacts.create(alias="kept", manifest=A)
    await me.client.manager.delete_workspace(shared["id"])
    count = "SELECT count(*) FROM artifacts WHERE workspace = $1"
    async with asyncio.timeout(20):
        while await core.database.for_workspace(shared["id"]).fetchval(count, shared["id"]):
            await asyncio.sleep(0.05)
    assert (await me.artifacts.read(kept.id)).id == kept.id
    with pytest.raises(RemoteException, match=r"does not exist|permission"):
        await me.artifacts.create(workspace=shared["id"], manifest=A)


async def test_numbers_of_all_sizes(gateway: Gateway) -> None:
    """What the database keeps as digits is read by every client again."""
    me = await fresh(gateway)
    sizes = {"name": "A", "ints": [2**63 - 1, -(2**63), 2**64 - 1, 0], "floats": [1e300, 1e20, 1.5, -0.25]}
    await me.artifacts.create(alias="a", manifest=sizes)
    assert (await me.artifacts.read("a")).manifest == sizes
