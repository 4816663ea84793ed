from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import msgpack

from hypha_common.db import Database, Shard
from hypha_common.errors import BadRequest, QuotaExceeded
from hypha_common.ids import ServiceId
from hypha_common.wire import pack, unpack
from hypha_workspace.manager.service_info import Registration, ServiceInfo
from hypha_workspace.manager.service_query import ServiceQuery

from .applications import Instances
from .conditions import Conditions, is_glob, visible

__all__ = ["MAX_LISTED", "Order", "Registered", "ServiceInfo", "ServiceRow", "Services"]

MAX_LISTED = 10_000  # services in one answer

Order = Literal["first", "last", "random"]
_ORDER = {"first": "s.seq", "last": "s.seq DESC", "random": "random()"}

# One round trip, fenced by the row of the connection: SHARE makes whoever ends or supersedes it wait for this.
_REGISTER = """
WITH owner AS MATERIALIZED (
    SELECT FROM clients WHERE workspace = $1 AND client_id = $2 AND generation = $4 FOR SHARE
), checks AS MATERIALIZED (
    SELECT
        EXISTS (SELECT FROM owner) AS connected,
        $3 <> 'built-in' AND EXISTS (
            SELECT FROM services WHERE name = $1 || '/' || $3 AND singleton AND client_id <> $2
        ) AS taken,
        $8 AND EXISTS (SELECT FROM services WHERE name = $1 || '/' || $3 AND client_id <> $2) AS shared,
        (SELECT count(*) FROM services
         WHERE provider = $1 || '/' || $2 AND service_id NOT IN ('built-in', $3)) AS others,
        (SELECT info FROM services WHERE provider = $1 || '/' || $2 AND service_id = $3) AS replaced
), stored AS (
    INSERT INTO services AS s
        (workspace, client_id, service_id, generation, app_id, type, visibility, singleton, authorized_workspaces, info)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9::text[], $10 FROM checks
    WHERE connected AND NOT taken AND NOT shared AND ($3 = 'built-in' OR others < $11)
    ON CONFLICT (provider, service_id) DO UPDATE
        SET generation = excluded.generation, app_id = excluded.app_id, type = excluded.type,
            visibility = excluded.visibility, singleton = excluded.singleton,
            authorized_workspaces = excluded.authorized_workspaces, info = excluded.info
        WHERE s.generation <= excluded.generation
    RETURNING seq
)
SELECT c.*, s.seq IS NOT NULL AS stored FROM checks c LEFT JOIN stored s ON true
"""
_UNREGISTER = """
    DELETE FROM services
    WHERE provider = $1 || '/' || $2 AND service_id = $3 AND ($4::bigint IS NULL OR generation <= $4)
    RETURNING info
"""
_ANNOUNCE_CLIENT = """
    INSERT INTO clients AS c (workspace, client_id, generation, gateway, user_id, identity)
    VALUES ($1, $2, 0, $3, $4, $5)
    ON CONFLICT (workspace, client_id) DO UPDATE SET gateway = excluded.gateway, identity = excluded.identity
        WHERE (c.gateway, c.identity) IS DISTINCT FROM (excluded.gateway, excluded.identity)
"""
_ANNOUNCE_SERVICE = """
    INSERT INTO services AS s
        (workspace, client_id, service_id, generation, app_id, type, visibility, info)
    VALUES ($1, $2, $3, 0, $4, $5, $6, $7)
    ON CONFLICT (provider, service_id) DO UPDATE
        SET app_id = excluded.app_id, type = excluded.type, visibility = excluded.visibility, info = excluded.info
        WHERE s.info IS DISTINCT FROM excluded.info
"""


