"""
The tables that hold rows of workspaces, by service: all of them go along when a partition is moved.

In the order in which rows can be inserted; they are removed in the opposite one. A service may not import another one,
so its tables are named here; tests hold this list against the migrations of all services.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["STAYING", "TABLES", "Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """
    A table, and how its rows tell which workspace or partition they belong to.

    In SQL ``$1`` is the workspaces of the partition, ``$2`` the partition.

    """

    name: str
    service: str
    condition: str
    workspaces: str = ""  # the workspaces that it has rows of; empty: another table tells, too
    partition: str = ""  # expression for the partition of a row, where it has no workspace
    numbered: str = ""  # column that the other database numbers anew, in the same order
    workspace: str = "workspace"  # expression for the workspace of a row
    counted: str = "true"  # which rows are of workspaces at all


def _by_workspace(name: str, service: str, *, column: str = "workspace", numbered: str = "") -> Table:
    return Table(
        name, service, f"{column} = ANY($1::text[])", _loose_scan(name, column), numbered=numbered, workspace=column
    )


def _by_key(name: str) -> Table:
    """``<workspace>/…``"""
    workspace = "split_part(key, '/', 1)"
    names = f"SELECT DISTINCT {workspace} FROM {name}"  # noqa: S608 constants of ours
    return Table(name, "artifacts", f"{workspace} = ANY($1::text[])", names, workspace=workspace)


def _by_uuid(name: str, column: str) -> Table:
    """Ids of artifacts and objects end with their partition."""
    partition = f"get_byte(uuid_send({column}), 15) & 63"
    return Table(name, "artifacts", f"{partition} = $2", partition=partition)


def _of_artifact(name: str) -> Table:
    of_these = "artifact_id IN (SELECT id FROM artifacts WHERE workspace = ANY($1::text[]))"
    return Table(name, "artifacts", of_these, partition="get_byte(uuid_send(artifact_id), 15) & 63")


def _loose_scan(table: str, column: str) -> str:
    """One look into the index for each workspace, however many rows it has."""
    return f"""
        WITH RECURSIVE found AS (
            (SELECT {column} AS workspace FROM {table} ORDER BY {column} LIMIT 1)
            UNION ALL
            SELECT (SELECT {column} FROM {table} WHERE {column} > f.workspace ORDER BY {column} LIMIT 1)
            FROM found f WHERE f.workspace IS NOT NULL
        )
        SELECT workspace FROM found WHERE workspace IS NOT NULL
    """  # noqa: S608 constants of ours


_TURN = "split_part(substr(name, 9), '/', 1)"  # `install <workspace>/<app>`
_DEAD = (
    "get_byte(decode(right(split_part(key, '/', 4), 2), 'hex'), 0) & 63"  # `artifacts/<workspace>/<alias>/<object>/…`
)

TABLES = (
    _by_workspace("workspaces", "workspace", column="id"),
    _by_workspace("environment", "workspace"),
    _by_workspace("bookmarks", "workspace"),
    _by_workspace("service_types", "workspace"),
    _by_workspace("event_log", "workspace", numbered="id"),
    _by_workspace("queues", "workspace"),
    _by_workspace("queue_tasks", "workspace"),
    _by_workspace("loaded_workspaces", "workspace"),
    _by_workspace("clients", "workspace"),
    _by_workspace("services", "workspace", numbered="seq"),
    _by_workspace("artifacts", "artifacts"),
    _of_artifact("artifact_versions"),
    _by_uuid("blobs", "id"),
    _of_artifact("artifact_files"),
    _of_artifact("artifact_staged_files"),
    _of_artifact("artifact_uploads"),
    _by_uuid("loose_blobs", "blob_id"),
    Table(
        "dead_objects", "artifacts", f"key LIKE 'artifacts/%' AND {_DEAD} = $2", partition=_DEAD,
        counted="key LIKE 'artifacts/%'",
    ),
    _by_workspace("missed_workspaces", "artifacts"),
    _by_workspace("s3_credentials", "artifacts"),
    _by_key("workspace_objects"),
    _by_key("expiring_files"),
    _by_workspace("workspace_uploads", "artifacts"),
    _by_workspace("ended_workspaces", "artifacts"),
    _by_workspace("app_sessions", "apps"),
    _by_workspace("disabled_workers", "apps"),
    _by_workspace("app_daemons", "apps"),
    _by_workspace("app_autoscaling", "apps"),
    Table(
        "app_leases", "apps", f"name LIKE 'install %' AND {_TURN} = ANY($1::text[])",
        f"SELECT DISTINCT {_TURN} FROM app_leases WHERE name LIKE 'install %'",  # noqa: S608 constants of ours
        workspace=_TURN, counted="name LIKE 'install %'",
    ),
)  # fmt: skip

# What is of a whole database, or of the cluster, and stays where it is; with why.
STAYING = {
    "gateways": "leases, one in each database; those of moved clients are made in the other one",
    "app_replicas": "leases of replicas, one in each database",
    "artifact_leases": "turns at the work on one database",
    "partition_places": "where partitions are, in the home database",
    "partition_fences": "what of this database is closed",
    **dict.fromkeys(
        (
            "revoked_tokens", "login_sessions", "blocks", "signing_keys", "audit_events", "custom_auth", "accounts",
            "throttles", "identities", "oidc_states",
        ),
        "directory of the cluster, in the home database",
    ),
}  # fmt: skip
