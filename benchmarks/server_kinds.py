from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = ["HUB_COMMAND", "ROOT_TOKEN", "ServerKind", "default_rivals_dir", "server_kinds"]

# Of servers that a benchmark starts on loopback and stops again.
ROOT_TOKEN = "b5c0f4d7e86a4f0f9b9d8f1c7a5e3b2d6c4f8e9a7b5d3c1f2e4a6b8d0c9e7f5a"
_STORE = Path(__file__).with_name("with_store.py")

HUB_COMMAND = f"{shlex.quote(sys.executable)} -m hypha.server --host 127.0.0.1 --port {{port}} --data-dir {{data_dir}}"
HUB_GATEWAYS = "--gateways {gateways}"
_UNLIMITED = "1000000000"
# Both hubs know these names; the benchmarks measure work, not refusals.
_NO_LIMITS = {
    "HYPHA_WS_MSG_RATE_LIMIT": _UNLIMITED,
    "HYPHA_WS_MSG_BURST_LIMIT": _UNLIMITED,
    "HYPHA_HTTP_RATE_LIMIT": _UNLIMITED,
    "HYPHA_HTTP_BURST_LIMIT": _UNLIMITED,
    "HYPHA_HTTP_AUTHENTICATED_RATE_LIMIT": _UNLIMITED,
    "HYPHA_HTTP_AUTHENTICATED_BURST_LIMIT": _UNLIMITED,
    "HYPHA_MAX_CONNECTIONS_PER_USER": "1000000",
    "HYPHA_MAX_CLIENTS_PER_WORKSPACE": "1000000",
    "HYPHA_MAX_SERVICES_PER_CLIENT": "1000000",
}


@dataclass(frozen=True)
class ServerKind:
    """How a server is started: a command line with ``{port}``, ``{data_dir}`` and ``{gateways}`` to fill in."""

    name: str
    template: str
    gateways_option: str = ""
    ready_path: str = "/health/readiness"
    environment: dict[str, str] = field(default_factory=dict)
    configuration: Callable[[int], object] | None = None
    suites: dict[str, list[str]] = field(default_factory=dict)
    """The benchmark to run where it is not the one of the suite's name."""
    storage_template: str = ""
    """The command line with files switched on, where that is another."""

    def with_storage(self) -> ServerKind:
        """Return the same server as it keeps files."""
        template = self.storage_template or self.template
        return replace(self, template=template, environment={**self.environment, "HYPHA_ROOT_TOKEN": ROOT_TOKEN})

    def command(self, *, port: int, data_dir: Path, gateways: int) -> list[str]:
        template = f"{self.template} {self.gateways_option}" if gateways > 1 else self.template
        return [word.format(port=port, data_dir=data_dir, gateways=gateways) for word in shlex.split(template)]

    def is_installed(self) -> bool:
        return shutil.which(shlex.split(self.template)[0]) is not None

    def prepare(self, data_dir: Path, port: int) -> None:
        if self.configuration is not None:
            (data_dir / "config.json").write_text(json.dumps(self.configuration(port)))


def default_rivals_dir() -> Path:
    return Path(os.environ.get("BENCHMARK_RIVALS_DIR", Path.home() / ".cache" / "hypha-benchmarks"))


def server_kinds(rivals_dir: Path, hub_command: str = HUB_COMMAND) -> dict[str, ServerKind]:
    bin_of = {name: shlex.quote(str(rivals_dir / name / "bin")) for name in ("hypha", "crossbar")}
    hub = ServerKind("hub", hub_command, gateways_option=HUB_GATEWAYS, environment=_NO_LIMITS)
    rival_command = f"{bin_of['hypha']}/python -m hypha.server --host 127.0.0.1 --port {{port}}"
    rival = ServerKind(
        "rival",
        rival_command,
        environment=_NO_LIMITS,
        storage_template=f"{shlex.quote(sys.executable)} {shlex.quote(str(_STORE))} {{data_dir}}/store {rival_command} "
        f"--root-token {ROOT_TOKEN} --enable-s3 --enable-s3-proxy --endpoint-url @STORE_URL@ "
        "--access-key-id @STORE_KEY@ --secret-access-key @STORE_SECRET@ "
        "--database-uri sqlite+aiosqlite:///{data_dir}/artifacts.db",
    )
    crossbar = ServerKind(
        "crossbar",
        f"{bin_of['crossbar']}/crossbar start --cbdir {{data_dir}}",
        ready_path="/ws-ready",
        configuration=_crossbar_configuration,
        suites={"frames": ["frames", "--protocol", "wamp"], "wire": ["wamp_calls"]},
    )
    return {kind.name: kind for kind in (hub, rival, crossbar)}


def _crossbar_configuration(port: int) -> object:
    everything = {"call": True, "register": True, "publish": True, "subscribe": True}
    role = {"name": "anonymous", "permissions": [{"uri": "", "match": "prefix", "allow": everything}]}
    paths = {
        "/": {"type": "path", "paths": {}},
        "ws-ready": {"type": "nodeinfo"},  # by its name the last path to be set up
        "ws": {
            "type": "websocket",
            "serializers": ["msgpack"],
            "auth": {"anonymous": {"type": "static", "role": "anonymous"}},
            "options": {"max_frame_size": 0, "max_message_size": 0},
        },
    }
    transport = {
        "type": "web",
        "endpoint": {"type": "tcp", "interface": "127.0.0.1", "port": port},
        "paths": paths,
    }
    worker = {"type": "router", "realms": [{"name": "bench", "roles": [role]}], "transports": [transport]}
    return {"version": 2, "workers": [worker]}
