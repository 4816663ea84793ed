from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import structlog

from hypha_common.bus_permissions import OPERATOR
from hypha_common.errors import ConfigurationError
from hypha_common.listening import bind
from hypha_common.settings import OPTIONS, Settings

from . import schema
from .browser_workers import browser_workers, count_browser_workers
from .child import Child, Program
from .data_directory import DataDirectory
from .nats_server import NatsServer
from .ports import LOOPBACK, check_free, free_port, free_run, local_host
from .postgres import PostgresServer
from .probe import is_ready
from .storage_plan import StorageKind, plan_storage
from .stores import make_store

if TYPE_CHECKING:
    from .object_store import ObjectStore

__all__ = ["Cluster"]

log = structlog.get_logger()

_START_TIMEOUT_S = 60.0
_POLL_S = 0.02
_STOP_SLACK_S = 10.0
_SPARE_CONNECTIONS = 20
_STOP_ORDER = (
    ("startup",),
    ("browser-worker",),
    ("apps",),
    ("gateway",),
    ("artifacts",),
    ("auth", "workspace"),
    ("nats", "postgres", "s3"),
)
_LOG_TAIL_BYTES = 2000
# No password of a store: startup functions are not our code.
_FOR_STARTUP = frozenset(
    OPTIONS[name].environment[0]
    for name in (
        "auth0_audience",
        "auth0_issuer",
        "auth0_namespace",
        "gateway_url",
        "jwt_secret",
        "log_format",
        "log_level",
        "metrics_host",
        "metrics_port",
        "public_base_url",
        "server_id",
    )
)


