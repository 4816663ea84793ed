from __future__ import annotations

import asyncio
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
from hypha_rpc import connect_to_server

from hypha_common.ids import new_id, personal_workspace
from tests.chaos.away import Away, away
from tests.chaos.members import KINDS
from tests.cluster.balancer import Balancer, balancer
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.app_worker import create_script
from tests.fixtures.faulty_store import FaultyStore
from tests.fixtures.link import Link
from tests.fixtures.nats_cluster import WHOLE_HUB, NatsCluster
from tests.fixtures.object_store import ObjectStore

__all__ = ["Arena", "arena"]

_RESTART_S = 0.5
_SCRIPT = """
    import asyncio, os
    from hypha_rpc import connect_to_server

    async def main():
        names = ("server_url", "workspace", "client_id", "token")
        server = await connect_to_server({name: os.environ[f"HYPHA_{name.upper()}"] for name in names})
        await server.register_service(
            {"id": "default", "config": {"visibility": "public"}, "hello": lambda call: f"hello {call}"}
        )
        await asyncio.Event().wait()

    asyncio.run(main())
"""
_PAGE = """
<config lang="json">{"name": "Page", "type": "web-worker", "version": "0.1.0", "visibility": "public"}</config>
<script lang="javascript">
await api.export({config: {visibility: "public"}, hello(call) { return "hello " + call; }});
</script>
"""


class Worker:
    """A worker in a process of its own that is started again whenever it ends, as a service manager would."""

    def __init__(self, url: str, token: str) -> None:
        self._command = [sys.executable, "-m", "hypha.workers.python_eval", f"--server-url={url}"]
        self._command += ["--service-id=scripts", "--client-id=chaos-worker"]
        self._environment = {"HYPHA_TOKEN": token, "PATH": os.environ["PATH"]}
        self._process: asyncio.subprocess.Process | None = None
        self.registered = asyncio.Event()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def run(self) -> None:
        """Keep it running until cancelled."""
        while True:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                assert self._process.stdout is not None
                async for line in self._process.stdout:
                    if line.startswith(b"Worker registered"):
                        self.registered.set()
                await self._process.wait()
            finally:
                if self._process.returncode is None:
                    with suppress(ProcessLookupError):
                        self._process.send_signal(15)
                    await self._process.wait()
            await asyncio.sleep(_RESTART_S)


@dataclass
class Arena:
    """A cluster with two replicas of everything, what stands around it, and handles to hurt each part."""

    cluster: RunningCluster
    front: Balancer
    store: FaultyStore
    objects: ObjectStore
    worker: Worker
    owner: str  # of the apps that members look up
    kinds: tuple[str, ...]
    nats: NatsCluster | None = None  # of three servers, where the hub has none of its own
    away: Away | None = None  # processes in another place
    before: dict[str, list[int]] = field(default_factory=dict)

    @property
    def urls(self) -> list[str]:
        """Where members connect: each gateway, and a balancer."""
        far = [] if self.away is None else [self.away.gateway_url]
        return [*far, *self.cluster.gateway_urls, self.front.url]

    @property
    def workspace(self) -> str:
        return personal_workspace(self.owner)

    @property
    def pids(self) -> dict[str, list[int]]:
        far = {} if self.away is None else self.away.pids
        return {**self.cluster.pids, **far, "worker": [self.worker.pid]}

    def errors(self) -> list[str]:
        """Return the log lines of what the hub regards as its own fault."""
        return [*self.cluster.errors(), *(() if self.away is None else self.away.errors())]

    def family(self, role: str, index: int = 0) -> list[psutil.Process]:
        """Return a process with its descendants: PostgreSQL's, a browser's."""
        process = psutil.Process(self.pids[role][index])
        return [process, *process.children(recursive=True)]


@asynccontextmanager
async def arena(*, browser: bool = False, three_nats: bool = False, wire: bool = False) -> AsyncIterator[Arena]:
    """
    Start everything.

    ``browser``: with a browser worker and an app in it; ``three_nats``: on three NATS servers; ``wire``: with a
    third gateway and workspace replica behind a wire that can be cut, in network namespaces, which only root may make.

    """
    with ExitStack() as stack:
        link = stack.enter_context(_in_a_network_of_its_own()) if wire else None
        async with _arena(link, browser=browser, three_nats=three_nats) as made:
            yield made


@contextmanager
def _in_a_network_of_its_own() -> Iterator[Link]:
    loop, made = asyncio.get_running_loop(), Link()
    try:
        with made.in_hub():
            loop.set_default_executor(ThreadPoolExecutor())  # threads stay in the network where they began
            yield made
    finally:
        loop.set_default_executor(ThreadPoolExecutor())
        made.close()


@asynccontextmanager
async def _arena(link: Link | None, *, browser: bool, three_nats: bool) -> AsyncIterator[Arena]:
    nats = await asyncio.to_thread(NatsCluster) if three_nats else None
    objects = await asyncio.to_thread(ObjectStore)
    store = FaultyStore(objects.url)
    # Gateways fetch files from both.
    host = "127.0.0.1" if link is None else link.HUB
    await store.start(host)
    settings = {**objects.settings(), "endpoint_url": store.url, "enable_s3_proxy": "true", "artifacts_host": host}
    variables = {f"HYPHA_{name.upper()}": value for name, value in settings.items()}
    if nats is not None:
        variables |= nats.environment(WHOLE_HUB)
    replicas = [f"--{role}-replicas=2" for role in ("workspace", "auth", "artifacts", "apps")]
    if not browser:
        replicas.append("--disable-inprocess-browser-worker")
    cluster: RunningCluster | None = None
    try:
        async with AsyncExitStack() as stack:
            cluster = await asyncio.to_thread(
                RunningCluster,
                "--gateways=2", "--enable-server-apps", *replicas,
                storage=True, environ=variables,
            )  # fmt: skip
            front = await stack.enter_async_context(balancer(cluster.gateway_urls))
            owner = f"chaos-{new_id(6).lower()}"
            worker = Worker(front.url, cluster.user_token(owner))
            task = asyncio.create_task(worker.run())
            stack.push_async_callback(_ended, task)
            kinds = tuple(kind for kind in KINDS if browser or kind != "browser")
            far = None if link is None else await stack.enter_async_context(away(link, cluster))
            made = Arena(cluster, front, store, objects, worker, owner, kinds, nats, far)
            await _install(made, browser=browser)
            yield made
    finally:
        if cluster is not None:
            await asyncio.to_thread(cluster.stop)
        await store.stop()
        await asyncio.to_thread(objects.stop)
        if nats is not None:
            await asyncio.to_thread(nats.close)


async def _install(made: Arena, *, browser: bool) -> None:
    async with (
        asyncio.timeout(60),
        connect_to_server({"server_url": made.cluster.url, "token": made.cluster.user_token(made.owner)}) as server,
    ):
        await made.worker.registered.wait()
        public = [{"id": "default", "config": {"visibility": "public"}}]
        await create_script(server, "chaos", textwrap.dedent(_SCRIPT), services=public)
        if browser:
            apps: Any = await server.get_service("public/server-apps")
            await apps.install(source=_PAGE, app_id="page")


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
