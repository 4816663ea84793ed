"""What kustomize makes of deploy/k8s, as tests look at it."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

__all__ = ["FOLDER", "OVERLAYS", "Manifests", "Workload", "build", "builder", "labels_match"]

FOLDER = Path(__file__).parents[2] / "deploy" / "k8s"
OVERLAYS = ("single-node", "production")
_WORKLOADS = ("Deployment", "StatefulSet", "Job")

Object = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """Something that makes pods."""

    object: Object

    @property
    def kind(self) -> str:
        return str(self.object["kind"])

    @property
    def name(self) -> str:
        return str(self.object["metadata"]["name"])

    @property
    def component(self) -> str:
        return self.labels["app.kubernetes.io/component"]

    @property
    def is_ours(self) -> bool:
        return self.labels["app.kubernetes.io/name"] == "hypha"

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.object["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def pod(self) -> Object:
        pod: Object = self.object["spec"]["template"]["spec"]
        return pod

    @property
    def containers(self) -> list[Object]:
        """Every container, those that run before the others too."""
        return [*self.pod["containers"], *self.pod.get("initContainers", [])]

    @property
    def runs_by_itself(self) -> bool:
        """False for the operators' pod: nothing runs in it but what they start."""
        return self.object["spec"].get("replicas") != 0

    def ports(self) -> dict[str, int]:
        """The ports of the pod, by name."""
        return {port["name"]: port["containerPort"] for each in self.containers for port in each.get("ports", [])}

    def volume(self, name: str) -> Object:
        (found,) = [volume for volume in self.pod["volumes"] if volume["name"] == name]
        return found  # type: ignore[no-any-return]


class Manifests:
    """All objects of one overlay."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = objects

    def of_kind(self, *kinds: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] in kinds]

    def get(self, kind: str, name: str) -> Object:
        (found,) = [found for found in self.of_kind(kind) if found["metadata"]["name"] == name]
        return found

    @property
    def workloads(self) -> list[Workload]:
        return [Workload(found) for found in self.of_kind(*_WORKLOADS)]

    def workload(self, name: str) -> Workload:
        (found,) = [workload for workload in self.workloads if workload.name == name]
        return found

    def selected(self, labels: Mapping[str, str]) -> list[Workload]:
        """The workloads whose pods a plain selector finds."""
        return [found for found in self.workloads if labels_match({"matchLabels": labels}, found.labels)]

    def environment(self, container: Object, values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """
        Return what a container finds in its environment; ``values`` are those of Secrets, by name and key.

        ``$(NAME)`` is left as it is where NAME comes from the pod.

        """
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self.get("ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in container.get("env", []):
            reference = entry.get("valueFrom", {}).get("secretKeyRef")
            if reference is not None:
                found[entry["name"]] = values[reference["name"]][reference["key"]]
            elif "value" in entry:
                found[entry["name"]] = entry["value"]
        return found

    def files(self, workload: Workload, container: Object, values: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
        """Return what of Secrets and ConfigMaps a container finds in files, by path."""
        found: dict[str, str] = {}
        for mount in container.get("volumeMounts", []):
            for path, text in self._volume_files(workload, mount["name"], values):
                found[f"{mount['mountPath']}/{path}"] = text
        return found

    def _volume_files(
        self, workload: Workload, name: str, values: Mapping[str, Mapping[str, str]]
    ) -> Iterator[tuple[str, str]]:
        templates = workload.object["spec"].get("volumeClaimTemplates", [])
        if any(claim["metadata"]["name"] == name for claim in templates):
            return
        volume = workload.volume(name)
        sources = volume.get("projected", {}).get("sources", [volume])
        for secret in (source["secret"] for source in sources if "secret" in source):
            for item in secret["items"]:
                yield item["path"], values[secret.get("name") or secret["secretName"]][item["key"]]
        if "configMap" in volume:
            yield from self.get("ConfigMap", volume["configMap"]["name"])["data"].items()


def builder() -> list[str]:
    """Return the command that builds a kustomization, or skip the test where there is none."""
    installed = Path(sysconfig.get_path("scripts"))
    for program, arguments in (("kubectl", ["kustomize"]), ("kustomize", ["build"])):
        beside = installed / program
        path = str(beside) if beside.exists() else shutil.which(program)
        if path is not None:
            return [path, *arguments]
    pytest.skip("neither kubectl nor kustomize is here to build deploy/k8s")


@functools.cache
def build(overlay: str) -> Manifests:
    """Build an overlay, or ``base``."""
    folder = FOLDER / overlay if overlay == "base" else FOLDER / "overlays" / overlay
    done = subprocess.run([*builder(), str(folder)], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecated fields and the like
    return Manifests(list(yaml.safe_load_all(done.stdout)))


def labels_match(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector finds these labels. An empty one finds everything."""
    wanted: Mapping[str, str] = selector.get("matchLabels", {})
    if any(labels.get(name) != value for name, value in wanted.items()):
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", expression
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True
