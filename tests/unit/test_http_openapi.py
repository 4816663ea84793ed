from __future__ import annotations

import re

import pytest
from http_support import World
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hypha_common.static_mounts import RESERVED_NAMES
from hypha_gateway.http import documents, routes
from hypha_gateway.http.openapi import ANY_STATUS
from hypha_gateway.http.openapi.document import described, document, operation_id
from hypha_gateway.http.openapi.schemas import PATH_PARAMETERS, SCHEMAS


def test_every_route_is_described() -> None:
    """Nobody adds a route without saying what it takes and answers."""
    assert [f"{method} {route.path}" for route, method, operation in described(routes()) if operation is None] == []
    everything = [route for route in routes() if isinstance(route, Route)]
    assert all(route.include_in_schema for route in everything)
    assert {name for route in everything for name in route.param_convertors} <= set(PATH_PARAMETERS)


def test_a_route_without_a_description_is_refused() -> None:
    async def bare(request: Request) -> Response:
        return Response()

    with pytest.raises(LookupError, match="GET /bare is not described"):
        document([Route("/bare", bare)], base_path="/")


def test_ids() -> None:
    """Each operation has its own id, and the one that the getting-started document links to has that one."""
    ids = [operation_id(route, method) for route, method, _ in described(routes())]
    assert len(set(ids)) == len(ids)
    made = document(routes(), base_path="/")
    call = made["paths"]["/{workspace}/services/{service}/{keys}"]["post"]
    assert call["operationId"] == "service_function__workspace__services__service___keys__post"
    assert call["tags"] == ["default"]


def test_references_lead_somewhere() -> None:
    found = set(re.findall(r"#/components/schemas/(\w+)", str(document(routes(), base_path="/"))))
    assert found == set(SCHEMAS)


def test_errors_have_one_shape() -> None:
    """What is refused is refused in JSON with a detail, but for pages and for what clients answer themselves."""
    for route, method, operation in described(routes()):
        assert operation is not None
        for status, answer in operation.answers.items():
            if status >= 400 and status not in (416,) and "/health" not in route.path:
                shapes = answer.content
                assert "application/json" in shapes or route.path == "/{workspace:workspace}/", (route.path, method)
        assert ANY_STATUS not in operation.answers or "/apps/" in route.path or "/agent-skills/" in route.path


def test_first_parts_of_paths_are_reserved() -> None:
    """A static mount cannot take the place of a route."""
    firsts = {route.path.split("/")[1] for route in [*routes(), *documents()]}
    assert {first for first in firsts if first and "{" not in first} <= RESERVED_NAMES


async def test_served(world: World) -> None:
    response = await world.http.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    assert response.json()["openapi"] == "3.1.0"
    assert response.json()["servers"] == [{"url": "/"}]
    again = await world.http.get("/openapi.json", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path, script in (("/api-docs", "swagger-ui-bundle.js"), ("/api-redoc", "redoc.standalone.js")):
        page = await world.http.get(path)
        assert f'src="/assets/{script}"' in page.text
        assert "unsafe-inline' script" not in page.headers["content-security-policy"]
        assert "script-src 'self';" in page.headers["content-security-policy"]


@pytest.mark.parametrize("world", [{"base_path": "/hub"}], indirect=True)
async def test_served_below_a_base_path(world: World) -> None:
    """With the prefix and, as other servers have it, without."""
    for prefix in ("/hub", ""):
        assert (await world.http.get(f"{prefix}/openapi.json")).json()["servers"] == [{"url": "/hub"}]
        page = (await world.http.get(f"{prefix}/api-docs")).text
        assert 'data-openapi="/hub/openapi.json"' in page
        for address in re.findall(r'(?:src|href)="(/[^"]+)"', page):
            assert (await world.http.get(address)).status_code == 200, address
