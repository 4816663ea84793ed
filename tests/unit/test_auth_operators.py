"""``hypha-auth <verb>`` on a database, as operators call it; how processes that run follow: see the cluster tests."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from hypha_auth.cli import build
from hypha_common import telemetry
from hypha_common.db import Database
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.settings import Settings
from hypha_common.tokens import DEFAULT_AUDIENCE, DEFAULT_ISSUER, TokenCodec
from tests.fixtures.auth import ROOT_TOKEN, SECRET, auth_database, auth_settings, nats_url, postgres

__all__ = ["auth_database", "auth_settings", "nats_url", "postgres"]

CODEC = TokenCodec(SECRET)
EXPIRED = jwt.encode(
    {"iss": DEFAULT_ISSUER, "aud": DEFAULT_AUDIENCE, "sub": "ann", "exp": 5, "iat": 1}, SECRET, algorithm="HS256"
)
LATER = "processes that run follow within 30 s"


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def fields(self) -> dict[str, str]:
        """What was printed as ``name<tab>value``."""
        return dict(line.split("\t", 1) for line in self.out.splitlines())

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Awaitable[Done]]


@pytest.fixture
def run(
    auth_settings: Settings,
    auth_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command line as in a shell with the cluster's settings, but without its bus."""
    for name, value in auth_settings.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HYPHA_NATS_URL")
    monkeypatch.setattr(telemetry, "configure_logging", lambda settings, role: None)

    async def run(*words: str, stdin: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        status = await asyncio.to_thread(build().main, list(words))
        printed = capsys.readouterr()
        out = "".join(line for line in printed.out.splitlines(keepends=True) if "[info" not in line)
        return Done(status, out, printed.err)

    return run


def child(**scope: Any) -> Principal:
    return Principal(id="teal-x-00000001", parent="alice", scope=Scope({"ws-a": Permission.READ}, **scope))


async def test_issue(run: Run) -> None:
    """Nothing but the token is on standard output; it is signed by the ring and says what was asked for."""
    flags = ["--workspace=ws-lab", "--permission=admin", "--user-id=ada", "--email=ada@example.org", "--client-id=c"]
    more = ["--role", "user", "beta", "--expires-in=2h", "--scope", "ws-x#r", "--extra-scope", "openid"]
    done = await run("issue", *flags, *more)
    assert (done.status, done.err) == (0, "")
    token = done.out.strip()
    assert jwt.get_unverified_header(token)["alg"] == "ES256"
    found = (await run("inspect", token, "--json")).json
    assert found["verifies"] == "yes"
    assert (found["user"], found["email"], found["roles"]) == ("ada", "ada@example.org", ["user", "beta"])
    assert (found["workspace"], found["client_id"], found["extra_scopes"]) == ("ws-lab", "c", ["openid"])
    assert found["permissions"] == {"ws-lab": "a", "ws-x": "r"}
    assert found["expires_in"] == pytest.approx(7200, abs=30)
    [event] = [json.loads(line) for line in (await run("audit", "--event=token_issued", "--json")).out.splitlines()]
    assert event["user"].startswith("operator ")
    assert (event["workspace"], event["details"]["subject"]) == ("ws-lab", "ada")
    assert token not in str(event)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--permission=all"], "Invalid permission: all"),
        (["--expires-in=0"], "--expires-in must be greater than 0"),
        (["--expires-in=soon"], "--expires-in must be greater than 0"),
        (["--client-id=a/b"], "Invalid client id: a/b"),
        (["--extra-scope", "ws:x#a"], "Invalid extra scope: ws:x#a"),
    ],
)
async def test_issue_what_cannot_be(run: Run, flags: list[str], sentence: str) -> None:
    done = await run("issue", *flags)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"hypha-auth: {sentence}")


