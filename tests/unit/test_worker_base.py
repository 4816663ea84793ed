from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import msgpack
import pytest

from hypha.workers.base import (
    BaseWorker,
    SessionInfo,
    SessionNotFoundError,
    SessionStatus,
    WorkerConfig,
    WorkerError,
    WorkerNotAvailableError,
)

CONFIG = {
    "id": "ws-a/_rapp_one__rlb",
    "app_id": "job",
    "workspace": "ws-a",
    "client_id": "_rapp_one__rlb",
    "server_url": "http://hypha",
    "token": "secret",
    "manifest": {"name": "Job", "type": "task", "entry_point": "main.py"},
    "priority": 7,
}
SESSION = "ws-a/_rapp_one__rlb"


class HookWorker(BaseWorker):
    """Runs tasks."""

    def __init__(self, server: Any = None) -> None:
        super().__init__(server)
        self.events: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False

    @property
    def supported_types(self) -> list[str]:
        return ["task"]

    @property
    def worker_name(self) -> str:
        return "Hook Worker"

    async def _initialize_worker(self) -> None:
        self.events.append("initialize")

    async def _start_session(self, config: WorkerConfig) -> dict[str, Any]:
        self.events.append(f"start {config.app_id}")
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("no room")
        return {"logs": [f"{config.app_id} runs"]}

    async def _stop_session(self, session_id: str) -> None:
        self.events.append(f"stop {session_id}")
        if self.fails:
            raise RuntimeError("it is stuck")

    async def _get_session_logs(
        self, session_id: str, log_type: str | None = None, offset: int = 0, limit: int | None = None
    ) -> Any:
        logs = self._session_data.get(session_id, {}).get("logs", [])
        return logs if log_type else {"log": logs[offset:]}


class PlainWorker(BaseWorker):
    def __init__(self, visibility: str = "protected") -> None:
        super().__init__()
        self._visibility = visibility
        self.calls: list[Any] = []

    @property
    def supported_types(self) -> list[str]:
        return ["plain"]

    @property
    def name(self) -> str:
        return "Plain"

    @property
    def description(self) -> str:
        return "Runs nothing"

    @property
    def visibility(self) -> str:
        return self._visibility

    async def start(self, config: Any, context: Any = None) -> str:
        self.calls.append((config, context))
        return str(config["id"])

    async def stop(self, session_id: str, context: Any = None) -> None: ...

    async def get_logs(self, session_id: str, *args: Any, **kwargs: Any) -> Any:
        return {"items": [], "total": 0, "offset": 0, "limit": None}


class Connection:
    """Takes down what is registered."""

    def __init__(self) -> None:
        self.services: list[dict[str, Any]] = []

    async def register_service(self, service: dict[str, Any]) -> dict[str, Any]:
        self.services.append(service)
        return {"id": f"ws-a/me:{service['id']}"}


async def test_a_session_is_kept_from_its_start_to_its_stop() -> None:
    worker = HookWorker()
    session = await worker.start(CONFIG)
    assert session["status"] == "running" == session.status
    assert (session.session_id, session.app_type, session.entry_point) == (SESSION, "task", "main.py")
    assert worker._session_data[SESSION] == {"logs": ["job runs"]}
    assert await worker.get_logs(SESSION) == {"log": ["job runs"]}
    assert await worker.get_logs(SESSION, log_type="log") == await worker.get_logs(SESSION, "log") == ["job runs"]
    assert await worker.list_sessions("ws-a") == [session]
    assert await worker.list_sessions("ws-b") == []
    with pytest.raises(WorkerError, match="already exists"):
        await worker.start(CONFIG)
    await worker.stop(SESSION)
    assert worker._sessions == worker._session_data == {}
    with pytest.raises(SessionNotFoundError):
        await worker.get_logs(SESSION)
    await worker.stop(SESSION)  # a second time: no error
    assert worker.events == ["initialize", "start job", f"stop {SESSION}"]


async def test_a_failed_start_can_be_asked_about_and_tried_again() -> None:
    worker = HookWorker()
    worker.fails = True
    with pytest.raises(RuntimeError, match="no room"):
        await worker.start(CONFIG)
    info = await worker.get_session_info(SESSION)
    assert (info.status, info.error) == (SessionStatus.FAILED, "no room")
    worker.fails = False
    assert (await worker.start(CONFIG)).status is SessionStatus.RUNNING


async def test_a_stop_that_fails_is_an_error_and_forgets_the_session() -> None:
    worker = HookWorker()
    await worker.start(CONFIG)
    worker.fails = True
    with pytest.raises(RuntimeError, match="it is stuck"):
        await worker.stop(SESSION)
    assert worker._sessions == worker._session_data == {}


async def test_what_is_stopped_while_it_starts_does_not_run_on() -> None:
    worker = HookWorker()
    worker.gate.clear()
    starting = asyncio.create_task(worker.start(CONFIG))
    while "start job" not in worker.events:
        await asyncio.sleep(0)
    await worker.stop(SESSION)
    worker.gate.set()
    with pytest.raises(WorkerError, match="stopped while it started"):
        await starting
    assert worker.events[-2:] == [f"stop {SESSION}"] * 2
    assert worker._sessions == worker._session_data == {}


