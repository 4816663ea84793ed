"""What filters and keywords find, on the real database; and that none of them is anything but a value there."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha_artifacts.core import Core
from hypha_common.db import Database
from hypha_common.ids import new_id
from hypha_common.settings import Settings
from tests.artifacts.filter_reference import fits, some_filter, some_manifest
from tests.artifacts.finding import Row, add_rows, find_aliases, make_core, owner_of

ROWS = {
    "a": {"name": "Unet nuclei", "tags": ["cells", "2d"], "score": 5, "license": "MIT", "open": True},
    "b": {"name": "unet CELLS", "tags": ["cells", "3d", "cells"], "score": 5.0, "license": None},
    "c": {"name": "100% star*dist_x", "tags": "cells", "score": "5", "nested": {"x": 1, "y": 2}},
    "d": {"name": r"back\slash", "tags": [], "score": -3, "nested": {"x": 1}, "open": False},
    "e": {"name": "Größe ΑΒΓ", "tags": ["2d", 7, None], "a.b": 1, "quote": 'say "hi"'},
}

FILTERS: list[tuple[dict[str, Any], str]] = [
    ({"license": "MIT"}, "a"),
    ({"score": 5}, "ab"),
    ({"score": "5"}, "c"),
    ({"open": True}, "a"),
    ({"open": False}, "d"),
    ({"open": 1}, ""),
    ({"license": None}, "bcde"),
    ({"tags": "cells"}, "c"),
    ({"tags": ["cells"]}, "ab"),
    ({"tags": ["2d", "cells"]}, "a"),
    ({"tags": []}, "abde"),
    ({"tags": [7]}, "e"),
    ({"tags": {"$all": ["cells", "3d"]}}, "b"),
    ({"tags": {"$in": ["3d", "2d"]}}, "abe"),
    ({"tags": {"$in": ["cells"]}}, "abc"),
    ({"tags": {"$in": []}}, ""),
    ({"tags": {"$in": [None]}}, "e"),
    ({"score": {"$in": [-3, "5"]}}, "cd"),
    ({"name": "Unet*"}, "a"),
    ({"name": "*u*"}, "ab"),
    ({"name": "*%*"}, "c"),
    ({"name": "*t_x"}, "c"),
    ({"name": "?net*"}, ""),
    ({"name": "_net*"}, ""),
    ({"name": "*\\*"}, "d"),
    ({"tags": "*"}, "c"),
    ({"name": {"$like": "_net*"}}, "ab"),
    ({"name": {"$like": "%nuc%"}}, "a"),
    ({"name": {"$like": "back\\slash"}}, "d"),
    ({"name": {"$like": "%\\"}}, ""),
    ({"name": {"$like": "*e*", "$in": ["Unet nuclei", "back\\slash"]}}, "a"),
    ({"nested": {"x": 1}}, "d"),
    ({"nested": {"y": 2, "x": 1}}, "c"),
    ({"nested": {}}, ""),
    ({"a.b": 1}, "e"),
    ({"$or": [{"license": "MIT"}, {"score": "5"}]}, "ac"),
    ({"$and": [{"score": 5}, {"$or": [{"license": None}, {"open": False}]}]}, "b"),
    ({"$or": []}, ""),
    ({"$and": []}, "abcde"),
    ({"$or": [{}]}, "abcde"),
    ({"tags": {"$or": [["3d"], "cells"]}}, "bc"),
    ({"tags": {"$and": [["2d"], {"$in": [7]}]}}, "e"),
    ({"score": 5, "license": "MIT"}, "a"),
]  # fmt: skip

KEYWORDS: list[tuple[list[str] | str, str, str]] = [
    (["unet"], "AND", "ab"),
    (["UNET", "cells"], "AND", "ab"),
    (["nuclei", "3d"], "AND", ""),
    (["nuclei", "3d"], "OR", "ab"),
    ("nuclei,3d", "OR", "ab"),
    (["%"], "AND", "c"),
    (["_"], "AND", "c"),
    (["r*d"], "AND", "c"),
    (["\\"], "AND", "de"),
    (['"score": 5'], "AND", "ab"),
    (["größe"], "AND", "e"),
    (["GRÖSSE"], "AND", ""),
    (["αβγ"], "AND", "e"),
    ([" ", ""], "AND", "abcde"),
    ([], "OR", "abcde"),
]  # fmt: skip

OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"filters": {"type": "model"}}, "abd"),
    ({"filters": {"type": None}}, "c"),
    ({"filters": {"type": "model", "alias": "b"}}, "b"),
    ({"filters": {"type": "data", "alias": "b"}, "mode": "OR"}, "be"),
    ({"filters": {"created_by": "user-1"}}, "bd"),
    ({"filters": {"created_at": 1002}}, "cde"),
    ({"filters": {"created_at": [1001, 1003]}}, "bcd"),
    ({"filters": {"created_at": [None, 1000.9]}}, "a"),
    ({"filters": {"created_at": [1000.1, None]}}, "bcde"),
    ({"filters": {"created_at": [None, None]}}, "abcde"),
    ({"filters": {"created_at": 10**30}}, ""),
    ({"filters": {"last_modified": [-(10**99), 10**99]}}, "abcde"),
    ({"filters": {"view_count": 2.5}}, "de"),
    ({"filters": {"download_count": [0.5, 1]}}, "bc"),
    ({"filters": {"config": {"permissions": {"eve": "r"}}}}, "a"),
    ({"filters": {"config": {"permissions": {"eve": ["read", "list"]}}}}, "b"),
    ({"filters": {"config": {"permissions": {"eve": ["read"]}}}}, ""),
    ({"filters": {"manifest": {"score": 5}, "type": "data"}, "mode": "OR"}, "abe"),
    ({"filters": {"manifest": {"license": "MIT", "score": "5"}}, "mode": "OR"}, "ac"),
    ({"keywords": ["nuclei"], "filters": {"manifest": {"score": "5"}}, "mode": "OR"}, "ac"),
    ({"keywords": ["unet"], "filters": {"manifest": {"license": "MIT"}}}, "a"),
    ({"filters": {"workspace": "ws-somewhere-else"}}, ""),
    ({"filters": {"workspace": "ws-somewhere-else", "type": "model"}, "mode": "OR"}, ""),
    ({"filters": {}}, "abcde"),
    ({"filters": ""}, "abcde"),
]  # fmt: skip

PAYLOADS = [
    "'", "''", '"', "\\'", "$1", "$1::text", "%s", "{}", ";", "--", "/*", "'; DROP TABLE artifacts; --", "' OR '1'='1",
    "a.manifest", "manifest' IS NOT NULL OR '1'='1", "x') OR true OR (a.manifest ->> 'x", "') UNION SELECT secrets --",
    "\\", "\\\\", "\u2028", "`", "$$", "E'\\x27'", "\x01", "a\nb", "ʼ", "%' OR 1=1 --", "{a,b}", "$.a", "@?", "🙂",
]  # fmt: skip


@pytest.fixture
async def core(stack: Settings) -> AsyncIterator[Core]:
    database = Database.from_settings(stack, "test")
    await database.connect()
    yield make_core(stack, database)
    await database.close()


async def some_rows(core: Core, workspace: str) -> Row:
    parent = Row("parent", type="collection")
    await add_rows(core, workspace, [parent])
    levels: tuple[Any, ...] = ("r", ["read", "list"], "n", "l", "lf")
    await add_rows(
        core,
        workspace,
        [
            Row(
                alias, parent, manifest, {"permissions": {"eve": levels[n]}}, views=n, created_at=1000 + n,
                type=("model", "model", None, "model", "data")[n], created_by=f"user-{n % 2}",
            )
            for n, (alias, manifest) in enumerate(ROWS.items())
        ],
    )  # fmt: skip
    return parent


async def test_filters(core: Core) -> None:
    workspace = f"ws-{new_id(6).lower()}"
    parent, actor = await some_rows(core, workspace), owner_of(workspace)
    for wanted, expected in FILTERS:
        found = await find_aliases(core, actor, parent=parent, filters={"manifest": wanted})
        assert "".join(found) == expected, wanted
    for keywords, mode, expected in KEYWORDS:
        found = await find_aliases(core, actor, parent=parent, keywords=keywords, mode=mode)
        assert "".join(found) == expected, (keywords, mode)
    for asked, expected in OTHERS:
        found = await find_aliases(core, actor, parent=parent, **asked)
        assert "".join(found) == expected, asked


async def test_filters_find_what_they_say(core: Core) -> None:
    """Against an implementation of a few lines of Python, with filters and manifests by chance."""
    chance = random.Random(20261126)
    workspace = f"ws-{new_id(6).lower()}"
    parent = Row("parent")
    await add_rows(core, workspace, [parent])
    manifests = {f"child-{n:03}": some_manifest(chance) for n in range(80)}
    await add_rows(core, workspace, [Row(alias, parent, manifest) for alias, manifest in manifests.items()])
    sizes = []
    for _ in range(250):
        wanted = some_filter(chance)
        expected = [alias for alias, manifest in manifests.items() if fits(manifest, wanted)]
        found = await find_aliases(core, owner_of(workspace), parent=parent, filters={"manifest": wanted})
        assert found == expected, wanted
        sizes.append(len(found))
    assert sum(0 < size < 80 for size in sizes) > 100


def manifest_with(text: str) -> dict[str, Any]:
    return {text: "key", "value": text, "list": [text]}


async def test_what_looks_like_sql_is_text(core: Core) -> None:
    """In keys, values, names, orders and keywords: it finds what has that very text, and nothing else."""
    workspace = f"ws-{new_id(6).lower()}"
    actor, parent = owner_of(workspace), Row("parent")
    await add_rows(core, workspace, [parent])
    rows = [
        Row(
            f"row-{n:02}",
            parent,
            {text: "key", "value": text, "list": [text]},
            {"permissions": {text: text}},
            type=text,
        )
        for n, text in enumerate(PAYLOADS)
    ]
    await add_rows(core, workspace, rows)
    for row, text in zip(rows, PAYLOADS, strict=True):
        wanted: list[dict[str, Any]] = [
            {"filters": {"type": text}},
            {"filters": {"config": {"permissions": {text: text}}}},
        ]
        if not text.startswith("$"):
            wanted.append({"filters": {"manifest": {text: "key"}}})
        if "*" not in text:
            wanted += [{"filters": {"manifest": {"value": text}}}, {"filters": {"manifest": {"list": [text]}}}]
            wanted.append({"filters": {"manifest": {"value": {"$in": [text]}, "list": {"$all": [text]}}}})
        for asked in wanted:
            assert await find_aliases(core, actor, parent=parent, **asked) == [row.alias], asked
        assert await find_aliases(core, actor, filters={"workspace": text, "type": text}, mode="OR") == []
        assert await find_aliases(core, actor, parent=parent, filters={"alias": text}) == []
        assert await find_aliases(core, actor, parent=parent, filters={"created_by": text}) == []
        if "%" in text or "_" in text:
            continue
        liked = await find_aliases(core, actor, parent=parent, filters={"manifest": {"value": {"$like": text}}})
        assert "*" in text or liked == [row.alias], text
    for text in PAYLOADS:
        everything = await find_aliases(core, actor, parent=parent, order_by=text)
        assert len(everything) == len(PAYLOADS)
        await find_aliases(core, actor, parent=parent, keywords=[text])
