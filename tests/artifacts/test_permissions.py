"""
Who may do what with an artifact: every operation, level and kind of person, generated from the tables of the contract.

The tables here were written down from contract 02 §1.6, not from the code.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from hypha_rpc.rpc import RemoteException

from hypha_artifacts.access import check
from hypha_artifacts.actor import Actor
from hypha_artifacts.record import Artifact, Parent
from hypha_artifacts.reference import ArtifactName, new_uuid
from hypha_common.errors import PermissionDenied
from hypha_common.principal import Permission, Principal, Scope
from tests.artifacts.people import Person, enter, fresh
from tests.manager.rig import Gateway, user

_R = "read get_file list_files list search_vectors get_vector"
_RW = (
    "read get_file get_vector search_vectors list_files list_vectors list edit commit put_file add_vectors "
    "remove_file remove_vectors discard_changes detach mutate"
)
OPERATIONS_OF = {
    "n": "",
    "l": "list",
    "l+": "list draft",
    "lv": "list list_vectors",
    "lv+": "list list_vectors draft attach add_vectors",
    "lf": "list list_files",
    "lf+": "list list_files draft attach put_file",
    "r": _R,
    "r+": f"{_R} put_file draft attach add_vectors",
    "rw": _RW,
    "rd+": (
        "read get_file get_vector search_vectors list_files list_vectors list edit put_file add_vectors remove_file "
        "remove_vectors discard_changes get_status draft"
    ),
    "rw+": f"{_RW} get_status draft attach",
    "*": f"{_RW} get_status draft attach create reset_stats publish delete",
    "whatever": "",
}
BY_WORKSPACE = {
    Permission.READ: "list read get_vector get_file get_status list_files list_vectors search_vectors",
    Permission.READ_WRITE: (
        "create draft attach detach edit commit add_vectors put_file remove_vectors remove_file discard_changes "
        "set_secret set_download_weight mutate"
    ),
    Permission.ADMIN: "delete reset_stats publish get_secret",
}
READS = ["read", "list", "get_file", "list_files", "get_vector", "list_vectors", "search_vectors"]
ON_PARENT = [*READS, "draft", "attach", "detach", "create"]
EVERYTHING = sorted({operation for listed in BY_WORKSPACE.values() for operation in listed.split()})
NEEDED = {operation: level for level, listed in BY_WORKSPACE.items() for operation in listed.split()}

HOME = "ws-lab"


def member(name: str, permission: Permission) -> Actor:
    return Actor(Principal(id=name, email=f"{name}@x.org", scope=Scope({HOME: permission})), HOME)


STRANGER = Actor(Principal(id="stranger", scope=Scope({"ws-user-stranger": Permission.ADMIN})), "ws-user-stranger")
ANONYMOUS = Actor(Principal(id="anonymouz-1", is_anonymous=True), "ws-anonymous")
OTHER = Actor(Principal(id="other", email="other@x.org", scope=Scope({"ws-o": Permission.ADMIN})), "ws-o")
CREATOR = Actor(Principal(id="creator", scope=Scope({"ws-user-creator": Permission.ADMIN})), "ws-user-creator")
PEOPLE = {
    "stranger": STRANGER,
    "anonymous": ANONYMOUS,
    "other": OTHER,
    "reader": member("reader", Permission.READ),
    "writer": member("writer", Permission.READ_WRITE),
    "admin": member("admin", Permission.ADMIN),
    "creator": CREATOR,
}
AT_HOME = {"reader": Permission.READ, "writer": Permission.READ_WRITE, "admin": Permission.ADMIN}


def artifact(permissions: dict[str, Any], parent: dict[str, Any] | None = None) -> Artifact:
    above = None if parent is None else Parent(new_uuid(HOME), ArtifactName(HOME, "c"), {"permissions": parent})
    return Artifact(new_uuid(HOME), HOME, "a", "generic", {}, {"permissions": permissions}, "x", 0, 0, parent=above)


def allows(subject: Artifact, operation: str, actor: Actor) -> bool:
    try:
        check(subject, operation, actor)
    except PermissionDenied:
        return False
    return True


def expected(operation: str, level: str, who: str, parent: str | None = None) -> bool:
    """By the tables: `*` has a level, the creator has `*` on the artifact, and there may be a parent with a level."""
    by_workspace = AT_HOME.get(who, Permission.NONE) >= NEEDED[operation]
    own = operation in OPERATIONS_OF[level].split()
    own = own or (who == "creator" and operation in OPERATIONS_OF["*"].split())
    if parent is None:
        return own or by_workspace
    above = operation in OPERATIONS_OF[parent].split()
    may = own or by_workspace or (operation in READS and above)
    return may and (operation not in ON_PARENT or above or by_workspace)


def cases() -> Iterator[tuple[str, str, str, str | None]]:
    yield from product(EVERYTHING, OPERATIONS_OF, PEOPLE, [None, *OPERATIONS_OF])


def test_the_matrix() -> None:
    """Every operation, level, person, and level of a parent."""
    wrong, count, granted = [], 0, 0
    for operation, level, who, parent in cases():
        subject = artifact({"*": level, "creator": "*"}, None if parent is None else {"*": parent})
        is_allowed = allows(subject, operation, PEOPLE[who])
        count, granted = count + 1, granted + is_allowed
        if is_allowed != expected(operation, level, who, parent):
            wrong.append((operation, level, who, parent))
    assert wrong == []
    assert count > 30_000
    assert 0.2 < granted / count < 0.8


@pytest.mark.parametrize("operation", EVERYTHING)
def test_a_list_is_taken_literally(operation: str) -> None:
    subject = artifact({"*": [operation]})
    found = [other for other in EVERYTHING if allows(subject, other, STRANGER)]
    assert found == [operation]


def test_whom_a_key_means() -> None:
    """`*` everybody, `@` whoever logged in, an id, an e-mail, the user behind a token; `ws/…` only from there."""
    agent = Actor(Principal(id="agent-1", parent="other"), "ws-o")
    keys = {
        "*": {"stranger", "anonymous", "other", "creator", "agent"},
        "@": {"stranger", "other", "creator", "agent"},
        "other": {"other", "agent"},
        "other@x.org": {"other"},
        "OTHER@x.org": set(),
        "ws-o/*": {"other", "agent"},
        "ws-o/@": {"other", "agent"},
        "ws-o/other": {"other", "agent"},
        "ws-o/other@x.org": {"other"},
        "ws-o/stranger": set(),
        "ws-anonymous/*": {"anonymous"},
        "ws-anonymous/@": set(),
        "ws-lab/other": set(),
        "": set(),
    }
    people = {name: PEOPLE[name] for name in ("stranger", "anonymous", "other", "creator")} | {"agent": agent}
    for key, meant in keys.items():
        subject = artifact({key: "r"})
        assert {name for name, actor in people.items() if allows(subject, "read", actor)} == meant, key


def test_nothing_denies() -> None:
    assert allows(artifact({"other": "n", "*": "r"}), "read", OTHER)
    assert allows(artifact({"*": "n"}), "edit", PEOPLE["writer"])


# Over RPC: what a method needs, and how it is called.
METHODS = {
    "read": ("read", {}),
    "get_status": ("get_file", {}),
    "edit": ("edit", {"manifest": {"name": "X"}, "stage": True}),
    "discard_changes": ("edit", {}),
    "commit": ("commit", {}),
    "reset_stats": ("reset_stats", {}),
    "set_secret": ("set_secret", {"secret_key": "k", "secret_value": "v"}),
    "get_secret": ("get_secret", {}),
    "set_download_weight": ("set_download_weight", {"file_path": "f", "download_weight": 1}),
    "delete": ("delete", {}),
}


async def tell(person: Person, method: str, artifact_id: str, arguments: dict[str, Any]) -> bool:
    """Call a method; tell whether it was allowed."""
    try:
        await getattr(person.artifacts, method)(artifact_id=artifact_id, **arguments)
    except RemoteException as error:
        if "PermissionError: User does not have permission" not in str(error):
            raise
        return False
    return True


async def test_the_matrix_over_rpc(gateway: Gateway) -> None:
    """Each method that takes an artifact, by each kind of person, at each level; secrets told to nobody else."""
    owner = await fresh(gateway, "owner")
    home, grant = owner.workspace, owner.workspace.replace("-", "_")
    people = {
        "stranger": await fresh(gateway, "stranger"),
        "anonymous": await _nobody(gateway),
        "other": await fresh(gateway, "other"),
        "reader": await fresh(gateway, "reader", **{grant: Permission.READ}),
        "writer": await enter(gateway, user("writer", **{grant: Permission.READ_WRITE}), home),
        "admin": await fresh(gateway, "admin", **{grant: Permission.ADMIN}),
        "creator": await fresh(gateway, "creator"),
    }
    creator = people["creator"].principal.id
    wrong = []
    for level, who in product(OPERATIONS_OF, people):
        made = await owner.artifacts.create(
            manifest={"name": "A"}, secrets={"key": "hidden"}, config={"permissions": {"*": level, creator: "*"}}
        )
        for method, (operation, arguments) in METHODS.items():
            if await tell(people[who], method, made.id, arguments) != expected(operation, level, who):
                wrong.append((method, level, who))
    assert wrong == []


async def _nobody(gateway: Gateway) -> Person:
    principal = Principal(id="anonymouz-p", is_anonymous=True, scope=Scope({"ws-user-anonymouz-p": Permission.ADMIN}))
    return await enter(gateway, principal, "ws-user-anonymouz-p")


# What a stranger may do with a collection whose map gives everybody a level (contract 02 §1.6, as seen live).
#            draft  create edit-draft commit edit   new    delete
STRANGERS = {
    "n":   (False, False, None,  None,  None,  None,  None),
    "l":   (False, False, None,  None,  None,  None,  None),
    "l+":  (True,  False, True,  False, None,  None,  None),
    "r":   (False, False, None,  None,  None,  None,  None),
    "r+":  (True,  True,  True,  True,  False, False, False),
    "rw":  (False, False, None,  None,  None,  None,  None),
    "rd+": (True,  False, True,  False, None,  None,  None),
    "rw+": (True,  True,  True,  True,  True,  True,  True),
    "*":   (True,  True,  True,  True,  True,  True,  True),
    "list":(False, False, None,  None,  None,  None,  None),
}  # fmt: skip


async def test_a_stranger_in_a_collection(gateway: Gateway) -> None:
    """Drafts, direct creation, and what may be done to children of one's own, by the level of the collection."""
    owner, stranger = await fresh(gateway, "owner"), await fresh(gateway, "stranger")
    for level, wanted in STRANGERS.items():
        given: Any = ["read", "list", "create"] if level == "list" else level
        collection = await owner.artifacts.create(
            type="collection", manifest={"name": "C"}, config={"permissions": {"*": given}}
        )
        found = await _try_collection(stranger, collection.id)
        assert found == wanted, level


