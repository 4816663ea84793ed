from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hypha_common.errors import HyphaError
from hypha_common.ids import Address
from hypha_common.principal import Principal
from hypha_common.wire import unpack

from .errors import failure_from_wire

__all__ = ["LIVE", "Session", "Status"]


class Status(StrEnum):
    """Where a session is in its life (contract 03 §2.5)."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


LIVE = (Status.STARTING, Status.RUNNING)


@dataclass(frozen=True, slots=True)
class Session:
    """One instance of an app: a row of ``app_sessions``."""

    workspace: str
    client_id: str
    app_id: str
    stage: bool
    variant: str  # its version; "": there is only one instance of the app, of whatever version
    status: Status
    exclusive: bool
    epoch: int  # whoever changes it names the epoch that they believe in
    owner: str
    starter: Principal
    token_id: str
    worker_id: str
    worker: Address | None  # who runs it; None: no worker has been asked yet
    wait_for: str | None  # the service that makes it running; "": its client; None: nothing
    deadline: datetime  # of its start, later of its end: then others may take it over
    record: dict[str, Any]  # contract 03 §1.6
    daemon: bool
    worker_managed: bool
    autoscaled: bool
    stop_after_inactive: float
    last_active: datetime
    load: float
    reason: str
    failure: HyphaError | None  # what whoever waits for its start is told
    started_at: datetime

    @property
    def id(self) -> str:
        """The session id that clients and workers know: ``workspace/client``."""
        return f"{self.workspace}/{self.client_id}"

    def shown(self) -> dict[str, Any]:
        """Return the session record that clients are given."""
        return {**self.record, "status": str(self.status), **({"reason": self.reason} if self.reason else {})}

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Session:
        """Return the session of a database row."""
        failure = row["failure"]
        return cls(
            workspace=row["workspace"], client_id=row["client_id"], app_id=row["app_id"], stage=row["stage"],
            variant=row["variant"], status=Status(row["status"]), exclusive=row["exclusive"], epoch=row["epoch"],
            owner=row["owner"], starter=Principal.load(unpack(row["starter"])), token_id=row["token_id"],
            worker_id=row["worker_id"], worker=Address.parse(row["worker"]) if row["worker"] else None,
            wait_for=row["wait_for"], deadline=row["deadline"], record=unpack(row["record"]), daemon=row["daemon"],
            worker_managed=row["worker_managed"], autoscaled=row["autoscaled"],
            stop_after_inactive=row["stop_after_inactive"], last_active=row["last_active"], load=row["load"],
            reason=row["reason"], failure=None if failure is None else failure_from_wire(unpack(failure)),
            started_at=row["started_at"],
        )  # fmt: skip
