"""
Which subjects each NATS user may publish on and subscribe to: one user for each role, and one for people's commands.

Made of what the code does. Whoever adds a verb, a topic or a caller adds it here; then `hypha-server nats-users` writes
the files of `deploy/nats` anew. docs/decisions/0032-nats-users.md says what these permissions can keep apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["OPERATOR", "ROLES", "SERVING", "USERS", "Permissions", "permissions_of", "role_of_user"]

SERVING = ("auth", "workspace", "artifacts", "apps")  # roles that RPC clients call
ROLES = ("gateway", *SERVING)
OPERATOR = "operator"
USERS = (*ROLES, OPERATOR)

# Who asks whom what: asker -> role -> verbs (hy.r.<role>.<p>.<verb>).
_REQUESTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "gateway": {
        "auth": ("pin", "ready", "authenticate", "policy", "revoked", "audit", "oauth_endpoints", "oauth_token"),
        "workspace": ("pin", "ready", "connect", "disconnect", "info", "lease", "places", "reannounce", "resolve"),
        "artifacts": ("pin", "ready", "http", "stored"),
        "apps": ("pin", "ready", "activity", "ensure"),
    },
    "auth": {"workspace": ("announce", "info")},
    "workspace": {
        "auth": ("issue", "parse", "revoke", "block", "unblock", "blocked", "audit"),
        "artifacts": ("application", "applications"),
        "apps": ("ensure",),
    },
    "artifacts": {"auth": ("policy",), "workspace": ("announce", "info")},
    "apps": {
        "auth": ("issue_instance", "end_instance"),
        "workspace": ("announce", "info", "instances", "workers"),
        "artifacts": ("app_services",),
    },
    OPERATOR: {"auth": ("audit",), "workspace": ("info",), "apps": ("stop_session", "workers")},
}

# What is asked of, or told to, one gateway (hy.g.<gateway>.<verb>).
_GATEWAY_VERBS: Mapping[str, tuple[str, ...]] = {
    "gateway": ("hand_over", "receipt"),
    "auth": ("returned",),
    "workspace": ("awaits", "connections", "kick", "returned", "subscribe", "unsubscribe"),
    "artifacts": ("returned",),
    "apps": ("returned",),
    OPERATOR: ("connections", "drain", "kick"),
}

# Who calls methods of another role's services, in the name of whoever asked; the other role answers.
_COLLEAGUES: Mapping[str, tuple[str, ...]] = {
    "apps": ("artifacts", "workspace"),
    "workspace": ("auth", "artifacts", "apps"),  # which are asked for a service that a client looks up
}

# Announcements (hy.b.<topic>): who makes them, who listens.
_TOPICS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "app_activity_asked": (("apps",), ("gateway",)),
    "app_session": (("apps",), ("apps",)),
    "login": (("auth",), ("auth",)),
    "partitions": (("workspace", OPERATOR), ("gateway", "workspace", "artifacts", "apps")),
    "pushed": (("workspace",), ("workspace",)),
    "roll-call": (("gateway", "workspace", OPERATOR), ROLES),
    "security": (("auth", OPERATOR), ("gateway", "auth")),
    "workspace_deleted": (("workspace", OPERATOR), ("artifacts", "apps")),
}

_MEMBERS = "hy.e.*.*"  # workspace_events
_CLIENTS = "hy.f.*.*.*"  # client_frames, of clients alone: a replica's own address has one token more


@dataclass(frozen=True)
class Permissions:
    """Subjects, with NATS's wildcards; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def config(self) -> dict[str, Any]:
        """Return the ``permissions`` of a user, as nats-server's configuration has them."""
        return {"publish": {"allow": list(self.publish)}, "subscribe": {"allow": list(self.subscribe)}}


def permissions_of(user: str) -> Permissions:
    """Return what one of :data:`USERS` may do."""
    publish = {*_questions(user), *_replies(user), *_announcements(user), *_frames_sent(user)}
    subscribe = {f"hy.a.{user}.*.*", "hy.n.>", *_heard(user), *_frames_taken(user)}
    return Permissions(tuple(sorted(publish)), tuple(sorted(subscribe)))


def role_of_user(user: str) -> str:
    """Return as whom people's commands appear on the bus: a service's user can only be that service."""
    return user if user in ROLES else OPERATOR


def _questions(user: str) -> set[str]:
    asked = {f"hy.r.{role}.*.{verb}" for role, verbs in _REQUESTS[user].items() for verb in verbs}
    if user in SERVING:
        # Its own role: it is that role, so this gives it nothing, and people's commands work in its container.
        asked.add(f"hy.r.{user}.*.*")
    return asked | {f"hy.g.*.{verb}" for verb in _GATEWAY_VERBS.get(user, ())}


def _replies(user: str) -> set[str]:
    """Where it answers: to those who ask it. Tokens of requests cannot be guessed, so nobody answers for another."""
    askers = {asker for asker, roles in _REQUESTS.items() if user in roles} | ({user} & set(SERVING))
    if user == "gateway":
        # Whoever waits for a client asks since when it is there, and gateways give each other POSTs of streams.
        askers |= {*_GATEWAY_VERBS, *SERVING}
    if user in _TOPICS["roll-call"][1]:
        askers |= set(_TOPICS["roll-call"][0])
    return {f"hy.a.{asker}.*.*" for asker in askers}


def _announcements(user: str) -> set[str]:
    return {f"hy.b.{topic}" for topic, (makers, _) in _TOPICS.items() if user in makers}


def _heard(user: str) -> set[str]:
    return {f"hy.b.{topic}" for topic, (_, listeners) in _TOPICS.items() if user in listeners}


def _frames_sent(user: str) -> set[str]:
    if user == "gateway":
        return {"hy.f.>", _MEMBERS} | {f"hy.i.{role}.*{tail}" for role in SERVING for tail in ("", ".ping")}
    members = {_MEMBERS} if user in ("workspace", OPERATOR) else set()
    if user not in SERVING:
        return members
    called = set(_COLLEAGUES.get(user, ()))
    calling = {caller for caller, roles in _COLLEAGUES.items() if user in roles}
    return (
        {_CLIENTS, f"hy.i.{user}.*", f"hy.i.{user}.*.from.{user}", f"hy.r.{user}.*.call.from.{user}"}
        | {f"hy.i.{role}.*.from.{user}" for role in called | calling}
        | {f"hy.r.{role}.*.call.from.{user}" for role in called}
        | members
    )


def _frames_taken(user: str) -> set[str]:
    if user == "gateway":
        return {_CLIENTS, _MEMBERS, "hy.g.*.*"}
    if user not in SERVING:
        return set()
    own = {f"hy.r.{user}.>", f"hy.i.{user}.>"}
    if user == "apps":  # it calls workers as an address of its own, and hears who comes and goes
        own |= {f"hy.f.*.*.client-role-{user}.*", _MEMBERS}
    return own
