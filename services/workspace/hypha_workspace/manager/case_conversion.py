from __future__ import annotations

from typing import Any, Literal

from hypha_common.errors import BadRequest

__all__ = ["CaseConversion", "check_case", "convert_case"]

CaseConversion = Literal["camel", "snake"]


def check_case(case: object) -> CaseConversion | None:
    """Return a ``case_conversion`` option, or raise BadRequest."""
    if case is None or case == "camel" or case == "snake":
        return case
    raise BadRequest(f"Invalid case conversion: {case}. It must be 'camel' or 'snake'")


def convert_case(value: Any, case: CaseConversion) -> Any:
    """
    Rename the keys of nested maps of an *encoded* service.

    Encoded values (maps with ``_rtype``) keep their keys, which belong to the wire; of a method, the name shown in its
    schema follows the key that it is found under.

    """
    if not isinstance(value, dict) or "_rtype" in value:
        return value
    rename = _to_camel if case == "camel" else _to_snake
    converted: dict[Any, Any] = {}
    for key, item in value.items():
        name = rename(key) if isinstance(key, str) else key
        converted[name] = _rename_method(item, str(name)) if _is_method(item) else convert_case(item, case)
    return converted


def _is_method(value: Any) -> bool:
    return isinstance(value, dict) and value.get("_rtype") == "method"


def _rename_method(method: dict[str, Any], name: str) -> dict[str, Any]:
    renamed = {**method, "_rname": name}
    if isinstance(schema := method.get("_rschema"), dict):
        renamed["_rschema"] = {**schema, "name": name}
    return renamed


def _to_camel(key: str) -> str:
    if key.startswith("_"):
        return key
    if "_" not in key:
        return key[:1].lower() + key[1:]
    head, *rest = key.split("_")
    return head + "".join(part.title() for part in rest)


def _to_snake(key: str) -> str:
    if key.startswith("_"):
        return key
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in key).lstrip("_")