class Cluster:
    """
    A whole cluster on this machine: NATS, PostgreSQL and the services, as supervised processes.

    What ``nats_url``, ``database_url`` or ``endpoint_url`` names is used instead of an embedded server. ``gateways=0``
    starts none: then the caller serves the gateway from :attr:`settings`.

    """

    def __init__(self, settings: Settings, *, gateways: int) -> None:
        self._data = DataDirectory(settings.data_dir)
        self._gateways = gateways
        self._children: list[Child] = []
        self._nats: NatsServer | None = None
        self._postgres: PostgresServer | None = None
        self._listeners: list[list[socket.socket]] = []
        self._private_port = 0  # of the gateway that only startup functions use
        self.object_store: ObjectStore | None = None  # one that is started with the rest
        self.settings = settings  # completed by start(), for a gateway: addresses, secrets

    @property
    def gateway_urls(self) -> list[str]:
        """The address of each gateway on this machine."""
        host = local_host(self.settings.host)
        return [f"http://{host}:{self.settings.port + index}{self._path}" for index in range(self._gateways)]

    @property
    def _path(self) -> str:
        return self.settings.base_path.rstrip("/")

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now, by name."""
        return {child.program.name: child.pid for child in self._children if child.pid is not None}

    async def start(self) -> None:
        """
        Start everything; returns when requests are answered.

        Raises ConfigurationError where that cannot be; then nothing is left running.

        """
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                self._take_addresses()
                await self._start_stores()
                self._data.tell(self._settings_of(OPERATOR))
                await self._start_services()
            # Without a limit: a startup function may download a model.
            await self._run_startup_functions()
        except TimeoutError:
            await self.stop()
            raise ConfigurationError(f"The cluster did not come up in {_START_TIMEOUT_S:g} s") from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything, in the order in which parts need each other."""
        for prefixes in _STOP_ORDER:
            children = [child for child in self._children if child.program.name.startswith(prefixes)]
            await asyncio.gather(*(child.stop() for child in children))
        self._children.clear()
        if self._postgres is not None:
            self._postgres.close()
        if self.object_store is not None:
            self.object_store.close()
        for listener in chain.from_iterable(self._listeners):
            listener.close()
        self._data.close()

    def _take_addresses(self) -> None:
        """Fail early and say why: a port or directory in use is the commonest reason not to start."""
        settings = self.settings
        if self._gateways:
            if settings.port == 0:
                settings = settings.replace(port=free_run(settings.host, self._gateways))
            else:
                check_free(settings.host, settings.port, self._gateways)
        plan = plan_storage(settings)
        if settings.enable_server_apps and plan.kind is StorageKind.NONE:
            raise ConfigurationError("Server apps need storage: enable_server_apps cannot go with disable_s3")
        secrets = self._data.open()
        if not settings.jwt_secret:
            settings = settings.replace(jwt_secret=secrets.jwt_secret)
        if not settings.nats_url:
            self._nats = NatsServer(self._data)
            settings = settings.replace(**self._nats.login("gateway"))
        self.object_store = make_store(plan, settings, self._data, secrets.s3_secret)
        if self.object_store is not None:
            # Clients get addresses of this server: the store may be for this machine only, and may not know browsers.
            proxied = settings.enable_s3_proxy or "enable_s3_proxy" not in settings.sources
            settings = settings.replace(enable_s3_proxy=proxied, **self.object_store.settings)
        elif plan.kind is StorageKind.NONE:
            settings = settings.replace(disable_s3=True)
        if not settings.database_url:
            services = settings.auth_replicas + settings.workspace_replicas + settings.artifacts_replicas
            services += settings.apps_replicas if settings.enable_server_apps else 0
            self._postgres = PostgresServer(
                self._data,
                secrets.postgres_password,
                user=settings.postgres_user,
                connections=services * settings.database_pool_size + _SPARE_CONNECTIONS,
            )
            settings = settings.replace(database_url=self._postgres.url)
        # The same address at every gateway, whatever its port.
        self.settings = settings.replace(public_base_url=settings.public_base_url)

    async def _start_stores(self) -> None:
        await _all(self._start_nats(), self._start_postgres(), self._start_object_store())

    async def _start_object_store(self) -> None:
        if self.object_store is not None:
            await asyncio.to_thread(self.object_store.prepare)
            await self._start_store(self.object_store.program(), self.object_store.ready)

    async def _start_nats(self) -> None:
        if self._nats is not None:
            await self._start_store(self._nats.program(), self._nats.ready)

    async def _start_postgres(self) -> None:
        if self._postgres is None:
            await schema.migrate(_environment(self.settings))
            return
        await asyncio.to_thread(self._postgres.prepare)
        await self._start_store(self._postgres.program(), self._postgres.ready)
        # Kept with the data that it tells about.
        mark, wanted = self._data.postgres / "hypha-schema", schema.fingerprint()
        if not mark.exists() or mark.read_text() != wanted:
            await schema.migrate(_environment(self.settings))
            mark.write_text(wanted)

    async def _start_store(self, program: Program, ready: Callable[[int | None], Awaitable[bool]]) -> None:
        child = Child(program)
        self._children.append(child)
        await child.start()
        await _until(lambda: ready(child.pid), [child])
        child.settled()

    async def _start_services(self) -> None:
        files = [] if self.settings.disable_s3 else self._service("artifacts", self.settings.artifacts_replicas)
        apps = self._service("apps", self.settings.apps_replicas) if self.settings.enable_server_apps else []
        await _all(self._start_all(files), self._start_all(apps), self._start_workspace_and_others())

    async def _start_workspace_and_others(self) -> None:
        # The workspace service first: auth registers services there, and would wait half a second for a second try.
        # So does the artifacts service, which takes longer to come up and so may begin at once.
        await self._start_all(self._service("workspace", self.settings.workspace_replicas))
        gateways = self._all_gateways()
        urls = [url for _, url in gateways] or self.gateway_urls
        # They wait for their gateway by themselves.
        await _all(
            self._start_all([*self._service("auth", self.settings.auth_replicas), *gateways]),
            self._start_all(browser_workers(self.settings, _without_ours(), urls)),
        )

    async def _run_startup_functions(self) -> None:
        """Start the process that runs them; returns when all have. Raises ConfigurationError where one fails."""
        if not self.settings.startup_functions:
            return
        url = self.gateway_urls[0] if self._gateways else f"http://{LOOPBACK}:{self._private_port}{self._path}"
        settings = self.settings.replace(gateway_url=url, metrics_host=LOOPBACK, metrics_port=free_port())
        # By the command line, because in the environment blanks separate them.
        functions = ["--startup-functions", *settings.startup_functions]
        command = [sys.executable, "-m", "hypha.startup", "serve", *functions]
        program = Program(name="startup-functions", command=command, environment=_startup_environment(settings))
        await self._start_all([(program, f"http://{LOOPBACK}:{settings.metrics_port}")])

    def _service(self, role: str, replicas: int) -> list[tuple[Program, str]]:
        """Return the replicas of a role with the addresses where each tells whether it is ready."""
        found = []
        for index in range(replicas):
            settings = self._settings_of(role).replace(
                metrics_host=LOOPBACK,
                metrics_port=free_port(),
                # The data is ours alone, so nobody else runs any.
                forget_custom_auth=self._postgres is not None and not self.settings.startup_functions,
            )
            command = [sys.executable, "-m", f"hypha_{role}", "serve"]
            program = Program(name=f"{role}-{index}", command=command, environment=_environment(settings))
            found.append((program, f"http://{LOOPBACK}:{settings.metrics_port}"))
        return found

    def _settings_of(self, role: str) -> Settings:
        """Return the settings with a role's own way into our NATS; into another one all go by what is configured."""
        return self.settings if self._nats is None else self.settings.replace(**self._nats.login(role))

    async def _start_all(self, programs: list[tuple[Program, str]]) -> None:
        """Start processes, and wait until each says at its address that it is ready."""
        children = [Child(program) for program, _ in programs]
        self._children.extend(children)
        for child in children:
            await child.start()
        for _, url in programs:
            await _until(partial(is_ready, url), children)
        for child in children:
            child.settled()

    def _all_gateways(self) -> list[tuple[Program, str]]:
        ports = range(self.settings.port, self.settings.port + self._gateways)
        gateways = [self._gateway(index, self.settings.host, port) for index, port in enumerate(ports)]
        found = list(zip(gateways, self.gateway_urls, strict=True))
        if not gateways and (self.settings.startup_functions or count_browser_workers(self.settings)):
            # Whoever serves our gateway listens only when the start is over: startup functions come before that.
            self._private_port = free_port()
            gateway = self._gateway(0, LOOPBACK, self._private_port)
            found.append((gateway, f"http://{LOOPBACK}:{self._private_port}{self._path}"))
        return found

    def _gateway(self, index: int, host: str, port: int) -> Program:
        # Bound here, so that the port outlives the process: whoever connects while a gateway is started again waits for
        # it, where a refusal would make clients back off and some of them (hypha-rpc for Python) never come back.
        try:
            listeners = bind(host, port)
        except OSError as error:
            raise ConfigurationError(f"Cannot listen at {host}:{port}: {error.strerror}") from None
        self._listeners.append(listeners)
        descriptors = [listener.fileno() for listener in listeners]
        settings = self.settings.replace(host=host, port=port, listen_fds=",".join(map(str, descriptors)))
        return Program(
            name=f"gateway-{index}",
            command=[sys.executable, "-m", "hypha_gateway", "serve"],
            environment=_environment(settings),
            pass_fds=descriptors,
            stop_timeout_s=settings.drain_window + _STOP_SLACK_S,
        )


