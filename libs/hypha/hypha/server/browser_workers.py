from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from hypha_common.ids import PUBLIC_WORKSPACE, new_id
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.settings import OPTIONS
from hypha_common.tokens import TokenCodec

from .child import Program
from .ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["browser_workers", "count_browser_workers"]

# Only until the connection stands: then it has reconnection tokens, which are renewed.
_TOKEN_LIFE_S = 3600.0
_STOP_TIMEOUT_S = 20.0
_ROLE = "browser-worker"
# No secret of the cluster: what runs there is users' code.
_TOLD = frozenset(
    row.environment[0]
    for row in OPTIONS.values()
    if _ROLE in row.roles or row.name in ("log_format", "log_level", "public_base_url")
)


def count_browser_workers(settings: Settings) -> int:
    """Return how many run on this machine."""
    if not settings.enable_server_apps or settings.disable_inprocess_browser_worker:
        return 0
    return settings.browser_workers


def browser_workers(
    settings: Settings, inherited: Mapping[str, str], gateway_urls: list[str]
) -> list[tuple[Program, str]]:
    """Return the browser workers of a cluster, with the addresses where each tells whether it is ready."""
    found = []
    for index in range(count_browser_workers(settings)):
        own = settings.replace(metrics_host=LOOPBACK, metrics_port=free_port())
        program = Program(
            name=f"{_ROLE}-{index}",
            command=[sys.executable, "-m", "hypha_browser_worker", "serve"],
            environment=partial(_environment, own, inherited, index, gateway_urls[index % len(gateway_urls)]),
            stop_timeout_s=_STOP_TIMEOUT_S,
        )
        found.append((program, f"http://{LOOPBACK}:{own.metrics_port}"))
    return found


def _environment(settings: Settings, inherited: Mapping[str, str], index: int, url: str) -> dict[str, str]:
    """Return what one is started with: anew at every start, because tokens end and clients cannot be two."""
    client_id = f"{_ROLE}-{index}-{new_id(8)}"
    scope = Scope({PUBLIC_WORKSPACE: Permission.READ_WRITE}, current_workspace=PUBLIC_WORKSPACE, client_id=client_id)
    token = TokenCodec.from_settings(settings).sign(
        Principal(id=f"{_ROLE}-{index}", roles=("worker",), scope=scope), life_s=_TOKEN_LIFE_S
    )
    ours = {name: value for name, value in settings.environment().items() if name in _TOLD}
    return {
        **inherited,
        **ours,
        "HYPHA_PRINT_CONFIG": "false",
        "HYPHA_SERVER_URL": url,
        "HYPHA_WORKSPACE": PUBLIC_WORKSPACE,
        "HYPHA_CLIENT_ID": client_id,
        "HYPHA_TOKEN": token,
    }
