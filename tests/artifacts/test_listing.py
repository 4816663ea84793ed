"""Lists of artifacts: pages, order, drafts, what they show, and what cannot be asked; by a real client."""

from __future__ import annotations

from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.main import ArtifactsService
from tests.artifacts.people import Person, fresh
from tests.manager.rig import Gateway


def aliases(found: Any) -> list[str]:
    return [artifact["alias"] for artifact in found]


async def collection(owner: Person, *manifests: dict[str, Any], **config: Any) -> str:
    """Create a collection with children ``a``, ``b``, … and return its id."""
    made = await owner.artifacts.create(type="collection", manifest={"name": "all"}, config=config)
    for number, manifest in enumerate(manifests):
        await owner.artifacts.create(parent_id=made.id, alias=chr(97 + number), type="model", manifest=manifest)
    parent: str = made.id
    return parent


async def test_children_are_listed_as_they_are_read(gateway: Gateway) -> None:
    me = await fresh(gateway)
    parent = await collection(me, {"name": "A"}, {"name": "B"})
    found = await me.artifacts.list(parent)
    assert aliases(found) == ["a", "b"]
    assert found[0] == await me.artifacts.read("a", silent=True)
    assert found[0]["parent_id"] == parent
    assert "secrets" not in found[0]
    assert (await me.artifacts.read(parent, silent=True)).view_count == 1


async def test_only_a_list_is_a_view(gateway: Gateway) -> None:
    me = await fresh(gateway)
    parent = await collection(me, {"name": "A"})
    await me.artifacts.list(parent_id=parent, silent=True)
    await me.artifacts.search(parent_id=parent)
    assert (await me.artifacts.read(parent, silent=True)).view_count == 0


async def test_without_a_parent_a_list_has_roots_and_a_search_has_everything(gateway: Gateway) -> None:
    me = await fresh(gateway)
    parent = await collection(me, {"name": "A"}, {"name": "B"})
    assert [artifact["id"] for artifact in await me.artifacts.list()] == [parent]
    assert aliases(await me.artifacts.search())[1:] == ["a", "b"]
    assert aliases(await me.artifacts.search(filters={"parent_id": parent})) == ["a", "b"]
    assert aliases(await me.artifacts.list(filters={"parent_id": parent})) == ["a", "b"]
    assert [artifact["id"] for artifact in await me.artifacts.search(filters={"parent_id": None})] == [parent]
    assert all(artifact["parent_id"] == parent for artifact in (await me.artifacts.search())[1:])


async def test_mode_or_stays_where_it_looks(gateway: Gateway) -> None:
    me = await fresh(gateway)
    await collection(me, {"name": "A"}, {"name": "B"})
    found = await me.artifacts.list(filters={"type": "model", "manifest": {"name": "all"}}, mode="OR")
    assert [artifact["type"] for artifact in found] == ["collection"]


async def test_pages_are_disjoint_and_complete(gateway: Gateway) -> None:
    me = await fresh(gateway)
    parent = await collection(me, *({"n": number % 2} for number in range(7)))
    for order in (None, "manifest.n>", "created_at", "-view_count"):
        pages = [
            await me.artifacts.list(parent, limit=3, offset=offset, pagination=True, order_by=order)
            for offset in (0, 3, 6, 9)
        ]
        assert [page["total"] for page in pages] == [7] * 4
        assert [(page["offset"], page["limit"]) for page in pages] == [(0, 3), (3, 3), (6, 3), (9, 3)]
        assert sorted(alias for page in pages for alias in aliases(page["items"])) == list("abcdefg")
    assert (await me.artifacts.list(parent, limit=0, pagination=True))["total"] == 7
    filtered = await me.artifacts.list(parent, filters={"manifest": {"n": 0}}, limit=2, pagination=True)
    assert (aliases(filtered["items"]), filtered["total"]) == (["a", "c"], 4)


async def test_order(gateway: Gateway, services: ArtifactsService) -> None:
    """Numbers before text, whatever the direction; what is missing comes last."""
    me = await fresh(gateway)
    parent = await collection(me, {"k": "x"}, {"k": 10}, {"k": 9}, {"k": "b"}, {"l": 1}, {"k": None}, {"a": {"b": 3}})

    async def order(by: str) -> str:
        return "".join(aliases(await me.artifacts.list(parent, order_by=by, silent=True)))

    assert (await order("manifest.k<"))[:4] == (await order("manifest.k"))[:4] == "cbda"
    assert (await order("manifest.k>"))[:4] == (await order("-manifest.k"))[:4] == "bcad"
    assert (await order("manifest.a.b"))[0] == "g"
    assert await order("id>") == await order("-id") == "gfedcba"
    assert await order("nonsense") == await order("id") == await order("") == "abcdefg"
    for alias, views in (("c", 3), ("f", 40), ("a", 1)):
        for _ in range(views):
            await me.artifacts.read(alias)
    assert (await order("view_count>"))[:3] == "fca"
    assert (await order("view_count<"))[-3:] == "acf"
    await me.artifacts.edit("b", manifest={"k": 0})
    await services.core.database.home.execute(
        "UPDATE artifacts SET last_modified = last_modified + 9 WHERE workspace = $1 AND alias = 'b'", me.workspace
    )
    assert (await order("last_modified>"))[0] == "b"


