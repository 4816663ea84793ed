from __future__ import annotations

from hypha_common.db import Database

__all__ = ["Usage"]

MAX_LISTED = 1000  # of each kind, those with the most

_BY = {
    "connections_per_user": "SELECT user_id AS key, count(*) FROM clients WHERE gateway NOT LIKE 'role:%'",
    "connections_per_workspace": "SELECT workspace AS key, count(*) FROM clients WHERE gateway NOT LIKE 'role:%'",
    "services_per_client": "SELECT provider AS key, count(*) FROM services WHERE service_id <> 'built-in'",
}
_TOTALS = """
    SELECT (SELECT count(*) FROM clients WHERE gateway NOT LIKE 'role:%') AS clients,
           (SELECT count(*) FROM services WHERE service_id <> 'built-in') AS services,
           (SELECT count(*) FROM workspaces WHERE id IN (SELECT workspace FROM loaded_workspaces)) AS loaded_workspaces,
           (SELECT count(*) FROM queues WHERE length > 0) AS queues,
           (SELECT coalesce(sum(length), 0) FROM queues) AS queued_tasks
"""


class Usage:
    """What is used of the cluster, counted over all databases; for operators, not for every request."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self) -> dict[str, dict[str, int]]:
        """Return connections by user and by workspace, and services by client, the most first."""
        counted: dict[str, dict[str, int]] = {}
        for name, query in _BY.items():
            totals: dict[str, int] = {}
            for shard in self._database.all():
                for row in await shard.fetch(f"{query} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {MAX_LISTED}"):
                    totals[row["key"]] = totals.get(row["key"], 0) + row["count"]
            most = sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:MAX_LISTED]
            counted[name] = dict(most)
        return counted

    async def totals(self) -> dict[str, int]:
        """Return how many clients, services, loaded workspaces, queues and queued tasks there are."""
        totals: dict[str, int] = {}
        for shard in self._database.all():
            for name, count in dict(await shard.fetchrow(_TOTALS) or {}).items():
                totals[name] = totals.get(name, 0) + int(count)
        return totals
