"""What artifacts may be called and hold, as far as no database is needed."""

from __future__ import annotations

import math
import random
import re
import threading
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from hypha_artifacts.actor import Actor
from hypha_artifacts.manager.alias_patterns import expand_pattern, random_alias
from hypha_artifacts.manager.aliases import check_alias, read_target
from hypha_artifacts.manager.commits import automatic_name, read_version_name
from hypha_artifacts.manager.configs import complete_config, inherited_config, read_config
from hypha_artifacts.manager.documents import read_map
from hypha_artifacts.manager.edits import becomes_new, read_intent, read_values
from hypha_artifacts.manager.lifecycle_delete import version_to_delete
from hypha_artifacts.manager.schemas import MAX_CHECK_S, check_against, check_schema
from hypha_artifacts.manager.sealing import Sealing
from hypha_artifacts.record import Artifact, Draft, Parent, Version, load_json
from hypha_artifacts.reference import ArtifactName, first_uuid_now, new_uuid, parse_reference, partition_in
from hypha_common.errors import BadRequest, HyphaError, InternalError, NotSupported, PayloadTooLarge
from hypha_common.principal import Principal
from hypha_common.settings import Settings
from hypha_common.subjects import partition_of
from hypha_common.wire import pack, unpack

ME = Actor(Principal(id="me"), "ws-a")


def artifact(*versions: str, intent: str | None = None, **changes: Any) -> Artifact:
    made = Artifact(new_uuid("ws-a"), "ws-a", "a", "generic", {"name": "A"}, {"x": 1}, "me", 0, 0)
    listed = tuple(Version(seq, name, None, 0) for seq, name in enumerate(versions))
    return replace(made, versions=listed, draft=None if intent is None else Draft(intent), **changes)


def _random_json(source: random.Random, depth: int = 0) -> Any:
    leaves = [None, True, False, 0, -7, 2**63 - 1, 1.5, "", "é\u2028𝄞", '"\\u0000"', "x" * 50]
    kind = source.randrange(4) if depth < 5 else 3
    if kind == 0:
        return {source.choice(["a", "é", "", "x.y", "$in"]): _random_json(source, depth + 1) for _ in range(3)}
    if kind == 1:
        return [_random_json(source, depth + 1) for _ in range(3)]
    return source.choice(leaves)


def test_json_is_kept_as_it_is() -> None:
    source = random.Random(4)
    for _ in range(300):
        value = {"v": _random_json(source)}
        assert read_map(value, "Manifest") == value
        assert unpack(pack(read_map(value, "Manifest"))) == value


def test_numbers_that_json_lacks() -> None:
    value = {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": (1, 2)}
    assert read_map(value, "Manifest") == {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}], "d": [1, 2]}
    assert load_json('{"a": 100000000000000000000, "b": 18446744073709551615, "c": [-9223372036854775809]}') == {
        "a": 1e20,
        "b": 2**64 - 1,
        "c": [-(2.0**63)],
    }


@pytest.mark.parametrize(
    "value", [[], "text", None, 7, {"a": b""}, {1: 2}, {"a": {None: 1}}, {"a": "\x00"}, {"\x00": 1}, {"a": "\ud800"},
              {"\udfff": 1}, {"a": {1, 2}}, {"a": object()}]
)  # fmt: skip
def test_what_is_no_json(value: object) -> None:
    with pytest.raises(BadRequest):
        read_map(value, "Manifest")


def test_large_and_deep_documents() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(BadRequest, match="nested more than 64 levels"):
        read_map({"a": deep}, "Manifest")
    with pytest.raises(PayloadTooLarge):
        read_map({"a": "é" * 600_000}, "Manifest")


def test_targets() -> None:
    assert read_target(None, None, None) == (None, None)
    assert read_target("a", None, None) == (None, "a")
    assert read_target("ws/a", None, None) == ("ws", "a")
    assert read_target("ws/a", None, "ws") == ("ws", "a")
    assert read_target(None, "ws/a", None) == ("ws", "a")
    assert read_target(None, None, "ws") == ("ws", None)
    for given in (("ws/a", None, "other"), (None, "a", None), (None, "a/b/c", None), ("a/b/c", None, None),
                  ("/a", None, None), (7, None, None), (None, 7, None), ("a", None, 7), ("a" * 65, None, None),
                  ("a", None, "\ud800"), ("a", None, "")):  # fmt: skip
        with pytest.raises(BadRequest):
            read_target(*given)
    for bad in ("", ".", "..", "..a", "a\ud800", "a\x1f", "\u2028", "-", "~", "_", "A" * 300, " a", "a\t",
                "{01900000-0000-7000-8000-000000000000}", "01900000-0000-7000-8000-00000000000A"):  # fmt: skip
        with pytest.raises(BadRequest):
            check_alias(bad)
    for good in (".a", "a..", "--", "ä b%?#'\"", "a:b@c", "0190"):
        assert check_alias(good) == good


