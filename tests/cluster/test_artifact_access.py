"""
Who may do what with an artifact (contract 02 §1.6), asked in every way there is: RPC, services over HTTP, and REST.

What is expected is written down here anew, from the contract, not taken from the code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypha_rpc import connect_to_server

from hypha_common.ids import new_id
from hypha_common.principal import Permission, Principal, Scope
from tests.cluster.running_cluster import RunningCluster

_READ = {"read", "get_file", "list_files", "list"}
_WRITE = {"edit", "commit", "put_file", "remove_file", "discard_changes"}
_LEVELS: dict[str, set[str]] = {
    "n": set(),
    "l": {"list"},
    "l+": {"list"},
    "lv": {"list"},
    "lv+": {"list"},
    "lf": {"list", "list_files"},
    "lf+": {"list", "list_files", "put_file"},
    "r": _READ,
    "r+": _READ | {"put_file"},
    "rw": _READ | _WRITE,
    "rd+": (_READ | _WRITE) - {"commit"},
    "rw+": _READ | _WRITE,
    "*": _READ | _WRITE | {"delete", "reset_stats"},
    "unknown": set(),
}
_MEMBERS: dict[Permission, set[str]] = {
    Permission.READ: _READ,
    Permission.READ_WRITE: _READ | _WRITE | {"set_secret", "set_download_weight"},
}
_MEMBERS[Permission.ADMIN] = _MEMBERS[Permission.READ_WRITE] | {"delete", "reset_stats", "get_secret"}

# By operation: a call that needs it and leaves everything as it was, or that somebody allowed may repeat.
_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "read": ("read", {"silent": True}),
    "list": ("list", {"silent": True}),
    "list_files": ("list_files", {}),
    "get_file": ("get_file", {"file_path": "a.txt"}),
    "get_file ": ("get_status", {}),  # two methods, one operation
    "put_file": ("put_file", {"file_path": "b.txt"}),
    "remove_file": ("remove_file", {"file_path": "c.txt"}),
    "edit": ("edit", {"stage": True}),
    "commit": ("commit", {"version": "v0"}),
    "discard_changes": ("discard_changes", {}),
    "reset_stats": ("reset_stats", {}),
    "delete": ("delete", {"version": "no-such-version"}),
    "set_secret": ("set_secret", {"secret_key": "k", "secret_value": "v"}),
    "get_secret": ("get_secret", {"secret_key": "k"}),
    "set_download_weight": ("set_download_weight", {"file_path": "a.txt", "download_weight": 1}),
}
# REST has fewer.
_REST = {
    "read": ("GET", "/{ws}/artifacts/{alias}?silent=true"),
    "list": ("GET", "/{ws}/artifacts/{alias}/children?silent=true"),
    "list_files": ("GET", "/{ws}/artifacts/{alias}/files/"),
    "get_file": ("GET", "/{ws}/artifacts/{alias}/files/a.txt"),
    "get_file ": ("GET", "/{ws}/artifacts/{alias}/create-zip-file"),
    "get_file  ": ("GET", "/{ws}/view/{alias}/a.txt"),
    "put_file": ("PUT", "/{ws}/artifacts/{alias}/files/b.txt"),
    "put_file ": ("POST", "/{ws}/artifacts/{alias}/create-multipart-upload?path=b.bin&part_count=1"),
}


@dataclass
class Actor:
    """Somebody, and what they may do with an artifact of each level."""

    name: str
    token: str | None
    allowed: Callable[[str], set[str]]


@dataclass
class Stage:
    """A workspace with one artifact of each level in it, each with a file, and those who try."""

    workspace: str
    url: str
    aliases: dict[str, str]
    actors: list[Actor]


@pytest.fixture(scope="module")
def stage(cluster: RunningCluster) -> Stage:
    owner = f"user-{new_id(8).lower()}"
    workspace, run = f"ws-user-{owner}", new_id(6).lower()

    def member(permission: Permission) -> Actor:
        user = f"member-{new_id(8).lower()}"
        scope = Scope(workspaces={workspace: permission, f"ws-user-{user}": Permission.ADMIN})
        token = cluster.token_of(Principal(id=user, roles=("user",), email=f"{user}@example.org", scope=scope))
        return Actor(f"member {permission.name}", token, lambda level: _LEVELS[level] | _MEMBERS[permission])

    actors = [
        Actor("anonymous", None, _LEVELS.__getitem__),
        Actor("stranger", cluster.user_token(), _LEVELS.__getitem__),
        *map(member, _MEMBERS),
        Actor("creator", cluster.user_token(owner), lambda level: _LEVELS["*"] | _MEMBERS[Permission.ADMIN]),
    ]
    aliases = {level: f"a{run}-{number}" for number, level in enumerate(_LEVELS)}
    with httpx.Client(base_url=cluster.url, headers={"Authorization": f"Bearer {actors[-1].token}"}) as http:
        for level, alias in aliases.items():
            made = {"alias": alias, "workspace": workspace, "manifest": {"name": level}, "type": "collection"}
            for method, arguments in (
                ("create", {**made, "config": {"permissions": {"*": level}}, "secrets": {"k": "v"}}),
                ("edit", {"artifact_id": f"{workspace}/{alias}", "stage": True}),
                ("write_file", {"artifact_id": f"{workspace}/{alias}", "file_path": "a.txt", "content": "a"}),
                ("commit", {"artifact_id": f"{workspace}/{alias}"}),
            ):
                answer = http.post(f"/public/services/artifact-manager/{method}", json=arguments)
                assert answer.status_code == 200, (method, answer.text)
    return Stage(workspace, cluster.url, aliases, actors)


def _levels_for(actor: Actor) -> Iterable[str]:
    """Members are told apart by their permission: one level shows it, and one that adds to it."""
    return _LEVELS if actor.name in ("anonymous", "stranger") else ("n", "lf+")


async def _restage(stage: Stage, alias: str) -> None:
    """Whatever somebody did, the next one finds a draft."""
    headers = {"Authorization": f"Bearer {stage.actors[-1].token}"}
    async with httpx.AsyncClient(base_url=stage.url, headers=headers) as http:
        arguments = {"artifact_id": f"{stage.workspace}/{alias}", "stage": True}
        (await http.post("/public/services/artifact-manager/edit", json=arguments)).raise_for_status()


def _by_http(http: httpx.AsyncClient) -> Callable[[str, dict[str, Any]], Awaitable[str]]:
    async def call(method: str, arguments: dict[str, Any]) -> str:
        answer = await http.post(f"/public/services/artifact-manager/{method}", json=arguments)
        assert answer.status_code < 500, answer.text
        # 400, 404 …: allowed, and something else was wrong.
        return "PermissionError" if answer.status_code == 403 else ""

    return call


def _by_rpc(manager: Any) -> Callable[[str, dict[str, Any]], Awaitable[str]]:
    async def call(method: str, arguments: dict[str, Any]) -> str:
        try:
            await getattr(manager, method)(**arguments)
        except Exception as error:  # noqa: BLE001  # whatever the client makes of it
            return str(error)
        return ""

    return call


@pytest.fixture(params=["rpc", "http"])
async def way(request: pytest.FixtureRequest, stage: Stage) -> AsyncIterator[Callable[[Actor], Awaitable[Any]]]:
    """How to call methods of the artifact manager as somebody."""
    opened: list[Any] = []

    async def open_as(actor: Actor) -> Callable[[str, dict[str, Any]], Awaitable[str]]:
        if request.param == "http":
            headers = {"Authorization": f"Bearer {actor.token}"} if actor.token else {}
            opened.append(httpx.AsyncClient(base_url=stage.url, headers=headers, timeout=30))
            return _by_http(opened[-1])
        server = await connect_to_server({"server_url": stage.url, **({"token": actor.token} if actor.token else {})})
        opened.append(server)
        return _by_rpc(await server.get_service("public/artifact-manager"))

    yield open_as
    for one in opened:
        await (one.aclose() if isinstance(one, httpx.AsyncClient) else one.disconnect())


async def test_methods(stage: Stage, way: Callable[[Actor], Awaitable[Any]]) -> None:
    wrong = []
    for actor in stage.actors:
        call = await way(actor)
        for level in _levels_for(actor):
            alias = stage.aliases[level]
            for operation, (method, arguments) in _CALLS.items():
                if operation == "put_file":  # the first of those that want a draft
                    await _restage(stage, alias)
                target = {"parent_id" if method == "list" else "artifact_id": f"{stage.workspace}/{alias}"}
                error = await call(method, {**target, **arguments})
                denied = "PermissionError" in error or "permission" in error.lower()
                if denied == (operation.strip() in actor.allowed(level)):
                    wrong.append((actor.name, level, operation, error[-200:]))
    assert wrong == []


async def test_rest(stage: Stage) -> None:
    wrong = []
    for actor in stage.actors:
        headers = {"Authorization": f"Bearer {actor.token}"} if actor.token else {}
        async with httpx.AsyncClient(base_url=stage.url, headers=headers, timeout=30) as http:
            for level in _levels_for(actor):
                alias = stage.aliases[level]
                await _restage(stage, alias)
                for operation, (verb, path) in _REST.items():
                    url = path.format(ws=stage.workspace, alias=alias)
                    answer = await http.request(verb, url, content=b"b" if verb == "PUT" else None)
                    assert answer.status_code < 500, answer.text
                    denied = answer.status_code == 403
                    if denied == (operation.strip() in actor.allowed(level)):
                        wrong.append((actor.name, level, operation, answer.status_code, answer.text[:200]))
    assert wrong == []


async def test_what_nobody_asked_for_is_not_told(stage: Stage) -> None:
    """A workspace's artifacts are listed to strangers as far as they may see each of them (FIX-2); no secrets."""
    async with httpx.AsyncClient(base_url=stage.url) as http:
        found = (await http.get(f"/{stage.workspace}/artifacts/-/search?limit=1000")).json()
        readable = {stage.aliases[level] for level, allowed in _LEVELS.items() if "list" in allowed}
        assert {artifact["alias"] for artifact in found} == readable
        assert all("secrets" not in artifact for artifact in found)
        rooted = (await http.get(f"/{stage.workspace}/artifacts/?limit=1000")).json()
        assert {artifact["alias"] for artifact in rooted} == readable
