from __future__ import annotations

import pytest
from http_support import PUBLIC_KEY, World

from hypha_common.principal import Permission
from tests.fixtures.errors_told import told


async def test_workspace_info(world: World) -> None:
    """Members see their workspace; strangers learn nothing, not even whether it exists."""
    assert (await world.http.get("/lab-a/info", headers=world.bearer())).json()["id"] == "lab-a"
    for name in ("public", "no-such"):
        response = await world.http.get(f"/{name}/info")
        assert response.status_code == 403
        assert told(response) == {"success": False, "detail": f"anonymouz-http has no permission to access {name}"}
    everywhere = world.bearer(workspaces={"*": Permission.ADMIN}, current_workspace="lab-a")
    response = await world.http.get("/no-such/info", headers=everywhere)
    assert response.status_code == 404
    assert response.json()["detail"] == "Workspace 'no-such' not found"


async def test_service_list_and_info(world: World) -> None:
    """Services are listed with short ids; one is shown with its full id."""
    redirect = await world.http.get("/public/services?a=1")
    assert (redirect.status_code, redirect.headers["location"]) == (307, "/public/services/?a=1")
    listed = (await world.http.get("/public/services/")).json()
    assert {"p1:test-service", "p1:pages"} <= {info["id"] for info in listed}
    assert (await world.http.get("/lab-z/services/")).json() == []
    assert (await world.http.get("/public/services/test-service")).json()["id"] == "public/p1:test-service"
    assert (await world.http.get("/public/services/ws")).json()["id"] == "~"
    assert (await world.http.get("/public/services/nosvc")).status_code == 404
    assert (await world.http.get("/public/services/secret")).status_code == 403


async def test_pages(world: World) -> None:
    """The front page, the way to log in, and what pages need to know."""
    page = await world.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert '"server_url": "http://127.0.0.1:9527"' in page.text
    assert "$" not in page.text
    assert (await world.http.get("/index.html")).text == page.text
    login = await world.http.get("/login?key=k")
    assert (login.status_code, login.headers["location"]) == (307, "/public/apps/hypha-login/?key=k")
    config = (await world.http.get("/assets/config.json", headers=world.bearer())).json()
    assert config["user"]["id"] == "u1"
    assert config["login_service_url"] == "http://127.0.0.1:9527/public/services/hypha-login"


async def test_jwks(world: World) -> None:
    """The public keys are anybody's, also with a token that is no good."""
    for headers in ({}, {"Authorization": "Bearer x.y.z"}):
        answer = await world.http.get("/.well-known/jwks.json", headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"keys": [PUBLIC_KEY]})
        assert answer.headers["cache-control"] == "public, max-age=300"


@pytest.mark.parametrize("world", [{"base_path": "/hub"}], indirect=True)
async def test_base_path(world: World) -> None:
    """Every path may have a prefix."""
    assert (await world.http.get("/hub/public/services/test-service/test?x=1")).json() == 2
    assert (await world.http.get("/hub/login")).headers["location"] == "/hub/public/apps/hypha-login/"
    assert (await world.http.get("/hub/public/services")).headers["location"] == "/hub/public/services/"
    assert (await world.http.get("/hub/health/liveness")).status_code == 200
    assert (await world.http.get("/public/services/test-service/test?x=1")).status_code == 404
    for path in ("/.well-known/jwks.json", "/hub/.well-known/jwks.json"):
        assert (await world.http.get(path)).json() == {"keys": [PUBLIC_KEY]}
    event = (await world.http.get("/hub/public/apps/pages/")).json()
    assert (event["path"], event["raw_path"]) == ("/", "/")


async def test_health(world: World) -> None:
    """Readiness names what it checked; metrics carry no paths of users' services."""
    ready = await world.http.get("/health/readiness")
    assert ready.status_code == 200, ready.text
    services = {"store": "ready", "auth": "ready", "event_bus": "ready", "pubsub": "healthy"}
    assert ready.json()["detail"] == {**services, "artifacts": "away", "apps": "off"}  # they are no condition for calls
    assert (await world.http.get("/health/liveness")).json()["status"] == "OK"
    assert (await world.http.get("/health")).json()["status"] == "HEALTHY"
    await world.http.get("/public/services/nobody-has-this/test?x=1")
    metrics = (await world.http.get("/metrics")).text
    assert 'http_requests_total{method="GET",route="/health/liveness",status="200"}' in metrics
    assert 'route="/{workspace}/services/{service}/{keys}"' in metrics
    assert "nobody-has-this" not in metrics