def test_references() -> None:
    assert parse_reference("a", "ws") == ArtifactName("ws", "a")
    assert parse_reference("other/a", "ws") == ArtifactName("other", "a")
    identifier = new_uuid("ws-a")
    assert parse_reference(str(identifier), "ws") == identifier
    assert partition_in(identifier) == partition_of("ws-a")
    assert parse_reference(f"ws/{identifier}", "ws") == ArtifactName("ws", str(identifier))
    for bad in ("", "/", "a/", "/a", "a/b/c", "a\x00", "\ud800", "ws\ud800/a", None, 7, [], {}):
        with pytest.raises(BadRequest):
            parse_reference(bad, "ws")


def test_uuids_are_in_the_order_of_time() -> None:
    earlier = new_uuid("ws-a")
    time.sleep(0.002)
    between = first_uuid_now()
    assert earlier < between < new_uuid("ws-b")


def test_patterns() -> None:
    parts = {"animal": ["ant", "bee"], "fixed": "zoo", "odd": 7}

    def expand(pattern: str) -> str:
        return expand_pattern(pattern, uuid=UUID(int=7), user_id="me", config={}, parts=parts)

    assert {expand("{fixed}-{animal}") for _ in range(50)} == {"zoo-ant", "zoo-bee"}
    assert expand("{user_id}.{uuid}") == f"me.{UUID(int=7)}"
    assert re.fullmatch(r"x\d{10}", expand("x{timestamp}"))
    assert expand("{odd}") != expand("{odd}")
    assert expand("{{fixed}}") == "{zoo}"
    with pytest.raises(BadRequest, match=r"'\{zenodo_conceptrecid\}' placeholder"):
        expand("{zenodo_conceptrecid}")
    with pytest.raises(BadRequest):
        expand_pattern("{user_id}", uuid=UUID(int=7), user_id="a/b", config={}, parts={})
    with pytest.raises(NotSupported):
        expand_pattern("{zenodo_id}", uuid=UUID(int=7), user_id="a", config={"publish_to": "zenodo"}, parts={})
    made = {random_alias() for _ in range(1000)}
    assert len(made) > 990
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+){3}", alias) and check_alias(alias) for alias in made)


def test_configs() -> None:
    kept = {"permissions": {"*": "r", "a": ["read"]}, "view_config": "disabled", "anything": [1]}
    assert read_config(kept | {"child_count": 7, "vector_count": 1}) == kept
    assert complete_config({"permissions": {"me": "r"}}, "model", creator="me") == {"permissions": {"me": "*"}}
    assert complete_config({"permissions": None}, "collection", creator="me")["is_collection"] is True
    assert inherited_config({}, {"is_collection": True}, "model") == {"is_collection": True}
    assert inherited_config({"a": 1}, {}, "model") == {"a": 1}
    for bad in ({"view_config": 1}, {"storage": "tape"}, {"download_weights": {"a": True}}, {"id_parts": []},
                {"download_weights": {"a": "1"}}, {"list_fields": ["a", 1]}, {"collection_schema": []}):  # fmt: skip
        with pytest.raises(BadRequest):
            read_config(bad)


def test_schemas() -> None:
    check_schema(None)
    check_schema({"type": "object", "$ref": "#/definitions/x", "definitions": {"x": {}}})
    check_against(None, {"a": 1})
    check_against({"properties": {"a": {"enum": [1]}}}, {"a": 1})
    with pytest.raises(BadRequest, match=r"ValidationError: 2 is not one of \[1\] \(at b\.a\)"):
        check_against({"properties": {"b": {"properties": {"a": {"enum": [1]}}}}}, {"b": {"a": 2}})


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "(a+)+$"}}},
        {"patternProperties": {"(b+)+$": {}}},
        {"$ref": "#"},
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        {"properties": {"a": {"$ref": "file:///etc/passwd"}}},
        {"properties": {"a": {"$ref": "#/definitions/absent"}}},
        {"properties": {"a": {"pattern": "("}}},
    ],
)
def test_schemas_that_would_harm_others(schema: dict[str, Any]) -> None:
    """Searches without end are broken off, and nothing is fetched."""
    began = time.process_time()
    with pytest.raises(BadRequest):
        check_against(schema, {"a": "a" * 60 + "!", "b" * 60 + "!": 1})
    assert time.process_time() - began < MAX_CHECK_S + 2


