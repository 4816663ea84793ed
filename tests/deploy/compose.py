"""Reads deploy/compose/compose.yaml: what each container runs, sees and waits for."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.container import Mount
from tests.deploy.dockerfile import ROOT, read_stages

__all__ = ["COMPOSE_FILE", "Replica", "Service", "read_services"]

COMPOSE_FILE = ROOT / "deploy" / "compose" / "compose.yaml"

_VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::?-([^}]*))?\})")


@dataclass(frozen=True)
class Service:
    """One service of the file, completed by what its image says where we make that image."""

    name: str
    table: dict[str, Any]
    secrets: Mapping[str, Path]

    @property
    def image(self) -> str:
        return str(self.table["image"])

    @property
    def words(self) -> list[str]:
        """What is executed; for images of others without an entrypoint, the command alone."""
        stage = self._stage
        entrypoint = _words(self.table.get("entrypoint"))
        command = _words(self.table.get("command"))
        if stage is not None and not entrypoint:
            return [*stage.last("ENTRYPOINT").words, *(command or stage.last("CMD").words)]
        return [*entrypoint, *command]

    @property
    def environ(self) -> dict[str, str]:
        base = {} if self._stage is None else dict(word.split("=", 1) for word in self._stage.last("ENV").words)
        return {**base, **{name: str(value) for name, value in self.table.get("environment", {}).items()}}

    @property
    def user(self) -> str:
        return str(self.table.get("user") or ("0:0" if self._stage is None else self._stage.last("USER").rest))

    @property
    def networks(self) -> dict[str, list[str]]:
        """The networks that it is in, each with further names that it has there."""
        found = self.table["networks"]
        return {name: [] for name in found} if isinstance(found, list) else {k: v["aliases"] for k, v in found.items()}

    @property
    def replicas(self) -> list[Replica]:
        count = int(self.table.get("deploy", {}).get("replicas", 1))
        return [Replica(self, f"{self.name}-{number}" if count > 1 else self.name) for number in range(1, count + 1)]

    @property
    def waits_for(self) -> dict[str, str]:
        """Conditions by service."""
        return {name: entry["condition"] for name, entry in self.table.get("depends_on", {}).items()}

    @property
    def health(self) -> list[str]:
        """The command of its health check; none: it has none."""
        test = self.table.get("healthcheck", {}).get("test", [])
        assert not test or test[0] == "CMD"
        return list(test[1:])

    def mounts(self, volumes: Path) -> list[Mount]:
        """Return what it sees of this machine, secrets included; named volumes are folders in ``volumes``."""
        found = [Mount("tmpfs", target) for target in self.table.get("tmpfs", [])]
        for entry in self.table.get("volumes", []):
            source, target, *mode = entry.split(":")
            path = (COMPOSE_FILE.parent / source).resolve() if source[0] == "." else volumes / source
            found.append(Mount(str(path), target, read_only=mode == ["ro"]))
        found += [Mount(str(self.secrets[name]), f"/run/secrets/{name}") for name in self.table.get("secrets", [])]
        return found

    @property
    def _stage(self) -> Any:
        build = self.table.get("build")
        return None if build is None else read_stages()[build["target"]]


@dataclass(frozen=True)
class Replica:
    """One container of a service."""

    service: Service
    name: str


def read_services(environ: Mapping[str, str], *, profiles: Iterable[str] = (), secrets: Path) -> dict[str, Service]:
    """Return the services that start with these profiles, variables filled in; secret files lie in ``secrets``."""
    table = yaml.safe_load(_filled(COMPOSE_FILE.read_text("utf-8"), environ))
    files = {name: secrets / Path(entry["file"]).name for name, entry in table["secrets"].items()}
    active = set(profiles)
    return {
        name: Service(name, entry, files)
        for name, entry in table["services"].items()
        if not entry.get("profiles") or active & set(entry["profiles"])
    }


def _filled(text: str, environ: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: found[1] or environ.get(found[2]) or found[3] or "", text)


def _words(value: Any) -> list[str]:
    if value is None:
        return []
    return shlex.split(value) if isinstance(value, str) else [str(word) for word in value]
