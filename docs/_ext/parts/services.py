"""
Built-in services, read from the `Service` objects that the processes of the cluster register.

They are made here of parts that are connected to nothing: only what methods are called, take and say of themselves is
looked at.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypha_apps.controller.service import create_service as server_apps
from hypha_artifacts.main import ArtifactsService
from hypha_auth.main import Auth
from hypha_common.rpc.builtin import built_in_service
from hypha_common.rpc.schema import Parameter
from hypha_common.rpc.service import Method, Service
from hypha_common.settings import Settings
from hypha_workspace.admin.service import create_admin_utils
from hypha_workspace.manager.service import create_manager
from hypha_workspace.queues.service import TaskQueues

from .markdown import cell, code, prose, sentence, table

__all__ = ["service", "services"]

_ARGUMENTS = re.compile(r"^Args:\n(?:(?:[ \t].*)?\n?)*", re.MULTILINE)  # the table has them


@dataclass(frozen=True)
class Offer:
    """A service, what it is called on its page's address, and what it takes to get it."""

    page: str
    address: str
    service: Service


class _Absent:
    """Stands for a database, a bus …: has every part, which is as absent."""

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *_args: object, **_kwargs: object) -> _Absent:
        return self


def services() -> str:
    """A table of all, with links to their pages: a page that is missing is a broken link, which fails the build."""
    rows = [
        (
            f"[{code(offer.address)}](rpc/{offer.page}.md)",
            cell(prose(sentence(offer.service.description or ""))),
            str(len(offer.service.methods)),
        )
        for offer in _offers().values()
    ]
    return table(["service", "what for", "methods"], rows)


def service(page: str) -> str:
    """One service with all its methods."""
    offer = _offers()[page]
    about = offer.service
    parts = [
        sentence(prose(about.description or "")),
        prose(about.docs or ""),
        f"Found as {code(offer.address)}. Visibility: {code(about.visibility)}. Type: {code(about.type)}.",
        *(_method(method) for _, method in sorted(about.methods.items())),
    ]
    return "\n\n".join(part for part in parts if part)


@cache
def _offers() -> dict[str, Offer]:
    return asyncio.run(_made())


async def _made() -> dict[str, Offer]:
    """Make the services; pools of databases want a loop, though nothing is connected."""
    absent: Any = _Absent()
    settings = Settings.load(
        {
            "nats_url": "nats://127.0.0.1:4222",
            "database_url": "postgresql://127.0.0.1/hypha",
            "jwt_secret": "0123456789abcdef0123456789abcdef",
            "endpoint_url": "http://127.0.0.1:9000",
            "access_key_id": "hypha",
            "secret_access_key": "0123456789abcdef",
            "oidc_issuer": "https://accounts.example.org",  # both ways to log in, so that all methods are there
            "oidc_client_id": "hypha",
            "enable_local_auth": "true",
        }
    )
    manager = create_manager(
        stores=absent, resolver=absent, applications=absent, lifetime=absent, events=absent, providers=absent,
        bus=absent, settings=settings,
    )  # fmt: skip
    auth = Auth(settings, on_fatal=absent)
    artifact_manager, s3_storage = ArtifactsService(settings, on_fatal=absent)._services()
    found = [
        Offer("workspace-manager", "~", manager),
        Offer("hypha-login", "public/hypha-login", auth.people.service),
        Offer("artifact-manager", "public/artifact-manager", artifact_manager),
        Offer("s3-storage", "public/s3-storage", s3_storage),
        Offer("server-apps", "public/server-apps", server_apps(absent, absent, absent)),
        Offer("queue", "public/queue", TaskQueues(absent, absent).service()),
        Offer("admin-utils", "ws-user-root/admin-utils", create_admin_utils(absent)),
        Offer("built-in", "<client>:built-in", built_in_service(absent)),
    ]
    return {offer.page: offer for offer in found}


def _method(method: Method) -> str:
    rows = [
        (code(name), code(_type(parameter.schema)), _default(parameter), _description(parameter))
        for name, parameter in method.parameters.by_name.items()
    ]
    parts = [
        f"## {code(method.name)}",
        code(f"{method.name}({', '.join(_signature(method))})"),
        prose(_ARGUMENTS.sub("", method.doc)),
        table(["parameter", "type", "default", "meaning"], rows),
    ]
    return "\n\n".join(part for part in parts if part)


def _signature(method: Method) -> Iterator[str]:
    """Parameters as Python writes them, without the caller, whom the server adds."""
    positional = len(method.parameters.positional)
    for index, parameter in enumerate(method.parameters.by_name.values()):
        if index == positional:
            yield "*"
        yield parameter.name if parameter.required else f"{parameter.name}={parameter.default!r}"


def _description(parameter: Parameter) -> str:
    return cell(prose(sentence(parameter.schema.get("description", ""))))


def _default(parameter: Parameter) -> str:
    return "–" if parameter.required else cell(code(repr(parameter.default)))


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(filter(None, map(_type, schema["anyOf"])))
    if "enum" in schema:
        return " or ".join(map(repr, schema["enum"]))
    kind = str(schema.get("type", "any"))
    if kind == "array" and schema.get("items"):
        return f"array of {_type(schema['items'])}"
    return "bytes" if schema.get("format") == "binary" else kind