async def test_readiness_while_draining(world: World) -> None:
    """A gateway that drains is not ready, yet alive."""
    world.app.state.gateway.draining = True
    response = await world.http.get("/health/readiness")
    assert (response.status_code, response.json()) == (503, {"status": "DOWN", "detail": "draining"})
    assert (await world.http.get("/health/liveness")).status_code == 200


@pytest.mark.parametrize(
    "world",
    [{"http_burst_limit": 1, "http_authenticated_rate_limit": 1, "http_authenticated_burst_limit": 3}],
    indirect=True,
)
async def test_rate_limit_of_signed_addresses(world: World) -> None:
    """They count by address, apart from everything else."""
    statuses = [(await world.http.get("/s3/bucket/key?X-Amz-Signature=x")).status_code for _ in range(4)]
    assert 429 not in statuses[:3]
    assert statuses[3] == 429
    assert (await world.http.get("/assets/config.json")).status_code == 200


async def test_cors(world: World) -> None:
    """Pages of other origins may call, errors included."""
    origin = {"Origin": "https://page.example"}
    for path in ("/public/services/test-service/test?x=1", "/public/services/nosvc/f", "/no/such/path/at/all"):
        response = await world.http.get(path, headers=origin)
        assert response.headers.get_list("access-control-allow-origin") == ["https://page.example"]
    preflight = await world.http.options(
        "/public/services/test-service/test", headers={**origin, "Access-Control-Request-Method": "POST"}
    )
    assert (preflight.status_code, preflight.text) == (200, "OK")
    assert "access-control-allow-origin" not in (await world.http.get("/")).headers


async def test_until_revocations_are_known(world: World) -> None:
    """A gateway that has just started trusts no token before it knows which are revoked; the anonymous are served."""
    world.app.state.gateway.revocations_known.clear()
    url = "/public/services/test-service/test?x=1"
    refused = await world.http.get(url, headers=world.bearer())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert (await world.http.get(url)).json() == 2
    assert (await world.http.get("/health/readiness")).status_code == 503


async def test_framework_errors(world: World) -> None:
    """Unknown paths and methods are answered in JSON."""
    missing = await world.http.get("/no/such/path/at/all")
    assert (missing.status_code, told(missing)) == (
        404,
        {"success": False, "detail": "File not found: no/such/path/at/all"},
    )
    for path in ("/ws", "/apps", "/nothing", "/favicon.ico", "/lab-a/nothing"):
        assert (await world.http.get(path)).status_code == 404, path
        posted = await world.http.post(path)
        assert (posted.status_code, told(posted)) == (405, {"detail": "Method Not Allowed"}), path
        assert posted.headers["allow"] == "GET"
    head = await world.http.head("/nothing")
    assert (head.status_code, head.content) == (404, b"")
    assert (await world.http.get("/a%00b/info")).status_code == 400
    wrong = await world.http.put("/public/services/test-service/test")
    assert (wrong.status_code, told(wrong)) == (405, {"detail": "Method Not Allowed"})
    assert "GET" in wrong.headers["allow"]


@pytest.mark.parametrize(
    "world",
    [{"http_rate_limit": 1, "http_burst_limit": 2, "http_authenticated_burst_limit": 5}],
    indirect=True,
)
async def test_rate_limit(world: World) -> None:
    """One address has one bucket, a verified token its own, and probes none."""
    url = "/assets/config.json"
    assert [(await world.http.get(url)).status_code for _ in range(3)] == [200, 200, 429]
    refused = await world.http.get(url, headers={"Authorization": "Bearer forged"})
    assert (refused.status_code, told(refused)) == (429, {"detail": "Rate limit exceeded. Please slow down."})
    assert int(refused.headers["retry-after"]) >= 1
    assert (await world.http.get(url, headers={"X-Forwarded-For": "198.51.100.1"})).status_code == 200
    token = world.bearer()
    assert [(await world.http.get(url, headers=token)).status_code for _ in range(3)] == [200, 200, 200]
    assert (await world.http.get("/health/liveness")).status_code == 200
