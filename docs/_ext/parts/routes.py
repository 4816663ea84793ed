from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from hypha_gateway.http import routes as gateway_routes
from hypha_gateway.http.openapi import Answer
from hypha_gateway.http.openapi.document import EVERYWHERE, WITH_BODY, WITH_TOKEN, document

from .markdown import cell, code, prose, sentence, table

__all__ = ["routes", "schemas"]

_USUAL = {"every route": EVERYWHERE, "routes that take a body": WITH_BODY, "routes that read a token": WITH_TOKEN}


def routes() -> str:
    """What routes have in common, then every path and method; what is described word for word alike is told once."""
    same: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path, operations in sorted(_document()["paths"].items()):
        for method, operation in operations.items():
            same[_operation(operation)][path].append(method.upper())
    if not same:
        return ""
    usual = [
        (str(status), cell(answer.description), who)
        for who, answers in _USUAL.items()
        for status, answer in answers.items()
    ]
    told = [f"### {_heading(paths)}\n\n{words}" for words, paths in same.items()]
    return "\n\n".join(["Answers that the routes below do not mention:", table(["status", "when", "of"], usual), *told])


def schemas() -> str:
    """The shapes that routes refer to."""
    found: Mapping[str, Any] = _document()["components"]["schemas"]
    return "\n\n".join(
        f"### {name}\n\n```json\n{json.dumps(schema, indent=2, ensure_ascii=False)}\n```"
        for name, schema in sorted(found.items())
    )


@cache
def _document() -> Mapping[str, Any]:
    return document(gateway_routes(), base_path="/")


def _heading(paths: Mapping[str, list[str]]) -> str:
    by_methods: dict[str, list[str]] = defaultdict(list)
    for path, methods in paths.items():
        by_methods[" ".join(sorted(methods))].append(path)
    return ", ".join(f"{methods} {', '.join(map(code, found))}" for methods, found in by_methods.items())


def _operation(operation: Mapping[str, Any]) -> str:
    parts = [sentence(prose(operation["summary"])), prose(operation.get("description", ""))]
    parameters = [
        (code(found["name"]), found["in"], code(_shape(found["schema"])), cell(prose(found["description"])))
        for found in operation["parameters"]
    ]
    parts.append(table(["parameter", "in", "type", "meaning"], parameters))
    if body := operation.get("requestBody"):
        parts.append(f"Body: {prose(body['description'])} ({', '.join(_content(body['content']))})")
    answers = [
        (status, cell(prose(answer["description"])), cell(", ".join(_content(answer.get("content", {})))))
        for status, answer in operation["responses"].items()
        if not _is_usual(status, answer["description"])
    ]
    parts.append(table(["status", "when", "content"], answers))
    return "\n\n".join(part for part in parts if part)


def _is_usual(status: str, description: str) -> bool:
    found: list[Answer] = [
        answers[int(status)] for answers in _USUAL.values() if status.isdigit() and int(status) in answers
    ]
    return any(answer.description == description for answer in found)


def _content(content: Mapping[str, Any]) -> Iterator[str]:
    for media, found in content.items():
        shape = _shape(found["schema"])
        yield code(media) + (f": {_linked(shape)}" if shape else "")


def _linked(shape: str) -> str:
    name = shape.removeprefix("[").removesuffix("]")
    known = name in _document()["components"]["schemas"]
    return shape.replace(name, f"[{name}](#{name.lower()})") if known else shape


def _shape(schema: Mapping[str, Any]) -> str:
    """A schema in a word: a type, a name, or nothing for anything."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kind = schema.get("type", "")
    if kind == "array":
        return f"[{_shape(schema.get('items', {}))}]"
    return " | ".join(kind) if isinstance(kind, list) else str(kind)