async def test_shutdown_stops_every_session() -> None:
    worker = HookWorker()
    await worker.start(CONFIG)
    await worker.start({**CONFIG, "client_id": "_rapp_two__rlb"})
    await worker.shutdown()
    assert worker._sessions == {}
    assert not worker.initialized


async def test_closing_a_workspace_leaves_others_alone() -> None:
    worker = HookWorker()
    await worker.start(CONFIG)
    await worker.start({**CONFIG, "workspace": "ws-b"})
    await worker.close_workspace("ws-a")
    assert [session.workspace for session in worker._sessions.values()] == ["ws-b"]


async def test_initializing_registers_once() -> None:
    server = Connection()
    worker = HookWorker(server)
    await asyncio.gather(worker.initialize(), worker.initialize())
    await worker.start(CONFIG)
    assert worker.events == ["initialize", "start job"]
    (service,) = server.services
    assert service["type"] == "server-app-worker"
    assert (service["name"], service["description"]) == ("Hook Worker", "Runs tasks.")
    assert service["supported_types"] == ["task"]
    assert service["config"] == {
        "visibility": "protected", "run_in_executor": False, "require_context": False, "supported_types": ["task"],
    }  # fmt: skip
    assert service["id"].startswith("hook-worker-")
    assert {name for name, value in service.items() if callable(value)} >= {"start", "stop", "get_logs", "shutdown"}


async def test_a_worker_that_does_everything_itself() -> None:
    worker, server = PlainWorker(), Connection()
    await worker.register_worker_service(server)
    (service,) = server.services
    assert (service["name"], service["description"]) == ("Plain", "Runs nothing")
    assert await service["start"](CONFIG) == SESSION
    assert worker.calls == [(CONFIG, None)]
    assert await service["compile"]({"name": "a"}, []) == ({"name": "a"}, [])
    with pytest.raises(NotImplementedError):
        await service["execute"](SESSION, "1 + 1")


async def test_a_public_worker_serves_the_server_alone() -> None:
    service = PlainWorker("public").get_worker_service()
    assert service["config"]["require_context"] is True
    server = {"from": "public/client-role-3f2a"}
    assert await service["start"](CONFIG, context=server) == SESSION
    for caller in ("ws-b/anybody", "public/client-http-1", "client-role-x/anybody"):
        with pytest.raises(PermissionError):
            await service["get_logs"](SESSION, context={"from": caller})


def test_configurations_of_all_generations() -> None:
    config = WorkerConfig(**CONFIG)
    assert config.public_base_url == config["local_base_url"] == "http://hypha"
    assert (config.artifact_id, config.app_type, config.entry_point) == ("ws-a/job", "task", "main.py")
    assert config.app_files_base_url == "http://hypha/ws-a/artifacts/job/files"
    assert (config.priority, config.get("nothing")) == (7, None)
    assert WorkerConfig(**config) == config == WorkerConfig.of(config)
    assert config.model_dump()["token"] == "secret"
    old = WorkerConfig(
        client_id="c", app_id="a", server_url="http://l", public_base_url="http://p", local_base_url="http://l",
        workspace="w", metadata={"type": "old"},
    )  # fmt: skip
    assert (old.id, old.public_base_url, old.manifest, old.app_type) == ("w/c", "http://p", {"type": "old"}, "old")
    with pytest.raises(AttributeError, match="nothing"):
        _ = config.nothing
    with pytest.raises(WorkerError, match="client_id"):
        WorkerConfig(workspace="w", app_id="a", server_url="u")


def test_sessions_go_over_the_wire_as_plain_maps() -> None:
    session = SessionInfo("w/c", "a", "w", "c", "running", "t", "2026-01-01T00:00:00")
    sent = msgpack.unpackb(msgpack.packb(session))
    assert sent["status"] == "running"
    assert SessionInfo(**sent) == session
    assert {str(status) for status in SessionStatus} == {
        "starting", "running", "completed", "failed", "stopping", "stopped",
    }  # fmt: skip


def test_errors_are_of_one_family() -> None:
    assert issubclass(SessionNotFoundError, WorkerError)
    assert issubclass(WorkerNotAvailableError, WorkerError)


async def test_progress_never_disturbs_a_start() -> None:
    heard: list[dict[str, str]] = []

    async def broken(message: dict[str, str]) -> None:
        raise RuntimeError("the listener is gone")

    await BaseWorker.tell_progress({}, "info", "nobody listens")
    await BaseWorker.tell_progress({"progress_callback": broken}, "info", "a")
    await BaseWorker.tell_progress({"progress_callback": heard.append}, "success", "b")
    assert heard == [{"type": "success", "message": "b"}]


def test_it_needs_nothing_of_the_server() -> None:
    heavy = "nats asyncpg sqlalchemy starlette pydantic hypha_rpc structlog playwright"
    code = f"import sys, hypha.workers.base; print(*(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
