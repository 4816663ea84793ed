"""Names in deploy/k8s lead to what they name: settings, mounts, pods, ports, targets."""

from __future__ import annotations

from pathlib import PurePosixPath

import promql_parser
import pytest
import yaml

from hypha.workers.command_line import VARIABLES
from hypha_common.settings import OPTIONS, Settings
from tests.deploy.kubernetes_secrets import secret_values
from tests.deploy.manifests import FOLDER, OVERLAYS, build, labels_match

_NAMES = {name: row for row in OPTIONS.values() for name in row.environment}
_POD_IP = "10.1.2.3"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_a_setting(overlay: str) -> None:
    """Of HYPHA_ names; those of secrets come as files that are mounted."""
    manifests, values = build(overlay), secret_values(overlay)
    for workload in (found for found in manifests.workloads if found.is_ours):
        for container in workload.containers:
            environ = manifests.environment(container, values)
            files = manifests.files(workload, container, values)
            known = {*_NAMES, *(VARIABLES if workload.component == "browser-worker" else ())}
            for name, value in environ.items():
                if name.startswith("HYPHA_"):
                    assert name.removesuffix("_FILE") in known, (workload.name, name)
                    if name.endswith("_FILE"):
                        assert PurePosixPath(value).is_absolute() and files[value], (workload.name, name)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_of_every_role_load(overlay: str) -> None:
    """With everything that its `serve` requires, each read from where the manifest says."""
    manifests, values = build(overlay), secret_values(overlay)
    required = {
        "gateway": ("nats_url", "jwt_secret"),
        "auth": ("nats_url", "database_url", "jwt_secret", "root_token"),
        "workspace": ("nats_url", "database_url"),
        "artifacts": (
            *("nats_url", "database_url", "jwt_secret", "endpoint_url", "access_key_id", "secret_access_key"),
            "artifacts_url",
        ),
        "apps": ("nats_url", "database_url", "jwt_secret", "gateway_url"),
    }
    for role, names in required.items():
        workload = manifests.workload(f"hypha-{role}")
        (container,) = workload.containers
        files = manifests.files(workload, container, values)
        environ = {
            name.removesuffix("_FILE"): files[value] if name.endswith("_FILE") else value.replace("$(POD_IP)", _POD_IP)
            for name, value in manifests.environment(container, values).items()
        }
        settings = Settings.load(environ=environ)
        settings.require(*names)
        assert settings.nats_user == role and settings.nats_password == values["hypha-nats"][role]
        ports = workload.ports()
        assert ports["http" if role == "gateway" else "metrics"] == (
            settings.port if role == "gateway" else settings.metrics_port
        )
        if role == "artifacts":
            assert settings.artifacts_url == f"http://{_POD_IP}:{ports['data']}"
            assert settings.artifacts_port == ports["data"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_selectors_find_pods(overlay: str) -> None:
    """Of one workload each: no Service, budget or Deployment of one role reaches another's pods."""
    manifests = build(overlay)
    for workload in manifests.workloads:
        if workload.kind != "Job":
            selector = workload.object["spec"]["selector"]["matchLabels"]
            assert [found.name for found in manifests.selected(selector)] == [workload.name]
    for service in manifests.of_kind("Service"):
        (workload,) = manifests.selected(service["spec"]["selector"])
        for port in service["spec"]["ports"]:
            target = port["targetPort"]
            assert workload.ports()[target] == port["port"], service["metadata"]["name"]
    for budget in manifests.of_kind("PodDisruptionBudget"):
        (workload,) = manifests.selected(budget["spec"]["selector"]["matchLabels"])
        assert workload.name == budget["metadata"]["name"]
        assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_deployment_has_a_budget_and_an_account_of_its_own(overlay: str) -> None:
    manifests = build(overlay)
    lasting = {found.name for found in manifests.workloads if found.kind == "Deployment" and found.runs_by_itself}
    assert {found["metadata"]["name"] for found in manifests.of_kind("PodDisruptionBudget")} == lasting
    for found in manifests.workloads:
        if found.is_ours:
            account = manifests.get("ServiceAccount", found.pod["serviceAccountName"])
            assert account["automountServiceAccountToken"] is False
            assert found.name.startswith(account["metadata"]["name"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_ingress_leads_to_gateways(overlay: str) -> None:
    manifests = build(overlay)
    (ingress,) = manifests.of_kind("Ingress")
    for rule in ingress["spec"]["rules"]:
        for path in rule["http"]["paths"]:
            backend = path["backend"]["service"]
            service = manifests.get("Service", backend["name"])
            assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
            assert [found.component for found in manifests.selected(service["spec"]["selector"])] == ["gateway"]


def test_production_is_reached_by_https_at_its_public_address() -> None:
    manifests = build("production")
    (ingress,) = manifests.of_kind("Ingress")
    (rule,) = ingress["spec"]["rules"]
    (tls,) = ingress["spec"]["tls"]
    assert tls["hosts"] == [rule["host"]]
    (settings,) = [found for found in manifests.of_kind("ConfigMap") if "HYPHA_PUBLIC_BASE_URL" in found["data"]]
    assert settings["data"]["HYPHA_PUBLIC_BASE_URL"] == f"https://{rule['host']}"


def test_autoscalers_go_by_what_there_is() -> None:
    """Their targets exist, CPU is asked for, and the adapter serves each metric of pods, which our code exports."""
    from hypha_common import process_metrics
    from hypha_gateway import metrics

    manifests = build("production")
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter-values.yaml").read_text())
    served = {rule["name"]["as"]: rule for rule in adapter["rules"]["custom"]}
    exported = {sample.name for gauge in (metrics.CONNECTIONS, process_metrics.LOOP_LAG) for sample in gauge.collect()}
    asked = set()
    for scaler in manifests.of_kind("HorizontalPodAutoscaler"):
        target = manifests.workload(scaler["spec"]["scaleTargetRef"]["name"])
        assert 2 <= scaler["spec"]["minReplicas"] < scaler["spec"]["maxReplicas"]
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "Pods":
                asked.add(metric["pods"]["metric"]["name"])
            else:
                assert metric["resource"]["name"] in target.containers[0]["resources"]["requests"]
    assert asked == set(served) == exported == {"websocket_connections", "eventloop_lag_seconds"}
    for name, rule in served.items():
        query = rule["metricsQuery"].replace("<<.Series>>", name).replace("<<.LabelMatchers>>", 'namespace="hypha"')
        promql_parser.parse(query.replace("<<.GroupBy>>", "pod"))


def test_the_database_has_a_connection_for_everybody() -> None:
    """All replicas that the autoscalers allow, one more of each role while it is updated, and some for people."""
    manifests = build("production")
    pool = Settings.load(environ={}).database_pool_size
    replicas = sum(
        scaler["spec"]["maxReplicas"] + 1
        for scaler in manifests.of_kind("HorizontalPodAutoscaler")
        if scaler["metadata"]["name"] != "hypha-gateway"
    )
    most = int(manifests.get("Cluster", "hypha-db")["spec"]["postgresql"]["parameters"]["max_connections"])
    assert replicas * pool + 20 <= most


def test_monitors_find_every_role() -> None:
    manifests = build("production")
    found = set()
    for monitor in manifests.of_kind("PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            selector = monitor["spec"]["selector"]
            found |= {
                workload.component
                for workload in manifests.workloads
                if labels_match(selector, workload.labels) and endpoint["port"] in workload.ports()
            }
    for monitor in manifests.of_kind("ServiceMonitor"):
        (service,) = [
            each
            for each in manifests.of_kind("Service")
            if labels_match(monitor["spec"]["selector"], each["metadata"]["labels"])
        ]
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert all(endpoint["port"] in ports for endpoint in monitor["spec"]["endpoints"])
        found |= {workload.component for workload in manifests.selected(service["spec"]["selector"])}
    assert found == {"gateway", "auth", "workspace", "artifacts", "apps", "browser-worker"}
