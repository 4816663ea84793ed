from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest

from hypha_auth.login_page import LoginPage, Response
from hypha_common.errors import BadRequest

BASE = "https://hub.example.org/base"


class Person:
    """Stands at the page: fills the form and sees what comes back."""

    def __init__(self, base_url: str = BASE) -> None:
        self.finished: list[tuple[Any, ...]] = []
        self.page = LoginPage(public_base_url=base_url, finish=self.finish)

    async def finish(
        self, key: str, token: str, workspace: str | None, life_s: int | None, claims: Mapping[str, Any]
    ) -> str:
        if token != "good":
            raise BadRequest("Invalid token provided to report_login: <b>no</b>")
        self.finished.append((key, token, workspace, life_s))
        return "handed"

    async def open(self, **query: Any) -> Response:
        return await self.page.serve({"method": "GET", "query_string": urlencode(query), "headers": {}, "body": None})

    async def submit(self, headers: dict[str, str] | None = None, **fields: Any) -> Response:
        event = {"method": "POST", "query_string": "", "headers": headers or {}, "body": urlencode(fields).encode()}
        return await self.page.serve(event)


class Fields(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: dict[str, str | None] = {}
        self.labels: set[str | None] = set()
        self.ids: set[str | None] = set()
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids.add(given.get("id"))
        if tag == "label":
            self.labels.add(given.get("for"))
        if tag in ("input", "textarea"):
            self.values[str(given.get("name"))] = given.get("value")


@pytest.fixture
def person() -> Person:
    return Person()


async def test_form(person: Person) -> None:
    """The page has one labelled field, and carries on what the program asked for."""
    answer = await person.open(key="K1", workspace="ws-a", expires_in="60")
    assert answer["status"] == 200
    fields = Fields(answer["body"])
    assert fields.values == {"key": "K1", "workspace": "ws-a", "expires_in": "60", "token": None}
    assert "token" in fields.labels & fields.ids
    assert {"main", "h1", "title", "button"} <= set(fields.tags)
    assert '<html lang="en">' in answer["body"]


async def test_form_without_a_key(person: Person) -> None:
    """Somebody who finds the page without a program is told how a login begins."""
    answer = await person.open()
    assert answer["status"] == 200
    assert "login()" in answer["body"]
    assert Fields(answer["body"]).values == {}


async def test_values_are_escaped(person: Person) -> None:
    """What stands in the address cannot become part of the page."""
    bad = '"><script>alert(1)</script>'
    body = (await person.open(key=bad, workspace=bad, redirect=bad))["body"]
    assert "<script>alert" not in body
    body = (await person.submit(key="</script><script>alert(1)</script>", token="good"))["body"]
    assert "<script>alert" not in body


async def test_policy(person: Person) -> None:
    """Nothing runs on the page that did not come with it, and nothing keeps it."""
    headers = (await person.open(key="K1"))["headers"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"


async def test_submit(person: Person) -> None:
    """A good token completes the login, and the page tells whoever embeds it."""
    answer = await person.submit(key="K1", token=" good\n", workspace="ws-a", expires_in="60")
    assert person.finished == [("K1", "good", "ws-a", 60)]
    assert answer["status"] == 200
    assert '{"type": "hypha-login-complete", "key": "K1"}' in answer["body"]
    assert "handed" not in answer["body"]


async def test_cookie(person: Person) -> None:
    """The browser is logged in too, but only by a form of this very page."""
    foreign = await person.submit(key="K1", token="good")
    crossing = await person.submit({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil"}, key="K1", token="good")
    assert "Set-Cookie" not in foreign["headers"]
    assert "Set-Cookie" not in crossing["headers"]
    for own in ({"sec-fetch-site": "same-origin"}, {"origin": "https://hub.example.org"}):
        answer = await person.submit(own, key="K1", token="good", expires_in="60")
        assert answer["headers"]["Set-Cookie"] == "access_token=handed; Path=/; SameSite=Lax; Max-Age=60; Secure"
    plain = await Person("http://127.0.0.1:9527").submit({"sec-fetch-site": "same-origin"}, key="K1", token="good")
    assert "Secure" not in plain["headers"]["Set-Cookie"]


async def test_bad_token(person: Person) -> None:
    """The person is told what is wrong, next to the form, and may try again."""
    answer = await person.submit(key="K1", token="bad", workspace="ws-a")
    assert answer["status"] == 400
    assert 'role="alert"' in answer["body"]
    assert "&lt;b&gt;no" in answer["body"]
    assert "bad" not in str(Fields(answer["body"]).values.values())
    assert Fields(answer["body"]).values["workspace"] == "ws-a"


@pytest.mark.parametrize(
    ("target", "followed"),
    [
        ("/ws-a/apps/x/?a=1", True),
        ("https://hub.example.org/x", True),
        ("//evil.example.org/", False),
        ("https://evil.example.org/", False),
        ("https://hub.example.org.evil.org/", False),
        ("javascript:alert(1)", False),
        ("/\\evil.example.org", False),
        ("/a\r\nSet-Cookie: x=y", False),
    ],
)
async def test_redirect(person: Person, target: str, followed: bool) -> None:
    """After a login the browser goes on only to pages of this server."""
    answer = await person.submit(key="K1", token="good", redirect=target)
    assert (answer["status"] == 303) is followed
    assert (answer["headers"].get("Location") == target) is followed


async def test_logout(person: Person) -> None:
    answer = await person.open(logout="true", close="true")
    assert "Max-Age=0" in answer["headers"]["Set-Cookie"]


@pytest.mark.parametrize(
    ("event", "status"),
    [
        ({"method": "POST", "body": b"x" * 100_000}, 413),
        ({"method": "POST", "body": None}, 400),
        ({"method": "POST", "body": b"\xff\xfe=\xff&key=K1"}, 400),
        ({"method": "POST", "body": b"key=K1&token=good&expires_in=soon"}, 400),
        ({"method": "POST", "body": "&".join(f"a{i}=b" for i in range(200))}, 400),
        ({"method": "GET", "query_string": "%ff=%00&key=%00"}, 200),
        ({}, 200),
    ],
)
async def test_odd_requests(person: Person, event: dict[str, Any], status: int) -> None:
    """Whatever is sent gets a page."""
    answer = await person.page.serve(event)
    assert answer["status"] == status
    assert "<main>" in answer["body"]
