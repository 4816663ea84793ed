"""Network policies, as a cluster enforces them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.deploy.manifests import Manifests, labels_match

__all__ = ["End", "allows"]


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod in a namespace, or an address outside of the cluster."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] | None = None
    address: str = ""


def allows(manifests: Manifests, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Tell whether ``source`` may open a connection to a port of ``target``; policies add up."""
    policies = manifests.of_kind("NetworkPolicy")
    return _open(policies, "Egress", source, target, port, protocol) and _open(
        policies, "Ingress", target, source, port, protocol
    )


def _open(policies: list[Any], direction: str, held: End, other: End, port: int, protocol: str) -> bool:
    """Tell whether policies on ``held`` let it speak with ``other`` in one direction; without any, they do."""
    if held.labels is None:
        return True
    mine = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == held.namespace
        and direction in policy["spec"]["policyTypes"]
        and labels_match(policy["spec"]["podSelector"], held.labels)
    ]
    if not mine:
        return True
    rules = [(policy, rule) for policy in mine for rule in policy["spec"].get(direction.lower(), [])]
    return any(
        _has_port(rule, port, protocol)
        and any(_is_peer(peer, other, policy) for peer in rule["to" if direction == "Egress" else "from"])
        for policy, rule in rules
    )


def _has_port(rule: Any, port: int, protocol: str) -> bool:
    # A rule without ports would mean all of them: ours name theirs.
    return any(
        each["protocol"] == protocol and each["port"] <= port <= each.get("endPort", each["port"])
        for each in rule["ports"]
    )


def _is_peer(peer: Any, other: End, policy: Any) -> bool:
    if "ipBlock" in peer:
        if not other.address:
            return False
        address = ipaddress.ip_address(other.address)
        block = peer["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(network) for network in block.get("except", []))
    if other.labels is None:
        return False
    if "namespaceSelector" in peer:
        named = {"kubernetes.io/metadata.name": other.namespace}
        if not labels_match(peer["namespaceSelector"], named):
            return False
    elif other.namespace != policy["metadata"]["namespace"]:
        return False
    return labels_match(peer.get("podSelector", {}), other.labels)
