from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hypha_auth.cluster_security import ClusterSecurity
from hypha_common.bus import Bus
from hypha_common.db import Database
from hypha_common.errors import BadRequest, HyphaError, PermissionDenied, Unauthorized
from hypha_common.principal import Permission, Principal, Scope, root_principal
from hypha_common.settings import Settings
from hypha_common.subjects import role_verb
from hypha_common.tokens import TokenCodec, TokenKind
from tests.fixtures.auth import (
    ROOT_TOKEN,
    SECRET,
    auth_database,
    auth_settings,
    bus,
    eventually,
    nats_url,
    postgres,
    start_bus,
)

__all__ = ["auth_database", "auth_settings", "bus", "nats_url", "postgres"]

CODEC = TokenCodec(SECRET)
HOME = "ws-user-alice"
ALICE = Principal(id="alice", scope=Scope({HOME: Permission.ADMIN}, current_workspace=HOME))
BOB = Principal(id="bob", scope=Scope({"ws-user-bob": Permission.ADMIN, HOME: Permission.READ_WRITE}))
LIFE_S = 1000.0


class Replica:
    """One auth service, as far as its verbs go."""

    def __init__(self, bus: Bus, database: Database, settings: Settings) -> None:
        self.bus = bus
        self.security = ClusterSecurity(
            settings.replace(reconnection_token_life_time=LIFE_S), home=database.home, bus=bus
        )
        self.revoked = self.security.known.revoked
        self.verifier, self.source = self.security.verifier, self.security.source

    async def start(self) -> None:
        await self.security.start()
        await self.security.serve()
        await self.bus.flush()

    async def stop(self) -> None:
        await self.security.stop()
        await self.bus.close()


@pytest.fixture
async def replicas(
    bus: Bus, nats_url: str, auth_database: Database, auth_settings: Settings
) -> AsyncIterator[list[Replica]]:
    started = [Replica(await start_bus(nats_url, "auth"), auth_database, auth_settings) for _ in range(2)]
    for replica in started:
        await replica.start()
    yield started
    for replica in started:
        await replica.stop()


@pytest.fixture
def ask(bus: Bus, replicas: list[Replica]) -> Any:
    async def request(verb: str, **message: Any) -> Any:
        return await bus.request(role_verb("auth", 0, verb), message)

    return request


async def refused(ask: Any, verb: str, **message: Any) -> HyphaError:
    with pytest.raises(HyphaError) as caught:
        await ask(verb, **message)
    return caught.value


async def test_authenticate(ask: Any) -> None:
    """It knows the cluster's tokens, of every kind, and the root token."""
    answer = await ask("authenticate", token=CODEC.sign(ALICE, life_s=60))
    assert answer["user"]["id"] == "alice"
    assert answer["kind"] == TokenKind.ACCESS
    answer = await ask("authenticate", token=ROOT_TOKEN)
    assert (answer["user"]["id"], answer["user"]["roles"], answer["workspace"]) == ("root", ["admin"], "ws-user-root")
    assert answer["expires_at"] is None
    error = await refused(ask, "authenticate", token="rubbish")
    assert isinstance(error, Unauthorized)
    assert error.message == "Error decoding token headers."
    assert isinstance(await refused(ask, "authenticate"), BadRequest)


async def test_issue(ask: Any, replicas: list[Replica]) -> None:
    """generate_token, over the bus."""
    answer = await ask("issue", user=ALICE.dump(), config={"permission": "read", "expires_in": 60}, workspace=HOME)
    token = replicas[0].verifier.verify(answer["token"])
    assert token.principal.parent == "alice"
    assert token.principal.permission(HOME) is Permission.READ
    error = await refused(ask, "issue", user=BOB.dump(), config=None, workspace=HOME)
    assert error.rpc_text() == "PermissionError: Only admin can generate token."
    error = await refused(ask, "issue", user=ALICE.dump(), config={"expires_in": 0}, workspace=HOME)
    assert error.rpc_text() == "AssertionError: expires_in should be greater than 0"
    assert isinstance(await refused(ask, "issue", config=None, workspace=HOME), BadRequest)
    owner = {"user": ALICE.dump(), "config": {"workspace": "ws-x"}, "workspace": HOME}
    assert isinstance(await refused(ask, "issue", **owner), PermissionDenied)
    assert (await ask("issue", **owner, owner=True))["token"]


async def test_issue_instance(ask: Any, replicas: list[Replica]) -> None:
    """A token for one client of an app; only the cluster itself can say whose instance somebody is."""
    workspace = "ws-user-bob"
    user = root_principal().dump()
    answer = await ask("issue_instance", user=user, workspace=workspace, client_id="_rapp_x", app_id="my app")
    token = replicas[0].verifier.verify(answer["token"])
    assert (token.workspace, token.client_id, token.extra_scopes) == (workspace, "_rapp_x", ("app:my%20app",))
    assert token.principal.permission(workspace) is Permission.READ_WRITE
    assert not token.principal.is_admin
    again = CODEC.verify(CODEC.reconnection_token(token.principal, workspace, "_rapp_x", 1, 60))
    assert again.extra_scopes == token.extra_scopes
    asked = {"extra_scopes": ["app:my-app"]}
    error = await refused(ask, "issue", user=ALICE.dump(), config=asked, workspace=HOME)
    assert error.message == "Invalid extra scope: app:my-app"


