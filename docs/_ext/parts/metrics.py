"""
Metrics by the kind of process that has them.

Each kind is asked in a process of its own, which imports all that such a process may run and prints what is registered
then. They are forks of one that has imported what is slow to import.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict

from .markdown import cell, code, sentence, table

__all__ = ["metrics"]

_EVERY = "Every process"
_KINDS = {
    "hypha_gateway.main": "gateway",
    "hypha_auth.main": "auth",
    "hypha_workspace.main": "workspace",
    "hypha_artifacts.main": "artifacts",
    "hypha_apps.main": "apps",
    "hypha_browser_worker.main": "browser-worker",
    "hypha.startup.runner": "startup",
}
# Prints {module: [[name, type, labels, help]]}. What prometheus_client has by itself is the same in any process.
_PROBE = """
import importlib, json, os, pkgutil, sys
import aiobotocore.session, aiohttp, alembic, asyncpg, httpx, hypha_rpc, nats, sqlalchemy.ext.asyncio, starlette
from prometheus_client import REGISTRY

def answer(module):
    before = set(REGISTRY._collector_to_names)
    importlib.import_module("hypha_common.telemetry")
    importlib.import_module(module)
    package = importlib.import_module(module.rpartition(".")[0])
    for part in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not part.name.endswith("__main__") and ".migrations" not in part.name:
            importlib.import_module(part.name)
    for collector in set(REGISTRY._collector_to_names) - before:
        for family in collector.describe() if hasattr(collector, "describe") else collector.collect():
            labels = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ())
            suffix = "_total" if family.type == "counter" else ""
            yield family.name + suffix, family.type, list(labels), family.documentation

for module in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        print(json.dumps({"module": module, "metrics": list(answer(module))}), flush=True)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"the metrics of {module} cannot be listed")
"""


def metrics() -> str:
    """A table of those that all kinds have, then of what some have, then one for each kind."""
    probe = subprocess.run([sys.executable, "-c", _PROBE, *_KINDS], stdout=subprocess.PIPE, check=True, timeout=300)
    told: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for answer in map(json.loads, probe.stdout.splitlines()):
        if not answer["metrics"]:
            raise ValueError(f"{answer['module']} has no metrics")
        for name, family, labels, text in answer["metrics"]:
            row: tuple[str, ...] = (code(name), family, ", ".join(map(code, labels)) or "–", cell(sentence(text)))
            told[row].append(_KINDS[answer["module"]])
    groups: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for row, kinds in told.items():
        groups[_title(kinds)].append(row)
    titles = sorted(groups, key=lambda title: (title != _EVERY, -title.count(","), title))
    return "\n\n".join(f"## {title}\n\n{_table(groups[title])}" for title in titles)


def _title(kinds: list[str]) -> str:
    return _EVERY if len(kinds) == len(_KINDS) else ", ".join(kinds).capitalize()


def _table(rows: list[tuple[str, ...]]) -> str:
    return table(["metric", "type", "labels", "meaning"], sorted(rows))
