"""Artifacts over HTTP, from a whole cluster."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect
from tests.fixtures.errors_told import told


@dataclass
class Site:
    """A workspace with two collections, each with two children, and what its owner and others get of it."""

    workspace: str
    owner: httpx.AsyncClient
    anonymous: httpx.AsyncClient


@pytest.fixture
async def site(cluster: RunningCluster, connect: Connect) -> AsyncIterator[Site]:
    token = cluster.user_token(f"owner-{new_id(6).lower()}")
    client = await connect(token=token)
    artifacts = await client.get_service("public/artifact-manager")
    for collection, level in (("open", {"*": "r"}), ("closed", {})):
        config = {"permissions": level, **({"list_fields": ["manifest"]} if level else {})}
        await artifacts.create(alias=collection, type="collection", manifest={"name": collection}, config=config)
        for child in ("a", "b"):
            await artifacts.create(
                alias=f"{collection}-{child}", parent_id=collection, type="model",
                manifest={"name": f"{collection} {child}", "size": ord(child)},
            )  # fmt: skip
    workspace = client.config.workspace
    base_url = f"{cluster.url}/{workspace}/artifacts"
    async with (
        httpx.AsyncClient(base_url=base_url, headers={"Authorization": f"Bearer {token}"}) as owner,
        httpx.AsyncClient(base_url=base_url) as anonymous,
    ):
        yield Site(workspace, owner, anonymous)


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return [artifact["manifest"]["name"] for artifact in answer.json()]


async def test_lists(site: Site) -> None:
    everything = ["open", "open a", "open b", "closed", "closed a", "closed b"]
    for path in ("/", ""):
        assert names(await site.owner.get(path)) == ["open", "closed"]
        assert names(await site.anonymous.get(path)) == ["open"]
    assert names(await site.owner.get("/-/search")) == everything
    assert names(await site.anonymous.get("/-/search")) == everything[:3]
    assert names(await site.owner.get("/closed/children")) == ["closed a", "closed b"]
    assert names(await site.anonymous.get("/open/children")) == ["open a", "open b"]
    assert (await site.anonymous.get("/open/children")).json()[0] == {
        "id": f"{site.workspace}/open-a", "manifest": {"name": "open a", "size": 97},
    }  # fmt: skip


async def test_arguments(site: Site) -> None:
    asked = {
        "keywords": "open, a", "filters": json.dumps({"type": "model", "manifest": {"size": {"$in": [97, 98]}}}),
        "order_by": "manifest.size>", "limit": "1", "offset": "0", "pagination": "true", "no_cache": "true",
        "stage": "all", "mode": "AND",
    }  # fmt: skip
    found = (await site.anonymous.get("/-/search", params=asked)).json()
    assert [artifact["manifest"]["name"] for artifact in found["items"]] == ["open b"]
    assert (found["total"], found["offset"], found["limit"]) == (2, 0, 1)
    assert names(await site.owner.get("/closed/children", params={"keywords": "nothing,B", "mode": "OR"})) == [
        "closed b"
    ]


async def test_what_makes_no_sense(site: Site) -> None:
    for path in ("/", "/-/search", "/open/children"):
        for query in ("filters={", "filters=[1]", "filters={\"x\":1}", "limit=-1", "limit=x", "mode=XOR", "stage=some",
                      "order_by=manifest.%27", "pagination=perhaps"):  # fmt: skip
            answer = await site.anonymous.get(f"{path}?{query}")
            assert answer.status_code == 400, (path, query, answer.text)
            assert set(told(answer)) == {"detail"}


async def test_what_is_missing_or_denied(site: Site) -> None:
    for path, status, detail in (
        ("/closed", 403, "Permission denied"),
        ("/closed/children", 403, "Permission denied"),
        ("/closed-a", 403, "Permission denied"),
        ("/nothing", 404, "Artifact not found"),
        ("/nothing/children", 404, "Parent artifact not found"),
    ):
        answer = await site.anonymous.get(path)
        assert (answer.status_code, told(answer)) == (status, {"detail": detail})
    # What its owner has seen is not shown to anybody else.
    for path in ("/closed", "/closed/children", "/closed-a"):
        assert (await site.owner.get(path)).status_code == 200
        assert (await site.anonymous.get(path)).status_code == 403
    refused = await site.anonymous.get("/open", headers={"Authorization": "Bearer nonsense"})
    assert refused.status_code == 401


async def test_one_artifact(site: Site) -> None:
    for path in ("/open", "/open?version=v0", "/open?version=latest"):
        found = (await site.anonymous.get(path)).json()
        assert (found["id"], found["manifest"]) == (f"{site.workspace}/open", {"name": "open"})
        assert found["config"]["child_count"] == 2
        assert "secrets" not in found
    assert (await site.anonymous.get("/open?silent=true")).json()["view_count"] == 3
    assert (await site.anonymous.get("/open/children?silent=true")).status_code == 200
    assert (await site.anonymous.get("/open/children")).status_code == 200
    assert (await site.anonymous.get("/open?silent=true")).json()["view_count"] == 4
    assert (await site.anonymous.get("/open?version=v7")).status_code == 400


async def test_what_a_client_has_is_not_sent_again(site: Site) -> None:
    first = await site.anonymous.get("/open/children")
    tag = first.headers["etag"]
    assert "private" in first.headers["cache-control"]
    for known in (tag, f'"x", {tag}', tag.removeprefix("W/")):
        again = await site.anonymous.get("/open/children", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert (await site.anonymous.get("/open/children", headers={"If-None-Match": '"x"'})).status_code == 200
    assert (await site.owner.get("/", headers={"If-None-Match": tag})).status_code == 200
