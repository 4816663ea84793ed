from __future__ import annotations

import pytest
from http_support import World


async def test_functions_service(world: World) -> None:
    """A function gets the request as one map and answers with status, headers and body."""
    redirect = await world.http.get("/public/apps/pages")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "/public/apps/pages/")
    response = await world.http.post(
        "/public/apps/pages/?a=b=c&flag", content=b"hello", headers={"Origin": "https://x.example", "X-Y": "z"}
    )
    assert response.status_code == 201
    assert response.headers["x-a"] == "b"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers.get_list("access-control-allow-origin") == ["https://x.example"]
    assert response.headers["access-control-expose-headers"] == "Content-Disposition"
    event = response.json()
    assert event["path"] == event["raw_path"] == "/"
    assert (event["method"], event["query_string"], event["body"]) == ("POST", "a=b=c&flag", "hello")
    assert event["headers"]["x-y"] == "z"
    assert (event["workspace"], event["service_id"], event["user"]["id"]) == ("public", "pages", "anonymouz-http")


async def test_function_paths(world: World) -> None:
    """The path names the function, or an index below it; nothing else is found."""
    assert (await world.http.get("/public/apps/pages/text")).text == "hello"
    assert (await world.http.get("/public/apps/pages/text/")).text == "hello"
    assert (await world.http.get("/public/apps/pages/manual/")).status_code == 404  # one part: no index below it
    assert (await world.http.get("/public/apps/pages/nested/deep/f")).status_code == 500  # takes no event
    missing = await world.http.get("/public/apps/pages/a/b")
    assert (missing.status_code, missing.text) == (404, "Function not found: a/b")
    head = await world.http.head("/public/apps/pages/text")
    assert (head.status_code, head.content) == (200, b"")
    assert (await world.http.options("/public/apps/pages/text", headers={"Origin": "https://x"})).text == "hello"


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("pages/empty", 204, ""),
        ("pages/liar", 500, "Internal Server Error: a function must return a map"),
        ("pages/injector", 500, "Internal Server Error: invalid header"),
        ("pages/crash", 500, "Internal Server Error: ZeroDivisionError: division by zero"),
        ("web/", 404, "RemoteException: Method expired or not found"),
        ("test-service/", 500, "Invalid service type: generic"),
        ("nosvc/", 404, "RemoteException: KeyError: 'Service not found: public/*:nosvc@*'"),
        ("secret/", 403, "RemoteException: PermissionError: Permission denied"),
    ],
)
async def test_app_failures(world: World, path: str, status: int, text: str) -> None:
    """Failures of web services are plain text."""
    response = await world.http.get(f"/public/apps/{path}")
    assert response.status_code == status
    assert response.text.startswith(text)
