"""What a new artifact may be called, hold and be in (contract 02 §2.2)."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.main import ArtifactsService
from hypha_common.principal import Permission
from tests.artifacts.draft_files import committed, put
from tests.artifacts.people import anonymous, enter, fresh
from tests.manager.rig import Gateway
from tests.manager.test_manager_bad_input import TYPED

A = {"name": "A"}


async def test_names(gateway: Gateway) -> None:
    """Every way to name an artifact, and what cannot be a name."""
    me = await fresh(gateway)
    create, ws = me.artifacts.create, me.workspace
    assert (await create(artifact_id=f"{ws}/one", manifest=A)).id == f"{ws}/one"
    assert (await create(alias=f"{ws}/two", manifest=A)).id == f"{ws}/two"
    assert (await create(alias=f"{ws}/three", workspace=ws, manifest=A)).id == f"{ws}/three"
    assert (await create(alias="Four & 5 %?#é", workspace=ws, manifest=A)).alias == "Four & 5 %?#é"
    assert (await create(alias="x" * 64, manifest=A)).alias == "x" * 64
    assert re.fullmatch(r"[a-z]+(-[a-z]+){3}", (await create(manifest=A)).alias)
    both = "Cannot specify both artifact_id and alias/workspace. Use either artifact_id='workspace/alias' or alias="
    for given, text in (
        ({"artifact_id": f"{ws}/a", "alias": "a"}, both),
        ({"artifact_id": f"{ws}/a", "workspace": ws}, both),
        ({"artifact_id": "a"}, "artifact_id must be in format 'workspace/alias'. Got 'a'"),
        ({"artifact_id": "a/b/c"}, "artifact_id must be in format 'workspace/alias'. Got 'a/b/c'"),
        ({"alias": f"{ws}/a", "workspace": "other"}, "Workspace must match the alias workspace, if provided."),
        ({"alias": "-"}, "Alias '-' is reserved and cannot be used. Please choose a different alias."),
        ({"alias": "~"}, "is reserved"),
        ({"alias": "_"}, "is reserved"),
        ({"alias": "x" * 65}, "Alias is too long (65 characters); the maximum is 64. Please choose a shorter alias."),
        ({"alias": "01900000-0000-7000-8000-000000000000"}, "it cannot be a UUID."),
        ({"alias": "01900000000070008000000000000000"}, "it cannot be a UUID."),
        *(({"alias": bad}, "Invalid alias") for bad in ("", ".", "..", "..x", "a/b/c", "a\nb", "a\x00", " a", "a\x7f")),
    ):
        with pytest.raises(RemoteException, match=f"ValueError: .*{re.escape(text)}"):
            await create(manifest=A, **given)


async def test_patterns(gateway: Gateway) -> None:
    """Parts come from the collection, each alias is another one, and there is an end to looking for a free one."""
    me = await fresh(gateway)
    create = me.artifacts.create
    parts = {"animal": ["ant", "bee"], "fixed": "zoo", "none": []}
    zoo = await create(alias="zoo", type="collection", manifest=A, config={"id_parts": parts})
    one = await create(alias="{fixed}-{animal}", parent_id=zoo.id, manifest=A)
    two = await create(alias="{fixed}-{animal}", parent_id=zoo.id, manifest=A, overwrite=True)
    assert {one.alias, two.alias} == {"zoo-ant", "zoo-bee"}
    with pytest.raises(RemoteException, match="RuntimeError: Could not generate a unique alias within the maximum"):
        await create(alias="{fixed}-{animal}", parent_id=zoo.id, manifest=A)
    made = await create(alias="{user_id}-{timestamp}", manifest=A)
    assert re.fullmatch(rf"{me.principal.id}-1\d{{9}}", made.alias)
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f-]{27}", (await create(alias="{uuid}", manifest=A)).alias)
    assert len((await create(alias="x-{unknown}", manifest=A)).alias) == 2 + 36
    with pytest.raises(RemoteException, match=r"AssertionError: Alias cannot contain the '\{zenodo_id\}' placeholder"):
        await create(alias="{zenodo_id}", manifest=A)
    with pytest.raises(RemoteException, match="Zenodo is not supported"):
        await create(alias="{zenodo_id}", manifest=A, config={"publish_to": "zenodo"})


async def test_an_alias_is_taken_once(gateway: Gateway) -> None:
    """Of parallel creations exactly one wins; the others are told in the words that clients know."""
    me = await fresh(gateway)
    made = await asyncio.gather(
        *(me.artifacts.create(alias="a", manifest={"name": str(n)}) for n in range(12)), return_exceptions=True
    )
    lost = [str(error) for error in made if isinstance(error, RemoteException)]
    assert len(lost) == 11
    assert all(
        "FileExistsError: Artifact with alias 'a' already exists, please choose a different alias or remove the "
        f"existing artifact (ID: {me.workspace}/a)." in text
        for text in lost
    )
    collection = await me.artifacts.create(alias="c", type="collection", manifest=A)
    for overwrite in (False, True):
        with pytest.raises(
            RemoteException, match=r"FileExistsError: .*already exists under a different parent artifact"
        ):
            await me.artifacts.create(alias="a", parent_id=collection.id, manifest=A, overwrite=overwrite)


async def test_overwriting(gateway: Gateway, services: ArtifactsService) -> None:
    """The UUID stays, and nothing else: no version, file, draft, secret or count of before."""
    me, core = await fresh(gateway), services.core
    first = await me.artifacts.create(alias="a", manifest={"name": "old"}, secrets={"key": "old"}, stage=True)
    await put(core, first.id, "old", b"old")
    await me.artifacts.commit("a")
    await me.artifacts.edit("a", manifest={"name": "older"}, version="new")
    await me.artifacts.edit("a", manifest={"name": "draft"}, stage=True)
    await put(core, first.id, "draft", b"draft")
    assert (await me.artifacts.read("a")).view_count == 1
    made = await me.artifacts.create(alias="a", manifest={"name": "new"}, overwrite=True, type="model", version="one")
    assert (made._id, made.type, made.manifest, made.staging) == (first._id, "model", {"name": "new"}, None)
    assert ([v["version"] for v in made.versions], made.file_count, made.view_count) == (["one"], 0, 0)
    assert await committed(core, made.id, "one") == {}
    assert await me.artifacts.get_secret("a") == {}
    assert (await me.artifacts.read("a", silent=True)).view_count == 0
    again = await me.artifacts.create(alias="a", manifest={"name": "draft"}, overwrite=True, stage=True)
    assert (again._id, again.versions, again.staging) == (first._id, [], [{"_intent": "new_version"}])
    fifth = await asyncio.gather(*(me.artifacts.create(alias="a", manifest=A, overwrite=True) for _ in range(5)))
    assert {one._id for one in fifth} == {first._id}


async def test_collections_are_not_overwritten(gateway: Gateway) -> None:
    me = await fresh(gateway)
    parent = await me.artifacts.create(alias="c", manifest=A)
    assert "is_collection" not in parent.config
    child = await me.artifacts.create(alias="child", parent_id="c", manifest=A, stage=True)
    assert child.parent_id == parent.id
    shown = await me.artifacts.read("c")
    assert (shown.config["is_collection"], shown.config["child_count"]) == (True, 1)
    with pytest.raises(
        RemoteException, match=r"ValueError: Cannot overwrite artifact '.*/c' as it has 1 child artifacts"
    ):
        await me.artifacts.create(alias="c", manifest=A, overwrite=True)
    edited = await me.artifacts.edit("c", config=shown.config | {"x": 1})
    assert edited.config["is_collection"]
    edited = await me.artifacts.edit("c", config={})
    assert edited.config["is_collection"]


async def test_overwriting_needs_the_right_to_edit(gateway: Gateway) -> None:
    """FIX-1: not even who may create beside it replaces what somebody else made."""
    owner = await fresh(gateway, "owner")
    collection = await owner.artifacts.create(
        alias="open", type="collection", manifest=A, config={"permissions": {"*": "r+"}}
    )
    theirs = await owner.artifacts.create(alias="theirs", parent_id=collection.id, manifest=A)
    guest = await fresh(gateway, "guest")
    mine = await guest.artifacts.create(alias="mine", parent_id=collection.id, manifest=A)
    assert mine.config["permissions"][guest.principal.id] == "*"
    assert mine.workspace == owner.workspace
    with pytest.raises(RemoteException, match="PermissionError: User does not have permission 'edit' on the artifact"):
        await guest.artifacts.create(alias="theirs", parent_id=collection.id, manifest={"name": "X"}, overwrite=True)
    # Its own it could edit, but the collection keeps what is published as it is.
    with pytest.raises(RemoteException, match=r"PermissionError: .*no mutate permission"):
        await guest.artifacts.create(alias="mine", parent_id=collection.id, manifest={"name": "X"}, overwrite=True)
    assert (await owner.artifacts.read(theirs.id)).manifest == A


async def test_where_artifacts_may_be(gateway: Gateway) -> None:
    """FIX-1: whichever way the workspace is named, it takes the permission to write there."""
    me, owner = await fresh(gateway), await fresh(gateway, "owner")
    nobody = anonymous()
    ghost = await enter(gateway, nobody, f"ws-user-{nobody.id}")
    reader = await fresh(gateway, "reader", **{owner.workspace.replace("-", "_"): Permission.READ})
    for person in (me, ghost, reader):
        for given in (
            {"workspace": owner.workspace},
            {"alias": f"{owner.workspace}/x"},
            {"artifact_id": f"{owner.workspace}/x"},
            {"artifact_id": "public/x"},
        ):
            with pytest.raises(
                RemoteException, match=r"PermissionError: .*to create an orphan artifact in the workspace"
            ):
                await person.artifacts.create(manifest=A, overwrite=True, **given)
    with pytest.raises(RemoteException, match="PermissionError: Cannot create artifact in a non-persistent workspace"):
        await ghost.artifacts.create(alias="x", manifest=A)
    everywhere = await fresh(gateway, "admin", **{"*": Permission.ADMIN})
    with pytest.raises(RemoteException, match="ValueError: Workspace 'nowhere-at-all' does not exist"):
        await everywhere.artifacts.create(workspace="nowhere-at-all", manifest=A)
    assert (await everywhere.artifacts.create(alias=f"{owner.workspace}/x", manifest=A)).workspace == owner.workspace
    collection = await owner.artifacts.create(alias="c", type="collection", manifest=A)
    with pytest.raises(RemoteException, match=r"Specified workspace '.*' does not match parent's workspace"):
        await owner.artifacts.create(workspace=me.workspace, parent_id=collection.id, manifest=A)
    with pytest.raises(RemoteException, match="KeyError"):
        await owner.artifacts.create(parent_id="absent", manifest=A)


async def test_manifests(gateway: Gateway) -> None:
    me = await fresh(gateway)
    create = me.artifacts.create
    odd = {"name": "A", "n": float("nan"), "i": [float("inf"), -float("inf")], "big": 1e20, "deep": {"é": [None, 1.5]}}
    kept = (await create(alias="odd", manifest=odd, config={"x": float("nan")})).manifest
    assert kept == odd | {"n": "NaN", "i": ["Infinity", "-Infinity"]}
    nested: dict[str, object] = {}
    for _ in range(80):
        nested = {"a": nested}
    for given, text in (
        ({"manifest": None}, "ValueError: Manifest must be provided."),
        ({"manifest": None, "type": "model"}, "AssertionError: Manifest must be provided."),
        ({"manifest": {}}, "AssertionError: Manifest must be provided."),
        ({"manifest": {"name": 1}}, "ValueError: Invalid manifest: 'name' must be a string"),
        ({"manifest": {"tags": "x"}}, "'tags' must be a list"),
        ({"manifest": {"authors": [{"name": 1}]}}, "'authors' must be a list of maps of strings"),
        ({"manifest": {"attachments": {"a": 1}}}, "'attachments' must be a map of lists"),
        ({"manifest": {"services": [{"name": "x"}]}, "type": "application"}, "each of 'services' must have an 'id'"),
        ({"manifest": {"services": {"id": "x"}}, "type": "application"}, "'services' must be a list of maps"),
        ({"manifest": {"collection": 1}, "type": "collection"}, "'collection' must be a list"),
        ({"manifest": {"x": "a\x00"}}, "NUL"),
        ({"manifest": {"x": b"bytes"}}, "no JSON"),
        ({"manifest": nested}, "nested"),
        ({"manifest": {"x": "y" * 1_100_000}}, "Manifest is larger than 1048576 bytes"),
        ({"manifest": A, "config": {"x": "y" * 1_100_000}}, "Config is larger"),
        ({"manifest": A, "config": {"permissions": ["*"]}}, "config.permissions must be a map"),
        ({"manifest": A, "config": {"permissions": {"*": 1}}}, "it must be a level or a list of operations"),
        (
            {"manifest": A, "config": {"list_fields": ["alias", "secrets"]}},
            "Secrets cannot be included in list_fields.",
        ),
        ({"manifest": A, "config": {"list_fields": "alias"}}, "list_fields must be a list"),
        ({"manifest": A, "config": {"download_weights": {"a": -1}}}, "Download weight must be non-negative, got: -1"),
        ({"manifest": A, "config": {"id_parts": {"a": 1}}}, "id_parts"),
        ({"manifest": A, "config": {"storage": "git"}}, "NotImplementedError: Git storage is not supported"),
        ({"manifest": A, "type": "vector-collection"}, "NotImplementedError: Vector collections are not supported"),
        ({"manifest": A, "secrets": {"S3_ENDPOINT_URL": "x"}}, "NotImplementedError: Secret 'S3_ENDPOINT_URL'"),
        ({"manifest": A, "version": "latest"}, "Invalid version name"),
        ({"manifest": "text"}, "TypeError: Argument 'manifest' must be"),
        ({"manifest": A, "unknown": 1}, "TypeError: got an unexpected keyword argument 'unknown'"),
    ):
        with pytest.raises(RemoteException, match=re.escape(text)):
            await create(alias="bad", **given)
    with pytest.raises(RemoteException, match="does not exist"):
        await me.artifacts.read("bad")


async def test_a_collection_has_a_schema(gateway: Gateway) -> None:
    """Children fit it when they are created, edited and committed; drafts only when they are committed."""
    me = await fresh(gateway)
    a = me.artifacts
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    await a.create(alias="c", type="collection", manifest=A, config={"collection_schema": schema})
    with pytest.raises(RemoteException, match="ValueError: ValidationError: 'n' is a required property"):
        await a.create(parent_id="c", alias="x", manifest=A)
    await a.create(parent_id="c", alias="x", manifest={"name": "X", "n": 1})
    with pytest.raises(RemoteException, match=r"ValidationError: 'two' is not of type 'integer' \(at n\)"):
        await a.edit("x", manifest={"n": "two"})
    await a.edit("x", manifest={"n": "two"}, stage=True)
    await a.create(parent_id="c", alias="y", manifest=A, stage=True)
    for name in ("x", "y"):
        with pytest.raises(RemoteException, match="ValidationError"):
            await a.commit(name)
    await a.edit("y", manifest={"n": 2}, stage=True)
    assert (await a.commit("y")).manifest == {"n": 2}
    for bad in ("text", {"type": "no such"}, {"properties": 1}):
        with pytest.raises(RemoteException, match="ValueError: collection_schema"):
            await a.create(type="collection", manifest=A, config={"collection_schema": bad})


async def test_odd_arguments(gateway: Gateway, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever arrives, the answer is a value or a typed refusal, and no fault of the server is logged."""
    me = await fresh(gateway)
    a = me.artifacts
    await a.create(alias="a", manifest=A)
    found = []
    for odd in (
        "a\x00b",
        "",
        "x" * 3000,
        "a b>c*.|",
        "../..",
        "'; DROP TABLE artifacts; --",
        "\n",
        7,
        -1,
        1.5,
        True,
        [],
        {},
    ):
        calls = [
            a.create(alias=odd, manifest=A, overwrite=True),
            a.create(artifact_id=odd, manifest=A),
            a.create(workspace=odd, manifest=A),
            a.create(parent_id=odd, manifest=A),
            a.create(manifest=odd), a.create(manifest=A, type=odd), a.create(manifest=A, config=odd),
            a.create(manifest=A, secrets=odd), a.create(manifest=A, version=odd), a.create(manifest=A, comment=odd),
            a.create(manifest={"x": odd}, config={"permissions": odd}), a.create(manifest=A, stage=odd),
            a.read(odd), a.read("a", version=odd), a.read("a", stage=odd), a.read("a", silent=odd),
            a.edit(odd), a.edit("a", version=odd), a.edit("a", config={"id_parts": odd}), a.edit("a", comment=odd),
            a.commit(odd), a.commit("a", version=odd), a.discard(odd), a.discard_changes(odd), a.get_status(odd),
            a.delete(odd), a.delete("absent", version=odd), a.delete("a", version=f"{odd}!"),
            a.duplicate(odd), a.duplicate("a", target_alias=odd, overwrite=True),
            a.duplicate("a", target_workspace=odd),
            a.set_parent(odd), a.set_parent("a", odd), a.reset_stats(odd), a.set_secret("a", odd, 1),
            a.set_secret("a", "k", odd), a.get_secret("a", odd), a.set_download_weight("a", odd, 1),
            a.set_download_weight("a", "f", odd),
        ]  # fmt: skip
        for answer in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(answer, BaseException):
                typed = (*TYPED, "FileExistsError", "NotImplementedError")
                if not any(line.startswith(typed) for line in str(answer).splitlines()):
                    found.append(str(answer))
    assert found == []
    assert "rpc_method_failed" not in capsys.readouterr().out
