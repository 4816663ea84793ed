from __future__ import annotations

import json
from typing import Any

import pytest

from hypha_artifacts.main import ArtifactsService
from hypha_artifacts.reference import new_uuid
from hypha_common.ids import new_id
from hypha_common.principal import Principal
from tests.manager.rig import Client, user

__all__ = ["MANIFEST", "found", "home", "publish", "register", "someone"]

MANIFEST = {
    "name": "App",
    "service_selection_mode": "first",
    "services": [
        {"id": "worker", "type": "compute"},
        {"id": "worker-gpu", "type": "compute"},
        {"id": "store", "type": "storage"},
    ],
}


@pytest.fixture
def someone() -> Principal:
    """Applications and services of one test are no other's."""
    return user(f"u{new_id(8).lower()}")


def home(principal: Principal) -> str:
    return f"ws-user-{principal.id}"


async def publish(
    services: ArtifactsService, workspace: str, alias: str, manifest: dict[str, Any], *, committed: bool = True
) -> None:
    """Put an artifact into the database, with or without a version."""
    identifier, text = new_uuid(workspace), json.dumps(manifest)
    shard = services.core.database.for_workspace(workspace)
    await shard.execute(
        """INSERT INTO artifacts (id, workspace, alias, type, manifest, config, created_at, last_modified, created_by)
           VALUES ($1, $2, $3, 'application', $4, '{}', 0, 0, 'x')""",
        identifier, workspace, alias, text,
    )  # fmt: skip
    if committed:
        await shard.execute(
            """INSERT INTO artifact_versions (artifact_id, seq, name, created_at, manifest, config)
               VALUES ($1, 0, 'v0', 0, $2, '{}')""",
            identifier, text,
        )  # fmt: skip


async def register(client: Client, name: str, app: str = "my-app", **extra: Any) -> str:
    """Register a service that answers who it is; returns its id."""
    info = await client.rpc.register_service(
        {"id": name, "app_id": app, "who": lambda: name, "config": {"visibility": "public"}, **extra},
        {"overwrite": True},
    )
    return str(info["id"])


async def found(client: Client, query: str, mode: str | None = None) -> str:
    """Return which service a lookup finds, as it says itself."""
    service = await client.manager.get_service(query, {"mode": mode} if mode else {})
    return str(await service["who"]())
