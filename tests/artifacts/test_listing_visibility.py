"""Who finds what in a workspace: SQL must decide for every artifact as the service does for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product
from typing import Any

import pytest

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.core import Core
from hypha_artifacts.listing.finder import Finder
from hypha_artifacts.listing.options import Options
from hypha_artifacts.permissions import LEVELS
from hypha_artifacts.record import Artifact
from hypha_artifacts.repository import COLUMNS, artifact_of
from hypha_common.db import Database
from hypha_common.errors import BadRequest, PermissionDenied
from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.settings import Settings
from tests.artifacts.finding import Row, add_rows, find_aliases, make_core, owner_of

VALUES: list[Any] = [
    *LEVELS, "nonsense", "list", "", ["list"], ["read", "get_file"], ["r"], ["*"], [], ["read", "list"],
    None, 1, {"list": 1},
]  # fmt: skip


def principal(name: str, workspace: str = "", granted: Permission = Permission.NONE, **fields: Any) -> Principal:
    scope = {f"ws-user-{name}": Permission.ADMIN}
    if granted:
        scope[workspace] = granted
    return Principal(id=name, scope=Scope(scope), **fields)


def actors(workspace: str) -> dict[str, Actor]:
    return {
        "stranger": Actor(principal("eve", email="eve@example.org"), "ws-user-eve"),
        "anonymous": Actor(principal("nobody", is_anonymous=True), "ws-user-nobody"),
        "anonymous elsewhere": Actor(principal("nobody", is_anonymous=True), "ws-club"),
        "member of a club": Actor(principal("eve", email="eve@example.org"), "ws-club"),
        "agent": Actor(principal("agent", parent="eve"), "ws-user-eve"),
        "reader": Actor(principal("ada", workspace, Permission.READ), workspace),
        "writer": Actor(principal("ada", workspace, Permission.READ_WRITE, email="ada@example.org"), workspace),
        "admin": Actor(principal("ada", workspace, Permission.ADMIN), workspace),
        "visitor": Actor(principal("ada", "ws-other", Permission.ADMIN), workspace),
        "everywhere": Actor(principal("ada", "*", Permission.READ), "ws-other"),
    }


NAMES = [
    "*", "@", "eve", "eve@example.org", "agent", "nobody", "ws-club/*", "ws-club/@", "ws-club/eve", "ws-user-eve/*",
    "ws-club/eve@example.org", "ws-club/nobody", "mallory", "*/*", "%", "",
]  # fmt: skip


@pytest.fixture
async def core(stack: Settings) -> AsyncIterator[Core]:
    database = Database.from_settings(stack, "test")
    await database.connect()
    yield make_core(stack, database)
    await database.close()


async def everything_in(core: Core, workspace: str) -> list[Artifact]:
    rows = await core.database.for_workspace(workspace).fetch(
        f"SELECT {COLUMNS} FROM artifacts a LEFT JOIN artifacts p ON p.id = a.parent_id WHERE a.workspace = $1",
        workspace,
    )
    return [artifact_of(row) for row in rows]


def may_list(artifact: Artifact, actor: Actor) -> bool:
    """What the service decides when it is asked for this artifact."""
    try:
        check(artifact, "list", actor)
    except PermissionDenied:
        return False
    return True


async def test_everybody_finds_what_they_may_list(core: Core) -> None:
    workspace = f"ws-{new_id(6).lower()}"
    maps: list[Any] = [{name: value} for name, value in product(NAMES, VALUES)]
    maps += [{"*": "n", "eve": "r"}, {"eve": "n", "*": "r"}, {"@": "n", "*": ["list"]}, {}, None]
    roots = [
        Row(f"root-{number}", config={} if permissions is None else {"permissions": permissions})
        for number, permissions in enumerate(maps)
    ]
    children = [
        Row(f"{parent.alias}-child-{number}", parent, config={"permissions": permissions})
        for parent, (number, permissions) in product(roots[::3], enumerate(({}, {"*": "r"}, {"eve": "l"})))
    ]
    await add_rows(core, workspace, roots)
    await add_rows(core, workspace, children)
    artifacts = await everything_in(core, workspace)
    sizes = {}
    for name, actor in actors(workspace).items():
        wanted = {artifact.alias for artifact in artifacts if may_list(artifact, actor)}
        found = await find_aliases(core, actor, filters={"workspace": workspace})
        assert set(found) == wanted, name
        assert len(found) == len(wanted), name
        on_top = await find_aliases(core, actor, filters={"workspace": workspace, "parent_id": None})
        assert set(on_top) == wanted & {row.alias for row in roots}, name
        either = {"workspace": workspace, "type": "model", "created_by": "nobody at all"}
        assert set(await find_aliases(core, actor, filters=either, mode="OR")) == wanted, name
        sizes[name] = len(found)
    everything = len(roots) + len(children)
    assert sizes["reader"] == sizes["writer"] == sizes["admin"] == sizes["everywhere"] == everything
    assert 0 < sizes["anonymous"] < sizes["stranger"] < sizes["member of a club"] < everything
    assert sizes["anonymous"] < sizes["anonymous elsewhere"]


async def test_pages_count_what_is_visible_only(core: Core) -> None:
    workspace = f"ws-{new_id(6).lower()}"
    rows = [Row(f"a-{n}", config={"permissions": {"*": "r"} if n % 3 == 0 else {}}) for n in range(30)]
    await add_rows(core, workspace, rows)
    stranger = actors(workspace)["stranger"]
    where = {"workspace": workspace}
    assert await find_aliases(core, stranger, filters=where) == [f"a-{n}" for n in range(0, 30, 3)]
    found = [await find_page(core, stranger, where, offset) for offset in (0, 4, 8)]
    assert [page["total"] for page in found] == [10, 10, 10]
    assert [len(page["items"]) for page in found] == [4, 4, 2]


async def find_page(core: Core, actor: Actor, filters: dict[str, Any], offset: int) -> Any:
    return await Finder(core).find(actor, Options.of(filters=filters, limit=4, offset=offset, pagination=True))


async def test_a_collection_decides_for_its_children(core: Core) -> None:
    """A private child of a public collection is listed, a public child of a private one is not."""
    workspace = f"ws-{new_id(6).lower()}"
    public = Row("public", config={"permissions": {"*": "l"}})
    private = Row("private")
    await add_rows(core, workspace, [public, private])
    await add_rows(core, workspace, [Row("hidden", public), Row("open", private, config={"permissions": {"*": "r"}})])
    for name in ("stranger", "anonymous"):
        actor = actors(workspace)[name]
        assert await find_aliases(core, actor, parent=public) == ["hidden"]
        assert await find_aliases(core, actor, filters={"workspace": workspace}) == ["public", "hidden"]
        for asked in ({}, {"filters": {"manifest": {"x": None}}, "mode": "OR"}):
            with pytest.raises(PermissionDenied):
                await find_aliases(core, actor, parent=private, **asked)
    assert await find_aliases(core, actors(workspace)["reader"], parent=private) == ["open"]


async def test_an_inbox_shows_everybody_their_own(core: Core) -> None:
    workspace = f"ws-{new_id(6).lower()}"
    config = {"private_children": True, "recipient_field": "to", "permissions": {"*": "r"}}
    inbox, plain = Row("inbox", config=config), Row("plain", config={"permissions": {"*": "r"}})
    await add_rows(core, workspace, [inbox, plain])
    to = ("eve@example.org", "ada@example.org", None, ["eve@example.org"], "%")
    letters = [Row(f"letter-{n}", inbox, {"to": recipient}) for n, recipient in enumerate(to)]
    await add_rows(core, workspace, [*letters, Row("letter-9", inbox), Row("free", plain, {"to": "x"})])
    known = actors(workspace)
    everything = [row.alias for row in letters] + ["letter-9"]
    for name, expected in {
        "stranger": ["letter-0"], "anonymous": [], "reader": [], "writer": ["letter-1"], "admin": everything,
    }.items():  # fmt: skip
        actor = known[name]
        assert await find_aliases(core, actor, parent=inbox) == expected, name
        # What is asked for cannot widen it, and who is meant cannot be asked.
        asked: list[dict[str, Any]] = [
            {"filters": {"manifest": {"to": "%"}}}, {"filters": {"type": "model", "alias": "x"}, "mode": "OR"},
        ]  # fmt: skip
        for more in asked if name != "admin" else ():
            assert await find_aliases(core, actor, parent=inbox, **more) == expected, name
        everywhere = await find_aliases(core, actor, filters={"workspace": workspace})
        assert everywhere == ["inbox", "plain", *expected, "free"], name


async def test_an_inbox_must_say_who_its_recipients_are(core: Core) -> None:
    workspace = f"ws-{new_id(6).lower()}"
    inbox = Row("inbox", config={"private_children": True, "permissions": {"*": "r"}})
    await add_rows(core, workspace, [inbox])
    await add_rows(core, workspace, [Row("letter", inbox)])
    with pytest.raises(BadRequest, match="recipient_field"):
        await find_aliases(core, actors(workspace)["stranger"], parent=inbox)
    assert await find_aliases(core, actors(workspace)["stranger"], filters={"workspace": workspace}) == ["inbox"]
    assert await find_aliases(core, owner_of(workspace), parent=inbox) == ["letter"]