async def _try_collection(person: Person, collection: str) -> tuple[bool | None, ...]:
    a = person.artifacts

    async def works(method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return await getattr(a, method)(*args, **kwargs) or True
        except RemoteException as error:
            if "PermissionError: " not in str(error):
                raise
            return None

    new = {"parent_id": collection, "manifest": {"name": "A"}}
    draft = await works("create", **new, stage=True)
    direct = await works("create", **new)
    staged = committed = edited = version = deleted = None
    if draft:
        staged = bool(await works("edit", draft.id, manifest={"name": "B"}, stage=True))
        committed = bool(await works("commit", draft.id))
    if direct:
        edited = bool(await works("edit", direct.id, manifest={"name": "B"}))
        version = bool(await works("edit", direct.id, version="new"))
        deleted = bool(await works("delete", direct.id))
    return bool(draft), bool(direct), staged, committed, edited, version, deleted


async def test_owners_of_the_workspace_rule(gateway: Gateway) -> None:
    """Whatever the map of a collection says; a new version, too (FIX-12)."""
    owner, stranger = await fresh(gateway, "owner"), await fresh(gateway, "stranger")
    grant = owner.workspace.replace("-", "_")
    writer = await fresh(gateway, "writer", **{grant: Permission.READ_WRITE})
    await owner.artifacts.create(
        alias="c", type="collection", manifest={"name": "C"}, config={"permissions": {"*": "r+"}}
    )
    collection = f"{owner.workspace}/c"
    child = await stranger.artifacts.create(parent_id=collection, manifest={"name": "A"})
    for person in (owner, writer):
        await person.artifacts.edit(child.id, version="new")
    await owner.artifacts.edit(child.id, manifest={"name": "B"})
    with pytest.raises(RemoteException, match="no mutate permission"):
        await writer.artifacts.edit(child.id, manifest={"name": "C"})
    with pytest.raises(RemoteException, match="to commit an artifact to collection 'c'"):
        await stranger.artifacts.edit(child.id, version="new")
    assert [v["version"] for v in (await owner.artifacts.read(child.id)).versions] == ["v0", "v1", "v2"]
    await owner.artifacts.delete(child.id)


async def test_recipients_delete_what_they_get(gateway: Gateway) -> None:
    """One message that is addressed to them, where the collection lets them; no version of it, and nothing below."""
    owner, reader, other = [await fresh(gateway, name) for name in ("owner", "reader", "other")]
    for can in (False, True):
        config = {"private_children": True, "recipient_field": "to", "recipient_can_delete": can}
        inbox = await owner.artifacts.create(type="collection", manifest={"name": "Inbox"}, config=config)
        letter = await owner.artifacts.create(
            parent_id=inbox.id, type="letter", manifest={"to": reader.principal.email}
        )
        assert not await tell(other, "delete", letter.id, {})
        for arguments in ({"version": "v0"}, {"recursive": True}):
            assert not await tell(reader, "delete", letter.id, arguments)
        assert await tell(reader, "delete", letter.id, {}) == can


async def test_children_and_their_parent(gateway: Gateway) -> None:
    """A public child of a private collection is read by nobody else; a private child of a public one by everybody."""
    owner, stranger = await fresh(gateway, "owner"), await fresh(gateway, "stranger")
    for alias, own, parents, is_read in (("a", "r", "n", False), ("b", "n", "r", True), ("c", "n", "n", False)):
        parent = await owner.artifacts.create(
            type="collection", manifest={"name": "C"}, config={"permissions": {"*": parents}}
        )
        child = await owner.artifacts.create(
            alias=alias, parent_id=parent.id, manifest={"name": "A"}, config={"permissions": {"*": own}}
        )
        assert await tell(stranger, "read", child.id, {}) == is_read