@dataclass(frozen=True, slots=True)
class Registered:
    """What a registration did; ``replaced`` is the ServiceInfo it took the place of."""

    replaced: ServiceInfo | None


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A registered service and the gateway that its provider is connected to."""

    id: ServiceId
    gateway: str
    info: ServiceInfo


class Services:
    """Registered services: SQL, without permission checks but the visibility filter of queries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def register(self, registration: Registration, *, generation: int, quota: int) -> Registered | None:
        """
        Store a service for the connection ``generation`` of its client, in place of an older one of the same id.

        Returns None where that connection is gone. Raises QuotaExceeded, BadRequest (singletons, contract 01 §3.6).

        """
        id, info, config = registration.id, registration.info, registration.info["config"]
        try:
            row = await self._database.for_workspace(id.workspace).fetchrow(
                _REGISTER, id.workspace, id.client, id.service, generation, id.app, info["type"],
                config["visibility"], registration.singleton, config["authorized_workspaces"] or [], pack(info), quota,
            )  # fmt: skip
        except asyncpg.UniqueViolationError:  # another client took the singleton in the same instant
            raise BadRequest(_singleton_text(id, "has already exists")) from None
        if row is None or not row["connected"]:
            return None
        if row["taken"]:
            raise BadRequest(_singleton_text(id, "has already exists"))
        if row["shared"]:
            raise BadRequest(_singleton_text(id, "already exists"))
        if not row["stored"]:
            raise QuotaExceeded(
                f"Service quota exceeded: client {id.workspace}/{id.client} has {row['others']}/{quota} services"
            )
        return Registered(None if row["replaced"] is None else unpack(row["replaced"]))

    async def unregister(
        self, workspace: str, client_id: str, service: str, *, generation: int | None
    ) -> ServiceInfo | None:
        """Remove a service and return its info. ``generation`` fences a client's own removal; None removes any."""
        info = await self._database.for_workspace(workspace).fetchval(
            _UNREGISTER, workspace, client_id, service, generation
        )
        return None if info is None else unpack(info)

    async def find(
        self,
        service: ServiceId,
        *,
        order: Order = "first",
        limit: int = 1000,
        own_workspace: str | None = None,
        startup_client: str = "",
        among: Instances | None = None,
    ) -> list[ServiceRow]:
        """
        Return services that match; ``*`` and ``?`` in client and service are globs (contract 01 §3.7).

        ``startup_client``: where it has one, only its own is returned; else those of roles go before all others.
        ``own_workspace``: only what a caller from there sees who holds no permission on the service's workspace.
        ``among``: only what stands for the service in an application, whatever its name.

        """
        where = Conditions()
        _locate(where, service.workspace, service.client, service.service if among is None else among.names)
        if service.app != "*":
            where.equal("s.app_id", "*" if among is not None and among.without_app else service.app)
        if among is not None:
            where.glob("s.type", among.type)
            for name in among.but:
                where.unlike("s.service_id", name)
        if own_workspace is not None:
            visible(where, own_workspace, unlisted=True)
        rank = "0"
        if startup_client:
            startup = where.add(startup_client)
            rank = f"CASE WHEN s.client_id = {startup} THEN 0 WHEN c.gateway LIKE 'role:%' THEN 1 ELSE 2 END"
        rows = await self._database.for_workspace(service.workspace).fetch(
            f"""
            SELECT s.client_id, s.service_id, s.app_id, c.gateway, s.info, {rank} AS rank
            FROM services s JOIN clients c
                ON c.workspace = s.workspace AND c.client_id = s.client_id AND c.generation >= s.generation
            WHERE {where} ORDER BY rank, {_ORDER[order]} LIMIT {limit:d}
            """,  # noqa: S608 the conditions hold only parameters
            *where.values,
        )
        return [
            ServiceRow(
                ServiceId(service.workspace, row["client_id"], row["service_id"], row["app_id"]),
                row["gateway"],
                unpack(row["info"]),
            )
            for row in rows
            if row["rank"] == rows[0]["rank"]
        ]

    async def select(self, query: ServiceQuery, *, own_workspace: str, readable: bool) -> list[ServiceInfo]:
        """
        Return what ``query`` selects and the caller may see (contract 01 §3.11), in order of registration.

        ``readable``: the caller holds ``r`` on the queried workspace; for a query over all, on his own. Raises
        QuotaExceeded beyond ``MAX_LISTED``.

        """
        if not query.all_workspaces:
            where = _selects(query)
            _locate(where, query.workspace, query.client_id, query.service_id)
            if not readable:
                visible(where, own_workspace, unlisted=False)
            found = await self._listed(self._database.for_workspace(query.workspace), where)
            return found if readable else [_without_authorized(info) for info in found]
        found = []
        for shard in self._database.all():
            where = _selects(query)
            where.glob("s.client_id", query.client_id)
            where.glob("s.service_id", query.service_id)
            own = where.add(own_workspace) if readable else "NULL"
            # Of other workspaces the built-in services stay out: they would be a list of everybody's clients.
            where.text(f"(s.workspace = {own} OR (s.visibility = 'public' AND s.service_id <> 'built-in'))")
            found += await self._listed(shard, where)
        return found

    async def select_packed(self, query: ServiceQuery, *, own_workspace: str, readable: bool) -> bytes:
        """Return what :meth:`select` returns as msgpack; stored infos are passed on without being decoded."""
        if query.all_workspaces or not readable:
            return pack(await self.select(query, own_workspace=own_workspace, readable=readable))
        where = _selects(query)
        _locate(where, query.workspace, query.client_id, query.service_id)
        infos = await self._stored(self._database.for_workspace(query.workspace), where)
        return b"".join((_array_head(len(infos)), *infos))

    async def of_client(self, workspace: str, client_id: str) -> list[ServiceInfo]:
        """Return the services that a client registered, oldest first."""
        where = Conditions()
        _locate(where, workspace, client_id, "*")
        return await self._listed(self._database.for_workspace(workspace), where)

    async def announce(
        self, workspace: str, client_id: str, gateway: str, user: Mapping[str, Any], infos: list[ServiceInfo]
    ) -> None:
        """Keep the services of a client that stands for a role; all its replicas share generation 0."""
        async with self._database.for_workspace(workspace).transaction() as connection:
            await connection.execute(_ANNOUNCE_CLIENT, workspace, client_id, gateway, user["id"], pack(user))
            for info in sorted(infos, key=lambda info: str(info["id"])):
                service = ServiceId.parse(info["id"], default_workspace=workspace).service
                await connection.execute(
                    _ANNOUNCE_SERVICE, workspace, client_id, service, info["app_id"], info["type"],
                    info["config"]["visibility"], pack(info),
                )  # fmt: skip

    async def _listed(self, shard: Shard, where: Conditions) -> list[ServiceInfo]:
        return [unpack(info) for info in await self._stored(shard, where)]

    async def _stored(self, shard: Shard, where: Conditions) -> list[bytes]:
        query = f"SELECT s.info, s.workspace FROM services s WHERE {where} ORDER BY s.seq LIMIT {MAX_LISTED + 1}"  # noqa: S608
        rows = await self._database.gather([shard], query, *where.values)
        if len(rows) > MAX_LISTED:
            raise QuotaExceeded(f"More than {MAX_LISTED} services match; ask for fewer")
        return [row[0] for row in rows]


