"""The lifecycle of artifacts by service calls over HTTP, through the whole cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster

A = {"name": "A"}


@pytest.fixture
async def http(cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    url = f"{cluster.url}/public/services/artifact-manager"
    async with httpx.AsyncClient(base_url=url, timeout=15) as client:
        yield client


async def test_calls(cluster: RunningCluster, http: httpx.AsyncClient) -> None:
    """
    Texts of a query mean what they say, each refusal has its status, and no workspace is taken on trust (FIX-1).

    The user never connected: a token is enough to have a workspace of one's own.

    """
    name = f"user-{new_id(8).lower()}"
    ws, me = f"ws-user-{name}", {"Authorization": f"Bearer {cluster.user_token(name)}"}
    stranger = {"Authorization": f"Bearer {cluster.user_token()}"}

    async def create(headers: dict[str, str], **given: Any) -> tuple[int, Any]:
        answer = await http.post("/create", json={"manifest": A, **given}, headers=headers)
        return answer.status_code, answer.json()

    async def read(headers: dict[str, str], **given: str) -> tuple[int, Any]:
        answer = await http.get("/read", params={"artifact_id": f"{ws}/a", **given}, headers=headers)
        return answer.status_code, answer.json()

    status, made = await create(me, artifact_id=f"{ws}/a")
    assert (status, made["id"]) == (200, f"{ws}/a")
    assert (await create(me, workspace=ws, alias="draft", stage="true"))[1]["staging"] == [{"_intent": "new_version"}]
    for headers in (stranger, {}):
        for given in ({"workspace": ws}, {"artifact_id": f"{ws}/a", "overwrite": True}, {"alias": "a"}):
            status, refused = await create(headers, **given)
            assert status == 403
            assert refused["detail"].startswith("RemoteException: PermissionError: User does not have permission to ")
    assert (await read(me, version="0", silent="true", stage="false"))[1] == made
    expected = [
        (await create(me, artifact_id=f"{ws}/a"), 409, "FileExistsError: Artifact with alias 'a' already exists"),
        (await create(me, artifact_id=f"{ws}/x", config={"storage": "git"}), 501, "NotImplementedError: Git storage"),
        (await create(me, artifact_id=f"{ws}/x", alias="a"), 400, "ValueError: Cannot specify both"),
        (await create(me, artifact_id=f"{ws}/x", odd=1), 400, "TypeError: got an unexpected keyword argument 'odd'"),
        (await create(me, artifact_id=f"{ws}/x", manifest=["A"]), 400, "TypeError: Argument 'manifest' must be"),
        (await read(me, version="v7"), 400, "ValueError: Artifact version 'v7' does not exist"),
        (await read(me, stage="maybe"), 400, "ValueError: stage must be true or false"),
        (await read(me, artifact_id="a"), 404, "KeyError: \"Artifact with ID 'a' does not exist"),
        (await read(stranger), 403, "PermissionError: User does not have permission 'read' on the artifact."),
        (await read({}), 403, "PermissionError: User does not have permission 'read' on the artifact."),
    ]
    for (status, answer), wanted, text in expected:
        assert (status, answer["success"]) == (wanted, False)
        assert answer["detail"].startswith(f"RemoteException: {text}")
    assert cluster.errors() == []
