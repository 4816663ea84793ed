"""What one process decides about callers, every other follows within a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hypha_auth.audit_repository import AuditEvent, AuditRows
from hypha_common.db import Database
from hypha_common.errors import BadRequest
from hypha_common.ids import new_id
from hypha_common.settings import Settings
from tests.cluster.operations import Operator, operate
from tests.cluster.raw_client import knock, raw_client
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.errors_told import told

WITHIN_S = 1.0
REVOKED = "Token has been revoked"


@pytest.fixture
async def operator(two_gateways: RunningCluster) -> AsyncIterator[Operator]:
    async with operate(two_gateways, user="workspace") as operator:  # its admin-utils ask the same
        yield operator


async def _recorded(operator: Operator, number: int = 1, **wanted: Any) -> list[AuditEvent]:
    """Wait until ``number`` events are in the record; some may be counted together."""
    settings = Settings.load({}, environ={**operator.environment, "HYPHA_JWT_SECRET": ""})
    database = Database.from_settings(settings, "test")
    await database.connect()
    try:
        async with asyncio.timeout(5):
            while True:
                events = await AuditRows(database.home).select(**wanted)
                if sum(event.count for event in events) >= number:
                    return events
                await asyncio.sleep(0.05)
    finally:
        await database.close()


async def test_whoever_revokes_its_own_token_hears_of_it(two_gateways: RunningCluster) -> None:
    """And is disconnected only then."""
    async with raw_client(two_gateways.url, token=two_gateways.user_token()) as owner:
        token = await owner.manager("generate_token", {"permission": "admin"})
    async with raw_client(two_gateways.url, "own", token=token) as client:
        assert await client.manager("revoke_token", token) is None
        ended = await asyncio.wait_for(client.ended(), WITHIN_S)
    assert (ended.code, ended.reason) == (1008, f"Authentication error: {REVOKED}")


async def test_revoked_at_the_other_gateway(two_gateways: RunningCluster) -> None:
    """A token that is revoked through one gateway is refused by the other: by websocket, to come back, and by HTTP."""
    here, there = two_gateways.gateway_urls
    async with raw_client(here, token=two_gateways.user_token()) as owner, httpx.AsyncClient(base_url=there) as http:
        token = await owner.manager("generate_token")
        async with raw_client(there, "child", token=token) as child:
            await owner.manager("revoke_token", token)
            began = time.monotonic()
            ended = await asyncio.wait_for(child.ended(), WITHIN_S)
            assert (ended.code, ended.reason) == (1008, f"Authentication error: {REVOKED}")
            assert time.monotonic() - began < WITHIN_S
        again = {"client_id": "child", "reconnection_token": child.info["reconnection_token"]}
        for first in ({"client_id": "child", "token": token}, again):
            assert (await knock(there, first)).error.endswith(REVOKED)
        answer = await http.get(f"/{owner.workspace}/services/", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, told(answer)) == (401, {"detail": REVOKED})
        await owner.manager("check_status")  # whoever came in with another token stays


async def test_connections_that_came_back(two_gateways: RunningCluster) -> None:
    """A connection made with a reconnection token stands on the token that the first one was made with."""
    here, there = two_gateways.gateway_urls
    async with raw_client(here, token=two_gateways.user_token()) as owner:
        token = await owner.manager("generate_token")
        async with raw_client(there, "child", token=token) as child:
            reconnection = child.info["reconnection_token"]
        for _ in range(2):  # and from there again
            async with raw_client(there, "child", reconnection_token=reconnection) as child:
                reconnection = child.info["reconnection_token"]
        async with raw_client(here, "child", reconnection_token=reconnection) as child:
            await owner.manager("revoke_token", token)
            ended = await asyncio.wait_for(child.ended(), WITHIN_S)
            assert (ended.code, ended.reason) == (1008, f"Authentication error: {REVOKED}")


async def test_blocks_are_kept(operator: Operator) -> None:
    """Any replica tells what any other was told, in its shortest form, until it is taken back."""
    user = f"user-{new_id(6)}"
    by = f"admin-{new_id(6)}"
    await operator.ask("auth", "block", kind="user", id=user, duration_s=60, reason="spam", by=by)
    await operator.ask("auth", "block", kind="ip", id="2001:DB8::/48", by=by)
    for _ in range(4):  # of two replicas
        blocked = await operator.ask("auth", "blocked")
        found = {entry["id"]: entry for entry in blocked["users"]}
        assert found[user]["reason"] == "spam"
        assert found[user]["until"] == pytest.approx(time.time() + 60, abs=10)
        assert "2001:db8::/48" in {entry["id"] for entry in blocked["ips"]}
    for kind, name in (("user", user), ("ip", "2001:db8:0::/48")):
        assert await operator.ask("auth", "unblock", kind=kind, id=name, by=by) == {"removed": True}
        assert await operator.ask("auth", "unblock", kind=kind, id=name, by=by) == {"removed": False}
    blocked = await operator.ask("auth", "blocked")
    assert user not in {entry["id"] for entry in blocked["users"]}
    events = await _recorded(operator, 2, user=by, event="blocked")
    details = {event.details["id"]: event.details["reason"] for event in events}
    assert details == {user: "spam", "2001:db8::/48": ""}
    assert len(await _recorded(operator, 2, user=by, event="unblocked")) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "cat", "id": "x"},
        {"kind": "user"},
        {"kind": "user", "id": ""},
        {"kind": "user", "id": "root"},
        {"kind": "ip", "id": "example.org"},
        {"kind": "user", "id": "x", "duration_s": -1},
        {"kind": "user", "id": "x", "duration_s": "long"},
        {"kind": "user", "id": "x", "reason": 5},
    ],
)
async def test_what_is_no_block(operator: Operator, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        await operator.ask("auth", "block", **wrong)


async def test_denials_are_recorded(two_gateways: RunningCluster, operator: Operator) -> None:
    """Who was refused, where and why; never with what token. Equal ones of a second are one record."""
    user = f"user-{new_id(6)}"
    token = two_gateways.user_token(user)
    foreign = "ws-user-root"
    for _ in range(3):
        await knock(two_gateways.url, {"client_id": "c", "token": token, "workspace": foreign})
    async with httpx.AsyncClient(base_url=two_gateways.url, headers={"Authorization": f"Bearer {token}"}) as http:
        assert (await http.get("/ws-anonymous/info")).status_code == 403
        assert (await http.get(f"/{foreign}-{user}/info", headers={"Authorization": "Bearer x.y.z"})).status_code == 401
    events = await _recorded(operator, 3, user=user, workspace=foreign)
    assert sum(event.count for event in events) == 3
    assert {(event.event, event.address) for event in events} == {("denied", "127.0.0.1")}
    [event] = await _recorded(operator, user=user, workspace="ws-anonymous")
    assert "permission" in event.details["reason"].lower()
    [unknown, *_] = await _recorded(operator, workspace=f"{foreign}-{user}")
    assert (unknown.user, unknown.details) == ("", {"reason": "Error decoding token headers."})
    assert token not in str(events)
