from __future__ import annotations

import re
from pathlib import Path

import pytest

from hypha.server.cli import main
from hypha.server.nats_users import helm_users, password_variable, users_conf
from hypha_common.bus_permissions import ROLES, SERVING, USERS, permissions_of, role_of_user

DEPLOY = Path(__file__).parents[2] / "deploy" / "nats"


def test_the_committed_file_is_what_the_code_needs(capsys: pytest.CaptureFixture[str]) -> None:
    """`hypha-server nats-users > deploy/nats/users.conf` brings it up to date."""
    assert main(["nats-users"]) == 0
    assert capsys.readouterr().out == (DEPLOY / "users.conf").read_text()


def test_every_user_of_the_chart(capsys: pytest.CaptureFixture[str]) -> None:
    """The same users, with passwords that the chart takes from the environment."""
    assert main(["nats-users", "--format", "helm"]) == 0
    assert "<< $NATS_GATEWAY_PASSWORD >>" in capsys.readouterr().out
    users = helm_users()
    assert [user["user"] for user in users] == list(USERS)
    for user in users:
        permissions = permissions_of(user["user"])
        assert user["permissions"]["publish"]["allow"] == list(permissions.publish)
        assert user["permissions"]["subscribe"]["allow"] == list(permissions.subscribe)
    assert main(["nats-users", "--format", "table"]) == 0
    assert capsys.readouterr().out.count("\n| ") == len(USERS)


def test_passwords_are_each_users_own() -> None:
    """In the environment of a deployment; written down for the embedded server alone."""
    assert re.findall(r"\$(\w+)", users_conf()) == [password_variable(user) for user in USERS]
    own = users_conf({user: f'"{user}\\' for user in USERS})
    assert "$" not in own
    assert 'user: apps, password: "\\"apps\\\\"' in own


@pytest.mark.parametrize("user", USERS)
def test_nobody_gets_what_is_not_needed(user: str) -> None:
    """No whole families of subjects, no answers to others, nothing of the server's own or of JetStream."""
    permissions = permissions_of(user)
    for subject in (*permissions.publish, *permissions.subscribe):
        assert subject.startswith("hy.")
        assert subject not in ("hy.>", "hy.*.>", "hy.a.>", "hy.b.>", "hy.g.>", "hy.i.>", "hy.r.>")
    assert [one for one in permissions.subscribe if one.startswith("hy.a.")] == [f"hy.a.{user}.*.*"]
    assert not [one for one in permissions.publish if one.startswith("hy.n.")]
    others = [role for role in SERVING if role != user]
    assert not [
        one for one in permissions.subscribe if one.startswith(tuple(f"hy.{k}.{r}." for k in "ri" for r in others))
    ]
    # Calls of clients: from gateways, and between the replicas of a role.
    for role in SERVING:
        assert (f"hy.i.{role}.*" in permissions.publish) == (user in ("gateway", role))
        assert f"hy.i.{role}.>" not in permissions.publish
    assert ("hy.f.>" in permissions.publish) == (user == "gateway")
    assert "hy.f.>" not in permissions.subscribe


def test_commands_appear_as_who_they_can_be() -> None:
    """In a service's container as that service, else as an operator."""
    assert [role_of_user(user) for user in (*ROLES, "operator", "", "somebody")] == [*ROLES, *["operator"] * 3]