async def test_parse(ask: Any) -> None:
    """A token bound to another workspace is none of this workspace's business."""
    bound = CODEC.sign(ALICE, life_s=60)
    assert (await ask("parse", token=bound, workspace=HOME))["id"] == "alice"
    error = await refused(ask, "parse", token=bound, workspace="ws-b")
    assert error.message == "Token is not authorized for workspace 'ws-b'"
    reconnection = CODEC.reconnection_token(ALICE, HOME, "c", 1, 60)
    assert isinstance(await refused(ask, "parse", token=reconnection, workspace=HOME), Unauthorized)


async def test_revoke(ask: Any, replicas: list[Replica]) -> None:
    """A revocation is known to every replica at once, survives all of them, and may be repeated."""
    token = CODEC.sign(ALICE, life_s=60)
    for replica in replicas:
        replica.verifier.verify(token)
    assert await ask("revoke", token=token, user=ALICE.dump()) is None
    token_id = CODEC.verify(token).token_id
    await eventually(lambda: all(token_id in replica.revoked for replica in replicas), timeout=1.0)
    for replica in replicas:
        with pytest.raises(Unauthorized, match="Token has been revoked"):
            replica.verifier.verify(token)
    assert (await refused(ask, "authenticate", token=token)).message == "Token has been revoked"
    assert await ask("revoke", token=token, user=ALICE.dump()) is None
    listed = await ask("revoked")
    assert [name for name, _ in listed["ids"]] == [token_id]
    assert listed["next"] is None
    # As long as the reconnection tokens that descend from it may live.
    assert listed["ids"][0][1] == pytest.approx(time.time() + LIFE_S, abs=10)


async def test_revoked_before_a_replica_starts(
    ask: Any, nats_url: str, auth_database: Database, auth_settings: Settings, replicas: list[Replica]
) -> None:
    token = CODEC.sign(ALICE, life_s=60)
    await ask("revoke", token=token, user=ALICE.dump())
    late = Replica(await start_bus(nats_url, "auth"), auth_database, auth_settings)
    await late.start()
    with pytest.raises(Unauthorized):
        late.verifier.verify(token)
    await late.stop()


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("rubbish", "ValueError: Invalid token: Error decoding token headers."),
        (TokenCodec("another secret of thirty-two bytes").sign(ALICE, life_s=60), "ValueError: Invalid token: Sig"),
        (ROOT_TOKEN, "ValueError: Invalid token: the root token cannot be revoked"),
    ],
)
async def test_revoke_what_is_no_token(ask: Any, token: str, text: str) -> None:
    error = await refused(ask, "revoke", token=token, user=ALICE.dump())
    assert error.rpc_text().startswith(text)


async def test_revoke_an_expired_token(ask: Any) -> None:
    token = CODEC.sign(ALICE, life_s=1)
    time.sleep(1.1)
    error = await refused(ask, "revoke", token=token, user=ALICE.dump())
    assert error.rpc_text() == "ValueError: Token has already expired"


async def test_who_may_revoke(ask: Any) -> None:
    """The user, the parent, an administrator of the token's workspace or of the cluster; nobody else."""
    child = Principal(
        id="teal-x-00000001", parent="alice", scope=Scope({HOME: Permission.READ}, current_workspace=HOME)
    )
    bobs = Principal(id="bob", scope=Scope({HOME: Permission.READ}, current_workspace=HOME))
    stranger = await refused(ask, "revoke", token=CODEC.sign(child, life_s=60), user=BOB.dump())
    assert stranger.message == f"Permission denied for workspace: {HOME}"
    for token, caller in [
        (CODEC.sign(child, life_s=60), ALICE),
        (CODEC.sign(child, life_s=60), child),
        (CODEC.sign(bobs, life_s=60), ALICE),
        (CODEC.sign(child, life_s=60), root_principal()),
    ]:
        assert await ask("revoke", token=token, user=caller.dump()) is None


async def test_list_in_pages(auth_database: Database, replicas: list[Replica]) -> None:
    """A long list is complete."""
    await auth_database.home.execute(
        """
        INSERT INTO revoked_tokens (token_id, expires_at, revoked_by)
        SELECT 't' || i, now() + interval '1 hour', 'x' FROM generate_series(1, 10001) AS i
        """
    )
    assert len(dict(await replicas[0].source.revoked())) == 10001
    first = await replicas[0].source.revoked_page({})
    assert len(first["ids"]) == 5000
    assert first["next"] == first["ids"][-1][0]
