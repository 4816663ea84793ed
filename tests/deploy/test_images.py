"""
Images, built and run: the commands of deploy/Dockerfile, then each service as its image starts it.

There is no engine here. A Python of this machine stands in for the official image's; an overlay for the layers; a mount
namespace with a read-only root, user 10001 and no capabilities for the container.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server

from hypha.server.ports import free_port
from tests.deploy.container import Container, Mount, run_in
from tests.deploy.images import Image, ImageBuilder
from tests.fixtures.object_store import ObjectStore
from tests.fixtures.postgres import PostgresServer

pytestmark = pytest.mark.slow

_READY_S = 90.0
_STARTUP_FUNCTION = """
async def register(server):
    await server.register_service(
        {"id": "greeter", "config": {"visibility": "public"}, "greet": lambda name: f"Hello {name}"}
    )
"""
_APP = """
<config lang="json">{"name": "Adder", "type": "web-worker", "version": "0.1.0"}</config>
<script lang="javascript">
api.export({ add(a, b) { return a + b } })
</script>
"""


@dataclass
class ImageRunner:
    """Runs images as an engine would, on this machine's network: ports that images fix are chosen anew."""

    builder: ImageBuilder
    folder: Path
    environ: dict[str, str]
    secrets: dict[str, str]
    running: dict[str, Container] = field(default_factory=dict)

    def run(self, name: str, *command: str) -> str:
        """Run a one-shot command of an image."""
        image = self.builder.build(name)
        spec = image.spec(self.builder.folder / f"run-{name}-{len(command)}", self.environ, *self._mounts())
        return run_in(spec, [*image.entrypoint, *command])

    def start(self, name: str, environ: Mapping[str, str], *mounts: Mount) -> Container:
        """Start an image and wait until its health check passes."""
        image = self.builder.build(name)
        ports = {"HYPHA_METRICS_PORT": str(free_port()), "HYPHA_ARTIFACTS_PORT": str(free_port())}
        known = {key: value for key, value in ports.items() if key in image.environ}
        spec = image.spec(
            self.builder.folder / f"container-{name}", {**self.environ, **known, **environ}, *self._mounts(), *mounts
        )
        self.running[name] = Container(spec, [*image.entrypoint, *image.cmd])
        self._wait(self.running[name], image)
        return self.running[name]

    def _wait(self, container: Container, image: Image) -> None:
        deadline = time.monotonic() + _READY_S
        told = ""
        while time.monotonic() < deadline and container.process.poll() is None:
            status, told = container.execute(image.healthcheck)
            if status == 0:
                return
            time.sleep(0.2)
        raise AssertionError(f"{told}\n{container.log[-6000:]}")

    def _mounts(self) -> list[Mount]:
        mounts = []
        for name, value in self.secrets.items():
            path = self.folder / name
            path.write_text(value)
            path.chmod(0o644)
            mounts.append(Mount(str(path), f"/run/secrets/{name}"))
        return mounts


@pytest.fixture
def runner(
    image_builder: ImageBuilder, nats_url: str, postgres: PostgresServer, object_store: ObjectStore, tmp_path: Path
) -> Iterator[ImageRunner]:
    port = free_port()
    environ = {
        "HYPHA_NATS_URL": nats_url,
        "HYPHA_DATABASE_URL": postgres.create(),
        "HYPHA_JWT_SECRET_FILE": "/run/secrets/jwt_secret",
        "HYPHA_PUBLIC_BASE_URL": f"http://127.0.0.1:{port}",
        "HYPHA_PORT": str(port),
        "HYPHA_LOG_LEVEL": "INFO",
        "HYPHA_ENDPOINT_URL": object_store.url,
        "HYPHA_ACCESS_KEY_ID": object_store.access_key_id,
        "HYPHA_SECRET_ACCESS_KEY_FILE": "/run/secrets/secret_access_key",
        "HYPHA_ENABLE_S3_PROXY": "true",
        "HYPHA_ROOT_TOKEN_FILE": "/run/secrets/root_token",
    }
    hidden = {
        "jwt_secret": secrets.token_hex(32),
        "root_token": secrets.token_hex(32),
        "secret_access_key": object_store.secret_access_key,
    }
    running = ImageRunner(image_builder, tmp_path, environ, hidden)
    yield running
    for container in running.running.values():
        container.kill()


