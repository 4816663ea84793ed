from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

from hypha_common.errors import BadRequest

__all__ = ["Parameter", "Parameters", "describe", "json_type"]

CONTEXT = "context"  # injected by the peer, never part of a schema

_JSON_TYPES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    bytes: {"type": "string", "format": "binary"},
    list: {"type": "array"},
    tuple: {"type": "array"},
    dict: {"type": "object"},
    Sequence: {"type": "array"},
    Mapping: {"type": "object"},
    types.NoneType: {"type": "null"},
}
# What arrives for an annotation; None where anything may.
_ACCEPTED: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (float, int),
    bool: (bool,),
    bytes: (bytes, bytearray, memoryview),
    list: (list,),
    tuple: (list,),
    dict: (dict,),
    Sequence: (list,),
    Mapping: (dict,),
    types.NoneType: (types.NoneType,),
}
_NAMES = {dict: "a map", list: "a list", types.NoneType: "null", memoryview: "bytes", bytearray: "bytes"}
_ARGS_HEADING = re.compile(r"^(Args|Arguments|Parameters):\s*$")
_ARG = re.compile(r"^(\s+)\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
_MISSING = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a method, compiled for checking what a client passes."""

    name: str
    default: Any
    accepted: tuple[type, ...] | None  # None: anything
    schema: dict[str, Any]

    @property
    def required(self) -> bool:
        return self.default is _MISSING

    def check(self, value: Any) -> Any:
        """Return what the method gets for ``value``. Raises BadRequest (TypeError)."""
        accepted = self.accepted
        if accepted is None or isinstance(value, accepted):
            return value
        if value is None and not self.required:  # clients write null for "not given"
            return self.default
        # A query string has no types (contract 01 §5.4): `key=123` arrives as a number, `n=-3` as -3.0.
        if str in accepted and type(value) is int:
            return str(value)
        if int in accepted and isinstance(value, float) and value.is_integer():
            return int(value)
        wanted = " or ".join(dict.fromkeys(_NAMES.get(kind, kind.__name__) for kind in accepted))
        raise _type_error(f"Argument '{self.name}' must be {wanted}, not {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a method: its JSON schema and the binding of arguments (contract 01 §2.12)."""

    positional: tuple[Parameter, ...]
    by_name: dict[str, Parameter]
    takes_any_position: bool
    takes_any_name: bool
    wants_context: bool

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        signature = inspect.signature(function)
        descriptions = describe(function)[1]
        positional: list[Parameter] = []
        by_name: dict[str, Parameter] = {}
        any_position = any_name = wants_context = False
        for name, given in signature.parameters.items():
            if given.kind is given.VAR_POSITIONAL:
                any_position = True
            elif given.kind is given.VAR_KEYWORD:
                any_name = True
            elif name == CONTEXT:
                wants_context = True
            else:
                hint = _resolve(function, name, given.annotation)
                schema = json_type(hint)
                if name in descriptions:
                    schema["description"] = descriptions[name]
                if isinstance(given.default, (str, int, float, bool)):
                    schema["default"] = given.default
                parameter = Parameter(name, given.default, _accepted(hint), schema)
                by_name[name] = parameter
                if given.kind is not given.KEYWORD_ONLY:
                    positional.append(parameter)
        return cls(tuple(positional), by_name, any_position, any_name, wants_context)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the parameters."""
        return {
            "type": "object",
            "properties": {name: parameter.schema for name, parameter in self.by_name.items()},
            "required": [name for name, parameter in self.by_name.items() if parameter.required],
        }

    def bind(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Check arguments and return what to call with. Raises BadRequest (TypeError)."""
        positional = self.positional
        if len(args) > len(positional) and not self.takes_any_position:
            raise _type_error(f"takes {len(positional)} positional arguments but {len(args)} were given")
        bound = [parameter.check(value) for parameter, value in zip(positional, args, strict=False)]
        bound.extend(args[len(bound) :])
        named = {name: self._named(name, value) for name, value in kwargs.items()}
        for index, parameter in enumerate(self.by_name.values()):
            # Keyword-only parameters come last, so that the first len(args) are those given by position.
            by_position = index < len(args) and index < len(positional)
            if by_position and parameter.name in named:
                raise _type_error(f"got multiple values for argument '{parameter.name}'")
            if not by_position and parameter.required and parameter.name not in named:
                raise _type_error(f"Missing required argument: '{parameter.name}'")
        return bound, named

    def _named(self, name: Any, value: Any) -> Any:
        parameter = self.by_name.get(name) if isinstance(name, str) else None
        if parameter is not None:
            return parameter.check(value)
        if not self.takes_any_name or name == CONTEXT or not isinstance(name, str):
            raise _type_error(f"got an unexpected keyword argument '{name}'")
        return value


def describe(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """Return the first paragraph of a docstring and the descriptions in its ``Args:`` section."""
    lines = (inspect.getdoc(function) or "").splitlines()
    end = lines.index("") if "" in lines else len(lines)
    summary = " ".join(line.strip() for line in lines[:end])
    found: dict[str, str] = {}
    heading = next((index for index, line in enumerate(lines) if _ARGS_HEADING.match(line)), None)
    if heading is None:
        return summary, found
    current, indent = "", 0
    for line in lines[heading + 1 :]:
        if line and not line[0].isspace():
            break
        match = _ARG.match(line)
        if match and (not current or len(match.group(1)) <= indent):
            current, indent = match.group(2), len(match.group(1))
            found[current] = match.group(3).strip()
        elif current and line.strip():
            found[current] = f"{found[current]} {line.strip()}".strip()
    return summary, found


def json_type(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of an annotation; unknown ones allow anything."""
    if hint in _JSON_TYPES:
        return dict(_JSON_TYPES[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [json_type(argument) for argument in arguments]}
    if origin in (list, tuple, Sequence) and arguments and arguments[0] is not Any:
        return {"type": "array", "items": json_type(arguments[0])}
    if origin in _JSON_TYPES:
        return dict(_JSON_TYPES[origin])
    return {"type": "object"} if typing.is_typeddict(hint) else {}


def _accepted(hint: Any) -> tuple[type, ...] | None:
    if hint in _ACCEPTED:
        return _ACCEPTED[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in _ACCEPTED:
        return _ACCEPTED[origin]
    if origin is Literal:
        return tuple(dict.fromkeys(type(argument) for argument in arguments))
    if origin in (Union, types.UnionType):
        parts = [_accepted(argument) for argument in arguments]
        return None if None in parts else tuple(kind for part in parts if part for kind in part)
    return (dict,) if typing.is_typeddict(hint) else None


def _resolve(function: Callable[..., Any], name: str, annotation: Any) -> Any:
    if annotation is _MISSING:
        return Any
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    namespace = getattr(inspect.unwrap(function), "__globals__", {})
    return typing.get_type_hints(holder, globalns=namespace)[name]


def _type_error(message: str) -> BadRequest:
    return BadRequest(message, rpc_type="TypeError")
