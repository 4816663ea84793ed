from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest
from hypha_rpc import connect_to_server
from hypha_rpc.rpc import RemoteException

from hypha_common.ids import new_id
from tests.cluster.operations import until
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import refused
from tests.fixtures.collector import Collector, Received, collector

__all__ = ["collector"]

_SERVER, _CLIENT = 2, 3
_EDGE = ("hypha-gateway", "POST /{workspace}/services/{service}/{keys}")
_CHECK = "/public/services/hypha-login/check"


@pytest.fixture(scope="module")
def traced(collector: Collector) -> Iterator[RunningCluster]:
    """A cluster that traces everything, at the log level that is the default."""
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "HYPHA_TRACE_SAMPLE_RATIO": "1",
        "HYPHA_LOG_LEVEL": "WARNING",
    }
    running = RunningCluster(environ=environ)
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


def _lines(cluster: RunningCluster, trace_id: str) -> dict[str, list[str]]:
    """Return the events that were logged under an id, by role."""
    found: dict[str, list[str]] = {}
    for line in cluster.log.splitlines():
        if trace_id in line:
            entry = json.loads(line)
            assert entry["trace_id"] == trace_id
            found.setdefault(entry["role"], []).append(entry["event"])
    return found


def _by_name(spans: list[Received], *, kind: int = _SERVER) -> dict[tuple[str, str], Received]:
    return {span.shown: span for span in spans if span.kind == kind}


async def test_one_http_call(traced: RunningCluster, collector: Collector) -> None:
    """From the edge over the bus to two services: one trace, each span below the one that caused it."""
    trace_id, parent = new_id(16).encode().hex(), "00f067aa0ba902b7"
    async with httpx.AsyncClient(base_url=traced.url) as http:
        told = {"traceparent": f"00-{trace_id}-{parent}-00"}
        answer = await http.post(_CHECK, json={"key": "none"}, headers=told)
    assert answer.headers["x-request-id"] == trace_id == answer.json()["error_id"]
    assert answer.status_code == 400

    wanted = {_EDGE, ("hypha-workspace", "workspace/resolve"), ("hypha-auth", "hypha-login.check")}
    collector.until(lambda: wanted <= _by_name(collector.of(trace_id)).keys())
    served, called = (_by_name(collector.of(trace_id), kind=kind) for kind in (_SERVER, _CLIENT))
    edge = served[_EDGE]
    assert (edge.parent, edge.failed) == (parent, False)  # 400 is the caller's fault
    assert edge.attributes["http.response.status_code"] == 400
    assert edge.attributes["http.route"] == "/{workspace}/services/{service}/{keys}"
    for callee, name in (("hypha-workspace", "workspace/resolve"), ("hypha-auth", "hypha-login.check")):
        caller = called["hypha-gateway", name]
        assert (caller.parent, served[callee, name].parent) == (edge.id, caller.id)
    check = served["hypha-auth", "hypha-login.check"]
    assert check.failed
    assert check.attributes == {
        "rpc.system.name": "hypha", "rpc.method": "hypha-login.check", "error.type": check.attributes["error.type"],
    }  # fmt: skip
    assert check.resource["service.instance.id"]
    assert _lines(traced, trace_id) == {"gateway": ["http_error"], "auth": ["rpc_call_refused"]}


async def test_one_websocket_call(traced: RunningCluster, collector: Collector) -> None:
    """The user sees an id; the operator finds it in the log of the role, and the trace begins at the gateway."""
    async with connect_to_server({"server_url": traced.url}) as client:
        with pytest.raises(RemoteException, match=r"KeyError: 'Service not found: .*nothing-here.*'\s*\Z") as raised:
            await client.get_service("public/nothing-here")
    trace_id = str(raised.value).split("Error id: ")[1].split()[0]
    collector.until(lambda: len(collector.of(trace_id)) >= 2)
    route, call = (_by_name(collector.of(trace_id), kind=kind) for kind in (_CLIENT, _SERVER))
    begun = route["hypha-gateway", "default.get_service"]
    assert (begun.parent, call["hypha-workspace", "default.get_service"].parent) == ("", begun.id)
    assert _lines(traced, trace_id) == {"workspace": ["rpc_call_refused"]}


async def test_refused_at_the_door(traced: RunningCluster) -> None:
    """Whoever is not let in is found by why."""
    assert "token" in await refused(traced.url, token="no token at all")
    await until(lambda: '"event": "client_refused"' in traced.log)
    line = next(json.loads(text) for text in traced.log.splitlines() if '"client_refused"' in text)
    assert (line["role"], line["level"], len(line["trace_id"])) == ("gateway", "info", 32)
    assert "no token at all" not in traced.log


async def test_nobody_is_there(traced: RunningCluster) -> None:
    """Errors that the gateway makes for calls between clients have an id, too, beside the text that clients know."""
    async with connect_to_server({"server_url": traced.url}) as client:
        nobody = f"{client.config.workspace}/nobody-there"
        function = {"_rtype": "method", "_rtarget": nobody, "_rmethod": "services.s.f", "_rpromise": True}
        with pytest.raises(Exception, match=f"Target peer {nobody} is not connected"):
            await client.rpc._decode(function)()
    lines = [json.loads(text) for text in traced.log.splitlines() if '"call_refused"' in text and nobody in text]
    assert [(line["role"], line["to"], len(line["trace_id"])) for line in lines] == [("gateway", nobody, 32)]


async def test_collector_away() -> None:
    """It costs one warning, and no call waits for it."""
    running = RunningCluster(environ={"HYPHA_OTLP_ENDPOINT": "http://127.0.0.1:9", "HYPHA_TRACE_SAMPLE_RATIO": "1"})
    try:
        async with httpx.AsyncClient(base_url=running.url) as http:
            while '"traces_not_taken"' not in running.log:
                assert (await http.post(_CHECK, json={"key": "none"})).status_code == 400
                await asyncio.sleep(0.02)
            for _ in range(100):
                assert (await http.post(_CHECK, json={"key": "none"})).status_code == 400
        warned = [json.loads(line)["role"] for line in running.log.splitlines() if '"traces_not_taken"' in line]
        assert len(warned) == len(set(warned))
        assert running.errors() == []
    finally:
        running.stop()
