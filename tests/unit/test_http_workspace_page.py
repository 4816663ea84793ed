from __future__ import annotations

import re

import pytest
from http_support import World

_HOSTILE = "<script>alert(1)</script>\"'&"


async def test_members(world: World) -> None:
    """A member sees what is there; nothing of it becomes markup."""
    info = {
        "id": 'lab-a/c1:tool"s',
        "type": "functions",
        "name": _HOSTILE,
        "description": _HOSTILE,
        "config": {"visibility": "public"},
        "service_schema": {"run-it": {}, "run": {}},
    }
    world.registry.infos.append(info)
    world.registry.workspaces["lab-a"]["description"] = _HOSTILE
    page = await world.http.get("/lab-a/", headers=world.bearer())
    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    assert "script-src" not in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;") >= 1
    assert "You are u1" in page.text
    assert 'href="/lab-a/services/c1:tool%22s"' in page.text


async def test_strangers(world: World) -> None:
    """What is public is shown to everybody; else there is the way to log in, whether the workspace exists or not."""
    answers = [await world.http.get(path) for path in ("/lab-a/", "/no-such/")]
    for answer in answers:
        assert (answer.status_code, answer.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert re.search(r'href="/login\?redirect=%2F(lab-a|no-such)%2F"', answer.text)
    names = re.compile("lab-a|no-such")
    assert names.sub("", answers[0].text) == names.sub("", answers[1].text)
    expired = await world.http.get("/lab-a/", headers={"Cookie": "access_token=nonsense"})
    assert (expired.status_code, "no longer good" in expired.text) == (401, True)


async def test_without_a_slash(world: World) -> None:
    for path, location in (
        ("/lab-a?a=1", "/lab-a/?a=1"),
        ("/ws-user-google|1%3F2%25", "/ws-user-google%7C1%3F2%25/"),
        ("/%5Cevil-host", "/%5Cevil-host/"),
    ):
        response = await world.http.get(path)
        assert (response.status_code, response.headers["location"]) == (307, location)
    assert (await world.http.get("/public/")).status_code == 404
    assert (await world.http.post("/lab-a/")).status_code == 405


@pytest.mark.parametrize("world", [{"base_path": "/hub"}], indirect=True)
async def test_below_a_base_path(world: World) -> None:
    assert (await world.http.get("/hub/lab-a")).headers["location"] == "/hub/lab-a/"
    page = (await world.http.get("/hub/lab-a/", headers=world.bearer())).text
    links = re.findall(r'href="(/[^"]*)"', page)
    assert links
    assert all(link.startswith("/hub/") for link in links)
    assert (await world.http.get("/hub")).status_code in (200, 307)
