"""Drafts and versions: what readers see before, at and after a commit."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.core import Core
from hypha_artifacts.files.draft_rows import NotStaged
from hypha_artifacts.main import ArtifactsService
from tests.artifacts.draft_files import committed, find, put, remove, staged
from tests.artifacts.people import Person, fresh
from tests.manager.rig import Gateway


@dataclass
class Desk:
    """Somebody with an artifact `a`, whose version v0 has the files `one` and `two`."""

    core: Core
    me: Person
    id: str

    async def files(self, version: str) -> dict[str, bytes]:
        return await committed(self.core, self.id, version)


@pytest.fixture
async def desk(gateway: Gateway, services: ArtifactsService) -> Desk:
    me, core = await fresh(gateway), services.core
    made = await me.artifacts.create(alias="a", manifest={"name": "zero"}, stage=True)
    for path in ("one", "two"):
        await put(core, made.id, path, f"{path} of v0".encode())
    await me.artifacts.commit("a")
    return Desk(core, me, made.id)


def names(artifact: dict[str, list[dict[str, str]]]) -> list[str]:
    return [version["version"] for version in artifact["versions"]]


async def test_a_first_draft(gateway: Gateway, services: ArtifactsService) -> None:
    """It has no version, whatever name was asked for, and is published with its files at once."""
    me, core = await fresh(gateway), services.core
    made = await me.artifacts.create(alias="a", manifest={"name": "A"}, version="stage", comment="x")
    assert (made.versions, made.staging) == ([], [{"_intent": "new_version"}])
    await put(core, made.id, "b.txt", b"b", weight=2)
    await put(core, made.id, "a.txt", b"a")
    shown = await me.artifacts.read("a")
    assert shown.staging == [{"path": "a.txt"}, {"path": "b.txt", "download_weight": 2}, {"_intent": "new_version"}]
    assert await me.artifacts.get_status("a") == {"staged": True, "files": shown.staging[:-1]}
    done = await me.artifacts.commit("a", version="first", comment="here")
    assert [(v["version"], v["comment"]) for v in done.versions] == [("first", "here")]
    assert (done.file_count, done.staging) == (2, None)
    assert done.config["download_weights"] == {"b.txt": 2}
    assert await committed(core, made.id, "first") == {"a.txt": b"a", "b.txt": b"b"}
    assert await me.artifacts.get_status("a") == {"staged": False}


async def test_readers_see_the_old_bytes_until_the_commit(desk: Desk) -> None:
    me, core = desk.me, desk.core
    await me.artifacts.edit("a", stage=True)
    await put(core, desk.id, "one", b"one, better")
    await put(core, desk.id, "three", b"three")
    await remove(core, desk.id, "two")
    before = {"one": b"one of v0", "two": b"two of v0"}
    assert await desk.files("v0") == before
    assert (await me.artifacts.read("a")).file_count == 2
    await me.artifacts.discard("a")
    assert await desk.files("v0") == before
    assert await staged(core, desk.id) == []

    await me.artifacts.edit("a", stage=True)
    await put(core, desk.id, "one", b"one, twice")
    await put(core, desk.id, "one", b"one, better")
    await put(core, desk.id, "three", b"three")
    await remove(core, desk.id, "two")
    await remove(core, desk.id, "never there")
    await me.artifacts.commit("a")
    assert await desk.files("v0") == {"one": b"one, better", "three": b"three"}
    assert await staged(core, desk.id) == []


async def test_a_new_version_begins_without_files(desk: Desk) -> None:
    """And what is removed in its draft is still in the version before."""
    me, core = desk.me, desk.core
    await me.artifacts.edit("a", version="new", stage=True)
    await remove(core, desk.id, "one")
    await put(core, desk.id, "new", b"new")
    done = await me.artifacts.commit("a", comment="second")
    assert names(done) == ["v0", "v1"]
    assert done.versions[1]["comment"] == "second"
    assert done.file_count == 1
    assert await desk.files("v0") == {"one": b"one of v0", "two": b"two of v0"}
    assert await desk.files("v1") == {"new": b"new"}


async def test_the_intent_survives(desk: Desk) -> None:
    a = desk.me.artifacts
    assert (await a.edit("a", version="new", stage=True)).staging == [{"_intent": "new_version"}]
    assert (await a.edit("a", manifest={"name": "x"}, stage=True)).staging == [{"_intent": "new_version"}]
    assert (await a.edit("a", type="model", version="stage")).staging == [{"_intent": "new_version"}]
    draft = await a.edit("a", config={"k": 1}, version="v0", stage=True)
    assert draft.staging == [{"_intent": "edit_version"}]
    assert (draft.manifest, draft.type, draft.config) == ({"name": "x"}, "model", {"k": 1})
    published = await a.read("a")
    assert (published.manifest, published.type) == ({"name": "zero"}, "generic")
    assert names(await a.commit("a")) == ["v0"]


async def test_versions_keep_what_they_said(desk: Desk) -> None:
    a = desk.me.artifacts
    await a.edit("a", manifest={"name": "zero, later"}, config={"n": 0})
    await a.edit("a", manifest={"name": "one"}, config={"n": 1}, version="new", comment="c1")
    await a.edit("a", manifest={"name": "two"}, type="model", version="new", stage=True)
    made = await a.commit("a", version="two")
    assert names(made) == ["v0", "v1", "two"]
    said = [(v.manifest["name"], v.config["n"], v.type) for v in [await a.read("a", version=n) for n in names(made)]]
    assert said == [("zero, later", 0, "generic"), ("one", 1, "generic"), ("two", 1, "model")]
    assert (await a.read("a", version=0)).manifest == {"name": "zero, later"}
    assert (await a.read("a", version="latest")).manifest == {"name": "two"}
    assert (await a.read("a", version="stage")).manifest == {"name": "two"}  # there is no draft
    with pytest.raises(RemoteException, match="Artifact version 'v7' does not exist"):
        await a.read("a", version="v7")
    with pytest.raises(RemoteException, match="AssertionError"):
        await a.read("a", version=-1)
    with pytest.raises(RemoteException, match="You cannot specify a version when using stage mode"):
        await a.read("a", version="v0", stage=True)


async def test_a_middle_version_is_deleted(desk: Desk) -> None:
    """The others keep their names and files (FIX-4), and no name is used twice."""
    a, core = desk.me.artifacts, desk.core
    for number in (1, 2):
        await a.edit("a", manifest={"name": str(number)}, version="new", stage=True)
        await put(core, desk.id, "file", f"v{number}".encode())
        await a.commit("a")
    await a.delete("a", version="v1")
    assert names(await a.read("a")) == ["v0", "v2"]
    assert await desk.files("v0") == {"one": b"one of v0", "two": b"two of v0"}
    assert await desk.files("v2") == {"file": b"v2"}
    assert (await a.read("a", version=1)).manifest == {"name": "2"}
    assert names(await a.edit("a", version="new")) == ["v0", "v2", "v3"]
    await a.delete("a", version="latest")
    await a.delete("a", version=0)
    left = await a.read("a")
    assert (names(left), left.manifest, left.file_count) == (["v2"], {"name": "2"}, 1)


async def test_the_newest_version_is_deleted(desk: Desk) -> None:
    """The one before speaks for the artifact again; who may do what stays."""
    a = desk.me.artifacts
    await a.edit("a", manifest={"name": "one"}, config={"permissions": {"*": "n"}}, version="new")
    await a.delete("a", version="v1")
    left = await a.read("a")
    assert (names(left), left.manifest, left.file_count) == (["v0"], {"name": "zero"}, 2)
    assert left.config["permissions"] == {"*": "n"}
    await a.edit("a", stage=True)
    await a.delete("a", version="v0")
    assert (await a.read("a")).staging == [{"_intent": "new_version"}]
    assert names(await a.commit("a")) == ["v0"]


async def test_refusals(desk: Desk) -> None:
    """Each with the words that clients know."""
    a = desk.me.artifacts
    refused = [
        (a.discard("a"), "ValueError: No staged changes to discard. Artifact is not in staging mode."),
        (a.delete("a", version="stage"), "The artifact is not in staging mode."),
        (a.delete("a", version="v9"), r"Version 'v9' does not exist. Available versions: \['v0'\]"),
        (a.delete("a", version=3), "Version index 3 is out of range. Available indices: 0-0"),
        (a.commit("a", version="stage"), "AssertionError: Version cannot be 'stage' when committing."),
        (a.edit("a", version="v9"), "Invalid version 'v9'. Edit operation only supports:"),
        (a.edit("a", branch="main"), "does not use git storage"),
    ]
    for call, text in refused:
        with pytest.raises(RemoteException, match=text):
            await call
    await a.edit("a", version="new", stage=True)
    with pytest.raises(RemoteException, match=r"Please use the 'discard' function instead"):
        await a.delete("a", version="stage")
    with pytest.raises(RemoteException, match=r"ValueError: Version 'v0' already exists. Existing versions: \['v0'\]"):
        await a.commit("a", version="v0")
    with pytest.raises(RemoteException, match="Invalid version name"):
        await a.commit("a", version="latest")
    assert await a.discard_changes("a") == {"status": "discarded", "branch": "all"}
    assert await a.discard_changes("a") == {"status": "nothing_to_discard"}


async def test_discarding_what_was_never_published(gateway: Gateway, services: ArtifactsService) -> None:
    me = await fresh(gateway)
    made = await me.artifacts.create(alias="a", manifest={"name": "A"}, stage=True)
    await put(services.core, made.id, "x", b"x")
    left = await me.artifacts.discard("a")
    assert (left.staging, left.versions) == (None, [])
    with pytest.raises(RemoteException, match="AssertionError: Artifact must be in staging mode to commit"):
        await me.artifacts.commit("a")
    await me.artifacts.edit("a", stage=True)
    assert names(await me.artifacts.commit("a")) == ["v0"]


async def test_files_that_never_came(desk: Desk) -> None:
    """They are named, the draft stays, and nothing is published: not by an edit either (FIX-13)."""
    a, core = desk.me.artifacts, desk.core
    await a.edit("a", manifest={"name": "later"}, stage=True)
    await put(core, desk.id, "one", b"better")
    await put(core, desk.id, "z", None)
    for call in (a.commit, a.edit):
        with pytest.raises(RemoteException, match="FileNotFoundError: File 'z' does not exist in the artifact"):
            await call("a")
    assert (await a.read("a")).manifest == {"name": "zero"}
    assert await desk.files("v0") == {"one": b"one of v0", "two": b"two of v0"}
    assert await staged(core, desk.id) == ["one", "z"]
    await remove(core, desk.id, "z")
    assert (await a.edit("a")).file_count == 2
    assert await desk.files("v0") == {"one": b"better", "two": b"two of v0"}


async def test_an_edit_publishes_a_draft(desk: Desk) -> None:
    """With its files and its intent; what the edit gives goes before what was staged."""
    a, core = desk.me.artifacts, desk.core
    await a.edit("a", manifest={"name": "staged"}, config={"staged": 1}, version="new", stage=True)
    await put(core, desk.id, "new", b"new")
    done = await a.edit("a", manifest={"name": "given"}, comment="both")
    assert (names(done), done.manifest, done.staging) == (["v0", "v1"], {"name": "given"}, None)
    assert done.config["staged"] == 1
    assert done.versions[1]["comment"] == "both"
    assert await desk.files("v1") == {"new": b"new"}


async def test_commits_and_files_at_once(desk: Desk) -> None:
    """Whatever was staged is either published or still staged; nothing is lost and no commit fails."""
    a, core = desk.me.artifacts, desk.core
    await a.edit("a", stage=True)
    arrived: list[str] = []

    async def put_many(number: int) -> None:
        for n in range(6):
            path = f"f-{number}-{n}"
            try:
                await put(core, desk.id, path, path.encode())
            except NotStaged:  # the draft was committed: nothing was promised
                return
            arrived.append(path)

    async def commit() -> None:
        # Of a file that was staged a moment ago the bytes may not be there yet: it stays staged.
        with suppress(RemoteException):
            await a.commit("a")

    await asyncio.gather(*(put_many(number) for number in range(4)), *(commit() for _ in range(4)))
    found = set(await desk.files("v0")) | set(await staged(core, desk.id))
    assert set(arrived) <= found
    assert names(await a.read("a")) == ["v0"]


async def test_versions_at_once(desk: Desk) -> None:
    """Parallel edits each make a version of their own."""
    a = desk.me.artifacts
    await asyncio.gather(*(a.edit("a", manifest={"name": f"n{n}"}, version="new") for n in range(6)))
    assert names(await a.read("a")) == [f"v{n}" for n in range(7)]
    told = {(await a.read("a", version=f"v{n}")).manifest["name"] for n in range(1, 7)}
    assert told == {f"n{n}" for n in range(6)}


async def test_a_direct_address_is_settled_by_a_copy(desk: Desk) -> None:
    a, core = desk.me.artifacts, desk.core
    await a.edit("a", stage=True)
    await put(core, desk.id, "one", b"direct", direct=True)
    await a.commit("a")
    assert (await desk.files("v0"))["one"] == b"direct"


async def test_the_rows_of_old_files_are_loose(desk: Desk) -> None:
    """What a commit replaced can be swept; what it published cannot."""
    a, core = desk.me.artifacts, desk.core
    artifact = await find(core, desk.id)
    shard = core.rows.shard(artifact.name)
    query = (
        "SELECT count(*) FROM blobs b WHERE b.workspace = $1 AND EXISTS (SELECT FROM loose_blobs WHERE blob_id = b.id) "
        "AND NOT EXISTS (SELECT FROM artifact_files f WHERE f.blob_id = b.id)"
    )
    before = await shard.fetchval(query, artifact.workspace)
    await a.edit("a", stage=True)
    await put(core, desk.id, "one", b"new")
    await a.commit("a")
    assert await shard.fetchval(query, artifact.workspace) == before + 1