async def test_every_image_starts_and_serves(runner: ImageRunner, tmp_path: Path) -> None:
    """Migrations, a call through gateway, auth and workspace, a stored file, an app in Chromium, a startup function."""
    await asyncio.to_thread(_start_cluster, runner, tmp_path)
    url = runner.environ["HYPHA_PUBLIC_BASE_URL"]
    server = {"server_url": url, "token": runner.secrets["root_token"]}
    async with connect_to_server(server) as root:
        assert await (await root.get_service("public/greeter")).greet("Ada") == "Hello Ada"
        token = await root.generate_token({"workspace": "public", "permission": "read_write"})
        worker_environ = {"HYPHA_SERVER_URL": url, "HYPHA_WORKSPACE": "public", "HYPHA_VISIBILITY": "public"}
        runner.secrets["worker_token"] = token
        worker_environ["HYPHA_TOKEN_FILE"] = "/run/secrets/worker_token"
        await asyncio.to_thread(runner.start, "browser-worker", worker_environ)
        await root.create_workspace({"id": "lab-images", "persistent": True})
        lab_token = await root.generate_token({"workspace": "lab-images", "permission": "admin"})
    async with connect_to_server({"server_url": url, "workspace": "lab-images", "token": lab_token}) as lab:
        await _store_a_file(lab)
        apps = await lab.get_service("public/server-apps")
        await apps.install(source=_APP, app_id="adder")
        assert [app["id"] for app in await apps.list_apps()] == ["adder"]
        assert await (await lab.get_service("default@adder")).add(2, 3) == 5
    statuses = {name: container.stop() for name, container in reversed(runner.running.items())}
    assert statuses == dict.fromkeys(runner.running, 0), _logs(runner)


def _start_cluster(runner: ImageRunner, folder: Path) -> None:
    for name in ("auth", "workspace", "artifacts", "apps"):
        runner.run(name, "migrate")
        runner.run(name, "migrate")  # a second time changes nothing
    function = folder / "lab.py"
    function.write_text(_STARTUP_FUNCTION)
    for name in ("workspace", "auth", "artifacts", "apps"):
        runner.start(name, {"HYPHA_ARTIFACTS_HOST": "127.0.0.1"} if name == "artifacts" else {})
    runner.start("gateway", {})
    runner.start("startup", {"HYPHA_STARTUP_FUNCTIONS": "/srv/lab.py:register"}, Mount(str(function), "/srv/lab.py"))


async def _store_a_file(lab: Any) -> None:
    artifacts = await lab.get_service("public/artifact-manager")
    await artifacts.create(alias="cats", manifest={"name": "Cats"}, stage=True)
    content = secrets.token_bytes(100_000)
    async with httpx.AsyncClient() as http:
        put = await http.put(await artifacts.put_file("cats", "tom.bin"), content=content)
        assert put.status_code == 200, put.text
        await artifacts.commit("cats")
        got = await http.get(await artifacts.get_file("cats", "tom.bin"))
    assert got.content == content


def _logs(runner: ImageRunner) -> str:
    return "\n".join(f"{name}: {container.log[-2000:]}" for name, container in runner.running.items())


async def test_images_are_closed(image_builder: ImageBuilder, tmp_path: Path) -> None:
    """Nobody's root, nothing to write to but /tmp, and nothing that installs or compiles."""
    image = await asyncio.to_thread(image_builder.build, "workspace")
    spec = image.spec(image_builder.folder / "closed", {})
    script = (
        "id -u; touch /opt/hypha/x 2>/dev/null || echo refused; touch /tmp/x && echo written; "
        "python -m pip --version 2>/dev/null || echo no pip; python -c 'import uvloop, alembic'; "
        "python -c 'import hypercorn' 2>/dev/null || echo no hypercorn; stat -c %u:%a /var/lib/hypha; "
        "grep CapBnd /proc/self/status"
    )
    told = await asyncio.to_thread(run_in, spec, ["sh", "-c", script])
    # The last: what a volume there begins with.
    assert told.split("\n")[:6] == ["10001", "refused", "written", "no pip", "no hypercorn", "10001:700"]
    assert told.split()[-1] == "0000000000000000"
