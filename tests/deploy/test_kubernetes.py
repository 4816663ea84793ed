"""deploy/k8s builds, and is what Kubernetes and the operators that it uses accept."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest

from tests.deploy.manifests import FOLDER, OVERLAYS, build

# Of resources that operators define there are no schemas here: the shapes that we rely on, as documents tell them.
_CUSTOM: dict[tuple[str, str], dict[str, Any]] = {
    ("postgresql.cnpg.io/v1", "Cluster"): {
        "instances": int, "imageName": str, "bootstrap": dict, "postgresql": dict, "storage": dict, "walStorage": dict,
        "resources": dict, "affinity": dict, "plugins": list,
    },
    ("postgresql.cnpg.io/v1", "ScheduledBackup"): {
        "schedule": str, "backupOwnerReference": str, "cluster": dict, "method": str, "pluginConfiguration": dict,
    },
    ("barmancloud.cnpg.io/v1", "ObjectStore"): {"retentionPolicy": str, "configuration": dict},
    ("monitoring.coreos.com/v1", "ServiceMonitor"): {"selector": dict, "endpoints": list},
    ("monitoring.coreos.com/v1", "PodMonitor"): {"selector": dict, "podMetricsEndpoints": list},
    ("monitoring.coreos.com/v1", "PrometheusRule"): {"groups": list},
}  # fmt: skip
_IMAGES = ("gateway", "auth", "workspace", "artifacts", "apps", "browser-worker")


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_accepts_every_object(overlay: str) -> None:
    """Strictly: an unknown field is an error."""
    checked = 0
    for found in build(overlay).objects:
        if (found["apiVersion"], found["kind"]) not in _CUSTOM:
            kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
            checked += 1
    assert checked > 40


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_custom_resources_have_the_shape_of_their_kind(overlay: str) -> None:
    for found in build(overlay).objects:
        shape = _CUSTOM.get((found["apiVersion"], found["kind"]))
        if shape is not None:
            spec = found["spec"]
            assert set(spec) <= set(shape), found["metadata"]["name"]
            assert all(isinstance(spec[name], shape[name]) for name in spec), found["metadata"]["name"]


def test_single_node_needs_no_operator() -> None:
    """It is applied to a cluster on which nothing was installed before."""
    groups = {found["apiVersion"].partition("/")[0] for found in build("single-node").objects}
    assert groups == {"v1", "apps", "batch", "policy", "networking.k8s.io"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_are_unique_and_in_one_namespace(overlay: str) -> None:
    objects = build(overlay).objects
    names = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(names) == len(set(names))
    spaces = {found["metadata"].get("namespace") for found in objects if found["kind"] != "Namespace"}
    assert spaces == {"hypha"}
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name) for _, name in names)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_release_brings_its_own_migration(overlay: str) -> None:
    """A Job cannot be changed: its name has the tag of the images, which all of ours share."""
    (job,) = build(overlay).of_kind("Job")
    images = [each["image"] for found in build(overlay).workloads if found.is_ours for each in found.containers]
    tags = {image.rpartition(":")[2] for image in images}
    assert {image.rpartition(":")[0] for image in images} == {f"hypha-{name}" for name in _IMAGES}
    assert len(tags) == 1
    assert job["metadata"]["name"] == f"hypha-migrate-{tags.pop()}"
    assert job["spec"]["ttlSecondsAfterFinished"] <= 3600


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_migration_reads_nothing_that_changes_between_releases(overlay: str) -> None:
    """Its pods do not name a ConfigMap, whose name is another one after each change."""
    (job,) = build(overlay).of_kind("Job")
    assert "configMap" not in str(job)
    roles = [each["name"] for each in job["spec"]["template"]["spec"]["containers"]]
    assert roles == ["auth", "workspace", "artifacts", "apps"]


def test_production_leaves_the_number_of_replicas_to_its_autoscalers() -> None:
    """Each `kubectl apply` would set it back otherwise."""
    manifests = build("production")
    scaled = {found["spec"]["scaleTargetRef"]["name"] for found in manifests.of_kind("HorizontalPodAutoscaler")}
    assert scaled == {f"hypha-{role}" for role in ("gateway", "auth", "workspace", "artifacts", "apps")}
    for name in scaled:
        assert "replicas" not in manifests.get("Deployment", name)["spec"]
    assert manifests.get("Deployment", "hypha-browser-worker")["spec"]["replicas"] >= 2


def test_every_folder_is_built_by_an_overlay() -> None:
    """Nothing lies about that no test looks at."""
    written = {path.relative_to(FOLDER) for path in FOLDER.rglob("*.yaml")}
    listed = {path.parent.relative_to(FOLDER) for path in FOLDER.rglob("kustomization.yaml")}
    assert {path.parent for path in written if len(path.parts) > 1} <= listed