async def _until(ready: Callable[[], Awaitable[bool]], children: list[Child]) -> None:
    """Wait until ``ready()``. Raises ConfigurationError where one of the processes ends first."""
    while not await ready():
        for child in children:
            if child.failed.done():
                raise ConfigurationError(f"{child.program.name} ended at once ({child.failed.result()}){_tail(child)}")
        await asyncio.sleep(_POLL_S)


async def _all(*steps: Coroutine[None, None, None]) -> None:
    """Await all steps at the same time, and raise the error of the first that fails."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def _tail(child: Child) -> str:
    if child.program.log_file is None:
        return "; see above"
    with suppress(OSError):
        return ": " + child.program.log_file.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
    return ""


def _environment(settings: Settings) -> dict[str, str]:
    """Return what a service is started with: our settings only, whatever they came from."""
    # Ours is printed; the same settings three times more would hide it.
    return {**_without_ours(), **settings.environment(), "HYPHA_PRINT_CONFIG": "false"}


def _startup_environment(settings: Settings) -> dict[str, str]:
    """Return what startup functions are run with: the variables of their author, and what the runner needs of ours."""
    ours = {name: value for name, value in settings.environment().items() if name in _FOR_STARTUP}
    return {**_not_ours(), **ours, "HYPHA_PRINT_CONFIG": "false"}


def _without_ours() -> dict[str, str]:
    return {name: value for name, value in _not_ours().items() if not name.startswith("HYPHA_")}


def _not_ours() -> dict[str, str]:
    names = {name for row in OPTIONS.values() for name in row.environment} | {"HYPHA_CONFIG"}
    return {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in names}
