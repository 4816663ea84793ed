"""Network policies allow what the settings' addresses need (design.md), and nothing else."""

from __future__ import annotations

from itertools import product
from urllib.parse import urlsplit

import pytest

from hypha_common.settings import OPTIONS
from tests.deploy.kubernetes_secrets import secret_values
from tests.deploy.manifests import OVERLAYS, Manifests, build
from tests.deploy.network_rules import End, allows

_OURS = ("gateway", "auth", "workspace", "artifacts", "apps", "browser-worker", "migrate", "operator")
# What charts and operators bring, with the labels and names that they give.
_BROUGHT = {
    "nats": End("nats", "hypha", {"app.kubernetes.io/name": "nats", "app.kubernetes.io/instance": "nats"}),
    "hypha-db-rw.hypha": End(
        "database", "hypha", {"cnpg.io/cluster": "hypha-db", "cnpg.io/instanceName": "hypha-db-1"}
    ),
}
_DNS = End("dns", "kube-system", {"k8s-app": "kube-dns"})
_PROMETHEUS = End("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
_TRAEFIK = End("traefik", "traefik", {"app.kubernetes.io/name": "traefik"})
_K3S = End("traefik of k3s", "kube-system", {"app.kubernetes.io/name": "traefik"})
_STRANGER = End("stranger", "default", {"app.kubernetes.io/name": "hypha", "app.kubernetes.io/component": "gateway"})
_INTERNET = End("internet", address="93.184.215.14")
_INTERNET_6 = End("internet", address="2606:2800:21f:cb07:6820:80da:af6b:8b2c")
_PRIVATE = [
    End(address, address=address)
    for address in (
        *(
            "10.96.0.1",
            "10.0.0.7",
            "172.20.1.1",
            "192.168.1.1",
            "100.64.0.3",
            "169.254.169.254",
            "127.0.0.1",
            "0.0.0.1",
        ),
        *("fd00::1", "fe80::1", "::1", "64:ff9b::a00:1"),
    )
]
_PORTS = (22, 25, 53, 80, 443, 465, 587, 4222, 5432, 6222, 6443, 7777, 8000, 8222, 8333, 9187, 9527, 9528, 9529, 10250)


def _ends(manifests: Manifests) -> dict[str, End]:
    """One pod of each workload, by component, or by name where it is not ours."""
    found = {work.component if work.is_ours else work.name: work for work in manifests.workloads}
    return {name: End(name, "hypha", work.labels) for name, work in found.items()}


def _at(manifests: Manifests, url: str) -> tuple[End, int]:
    """Return where an address leads: the pod behind a Service, or the internet; and the port there."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or {"https": 443}[parts.scheme]
    services = {service["metadata"]["name"]: service for service in manifests.of_kind("Service")}
    if host in services:
        (workload,) = manifests.selected(services[host]["spec"]["selector"])
        return End(workload.component if workload.is_ours else workload.name, "hypha", workload.labels), port
    if host in _BROUGHT:
        return _BROUGHT[host], port
    assert "." in host, f"{host} is neither a Service nor a host on the internet"
    return _INTERNET, port


def _needed(manifests: Manifests, overlay: str) -> set[tuple[str, str, int]]:
    """Return (source, target, port) of every connection that pods need, from the addresses that they are told."""
    values, needed = secret_values(overlay), set()
    store = ""
    for workload in (found for found in manifests.workloads if found.is_ours):
        for container in workload.containers:
            role = container["name"] if workload.component == "operator" else workload.component
            environ = manifests.environment(container, values)
            files = manifests.files(workload, container, values)
            for name, value in environ.items():
                row = OPTIONS.get(name.removesuffix("_FILE").removeprefix("HYPHA_").lower())
                text = files[value] if name.endswith("_FILE") else value
                elsewhere = ("public_base_url", "endpoint_url_public", "artifacts_url")  # for others to reach
                if (row is not None and row.name in elsewhere) or "://" not in text:
                    continue
                if row is not None and not row.used_by(role) and workload.component != "migrate":
                    continue
                target, port = _at(manifests, text)
                needed.add((workload.component, target.name, port))
            store = store or environ.get("HYPHA_ENDPOINT_URL", "")
    # Plans of the artifacts service send gateways to the store, and to its own data port.
    target, port = _at(manifests, store)
    needed |= {("gateway", target.name, port), ("gateway", "artifacts", 9529)}
    return needed


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_addresses_need_is_allowed_and_nothing_else(overlay: str) -> None:
    manifests = build(overlay)
    inside = {**_ends(manifests), **({end.name: end for end in _BROUGHT.values()} if overlay == "production" else {})}
    needed = {(source, target, port) for source, target, port in _needed(manifests, overlay) if target in inside}
    if overlay == "production":  # nodes among themselves
        needed |= {("nats", "nats", 6222), ("database", "database", 5432), ("database", "database", 8000)}
    allowed = {
        (source, target, port)
        for source, target, port in product(inside, inside, _PORTS)
        if allows(manifests, inside[source], inside[target], port)
    }
    # Where a chart or an operator brings pods, only what reaches them is restricted.
    others = {source for source in inside if source not in _OURS}
    assert needed <= allowed, needed - allowed
    assert {way for way in allowed if way[0] in _OURS} == {way for way in needed if way[0] in _OURS}
    assert {way for way in allowed if way[0] in others and way[1] in others} >= {
        way for way in needed if way[0] in others
    }
    assert not {way for way in allowed if way[0] in others and way[1] in _OURS}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_internet_is_for_those_who_need_it(overlay: str) -> None:
    manifests = build(overlay)
    ways = {
        (name, port)
        for name, port in product(_ends(manifests), _PORTS)
        if allows(manifests, _ends(manifests)[name], _INTERNET, port)
    }
    expected = {("browser-worker", port) for port in _PORTS} | {("apps", 443)}
    if overlay == "production":
        expected |= {("auth", 443), ("auth", 465), ("auth", 587)}  # identity providers, mail
        expected |= {("gateway", 443), ("artifacts", 443), ("operator", 443)}  # the store
    assert ways == expected
    again = {way for way in ways if allows(manifests, _ends(manifests)[way[0]], _INTERNET_6, way[1])}
    assert again == ways


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_private_networks_are_for_nobody(overlay: str) -> None:
    """Nor the metadata service of a cloud, nor nodes, nor the API server."""
    manifests = build(overlay)
    for end, private, port in product(_ends(manifests).values(), _PRIVATE, _PORTS):
        assert not allows(manifests, end, private, port), (end.name, private.name, port)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_names_can_be_looked_up(overlay: str) -> None:
    manifests = build(overlay)
    for name, end in _ends(manifests).items():
        assert allows(manifests, end, _DNS, 53, "UDP") and allows(manifests, end, _DNS, 53), name
        assert not allows(manifests, end, End("other", "kube-system", {"k8s-app": "other"}), 53), name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_who_comes_in_from_outside(overlay: str) -> None:
    """Ingress controllers to gateways; Prometheus, where it is used, to the metrics ports; nobody else."""
    manifests = build(overlay)
    inside = _ends(manifests)

    def ways(source: End) -> set[tuple[str, int]]:
        return {(name, port) for name, port in product(inside, _PORTS) if allows(manifests, source, inside[name], port)}

    assert ways(_TRAEFIK) == ways(_K3S) == {("gateway", 9527)}
    assert ways(_STRANGER) == ways(_DNS) == set()
    monitored = {(name, 9528) for name in ("auth", "workspace", "artifacts", "apps", "browser-worker")}
    assert ways(_PROMETHEUS) == ({("gateway", 9527)} | monitored if overlay == "production" else set())


def test_prometheus_reaches_what_production_is_brought() -> None:
    manifests = build("production")
    nats, database = _BROUGHT["nats"], _BROUGHT["hypha-db-rw.hypha"]
    assert [port for port in _PORTS if allows(manifests, _PROMETHEUS, nats, port)] == [7777]
    assert [port for port in _PORTS if allows(manifests, _PROMETHEUS, database, port)] == [9187]
    operator = End("operator", "cnpg-system", {"app.kubernetes.io/name": "cloudnative-pg"})
    assert [port for port in _PORTS if allows(manifests, operator, database, port)] == [5432, 8000]
