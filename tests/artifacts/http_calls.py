"""Requests as gateways hand them to the artifacts service, and what the plans it answers with lead to."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import httpx

from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.record import Artifact
from hypha_common.plans import Fetch, HttpCall, Plan, Reply, Store, Stored, load_plan
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.subjects import partition_of, role_verb

__all__ = ["fetch", "plan_for", "put", "somebody", "until_counted"]


def somebody(
    permission: Permission = Permission.READ, workspace: str = "ws-a", scopes: Sequence[str] = ()
) -> Principal:
    """Return a user who has a permission in a workspace."""
    return Principal(id="somebody", scope=Scope({workspace: permission}, extra_scopes=tuple(scopes) or None))


async def plan_for(
    service: ArtifactsService,
    route: str,
    artifact: Artifact,
    *,
    user: Principal | None = None,
    method: str = "GET",
    query: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] = {},
    body: bytes = b"",
    **params: str,
) -> Plan:
    """Ask for a plan over the bus. Raises what the service raised."""
    call = HttpCall(
        route=route,
        method=method,
        params={"workspace": artifact.workspace, "alias": artifact.alias, **params},
        query=list(query),
        headers=headers,
        user=(user or somebody(workspace=artifact.workspace)).dump(),
        workspace=artifact.workspace,
        base_url="http://hub.example",
        body=body,
    )
    subject = role_verb("artifacts", partition_of(artifact.workspace), "http")
    return load_plan(await service.bus.request(subject, call.dump(), timeout=20))


async def fetch(plan: Plan) -> httpx.Response:
    """Return what is at the address of a plan."""
    assert isinstance(plan, Fetch)
    async with httpx.AsyncClient(timeout=30) as http:
        return await http.get(plan.url, headers=plan.send)


async def put(service: ArtifactsService, artifact: Artifact, plan: Plan, body: bytes) -> Reply:
    """Do what a plan says with the body of a request, and return what the service answers to that."""
    assert isinstance(plan, Store)
    async with httpx.AsyncClient(timeout=30) as http:
        response = await http.put(plan.url, content=body, headers=plan.send)
    assert response.status_code == 200
    stored = Stored(plan.receipt, len(body), response.headers["etag"].strip('"'))
    subject = role_verb("artifacts", partition_of(artifact.workspace), "stored")
    reply = load_plan(await service.bus.request(subject, stored.dump(), timeout=20))
    assert isinstance(reply, Reply)
    return reply


async def until_counted(
    service: ArtifactsService, artifact: Artifact, *, views: float = 0, downloads: float = 0
) -> None:
    """Wait until exactly so much has been counted; an archive counts when its last byte has been sent."""
    counts = None
    try:
        async with asyncio.timeout(5):
            while counts != (views, downloads):
                await service.core.counters.flush()
                found = await service.core.access.known(artifact.name)
                counts = (found.view_count, found.download_count)
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{counts} was counted") from None