async def test_drafts(gateway: Gateway) -> None:
    me = await fresh(gateway)
    parent = await collection(me, {"name": "published"}, {"name": "both"})
    await me.artifacts.create(parent_id=parent, alias="draft", manifest={"name": "new"}, stage=True)
    await me.artifacts.edit("draft", manifest={"name": "newer"}, stage=True)
    await me.artifacts.edit("b", manifest={"name": "changed"}, stage=True)
    assert [a["manifest"]["name"] for a in await me.artifacts.list(parent)] == ["published", "both"]
    assert all(a["staging"] is None for a in await me.artifacts.list(parent))
    for staged in (True, "true"):
        drafts = await me.artifacts.list(parent, stage=staged)
        assert [a["manifest"]["name"] for a in drafts] == ["changed", "newer"]
        assert drafts[0]["staging"] == [{"_intent": "edit_version"}]
        assert drafts[1]["staging"][-1] == {"_intent": "new_version"}
    everything = await me.artifacts.list(parent, stage="all")
    assert [a["manifest"]["name"] for a in everything] == ["published", "both", "newer"]
    assert everything[1]["staging"] == [{"_intent": "edit_version"}]
    for version, expected in (("stage", ["b", "draft"]), ("latest", ["a", "b"]), ("committed", ["a", "b"])):
        assert aliases(await me.artifacts.list(parent, filters={"version": version})) == expected
    # Filters see what is shown.
    assert aliases(await me.artifacts.list(parent, stage=True, filters={"manifest": {"name": "newer"}})) == ["draft"]
    assert aliases(await me.artifacts.list(parent, stage="all", keywords=["newer"])) == ["draft"]
    assert aliases(await me.artifacts.list(parent, stage="all", filters={"manifest": {"name": "changed"}})) == []


async def test_what_a_collection_lets_be_listed(gateway: Gateway) -> None:
    me = await fresh(gateway)
    parent = await collection(me, {"name": "A"}, list_fields=["alias", "manifest", "nothing"])
    assert await me.artifacts.list(parent) == [{"id": f"{me.workspace}/a", "alias": "a", "manifest": {"name": "A"}}]


async def test_arguments_as_text(gateway: Gateway) -> None:
    """As they come in a query string."""
    me = await fresh(gateway)
    parent = await collection(me, {"name": "A"}, {"name": "B"}, {"name": "C"})
    found = await me.artifacts.list(
        parent, keywords="name", filters='{"manifest": {"name": ["x"]}}', limit="2", offset="0", pagination="true"
    )
    assert found == {"items": [], "total": 0, "offset": 0, "limit": 2}
    found = await me.artifacts.list(parent, keywords="name, ,NAME", limit="2", offset="1", stage="false")
    assert aliases(found) == ["b", "c"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"limit": -1}, "ValueError: limit must be a number between 0 and 10000"),
    ({"limit": 10_001}, "ValueError: limit"),
    ({"limit": "many"}, "ValueError: limit"),
    ({"limit": True}, "ValueError: limit"),
    ({"offset": -1}, "ValueError: offset"),
    ({"mode": "XOR"}, "ValueError: mode"),
    ({"stage": "some"}, "ValueError: stage"),
    ({"filters": {"name": "x"}}, "ValueError: Invalid filter key: name"),
    ({"filters": {"secrets": "x"}}, "ValueError: Invalid filter key: secrets"),
    ({"filters": {"config": {"x": 1}}}, "ValueError: Invalid filter key: config.x"),
    ({"filters": {"version": "v0"}}, "AssertionError: Invalid version value, it should be"),
    ({"filters": {"version": None}}, "AssertionError: Invalid version value, it should be"),
    ({"filters": {"manifest": {"a": {"$gt": 1}}}}, r"ValueError: Unknown filter operator: \$gt"),
    ({"filters": {"manifest": {"$nor": []}}}, r"ValueError: Unknown filter operator: \$nor"),
    ({"filters": {"manifest": {"$or": {}}}}, r"ValueError: \$or needs a list"),
    ({"filters": {"manifest": "x"}}, "ValueError: The filter 'manifest' must be a map"),
    ({"filters": {"created_at": [1, 2, 3]}}, "ValueError: The filter 'created_at'"),
    ({"filters": {"view_count": "many"}}, "ValueError: The filter 'view_count'"),
    ({"filters": {"alias": 3}}, "ValueError: The filter 'alias' must be text"),
    ({"filters": {"alias": "a\0"}}, "ValueError"),
    ({"filters": "{"}, "ValueError: filters must be a JSON object"),
    ({"filters": "[]"}, "ValueError: filters must be a map"),
    ({"filters": {"manifest": {"a": "\0"}}}, "ValueError"),
    ({"filters": {"manifest": {"a": float("nan")}}}, "ValueError"),
    ({"order_by": "manifest.a b"}, "ValueError: Invalid order_by field 'manifest.a b'"),
    ({"order_by": "manifest."}, "ValueError: Invalid order_by field"),
    ({"keywords": [1]}, "ValueError: A keyword must be text"),
    ({"parent_id": "nowhere"}, "KeyError: \"Artifact with ID 'nowhere' does not exist"),
    ({"nothing": 1}, "TypeError: got an unexpected keyword argument 'nothing'"),
]


async def test_what_makes_no_sense_is_refused(gateway: Gateway) -> None:
    me = await fresh(gateway)
    for arguments, error in REFUSED:
        with pytest.raises(RemoteException, match=error):
            await me.artifacts.list(**arguments)


async def test_search_has_no_silent(gateway: Gateway) -> None:
    me = await fresh(gateway)
    with pytest.raises(RemoteException, match="TypeError: got an unexpected keyword argument 'silent'"):
        await me.artifacts.search(silent=True)
