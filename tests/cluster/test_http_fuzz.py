"""
Requests that the OpenAPI document allows, and ones that it does not, at the whole cluster: whatever is asked, the
answer has one of the shapes that the document declares, and nothing is the server's fault.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import CheckFunction
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

pytestmark = pytest.mark.usefixtures("unharmed")

# How often each operation is asked, in each mode: most where arguments decide what happens.
_EXAMPLES = {"/{workspace}/services/{service}/{keys}": 190, "/{workspace}/services/{service}": 40}
_FEW = 13
_OF_FILES = 6
_FILES = re.compile(r"/s3/|/\{workspace\}/(artifacts|files|view|create-|complete-)")
_CHECKS: list[CheckFunction] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_MANAGER_METHODS = (
    "echo", "list_services", "get_service_info", "get_service", "search_services", "list_clients", "list_workspaces",
    "get_workspace_info", "get_env", "set_env", "create_workspace", "generate_token", "parse_token", "revoke_token",
    "register_service", "unregister_service", "get_summary", "ping", "log_event", "get_events", "subscribe", "bookmark",
)  # fmt: skip


class _Asked:
    """What was asked, and what came of it."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.session = requests.Session()

    def ask(self, case: schemathesis.Case, real: dict[str, str], headers: dict[str, str]) -> None:
        case.path_parameters = {
            name: real.get(name, value) if value is not None else None
            for name, value in (case.path_parameters or {}).items()
        }
        response = case.call(session=self.session, headers=headers, timeout=20, allow_redirects=False)
        self.statuses[response.status_code] += 1
        if response.status_code >= 500:
            # By design: the function's own failure, a kind of service or a provider that is not served or away.
            assert response.status_code in (500, 501, 503, 504), response.text
            assert case.operation.path.startswith(("/{workspace}/", "/s3/")), response.text
            # What becomes of files no function of users' decides.
            assert response.status_code in (501, 503) or not _FILES.match(case.operation.path), response.text
            assert "Internal server error" not in response.text
        case.validate_response(response, checks=_CHECKS)


def _operations(url: str) -> Iterator[Any]:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for found in schema.get_all_operations():
        if found.ok().label != "GET /rpc":  # its answer is a stream, which ends when the client wants
            yield found.ok()


def _ask_everything(url: str, names: st.SearchStrategy[dict[str, str]], tokens: list[str]) -> Counter[int]:
    asked = _Asked()
    headers = st.sampled_from(
        [{}, {"Authorization": "Bearer nonsense"}, *({"Authorization": f"Bearer {t}"} for t in tokens)]
    )
    for operation in _operations(url):
        before = asked.statuses.total()
        # What violates the schema is in bodies: any text is good for a path or a query.
        modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if list(operation.body) else [])]
        for mode in modes:
            cases = operation.as_strategy(generation_mode=mode)

            @seed(20261125)
            @settings(
                max_examples=_EXAMPLES.get(operation.path, _OF_FILES if _FILES.match(operation.path) else _FEW),
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=cases, real=names, sent=headers)
            def ask(case: schemathesis.Case, real: dict[str, str], sent: dict[str, str]) -> None:
                asked.ask(case, real, sent)

            ask()
        assert asked.statuses.total() > before, operation.label
    return asked.statuses


# The client's own thread draws random numbers while a strategy runs in this one.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
async def test_everything_that_is_described(cluster: RunningCluster, connect: Connect) -> None:
    schemathesis.openapi.media_type(
        "application/msgpack",
        st.builds(
            msgpack.packb,
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary(),
                lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                max_leaves=5,
            ),
        )
        | st.binary(),
    )
    owner = cluster.user_token()  # somebody whose workspace may keep artifacts
    server = await connect(token=owner)
    public = {"config": {"visibility": "public"}}
    functions = {"add": lambda a, b=1: a + b, "echo": lambda *args, **kwargs: [args, kwargs], "nested": {"f": len}}
    await server.register_service({"id": "fuzzed", **public, **functions})
    await server.register_service(
        {"id": "site", "type": "functions", **public, "index": lambda event: {"body": "index"}}
    )
    workspace = server.config.workspace
    manager = await server.get_service("public/artifact-manager")
    await manager.create(alias="fuzzed", type="collection", manifest={"name": "Fuzzed"})
    services = ("fuzzed", f"{server.config.client_id}:fuzzed", "*:fuzzed", "site", "ws", "~", "nothing")
    keys = ("add", "echo", "nested.f", "nested", "nothing", *_MANAGER_METHODS)
    some = st.fixed_dictionaries(
        {},
        optional={
            "workspace": st.sampled_from([workspace, "public", "ws-user-root", "no-such"]),
            "service": st.sampled_from(services),
            "keys": st.sampled_from(keys),
            "alias": st.sampled_from(["fuzzed", "nothing"]),
            "path": st.sampled_from(["a.txt", "folder/", "index.html"]),
            "bucket": st.sampled_from(["hypha-workspaces", "other"]),
            "key": st.sampled_from([f"{workspace}/a.txt", f"artifacts/{workspace}/fuzzed/a.txt", "a"]),
        },
    )
    tokens = [cluster.user_token(), owner, await server.generate_token()]
    statuses = await asyncio.to_thread(_ask_everything, cluster.url, some, tokens)
    print(dict(statuses))  # shown with -s
    assert statuses.total() >= 1000, statuses
    assert {200, 307, 400, 401, 403, 404} <= set(statuses), statuses
    assert (await server.echo("still there")) == "still there"
