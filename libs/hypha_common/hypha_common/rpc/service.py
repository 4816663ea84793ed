from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, overload

from hypha_common.wire import pack

from .schema import Parameters, describe

__all__ = ["Method", "Packed", "Service", "rpc_method"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__rpc_name__"
# A target is text that a caller chose (any `*/manager-…`): only a few encodings are kept.
_MAX_ENCODINGS = 8


@overload
def rpc_method(function: F) -> F: ...
@overload
def rpc_method(*, name: str) -> Callable[[F], F]: ...
def rpc_method(function: F | None = None, *, name: str = "") -> F | Callable[[F], F]:
    """Mark a method of a class as callable by RPC clients, under its own name or ``name`` (which may be dotted)."""

    def mark(marked: F) -> F:
        setattr(marked, _MARK, name or marked.__name__)
        return marked

    return mark if function is None else mark(function)


class Packed:
    """A value that is msgpack already, in wire form; a method returns it to save encoding it at every call."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Method:
    """A function of a service with what clients are told about it."""

    __slots__ = ("doc", "function", "is_async", "name", "parameters", "schema")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self.doc = inspect.getdoc(function) or ""
        self.parameters = Parameters.of(function)
        self.schema: dict[str, Any] = {
            "name": name.rpartition(".")[2],
            "description": describe(function)[0],
            "parameters": self.parameters.schema(),
        }


class Service:
    """
    Methods that RPC clients may call, with the service's identity, configuration and schemas.

    ``methods`` maps a name, dotted for nested ones, to a function: sync or async, taking ``context`` (a Caller) by
    keyword if it wants to know who calls, returning any value of contract 01 §2.5, generators included.

    """

    def __init__(
        self,
        service_id: str,
        methods: Mapping[str, Callable[..., Any]],
        *,
        name: str = "",
        type: str = "generic",  # noqa: A002  # the word of the protocol
        description: str | None = None,
        docs: str | None = None,
        visibility: str = "protected",
        authorized_workspaces: Iterable[str] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.id = service_id
        self.name = name or service_id
        self.type = type
        self.description = description
        self.docs = docs
        self.methods = {path: Method(path, function) for path, function in methods.items()}
        self.visibility = visibility
        self.authorized_workspaces = tuple(authorized_workspaces)
        self.config: dict[str, Any] = {"visibility": visibility, **(config or {})}
        if self.authorized_workspaces:
            self.config["authorized_workspaces"] = list(self.authorized_workspaces)
        # Raises where a caller (`WS/CID`) is not served for the time being.
        self.gate: Callable[[str], None] | None = None
        self._packed: OrderedDict[tuple[str, str], Packed] = OrderedDict()

    @classmethod
    def of(cls, service_id: str, *objects: object, **options: Any) -> Service:
        """Return a service of all methods that are marked with :func:`rpc_method` in ``objects``."""
        return cls(service_id, _marked(objects), **options)

    def allows(self, workspace: str, home: str) -> bool:
        """Tell whether a caller of ``workspace`` may use this service at an address of workspace ``home``."""
        if self.visibility in ("public", "unlisted"):
            return True
        return workspace == home or workspace in self.authorized_workspaces

    def encoded(self, target: str, server_base_url: str) -> dict[str, Any]:
        """Return the service as ``get_service`` answers it, with methods addressed to ``target``."""
        answer = self._head()
        answer["config"]["workspace"] = target.partition("/")[0]
        for path, method in self.methods.items():
            encoded = {
                "_rtype": "method",
                "_rserver": server_base_url,
                "_rtarget": target,
                "_rmethod": f"services.{self.id}.{path}",
                "_rpromise": "*",
                "_rname": method.schema["name"],
                "_rasync": method.is_async,
                "_rdoc": method.doc,
                "_rschema": method.schema,
            }
            _put(answer, path, encoded)
        return answer

    def packed(self, target: str, server_base_url: str) -> Packed:
        """Return :meth:`encoded` as msgpack; computed once per target."""
        key = (target, server_base_url)
        found = self._packed.get(key)
        if found is None:
            found = self._packed[key] = Packed(pack(self.encoded(target, server_base_url)))
            if len(self._packed) > _MAX_ENCODINGS:
                self._packed.popitem(last=False)
        return found

    def info(self, address: str) -> dict[str, Any]:
        """Return the service info that is registered for this service at ``address`` (contract 01 §2.7)."""
        info = self._head()
        info["id"] = f"{address}:{self.id}"
        info["config"]["workspace"] = address.partition("/")[0]
        schema: dict[str, Any] = {}
        for path, method in self.methods.items():
            _put(schema, path, {"type": "function", "function": method.schema})
        info.update(app_id="*", service_schema=schema)
        return info

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "type": self.type,
            "description": self.description,
            "docs": self.docs,
            "config": dict(self.config),
        }


def _marked(objects: Iterable[object]) -> dict[str, Callable[..., Any]]:
    methods: dict[str, Callable[..., Any]] = {}
    for owner in objects:
        for attribute in dir(type(owner)):
            name = getattr(getattr(type(owner), attribute, None), _MARK, None)
            if name is None:
                continue
            if name in methods:
                raise ValueError(f"two RPC methods are called {name!r}")
            methods[name] = getattr(owner, attribute)
    return methods


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value