async def test_inspect(run: Run) -> None:
    """From an argument or standard input; for people line by line."""
    token = CODEC.sign(child(current_workspace="ws-a"), life_s=60)
    done = await run("inspect", "-", stdin=f"{token}\n")
    assert done.status == 0
    fields = done.fields
    assert (fields["verifies"], fields["algorithm"], fields["kind"]) == ("yes", "HS256", "access")
    assert (fields["user"], fields["parent"], fields["permissions"]) == ("teal-x-00000001", "alice", "ws-a=r")
    assert (fields["revoked"], fields["blocked"], fields["email"]) == ("no", "no", "-")
    assert fields["token_id"] == CODEC.verify(token).token_id


async def test_inspect_what_does_not_verify(run: Run) -> None:
    """What it claims is shown all the same, next to why nobody believes it."""
    forged = TokenCodec("another secret of thirty-two bytes!!").sign(child(), life_s=60)
    fields = (await run("inspect", forged)).fields
    assert (fields["verifies"], fields["user"]) == ("no: Signature verification failed.", "teal-x-00000001")
    fields = (await run("inspect", EXPIRED)).fields
    assert fields["verifies"] == "no: The token has expired. Please fetch a new one"
    assert (fields["user"], fields["expires_at"]) == ("ann", "1970-01-01T00:00:05Z")
    assert (await run("inspect", ROOT_TOKEN)).fields["user"] == "root"
    for rubbish in ("rubbish", "a.b.c", ""):
        done = await run("inspect", rubbish)
        assert done.status == 1
        assert done.err.startswith("hypha-auth: ")


async def test_revoke(run: Run) -> None:
    """By the token or by its id; without a bus it says when the cluster follows."""
    one, two = (CODEC.sign(child(), life_s=60) for _ in range(2))
    for words, stdin in (([one], ""), (["-"], one)):
        done = await run("revoke", *words, stdin=stdin)
        assert done.status == 0
        assert done.fields == {"revoked": CODEC.verify(one).token_id}
        assert LATER in done.err
    token_id = CODEC.verify(two).token_id
    assert (await run("revoke", "--token-id", token_id, "--json")).json == {"revoked": token_id}
    for token in (one, two):
        fields = (await run("inspect", token)).fields
        assert (fields["verifies"], fields["revoked"]) == ("yes", "yes")
    kept = CODEC.sign(child(), life_s=60, origins=[token_id])
    assert (await run("inspect", kept)).fields["revoked"] == "yes"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name a token"),
        (["x", "--token-id=y"], "Name a token"),
        (["rubbish"], "Invalid token: Error decoding token headers."),
        ([ROOT_TOKEN], "The root token cannot be revoked"),
        ([EXPIRED], "The token has already expired"),
    ],
)
async def test_revoke_what_cannot_be(run: Run, words: list[str], sentence: str) -> None:
    done = await run("revoke", *words)
    assert (done.status, done.out) == (1, "")
    assert sentence in done.err


async def test_keys(run: Run) -> None:
    """A rotation leaves the old key to verify with; dropping it refuses what it signed."""
    token = (await run("issue")).out.strip()
    [first] = [json.loads(line) for line in (await run("keys", "--json")).out.splitlines()]
    assert (first["algorithm"], first["state"], first["retired_at"]) == ("ES256", "signs", None)
    done = await run("rotate-keys")
    second = done.fields["signs"]
    assert LATER in done.err
    rows = [line.split("\t") for line in (await run("keys")).out.splitlines()]
    assert [(row[0], row[2]) for row in rows] == [(second, "signs"), (first["key_id"], "verifies")]
    assert (await run("inspect", token)).fields["verifies"] == "yes"
    assert (await run("rotate-keys", "--drop", first["key_id"])).fields == {"dropped": first["key_id"]}
    fields = (await run("inspect", token)).fields
    assert (fields["verifies"], fields["revoked"]) == ("no: Signature verification failed.", "yes")
    done = await run("rotate-keys", "--drop", first["key_id"])
    assert (done.status, done.err) == (1, f"hypha-auth: There is no signing key {first['key_id']}\n")
    # The key that signs may be dropped as well: another takes its place.
    assert (await run("rotate-keys", "--drop", second)).status == 0
    assert len((await run("keys")).out.splitlines()) == 1
    events = (await run("audit", "--event=keys_rotated")).out
    assert events.count("\n") == 3
    assert f"dropped={second}" in events


