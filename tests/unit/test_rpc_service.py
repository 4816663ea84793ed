from __future__ import annotations

from typing import Any, Literal

import pytest

from hypha_common.errors import BadRequest
from hypha_common.rpc import Caller, Service, rpc_method
from hypha_common.rpc.schema import Parameters, describe, json_type
from hypha_common.wire import unpack


class Sample:
    @rpc_method
    async def find(
        self,
        query: dict[str, Any] | str | None = None,
        mode: Literal["first", "last"] = "first",
        *,
        limit: int = 10,
        context: Caller,
    ) -> list[str]:
        """
        Find things.

        Two sentences here. They are not in the description.

        Args:
            query: what to look for,
                on two lines
            limit (int): how many

        Returns:
            what was found

        """
        return []

    @rpc_method(name="a.b.nested")
    def other(self, *values: str, **options: Any) -> None:
        """Take anything."""

    def hidden(self) -> None:
        """Not marked."""


def test_schema() -> None:
    """Schemas come from annotations and docstrings; the context is no part of them."""
    service = Service.of("svc", Sample())
    assert set(service.methods) == {"find", "a.b.nested"}
    assert service.methods["find"].schema == {
        "name": "find",
        "description": "Find things.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {
                    "anyOf": [{"type": "object"}, {"type": "string"}, {"type": "null"}],
                    "description": "what to look for, on two lines",
                },
                "mode": {"enum": ["first", "last"], "default": "first"},
                "limit": {"type": "integer", "description": "how many", "default": 10},
            },
            "required": [],
        },
    }


def test_types() -> None:
    """Annotations become JSON types; what has none allows anything."""
    assert json_type(list[int]) == {"type": "array", "items": {"type": "integer"}}
    assert json_type(list[Any]) == {"type": "array"}
    assert json_type(dict[str, int]) == {"type": "object"}
    assert json_type(bytes)["type"] == "string"
    assert json_type(Any) == {}
    assert json_type(Sample) == {}


def test_description() -> None:
    """Without a docstring there is nothing to say."""
    assert describe(lambda: None) == ("", {})


def test_encoded() -> None:
    """The encoded service addresses its methods to the exact target (contract 01 §10.2)."""
    service = Service.of("svc", Sample(), type="functions", visibility="public", config={"require_context": True})
    encoded = service.encoded("*/manager-x", "http://hub")
    assert encoded["config"] == {"visibility": "public", "require_context": True, "workspace": "*"}
    assert encoded["type"] == "functions"
    nested = encoded["a"]["b"]["nested"]
    assert nested["_rmethod"] == "services.svc.a.b.nested"
    assert nested["_rtarget"] == "*/manager-x"
    assert nested["_rschema"]["name"] == nested["_rname"] == "nested"
    assert encoded["find"]["_rasync"] is True
    assert unpack(service.packed("*/manager-x", "http://hub").data) == encoded


def test_info() -> None:
    """The service info mirrors the tree of methods (contract 01 §2.7)."""
    info = Service.of("svc", Sample(), authorized_workspaces=["ws-b"]).info("public/hypha-auth")
    assert info["id"] == "public/hypha-auth:svc"
    assert info["app_id"] == "*"
    assert info["config"] == {"visibility": "protected", "authorized_workspaces": ["ws-b"], "workspace": "public"}
    assert info["service_schema"]["a"]["b"]["nested"]["type"] == "function"


def test_visibility() -> None:
    """Public and unlisted services are for everybody, others for their workspace and those it names."""
    assert Service("s", {}, visibility="public").allows("x", "home")
    assert Service("s", {}, visibility="unlisted").allows("x", "home")
    protected = Service("s", {}, authorized_workspaces=["friend"])
    assert protected.allows("home", "home")
    assert protected.allows("friend", "home")
    assert not protected.allows("x", "home")


def test_double_names() -> None:
    """Two methods cannot have one name."""
    with pytest.raises(ValueError, match="two RPC methods"):
        Service.of("svc", Sample(), Sample())


def parameters() -> Parameters:
    def method(
        text: str, number: int = 1, ratio: float = 0.5, items: list[str] | None = None, *, flag: bool = False
    ) -> None: ...

    return Parameters.of(method)


def test_binding() -> None:
    """Arguments arrive as annotated; what a query string or JavaScript makes of them is put right."""
    bind = parameters().bind
    assert bind(["a", 2], {"flag": True}) == (["a", 2], {"flag": True})
    assert bind([], {"text": "a"}) == ([], {"text": "a"})
    assert bind([12, 3.0, 2], {}) == (["12", 3, 2], {})
    assert bind(["a", None, None, None], {"flag": None}) == (["a", 1, 0.5, None], {"flag": False})


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ([], {}, "Missing required argument: 'text'"),
        (["a"], {"text": "b"}, "got multiple values for argument 'text'"),
        (["a"], {"nope": 1}, "got an unexpected keyword argument 'nope'"),
        (["a"], {"context": 1}, "got an unexpected keyword argument 'context'"),
        (["a"], {5: 1}, "got an unexpected keyword argument '5'"),
        (["a", 1, 1.0, [], True], {}, "takes 4 positional arguments but 5 were given"),
        ([["a"]], {}, "Argument 'text' must be str, not list"),
        ([None], {}, "Argument 'text' must be str, not NoneType"),
        (["a", 1.5], {}, "Argument 'number' must be int, not float"),
        (["a", float("nan")], {}, "Argument 'number' must be int, not float"),
        (["a", 1, 1.0, {}], {}, "Argument 'items' must be a list or null, not dict"),
        (["a"], {"flag": "yes"}, "Argument 'flag' must be bool, not str"),
    ],
)
def test_wrong_arguments(args: list[Any], kwargs: dict[Any, Any], message: str) -> None:
    """What does not fit is a TypeError that says what is wrong."""
    with pytest.raises(BadRequest) as raised:
        parameters().bind(args, kwargs)
    assert raised.value.rpc_text() == f"TypeError: {message}"


def test_required_keyword() -> None:
    """A keyword-only parameter may be required."""

    def method(*, key: str) -> None: ...

    bind = Parameters.of(method).bind
    assert bind([], {"key": "a"}) == ([], {"key": "a"})
    with pytest.raises(BadRequest, match="Missing required argument: 'key'"):
        bind([], {})


def test_any_arguments() -> None:
    """A method may take whatever comes, but never a context from outside."""

    def method(first: int, *rest: Any, **options: Any) -> None: ...

    bind = Parameters.of(method).bind
    assert bind([1, "a", None], {"b": 2}) == ([1, "a", None], {"b": 2})
    with pytest.raises(BadRequest, match="unexpected keyword argument 'context'"):
        bind([1], {"context": {}})
