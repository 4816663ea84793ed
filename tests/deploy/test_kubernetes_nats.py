"""The values for NATS's Helm chart, as a server reads what the chart makes of them."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.kubernetes_secrets import secret_values
from tests.deploy.manifests import FOLDER
from tests.fixtures.loopback_server import program

_PORTS = {"port": 4222, "http_port": 8222, "cluster": 6222}


def _values() -> dict[str, Any]:
    """Both files, the second over the first, as Helm puts them together."""
    values, users = (yaml.safe_load((FOLDER / name).read_text()) for name in ("nats-values.yaml", "nats-users.yaml"))
    merged = values["config"]["merge"] | users["config"].pop("merge")
    assert users == {"config": {}}
    return {**values, "config": {**values["config"], "merge": merged}}


def _rendered(values: dict[str, Any]) -> str:
    """Return the configuration of a server, as the chart makes it (its files/config and `nats.formatConfig`)."""
    cluster = values["config"]["cluster"]
    account = cluster["routeURLs"]
    config = {
        "server_name": "<< $POD_NAME >>",
        "port": _PORTS["port"],
        "http_port": _PORTS["http_port"],
        "cluster": {
            "port": _PORTS["cluster"],
            "no_advertise": True,
            "authorization": {"user": account["user"], "password": account["password"]},
            **cluster["merge"],
        },
        **values["config"]["merge"],
    }
    return re.sub(r'"<<\s+(.*)\s+>>"', r"\1", json.dumps(config, indent=2))


def _environment(values: dict[str, Any]) -> dict[str, str]:
    """Return what the container of each server is given: in order of names, with `$(NAME)` for what came before."""
    secrets, found = secret_values("production"), {"POD_NAME": "nats-0"}
    for name, value in sorted(values["container"]["env"].items()):
        if isinstance(value, str):
            found[name] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], value)
        else:
            reference = value["valueFrom"]["secretKeyRef"]
            found[name] = secrets[reference["name"]][reference["key"]]
    return found


def test_a_server_accepts_the_values(tmp_path: Path) -> None:
    values = _values()
    config = tmp_path / "nats.conf"
    config.write_text(_rendered(values))
    checked = subprocess.run(
        [program("nats-server"), "-t", "-c", str(config)],
        env=_environment(values), capture_output=True, check=False, text=True, timeout=30,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def test_routes_lead_to_every_server() -> None:
    values = _values()
    environ = _environment(values)
    password = secret_values("production")["hypha-nats"]["cluster"]
    routes = [environ[route.strip("<> $")] for route in values["config"]["cluster"]["merge"]["routes"]]
    assert routes == [f"nats://route:{password}@nats-{number}.nats-headless:6222" for number in range(3)]
    assert values["config"]["cluster"]["replicas"] == len(routes)
    assert values["fullnameOverride"] == "nats"


def test_limits_are_those_of_every_other_server() -> None:
    """deploy/nats/limits.conf has them for compose and for a single node."""
    limits = {}
    for line in (FOLDER.parent / "nats" / "limits.conf").read_text().splitlines():
        if match := re.fullmatch(r'(\w+): "?([\w.]+)"?', line.strip()):
            limits[match[1]] = match[2]
    given = {name: str(value).strip("<> ") for name, value in _values()["config"]["merge"].items()}
    assert limits and {name: given.get(name) for name in limits} == limits


def test_pods_of_nats_keep_to_the_standard_of_the_namespace() -> None:
    values = _values()
    pod = values["podTemplate"]["merge"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in ("container", "reloader", "promExporter"):
        merged = values[container]["merge"]
        assert merged["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert merged["securityContext"]["allowPrivilegeEscalation"] is False
        assert merged["resources"]["limits"]["memory"]
    lame_duck_s = int(values["config"]["merge"]["lame_duck_duration"].removesuffix("s"))
    assert pod["terminationGracePeriodSeconds"] > lame_duck_s


def test_generated_files_are_what_their_sources_say() -> None:
    """Else: `.venv/bin/python deploy/k8s/regenerate.py`."""
    generated: dict[Path, str] = runpy.run_path(str(FOLDER / "regenerate.py"))["generated"]()
    assert len(generated) == 2
    for path, text in generated.items():
        assert path.read_text() == text, path.name
        assert yaml.safe_load(text)
