from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from hypha_common.errors import ConfigurationError

__all__ = ["NAMES", "add_other_flags", "environment_names", "review"]

_SWITCH = frozenset({"true", "1", "yes", "y", "on"})


@dataclass(frozen=True)
class _Flag:
    """A flag that other Hypha servers have (contract 01 §6) and this one does not."""

    why: str
    refused: bool = False  # refused where leaving it out would let something important silently not happen
    switch: bool = False


def _later(what: str, *, switch: bool = True) -> _Flag:
    return _Flag(f"this release has no {what}", refused=True, switch=switch)


_NO_REDIS = "there is no Redis: PostgreSQL keeps the state and NATS carries the messages"
_NO_TERMINAL = (
    "this release has no terminal: a cluster of services has no single process to attach one to; use hypha-workspace, "
    "hypha-gateway and hypha-auth, or the service ws-user-root/admin-utils"
)
_NO_SEARCH = "this release has no service search by meaning"

_FLAGS: dict[str, _Flag] = {
    "redis_uri": _Flag(_NO_REDIS),
    "reset_redis": _Flag(_NO_REDIS, switch=True),
    "migrate_database": _Flag("migrations run at every start that needs them"),
    "triton_servers": _Flag("this release forwards nothing to Triton servers"),
    "cache_dir": _Flag("nothing is cached on disk"),
    "disable_agent_skills": _Flag("there are no agent skills to disable", switch=True),
    "disable_ssl": _Flag("it disables checks of servers that this release does not call", switch=True),
    "enable_server": _Flag("it serves anyway", switch=True),
    "ollama_host": _Flag(_NO_SEARCH),
    "openai_base_url": _Flag(_NO_SEARCH),
    "openai_api_key": _Flag(_NO_SEARCH),
    "enable_service_search": _later("service search by meaning"),
    "enable_a2a": _later("A2A endpoint"),
    "enable_mcp": _later("MCP endpoint"),
    "enable_k8s_worker": _later("Kubernetes worker"),
    "enable_terminal_worker": _later("terminal worker"),
    "enable_admin_terminal": _Flag(_NO_TERMINAL, refused=True, switch=True),
    "interactive": _Flag(_NO_TERMINAL, refused=True, switch=True),
}

NAMES = frozenset(_FLAGS)


def environment_names() -> frozenset[str]:
    return frozenset(f"HYPHA_{name.upper()}" for name in _FLAGS)


def add_other_flags(parser: argparse.ArgumentParser) -> None:
    """Let the flags be written; :func:`review` says what becomes of them."""
    for name, flag in _FLAGS.items():
        text = "--" + name.replace("_", "-")
        if flag.switch:
            parser.add_argument(text, dest=name, action="store_true", default=None, help=argparse.SUPPRESS)
        else:
            parser.add_argument(text, dest=name, nargs="+", default=None, help=argparse.SUPPRESS)


def review(given: Mapping[str, object], environ: Mapping[str, str]) -> list[str]:
    """
    Return a sentence for each flag that means nothing here, from the command line or the environment.

    Raises ConfigurationError for one that stands for something this release cannot do.

    """
    sentences = []
    for name, flag in _FLAGS.items():
        for source, value in (
            (f"--{name.replace('_', '-')}", given.get(name)),
            (f"HYPHA_{name.upper()}", environ.get(f"HYPHA_{name.upper()}")),
        ):
            if not value or (flag.switch and isinstance(value, str) and value.strip().lower() not in _SWITCH):
                continue
            if flag.refused:
                raise ConfigurationError(f"{source} cannot be used: {flag.why}")
            sentences.append(f"{source} has no effect: {flag.why}")
    return sentences
