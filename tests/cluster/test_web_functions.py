"""Web services of type ``functions``, registered with an unmodified client."""

from __future__ import annotations

from typing import Any

import httpx

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect


def page(event: dict[str, Any], context: dict[str, Any] | None = None) -> dict[str, Any]:
    """Answer with what it was given."""
    user = context["user"]["id"] if context else None
    return {
        "headers": {"X-Path": event["path"], "X-User": str(user), "X-Function": str(event.get("function_path"))},
        "body": f"{event['method']} {event['query_string']} {event['headers'].get('cookie')}",
    }


async def test_functions_with_context(cluster: RunningCluster, connect: Connect) -> None:
    """Nested ones, too, are told who calls; what names none goes to ``default``; hub cookies stay with the hub."""
    token = cluster.user_token("fiona")
    server = await connect(token=token)
    await server.register_service(
        {
            "id": "site",
            "type": "functions",
            "config": {"visibility": "public", "require_context": True},
            "index": page,
            "deep": {"er": {"index": page, "f": page}},
            "default": page,
        }
    )
    path = f"/{server.config.workspace}/apps/site"
    async with httpx.AsyncClient(base_url=cluster.url, cookies={"access_token": token, "mine": "1"}) as http:
        for rest, function_path in (
            ("", None),
            ("deep/er/f", None),
            ("deep/er/", None),
            ("deep/er/nothing", "/deep/er/nothing"),
            ("%C3%BC", "/\u00fc"),
        ):
            answer = await http.get(f"{path}/{rest}?a=b=c&flag")
            assert answer.status_code == 200, answer.text
            assert answer.text == "GET a=b=c&flag mine=1"
            assert answer.headers["x-user"] == "fiona"
            assert answer.headers["x-function"] == str(function_path)
        assert (await http.head(f"{path}/")).headers["x-path"] == "/"


async def test_answers_that_are_none(cluster: RunningCluster, connect: Connect) -> None:
    """Each is answered, and ends."""
    server = await connect()
    await server.register_service(
        {
            "id": "site",
            "type": "functions",
            "config": {"visibility": "public"},
            "nothing": lambda event: {"status": 200},
            "number": lambda event: 5,
            "bare": lambda event: "text",
            "crash": lambda event: 1 / 0,
            "sized": lambda event: {"headers": {"Content-Length": "100"}, "body": "short"},
        }
    )
    path = f"/{server.config.workspace}/apps/site"
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        nothing = await http.get(f"{path}/nothing")
        assert (nothing.status_code, nothing.content) == (200, b"")
        for name in ("number", "bare"):
            answer = await http.get(f"{path}/{name}")
            assert (answer.status_code, answer.text[:47]) == (500, "Internal Server Error: a function must return a")
        crash = await http.get(f"{path}/crash")
        assert (crash.status_code, crash.text) == (500, "Internal Server Error: ZeroDivisionError: division by zero")
        assert (await http.get(f"{path}/sized")).text == "short"
        missing = await http.get(f"{path}/x/y")
        assert (missing.status_code, missing.text) == (404, "Function not found: x/y")
        await server.register_service({"id": "plain", "config": {"visibility": "public"}, "f": lambda: 1})
        plain = await http.get(f"/{server.config.workspace}/apps/plain/")
        assert (plain.status_code, plain.text) == (500, "Invalid service type: generic")


async def test_several_services_match(cluster: RunningCluster, connect: Connect) -> None:
    """Without a mode that is refused, as it is for calls."""
    token = cluster.user_token()
    servers = [await connect(token=token) for _ in range(2)]
    for server in servers:
        await server.register_service(
            {
                "id": "twin",
                "type": "functions",
                "config": {"visibility": "public"},
                "index": lambda event: {"body": "t"},
            }
        )
    path = f"/{servers[0].config.workspace}/apps/*:twin/"
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        assert (await http.get(path)).status_code == 400
        assert (await http.get(f"{path}?_mode=first")).text == "t"


async def test_agent_skills(cluster: RunningCluster, connect: Connect) -> None:
    """They have an address of their own."""
    server = await connect()
    home = server.config.workspace
    async with httpx.AsyncClient(base_url=cluster.url) as http:
        assert (await http.get(f"/{home}/agent-skills/SKILL.md")).status_code == 404
        await server.register_service(
            {"id": "agent-skills", "type": "functions", "config": {"visibility": "public"}, "default": page}
        )
        answer = await http.get(f"/{home}/agent-skills/GUIDE/a%20b.md")
        assert (answer.status_code, answer.headers["x-function"]) == (200, "/GUIDE/a b.md")
        assert "access-control-allow-origin" in answer.headers
        redirect = await http.get(f"/{home}/agent-skills")
        assert (redirect.status_code, redirect.headers["location"]) == (307, f"/{home}/agent-skills/")
