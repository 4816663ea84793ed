"""Parts of startup functions that need no server."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest

from hypha.startup.api import StartupServer
from hypha.startup.connecting import Connecting
from hypha.startup.custom_auth import AuthFunctions
from hypha.startup.login_service import login_service
from hypha.startup.runner import Runner, forget_secrets
from hypha_common.errors import Unavailable
from hypha_common.ids import PUBLIC_WORKSPACE
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec

SETTINGS = Settings.load({"jwt_secret": "s" * 40, "server_id": "here"}, environ={})


def method(name: str) -> Any:
    async def call(*args: Any, **kwargs: Any) -> Any:
        return name, args, kwargs

    return call


DEFAULT: dict[str, Any] = {
    name: method(name) for name in ("start", "check", "report", "index", "profile", "logout", "signup")
}
DEFAULT |= {"oidc": {"start": method("oidc.start")}, "id": "public/hypha-auth:hypha-login", "config": {}, "type": "x"}


async def test_the_default_page_brings_what_it_needs() -> None:
    """Accounts of the server and other ways to log in."""
    service = login_service(DEFAULT, None, {"start": method("custom")})
    assert await service["start"]() == ("custom", (), {})
    assert await service["check"]("key", timeout=1) == ("check", ("key",), {"timeout": 1})
    assert await service["oidc"]["start"]({}) == ("oidc.start", ({},), {})
    assert (service["id"], service["type"], service["config"]) == ("hypha-login", "functions", {"visibility": "public"})
    assert "signup" in service


async def test_a_custom_page_does_not() -> None:
    """Nobody signs up past it."""
    service = login_service(DEFAULT, {"index": method("page"), "config": {"require_context": True}}, {})
    assert await service["index"]({}) == ("page", ({},), {})
    assert {"signup", "oidc"}.isdisjoint(service)
    assert await service["logout"]() == ("logout", (), {})
    assert service["config"] == {"require_context": True, "visibility": "public"}


async def test_a_connection_that_has_ended_for_good() -> None:
    """The client tells nobody; whoever runs the runner starts it again."""
    connection = SimpleNamespace(_closed=False)
    watching = asyncio.create_task(
        Runner(SETTINGS)._watch(SimpleNamespace(rpc=SimpleNamespace(_connection=connection)))
    )
    await asyncio.sleep(0)
    assert not watching.done()
    connection._closed = True
    with pytest.raises(Unavailable, match="has ended"):
        await asyncio.wait_for(watching, 5)


def test_the_runners_token() -> None:
    """Root itself, bound to one workspace and one client."""
    verified = TokenCodec.from_settings(SETTINGS).verify(Connecting(SETTINGS).public().config["token"])
    assert verified.principal.is_root
    assert (verified.workspace, verified.client_id) == (PUBLIC_WORKSPACE, "here")


async def test_functions_that_are_none() -> None:
    auth = AuthFunctions(None)
    with pytest.raises(TypeError, match="parse_token must be a function, not str"):
        await auth.register_auth_service(parse_token="no")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="index must be a function"):
        await auth.register_auth_service(index_handler={})  # type: ignore[arg-type]


def test_attributes_and_items() -> None:
    server = StartupServer.of({"echo": len}, Connecting(SETTINGS), AuthFunctions(None))
    assert server.echo is server["echo"] is len
    assert callable(server["set_parse_token_function"])
    assert not hasattr(server, "store") and not hasattr(server, "nothing")
    with pytest.raises(KeyError):
        server["nothing"]
    with pytest.raises(AttributeError, match="startup functions run in a process of their own"):
        server["store"]


def test_secrets_are_kept_from_children(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ("HYPHA_JWT_SECRET", "JWT_SECRET", "HYPHA_NATS_PASSWORD_FILE", "HYPHA_DATABASE_URL")
    for name in (*secrets, "AUTHORS"):
        monkeypatch.setenv(name, "x")
    forget_secrets(os.environ)
    assert not any(name in os.environ for name in secrets)
    assert os.environ["AUTHORS"] == "x"