async def test_blocks(run: Run) -> None:
    done = await run("block", "user", "eve", "--for=1h", "--reason=spam from tests")
    assert done.status == 0
    assert done.fields["blocked"] == "eve"
    assert (await run("block", "ip", "192.0.2.9/24")).fields["blocked"] == "192.0.2.0/24"
    rows = [line.split("\t") for line in (await run("blocked")).out.splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("user", "eve", "spam from tests"),
        ("ip", "192.0.2.0/24", "-"),
    ]
    token = CODEC.sign(Principal(id="child", parent="eve"), life_s=60)
    assert (await run("inspect", token)).fields["blocked"] == "User is blocked: spam from tests"
    assert (await run("unblock", "user", "eve")).fields == {"unblocked": "eve"}
    done = await run("unblock", "user", "eve")
    assert (done.status, done.err.splitlines()[-1]) == (1, "hypha-auth: user eve is not blocked")
    for words, sentence in (
        (["user", "root"], "The user root cannot be blocked"),
        (["ip", "example.org"], "Invalid address: 'example.org'"),
        (["user", "eve", "--for=never"], "--for must be greater than 0"),
    ):
        done = await run("block", *words)
        assert done.status == 1
        assert sentence in done.err


async def test_audit(run: Run) -> None:
    """What was done is listed, the newest last, in the chosen form; one event is one line whatever is in it."""
    for name in ("ann", "bob", "carol"):
        await run("block", "user", name, "--reason=a b")
    lines = (await run("audit", "--limit=2")).out.splitlines()
    assert [line.split("\t")[-1] for line in lines] == [
        f"id={name} kind=user reason=a b until={line.rpartition('=')[2]}"
        for name, line in zip(("bob", "carol"), lines, strict=True)
    ]
    assert len((await run("audit", "--since=1h", "--event=blocked")).out.splitlines()) == 3
    assert (await run("audit", "--user=nobody")).out == ""
    assert (await run("audit", "--limit=0")).status == 1
    assert (await run("audit", "--since=yesterday")).status == 1


async def test_without_a_database(run: Run, monkeypatch: pytest.MonkeyPatch, auth_settings: Settings) -> None:
    """Each verb says in a sentence what it lacks."""
    monkeypatch.setenv("HYPHA_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    for verb in (
        ["keys"],
        ["issue"],
        ["blocked"],
        ["audit"],
        ["rotate-keys"],
        ["inspect", "x"],
        ["block", "user", "x"],
    ):
        done = await run(*verb)
        assert (done.status, done.out) == (1, "")
        assert done.err.splitlines()[-1].startswith("hypha-auth: ")
        assert "Traceback" not in done.err


async def test_without_tables(run: Run, monkeypatch: pytest.MonkeyPatch, postgres: Any) -> None:
    monkeypatch.setenv("HYPHA_DATABASE_URL", postgres.create())
    done = await run("keys")
    assert (done.status, done.err) == (
        1,
        "hypha-auth: The database lacks tables of this service; run: hypha-auth migrate\n",
    )


async def test_bus_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus that does not answer does not stop a revocation."""
    monkeypatch.setenv("HYPHA_NATS_URL", "nats://127.0.0.1:1")
    monkeypatch.setattr("hypha_common.bus.bus._CONNECT_DEADLINE_S", 0.3)
    done = await run("block", "user", "eve")
    assert done.status == 0
    assert "Cannot reach the bus" in done.err
    assert LATER in done.err
    assert "eve" in (await run("blocked")).out
