"""Sessions of apps as rows, for tests of what looks at rows only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from hypha_common.db import Shard
from hypha_common.principal import Principal
from hypha_common.wire import pack

__all__ = ["WORKSPACE", "add_session", "value_of"]

WORKSPACE = "ws-user-kept"

_numbers = count(1)


async def add_session(shard: Shard, *, ago_s: float = 0, told_ago_s: float | None = None, **columns: Any) -> str:
    """
    Store a session and return its client id; it was last active ``ago_s`` ago.

    ``told_ago_s`` is when a gateway last told of it; None: never.

    """
    now = datetime.now(UTC)
    row: dict[str, Any] = {
        "workspace": WORKSPACE,
        "client_id": f"_rapp_{next(_numbers)}__rlb",
        "app_id": "app",
        "status": "running",
        "owner": "nobody",
        "starter": pack(Principal(id="somebody").dump()),
        "deadline": now,
        "record": pack({}),
        "last_active": now - timedelta(seconds=ago_s),
        "reported_at": None if told_ago_s is None else now - timedelta(seconds=told_ago_s),
        **columns,
    }
    places = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    await shard.execute(f"INSERT INTO app_sessions ({', '.join(row)}) VALUES ({places})", *row.values())
    return str(row["client_id"])


async def value_of(shard: Shard, client_id: str, column: str) -> Any:
    return await shard.fetchval(f"SELECT {column} FROM app_sessions WHERE client_id = $1", client_id)