def _array_head(size: int) -> bytes:
    packer = msgpack.Packer(autoreset=True)
    head: bytes = packer.pack_array_header(size)
    return head


def _locate(where: Conditions, workspace: str, client: str, service: str) -> None:
    """Ask for services of a workspace by the one column that narrows it down most."""
    if not is_glob(client):
        where.equal("s.provider", f"{workspace}/{client}")
        where.glob("s.service_id", service)
    elif not is_glob(service):
        where.equal("s.name", f"{workspace}/{service}")
        where.glob("s.client_id", client)
    else:
        where.equal("s.workspace", workspace)
        where.glob("s.client_id", client)
        where.glob("s.service_id", service)


def _selects(query: ServiceQuery) -> Conditions:
    where = Conditions()
    where.glob("s.type", query.type)
    if query.app_id != "*":
        where.glob("s.app_id", query.app_id)
    where.glob("s.visibility", query.visibility)
    if not query.include_unlisted:
        where.text("s.visibility <> 'unlisted'")
    return where


def _without_authorized(info: ServiceInfo) -> ServiceInfo:
    info["config"]["authorized_workspaces"] = None
    return info


def _singleton_text(id: ServiceId, exists: str) -> str:
    return (
        f"A singleton service with the same name ({id.service}) {exists} in the workspace ({id.workspace}), "
        "please remove it first or use a different name."
    )
