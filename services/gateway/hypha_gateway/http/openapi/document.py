from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.routing import BaseRoute, Route

from hypha_common.version import __version__

from .operation import ANY_STATUS, Answer, Operation, operation_of
from .schemas import PATH_PARAMETERS, SCHEMAS, SECURITY_SCHEMES

__all__ = ["EVERYWHERE", "WITH_BODY", "WITH_TOKEN", "described", "document", "operation_id"]

# Answers that no route has to mention: of every route, of those with a body, of those that read a token.
EVERYWHERE = {
    400: Answer.error("The path, the query or the body cannot be understood"),
    413: Answer.error("The body is too large"),
    429: Answer(
        "Too many requests",
        {"application/json": {"$ref": "#/components/schemas/Error"}},
        {"Retry-After": "seconds to wait"},
    ),
}
WITH_BODY = {
    408: Answer.error("The body came too slowly"),
    415: Answer.error("The body is of a type or an encoding that is not supported"),
}
WITH_TOKEN = {
    401: Answer.error("The token is no good"),
    403: Answer.error("Not allowed"),
    503: Answer.error("Not able to tell right now; try again"),
}


def described(routes: Iterable[BaseRoute]) -> Iterator[tuple[Route, str, Operation | None]]:
    """Yield (route, method, what was said of it) for everything that callers may use."""
    for route in routes:
        if isinstance(route, Route) and route.include_in_schema:
            for method in sorted((route.methods or set()) - {"HEAD"}):  # HEAD is GET without the body
                yield route, method, operation_of(route.endpoint, method)


def document(routes: Iterable[BaseRoute], *, base_path: str) -> dict[str, Any]:
    """Return the OpenAPI document of some routes. Raises LookupError for one that nothing is said of."""
    paths: dict[str, dict[str, Any]] = {}
    for route, method, operation in described(routes):
        if operation is None:
            raise LookupError(f"{method} {route.path} is not described")
        paths.setdefault(route.path_format, {})[method.lower()] = _operation(route, method, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hypha",
            "version": __version__,
            "description": "Programs register functions at this hub; over HTTP they are called like this.",
        },
        "servers": [{"url": base_path.rstrip("/") or "/"}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": SECURITY_SCHEMES},
    }


def operation_id(route: Route, method: str) -> str:
    """Return the id that links lead to: name, path and method, as web frameworks for Python make them."""
    return f"{re.sub(r'[^0-9A-Za-z_]', '_', route.name + route.path_format)}_{method.lower()}"


def _operation(route: Route, method: str, operation: Operation) -> dict[str, Any]:
    answers = {**EVERYWHERE, **(WITH_TOKEN if operation.token else {}), **(WITH_BODY if operation.body else {})}
    found: dict[str, Any] = {
        "operationId": operation_id(route, method),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [*_path_parameters(route), *_parameters(operation)],
        "responses": _answers({**answers, **operation.answers}),
    }
    if operation.description:
        found["description"] = operation.description
    if operation.body is not None:
        found["requestBody"] = {
            "description": operation.body.description,
            "content": {media: {"schema": schema} for media, schema in operation.body.content.items()},
        }
    if operation.token:
        found["security"] = [{}, *({name: []} for name in SECURITY_SCHEMES)]  # {}: also without
    return found


def _path_parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in route.param_convertors:
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }


def _parameters(operation: Operation) -> Iterator[dict[str, Any]]:
    for parameter in operation.parameters:
        found: dict[str, Any] = {
            "name": parameter.name,
            "in": parameter.where,
            "description": parameter.description,
            "schema": parameter.schema,
        }
        if parameter.schema.get("type") == "object":
            found |= {"style": "form", "explode": True}  # each property is a field of its own
        yield found


def _answers(answers: dict[int, Answer]) -> dict[str, Any]:
    found = {}
    for status in sorted(answers):
        answer = answers[status]
        shape: dict[str, Any] = {"description": answer.description}
        if answer.content:
            shape["content"] = {media: {"schema": schema} for media, schema in answer.content.items()}
        if answer.headers:
            shape["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in answer.headers.items()
            }
        found["default" if status == ANY_STATUS else str(status)] = shape
    return found
