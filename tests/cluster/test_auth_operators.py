"""``hypha-auth <verb>`` beside a cluster that runs: every process follows within a second."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import jwt
import pytest

from hypha_common.ids import new_id
from tests.cluster.operations import Operator, operate
from tests.cluster.raw_client import knock, raw_client
from tests.cluster.running_cluster import RunningCluster

WITHIN_S = 1.0
REVOKED = "Authentication error: Token has been revoked"


@pytest.fixture
async def operator(two_gateways: RunningCluster) -> AsyncIterator[Operator]:
    async with operate(two_gateways) as operator:
        yield operator


async def _within(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not await condition():
            await asyncio.sleep(0.02)


async def _keys(url: str) -> set[str]:
    async with httpx.AsyncClient(base_url=url) as http:
        return {key["kid"] for key in (await http.get("/.well-known/jwks.json")).json()["keys"]}


async def test_issue_and_revoke(two_gateways: RunningCluster, operator: Operator) -> None:
    """A token from the command line lets somebody in at any gateway, until the command line revokes it."""
    here, there = two_gateways.gateway_urls
    user = f"user-{new_id(6)}"
    token = (await operator.run("hypha_auth", "issue", f"--user-id={user}", "--permission=admin")).stdout.strip()
    async with raw_client(here, token=token) as one, raw_client(there, token=token) as two:
        assert one.workspace == two.workspace == f"ws-user-{user}"
        done = await operator.run("hypha_auth", "revoke", "-", stdin=token)
        assert done.stderr == ""
        for client in (one, two):
            ended = await asyncio.wait_for(client.ended(), WITHIN_S)
            assert (ended.code, ended.reason) == (1008, REVOKED)
    for url in (here, there):
        assert (await knock(url, {"client_id": "c", "token": token})).error.endswith("Token has been revoked")


async def test_rotate(two_gateways: RunningCluster, operator: Operator) -> None:
    """New tokens are signed with the new key; whoever holds an old one notices nothing."""
    here, there = two_gateways.gateway_urls
    async with raw_client(here, token=two_gateways.user_token()) as owner:
        old = await owner.manager("generate_token", {"permission": "admin"})
        async with raw_client(there, token=old) as before:
            key_id = (await operator.run("hypha_auth", "rotate-keys")).stdout.strip().partition("\t")[2]

            async def signs() -> bool:
                token = await owner.manager("generate_token")
                # A gateway that has not heard of the key asks: no token is refused for being new.
                async with raw_client(there, token=token):
                    return jwt.get_unverified_header(token)["kid"] == key_id

            await _within(signs)
            await before.manager("check_status")
        for url in (here, there):
            assert key_id in await _keys(url)
            async with raw_client(url, token=old):
                pass
    listed = [line.split("\t") for line in (await operator.run("hypha_auth", "keys")).stdout.splitlines()]
    assert {row[0]: row[2] for row in listed}[key_id] == "signs"


async def test_drop_a_leaked_key(two_gateways: RunningCluster, operator: Operator) -> None:
    """What it signed is refused, who came in with that has to go, and cannot come back; nobody else is affected."""
    here, there = two_gateways.gateway_urls
    leaked = (await operator.run("hypha_auth", "rotate-keys")).stdout.strip().partition("\t")[2]
    token = (await operator.run("hypha_auth", "issue")).stdout.strip()
    assert jwt.get_unverified_header(token)["kid"] == leaked
    other = two_gateways.user_token()
    async with raw_client(here, token=other) as bystander, raw_client(there, "c", token=token) as client:
        await operator.run("hypha_auth", "rotate-keys", "--drop", leaked)
        ended = await asyncio.wait_for(client.ended(), WITHIN_S)
        assert (ended.code, ended.reason) == (1008, REVOKED)
        again = {"client_id": "c", "reconnection_token": client.info["reconnection_token"]}
        for url in (here, there):
            for first in ({"client_id": "c", "token": token}, again):
                assert (await knock(url, first)).code in (1001, 1008)

            async def gone(url: str = url) -> bool:
                return leaked not in await _keys(url)

            await _within(gone)
        fresh = await bystander.manager("generate_token")
        async with raw_client(there, token=fresh):
            pass


async def test_follow_the_record(two_gateways: RunningCluster, operator: Operator) -> None:
    """``audit --follow`` shows a refusal soon after it happened."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hypha_auth", "audit", "--event=denied", "--follow", "--json", "--limit=1"),
        env=operator.environment,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    user = f"user-{new_id(6)}"
    first = {"client_id": "c", "token": two_gateways.user_token(user), "workspace": "ws-user-root"}
    try:
        async with asyncio.timeout(15):
            found = {}
            while found.get("user") != user:
                await knock(two_gateways.url, first)
                try:
                    line = await asyncio.wait_for(process.stdout.readline(), 2)
                except TimeoutError:
                    continue
                found = json.loads(line)
        assert (found["event"], found["workspace"], found["address"]) == ("denied", "ws-user-root", "127.0.0.1")
    finally:
        process.terminate()
        await process.wait()
