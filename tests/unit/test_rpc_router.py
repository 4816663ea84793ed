from __future__ import annotations

from hypha_common.ids import Address
from hypha_common.rpc.router import Router, canonical, instance_of, is_said_by, role_sender, takes_whole_frames
from hypha_common.subjects import client_frames, partition_of, pinned, role_verb

MANAGER = Address("*", "manager-hypha")
AUTH = Address("public", "hypha-auth")


def test_subjects() -> None:
    """Frames go to a gateway, a queue group, or the one replica whose session or address they name."""
    subject_for = Router("apps").subject_for
    assert subject_for(Address("ws-a", "c"), "services.x.y") == client_frames("ws-a", "c")
    assert subject_for(Address("ws-a", "c"), "i-abcdefgh-s.resolve") == client_frames("ws-a", "c")
    partition = partition_of("ws-a")
    to_manager = role_verb("workspace", partition, "call.from.apps")
    assert subject_for(MANAGER, "services.default.echo", workspace="ws-a") == to_manager
    assert subject_for(AUTH, "services.x.y", workspace="ws-a") == role_verb("auth", partition, "call.from.apps")
    pinned_there = pinned("workspace", "abcdefgh") + ".from.apps"
    assert subject_for(MANAGER, "i-abcdefgh-s.resolve", workspace="ws-a") == pinned_there
    assert subject_for(Address("*", "manager-old"), "i-abcdefgh-s.1") == pinned_there
    sender = Address("ws-a", role_sender("workspace", "abcdefgh"))
    assert subject_for(sender, "s.resolve") == pinned_there


def test_senders() -> None:
    """A role has its own addresses, and nobody else's."""
    for own in ("ws-a/client-role-apps-abcdefgh", "public/hypha-apps", "ws-user-root/hypha-apps"):
        assert is_said_by("apps", own)
    for other in (
        "ws-a/client-role-auth-abcdefgh",
        "public/hypha-auth",
        "*/manager-hypha",
        "ws-a/hypha-apps",
        None,
        "",
    ):
        assert not is_said_by("apps", other)
    assert is_said_by("workspace", "*/manager-hypha")


def test_instances() -> None:
    """Only a well-formed prefix pins."""
    assert instance_of("i-abcdefgh-s.resolve") == "abcdefgh"
    for method in ("services.i-abcdefgh-x", "i-abc-s.resolve", "i-abcd.fgh-s", "i->>>>>>>>-s", "g-abcdefgh-s", ""):
        assert instance_of(method) is None


def test_whole_frames() -> None:
    """Roles and sessions of peers take frames of any size; clients read only short ones."""
    assert takes_whole_frames(MANAGER, "services.default.echo")
    assert takes_whole_frames(Address("ws-a", "client-abcdefgh"), "g-abcdefgh-s.resolve")
    assert not takes_whole_frames(Address("ws-a", "client-abcdefgh"), "services.built-in.ping")
    assert not takes_whole_frames(Address("public", "somebody"), "s.resolve")


def test_aliases() -> None:
    """Every manager id stands for the workspace manager."""
    assert canonical("*/manager-old") == canonical("*/manager-hypha") == "*/manager-hypha"
    assert canonical("ws/manager-old") == "ws/manager-old"
