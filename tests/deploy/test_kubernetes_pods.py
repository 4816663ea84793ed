"""What every pod of deploy/k8s keeps to."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import pytest

from hypha_common.settings import Settings
from hypha_gateway.main import stop_limit_s
from tests.deploy.manifests import OVERLAYS, Manifests, Workload, build

_SLACK_S = 5.0
# What each role takes at most to end, in drain windows and seconds besides; a gateway's watchdog ends it in any case.
_LISTENERS_S = 5.0 + 2.0 + 2.0 + 5.0  # requests that run, flushing, leaving the bus, the database
_QUANTITY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def _pods(overlay: str) -> list[Workload]:
    return build(overlay).workloads


def _bytes(quantity: str) -> int:
    match = re.fullmatch(r"(\d+)(Ki|Mi|Gi|Ti)", quantity)
    assert match, quantity
    return int(match[1]) * _QUANTITY[match[2]]


def _cpus(quantity: str) -> float:
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_is_root_or_can_become_it(overlay: str) -> None:
    for workload in _pods(overlay):
        pod = workload.pod["securityContext"]
        assert pod["runAsNonRoot"] is True and pod["runAsUser"] >= 70 and pod["runAsGroup"] >= 70, workload.name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, workload.name
        assert workload.pod["automountServiceAccountToken"] is False, workload.name
        assert workload.pod["enableServiceLinks"] is False, workload.name
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(workload.pod), workload.name
        for container in workload.containers:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, workload.name
            assert security["readOnlyRootFilesystem"] is True, workload.name
            assert security["capabilities"] == {"drop": ["ALL"]}, workload.name
            assert not {"privileged", "runAsUser", "runAsNonRoot"} & set(security), workload.name
        if workload.is_ours:
            assert (pod["runAsUser"], pod["runAsGroup"], pod["fsGroup"]) == (10001, 10001, 10001)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_container_may_write_in_its_own_folders_only(overlay: str) -> None:
    for workload in _pods(overlay):
        for volume in workload.pod.get("volumes", []):
            assert "hostPath" not in volume, workload.name
            if "emptyDir" in volume:
                assert _bytes(volume["emptyDir"]["sizeLimit"]), workload.name
        for container in workload.containers:
            for mount in container.get("volumeMounts", []):
                written = mount["name"] in ("tmp", "run", "data")
                assert written or mount["readOnly"] is True, (workload.name, mount)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_resources_are_asked_for_and_limited(overlay: str) -> None:
    """Memory is limited; CPU is not: a throttled event loop is late for everybody, and requests share it fairly."""
    for workload in _pods(overlay):
        for container in workload.containers:
            resources = container["resources"]
            assert _cpus(resources["requests"]["cpu"]) > 0, workload.name
            asked, limit = (_bytes(resources[kind]["memory"]) for kind in ("requests", "limits"))
            assert 0 < asked <= limit, workload.name
            assert "cpu" not in resources["limits"], workload.name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_browser_worker_holds_the_browser_that_it_may_have(overlay: str) -> None:
    container: dict[str, Any] = build(overlay).workload("hypha-browser-worker").containers[0]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    most = int(environment["HYPHA_MAX_BROWSER_MEMORY"]) * 2**20
    assert most + 512 * 2**20 <= _bytes(container["resources"]["limits"]["memory"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_are_pinned(overlay: str) -> None:
    for container in chain.from_iterable(workload.containers for workload in _pods(overlay)):
        name, colon, tag = container["image"].partition(":")
        assert name and colon and tag and tag != "latest" and tag[0].isdigit(), container["image"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_process_that_lasts_is_probed(overlay: str) -> None:
    for workload in _pods(overlay):
        if workload.kind == "Job" or not workload.runs_by_itself:
            continue
        for container in workload.containers:
            ports = {port["name"] for port in container["ports"]}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container[kind]
                assert "exec" in probe or probe["httpGet"]["port"] in ports, workload.name
            if workload.is_ours:
                assert container["startupProbe"]["httpGet"]["path"] == "/health/liveness"
                assert container["livenessProbe"]["httpGet"]["path"] == "/health/liveness"
                assert container["readinessProbe"]["httpGet"]["path"] == "/health/readiness"
            # A dependency that is away for a minute is no reason to kill anybody; nor is a short stall.
            liveness = container["livenessProbe"]
            assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30, workload.name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everybody_is_given_the_time_to_end(overlay: str) -> None:
    """Grace periods hold the pause before, the drain at its longest, and some slack."""
    manifests = build(overlay)
    for workload in manifests.workloads:
        if workload.kind != "Deployment" or not workload.runs_by_itself:
            continue
        settings = _settings(manifests, workload)
        pause_s = workload.containers[0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert (pause_s >= 5) is (workload.component == "gateway"), workload.name
        needed_s = pause_s + _longest_end_s(workload.component, settings) + _SLACK_S
        assert workload.pod["terminationGracePeriodSeconds"] >= needed_s, (workload.name, needed_s)


def _settings(manifests: Manifests, workload: Workload) -> Settings:
    container = workload.containers[0]
    environ = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    for source in container.get("envFrom", []):
        environ |= manifests.get("ConfigMap", source["configMapRef"]["name"])["data"]
    return Settings.load(environ={name: text for name, text in environ.items() if not name.endswith("_FILE")})


def _longest_end_s(component: str, settings: Settings) -> float:
    if component == "gateway":
        return stop_limit_s(settings)
    if component == "browser-worker":
        return 20.0  # as long as `python -m hypha.server` gives one
    # Calls that run, then requests that run; artifacts also has streams of its data port.
    windows = 2 if component == "artifacts" else 1
    return windows * settings.drain_window + settings.drain_window + _LISTENERS_S


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rolling_updates_take_nobody_away_first(overlay: str) -> None:
    for workload in _pods(overlay):
        if workload.kind == "Deployment" and workload.runs_by_itself:
            strategy = workload.object["spec"]["strategy"]
            assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
            assert workload.pod["topologySpreadConstraints"], workload.name


def test_production_spreads_over_zones_and_nodes() -> None:
    for workload in _pods("production"):
        if workload.kind == "Deployment" and workload.runs_by_itself:
            keys = [spread["topologyKey"] for spread in workload.pod["topologySpreadConstraints"]]
            assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
            for spread in workload.pod["topologySpreadConstraints"]:
                # Both together find the pods of one component of one release.
                assert spread["matchLabelKeys"] == ["app.kubernetes.io/component", "pod-template-hash"]
                assert not set(spread["matchLabelKeys"]) & set(spread["labelSelector"]["matchLabels"])