def test_schemas_in_another_thread() -> None:
    """There is no signal to break off with, but the check works."""
    failures: list[HyphaError] = []

    def run() -> None:
        try:
            check_against({"required": ["b"]}, {"a": 1})
        except HyphaError as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(failures) == 1


def _sealing(secret: str, *previous: str) -> Sealing:
    return Sealing(Settings.load({"jwt_secret": secret, "jwt_previous_secrets": ",".join(previous)}, environ={}))


def test_secrets_are_sealed() -> None:
    """With a fresh nonce each time, for one artifact, and opened with previous keys."""
    old, new, identifier = "o" * 40, "n" * 40, new_uuid("ws-a")
    sealed = _sealing(old).seal(identifier, {"key": "hidden"})
    assert b"hidden" not in sealed
    assert sealed != _sealing(old).seal(identifier, {"key": "hidden"})
    assert _sealing(old).open(identifier, sealed) == {"key": "hidden"}
    assert _sealing(new, old).open(identifier, sealed) == {"key": "hidden"}
    assert _sealing(new).open(identifier, None) == {}
    for sealing, other, data in (
        (_sealing(new), identifier, sealed),
        (_sealing(old), new_uuid("ws-a"), sealed),
        (_sealing(old), identifier, sealed[:-1] + bytes([sealed[-1] ^ 1])),
    ):
        with pytest.raises(InternalError):
            sealing.open(other, data)


def test_names_of_versions() -> None:
    assert automatic_name(()) == "v0"
    assert automatic_name(artifact("v0", "v2").versions) == "v3"
    assert automatic_name(artifact("a", "b").versions) == "v2"
    for word in (None, "new", "stage"):
        assert read_version_name(word) is None
    assert read_version_name("1.0") == "1.0"
    for bad in ("latest", "", "a\n", "x" * 300, 7):
        with pytest.raises(BadRequest):
            read_version_name(bad)


def test_what_an_edit_intends() -> None:
    one, draft = artifact("v0", "v1"), artifact("v0", intent="new_version")
    assert [read_intent(one, version) for version in (None, "stage", "new", "latest", "v1")] == [
        None, None, "new_version", "edit_version", "edit_version"
    ]  # fmt: skip
    for bad in ("v0", "v2", "", 1):
        with pytest.raises(BadRequest, match="Edit operation only supports: None, 'new', 'stage', 'v1'"):
            read_intent(one, bad)
    assert becomes_new(draft, None)
    assert not becomes_new(draft, "edit_version")
    assert not becomes_new(one, None)
    assert becomes_new(artifact(intent="edit_version"), "edit_version")


def test_values_of_an_edit() -> None:
    """A new type must fit the manifest that stays; whoever edits a child keeps its permissions."""
    one = artifact("v0", manifest={"name": 7}, type="model")
    nothing: dict[str, Any] = {"manifest": None, "kind": None, "config": None, "secrets": None}
    with pytest.raises(BadRequest, match="'name' must be a string"):
        read_values(one, ME, **nothing | {"kind": "generic"})
    assert read_values(one, ME, **nothing | {"kind": "dataset"}).manifest is None
    assert read_values(one, ME, **nothing | {"config": {}}).config == {}
    child = replace(one, parent=Parent(new_uuid("ws-a"), ArtifactName("ws-a", "c"), {}))
    assert read_values(child, ME, **nothing | {"config": {}}).config == {"permissions": {"me": "*"}}
    given = read_values(child, ME, **nothing | {"config": {"permissions": {"me": "r"}}}).config
    assert given == {"permissions": {"me": "r"}}


def test_versions_to_delete() -> None:
    one = artifact("v0", "b")
    assert [version_to_delete(one, given).seq for given in ("b", 0, 1, "latest")] == [1, 0, 1, 1]
    for bad in ("0", "", True, -1, 2, 1.5):
        with pytest.raises(BadRequest):
            version_to_delete(one, bad)
    with pytest.raises(BadRequest, match="use the 'discard' function"):
        version_to_delete(artifact("v0", intent="edit_version"), "stage")
