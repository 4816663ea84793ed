from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.census import metrics_urls

if TYPE_CHECKING:
    from tests.cluster.running_cluster import RunningCluster

__all__ = ["FOLDER", "TABLE", "Family", "exposed"]

FOLDER = Path(__file__).parents[2] / "deploy" / "observability"
TABLE: dict[str, dict[str, object]] = json.loads((FOLDER / "metrics.json").read_text())
_OF_THE_CLIENT = ("python_", "process_")  # what the Prometheus client tells by itself


@dataclass
class Family:
    """One metric as processes expose it: its type, and the values of its labels as far as there are samples."""

    type: str
    labels: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    samples: int = 0


def exposed(cluster: RunningCluster) -> dict[str, dict[str, Family]]:
    """Ask every process of a cluster: metrics of ours by kind of process and name."""
    kinds: dict[str, dict[str, Family]] = defaultdict(dict)
    for name, (_, url) in metrics_urls(cluster).items():
        kind = name.rpartition("-")[0].replace("_", "-")
        with urllib.request.urlopen(url, timeout=30) as response:
            text = response.read().decode()
        for told in text_string_to_metric_families(text):
            if told.name.startswith(_OF_THE_CLIENT):
                continue
            full = f"{told.name}_total" if told.type == "counter" else told.name
            family = kinds[kind].setdefault(full, Family(told.type))
            for sample in told.samples:
                family.samples += 1
                for label, value in sample.labels.items():
                    if label != "le":
                        family.labels[label].add(value)
    return kinds
