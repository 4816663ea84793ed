"""What a real server lets each role do, with the files of ``deploy/nats``."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from hypha.server.nats_users import password_variable
from hypha_common.bus import Bus
from hypha_common.bus_permissions import ROLES, SERVING, USERS, permissions_of
from hypha_common.errors import ConfigurationError, NotPermitted
from hypha_common.ids import new_id
from hypha_common.operating import gateways_there, operator_bus
from hypha_common.roll_call import answer_roll_call
from hypha_common.settings import Settings
from hypha_common.subjects import (
    answers,
    broadcast,
    client_frames,
    gateway_verb,
    no_responders_prefix,
    pinned,
    role_verb,
    workspace_events,
)
from tests.fixtures.loopback_server import LoopbackServer, program

DEPLOY = Path(__file__).parents[2] / "deploy" / "nats"
REPLICA = "AbCd2345"
CLIENT = client_frames("ws-user.a", "my client")


class DeployedNats(LoopbackServer):
    name = "nats"

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        for file in DEPLOY.iterdir():
            shutil.copy(file, self.folder)
        config = self.folder / "nats.conf"
        text = config.read_text().replace('"0.0.0.0:4222"', f'"127.0.0.1:{self.port}"')
        config.write_text(text.replace('"0.0.0.0:8222"', '"127.0.0.1:-1"'))
        passwords = [f"{password_variable(user)}={password_of(user)}" for user in USERS]
        return [
            "env",
            *passwords,
            f"NATS_SERVER={program('nats-server')}",
            str(self.folder / "start.sh"),
            "-c",
            str(config),
        ]


def password_of(user: str) -> str:
    return f"secret9e8{user}"


@pytest.fixture(scope="module")
def nats() -> Iterator[DeployedNats]:
    server = DeployedNats()
    yield server
    server.stop()


Connect = Callable[..., Awaitable[Bus]]


@pytest.fixture
async def connect(nats: DeployedNats) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def connected(user: str, role: str = "", password: str = "") -> Bus:
            bus = Bus(
                urls=[nats.url], role=role or user, instance=new_id(8), user=user,
                password=password or password_of(user), on_fatal=lambda reason: None,
            )  # fmt: skip
            await bus.connect()
            stack.push_async_callback(bus.close)
            return bus

        yield connected


# What the code publishes on: subject -> who may.
PUBLISHED = {
    CLIENT: ("gateway", *SERVING),
    client_frames("ws", f"client-role-apps-{REPLICA}"): ("gateway",),
    workspace_events("ws.a"): ("gateway", "workspace", "operator"),
    gateway_verb(REPLICA, "receipt"): ("gateway",),
    gateway_verb(REPLICA, "drain"): ("operator",),
    **{gateway_verb(REPLICA, verb): ("workspace", "operator") for verb in ("kick", "connections")},
    **{gateway_verb(REPLICA, verb): ("workspace",) for verb in ("awaits", "subscribe", "unsubscribe")},
    **{pinned(role, REPLICA): ("gateway", role) for role in SERVING},
    **{f"{pinned(role, REPLICA)}.ping": ("gateway",) for role in SERVING},
    **{role_verb(role, 7, "pin"): ("gateway", role) for role in SERVING},
    **{role_verb(role, 7, "call"): (role,) for role in SERVING},
    role_verb("artifacts", 7, "call.from.apps"): ("apps",),
    role_verb("artifacts", 7, "call.from.workspace"): ("workspace",),
    role_verb("artifacts", 7, "call.from.gateway"): (),
    role_verb("workspace", 7, "call.from.auth"): (),
    f"{pinned('apps', REPLICA)}.from.artifacts": ("artifacts",),
    f"{pinned('auth', REPLICA)}.from.artifacts": (),
    role_verb("auth", 7, "issue_instance"): ("auth", "apps"),
    role_verb("auth", 7, "issue"): ("auth", "workspace"),
    role_verb("auth", 7, "authenticate"): ("auth", "gateway"),
    role_verb("auth", 7, "block"): ("auth", "workspace"),
    role_verb("workspace", 7, "connect"): ("workspace", "gateway"),
    role_verb("workspace", 7, "info"): (*SERVING, "gateway", "operator"),
    role_verb("artifacts", 7, "http"): ("artifacts", "gateway"),
    role_verb("apps", 7, "ensure"): ("apps", "gateway", "workspace"),
    role_verb("apps", 7, "stop_session"): ("apps", "operator"),
    broadcast("security"): ("auth", "operator"),
    broadcast("roll-call"): ("gateway", "workspace", "operator"),
    broadcast("workspace_deleted"): ("workspace", "operator"),
    broadcast("app_session"): ("apps",),
    broadcast("login"): ("auth",),
    answers("gateway", REPLICA, "t"): ("gateway", *SERVING),
    answers("auth", REPLICA, "t"): ("gateway", "auth", "workspace"),
    answers("apps", REPLICA, "t"): ("gateway", *SERVING),
    answers("operator", REPLICA, "t"): ("gateway", *SERVING),
    f"{no_responders_prefix(REPLICA)}.c.1": (),
    "_INBOX.x": (),
    "$SYS.REQ.USER.INFO": (),
    "$JS.API.INFO": (),
    "hy.unknown": (),
}

# What it listens to.
SUBSCRIBED = {
    CLIENT: ("gateway",),
    "hy.f.>": (),
    client_frames("ws", f"client-role-apps-{REPLICA}"): ("apps",),
    workspace_events("ws.a"): ("gateway", "apps"),
    "hy.e.*.*": ("gateway", "apps"),
    gateway_verb(REPLICA, "kick"): ("gateway",),
    **{answers(user, REPLICA, "*"): (user,) for user in USERS},
    "hy.a.>": (),
    **{pinned(role, REPLICA): (role,) for role in SERVING},
    **{f"{pinned(role, REPLICA)}.from.*": (role,) for role in SERVING},
    "hy.i.>": (),
    **{role_verb(role, "*", "authenticate"): (role,) for role in SERVING},
    **{role_verb(role, "*", "call.from.*"): (role,) for role in SERVING},
    "hy.r.>": (),
    f"{no_responders_prefix(REPLICA)}.>": USERS,
    broadcast("roll-call"): ROLES,
    broadcast("security"): ("gateway", "auth"),
    broadcast("workspace_deleted"): ("artifacts", "apps"),
    broadcast("app_activity_asked"): ("gateway",),
    broadcast("login"): ("auth",),
    "hy.b.*": (),
    "_INBOX.>": (),
    "$SYS.>": (),
    "$JS.>": (),
    ">": (),
}


@pytest.mark.parametrize("user", USERS)
async def test_each_may_what_its_code_does_and_no_more(connect: Connect, user: str) -> None:
    """Whatever the server refuses is told; the connection stays."""
    bus = await connect(user)
    for subject in PUBLISHED:
        bus.publish(subject, b"")
    for subject in SUBSCRIBED:
        await bus.subscribe(subject, lambda subject, reply, payload: None, queue="q" if ".r." in subject else "")
    await bus.flush()
    publish = {subject.lower() for subject, who in PUBLISHED.items() if user not in who}
    subscribe = {subject.lower() for subject, who in SUBSCRIBED.items() if user not in who}
    told = {words.rpartition(" ")[::2] for words in bus.refused}
    assert {subject for words, subject in ((a, b) for a, b in told) if words.endswith("publish on")} == publish
    assert {subject for words, subject in ((a, b) for a, b in told) if words.endswith("subscribe to")} == subscribe
    assert bus.is_connected


@pytest.mark.parametrize("user", USERS)
async def test_the_whole_table_is_understood(connect: Connect, user: str) -> None:
    """The server takes every subject that is allowed, wildcards filled in."""
    bus = await connect(user)
    permissions = permissions_of(user)
    for pattern in permissions.publish:
        bus.publish(pattern.replace("*", "x").replace(">", "x"), b"")
    for pattern in permissions.subscribe:
        await bus.subscribe(pattern, lambda subject, reply, payload: None)
    await bus.flush()
    assert bus.refused == []


async def test_a_refused_question_fails_at_once(connect: Connect) -> None:
    """Whoever asked hears why; nobody waits for the timeout."""
    bus = await connect("artifacts")
    began = asyncio.get_running_loop().time()
    with pytest.raises(NotPermitted, match=r"user 'artifacts' publish on hy\.r\.auth\.0\.issue_instance"):
        await bus.request(role_verb("auth", 0, "issue_instance"), {}, timeout=20)
    with pytest.raises(NotPermitted):
        await bus.listens(gateway_verb(REPLICA, "drain"))
    assert asyncio.get_running_loop().time() - began < 10
    assert bus.missing == []  # it hears everything that it listens to


async def test_what_is_not_heard_is_missing(connect: Connect) -> None:
    """A process that cannot listen where it must does not look ready."""
    bus = await connect("workspace")
    assert bus.missing == []
    await bus.serve("auth", "authenticate", lambda message: asyncio.sleep(0))
    await bus.flush()
    assert bus.missing == ["the bus does not let user 'workspace' subscribe to hy.r.auth.*.authenticate"]


async def test_another_role_s_user_is_no_way_in(connect: Connect) -> None:
    """A service with the wrong user, or with the wrong password, cannot start, and says why."""
    with pytest.raises(NotPermitted, match=r"user 'apps' subscribe to hy\.a\.gateway\..*another role's user"):
        await connect("apps", role="gateway")
    with pytest.raises(NotPermitted, match="user 'apps' in: wrong user, password or token"):
        await connect("apps", password="wrong")


async def test_commands_say_what_they_lack(nats: DeployedNats, connect: Connect) -> None:
    """With a service's user they can do what it may; the rest is one sentence, not an empty answer."""
    gateway = await connect("gateway")
    await answer_roll_call(gateway, "gateway", dict)

    def settings(user: str) -> Settings:
        login = {"nats_user": user, "nats_password": password_of(user)}
        return Settings.load({"nats_url": nats.url, **login}, environ={}, file=None)

    async def look(with_settings: Settings) -> None:
        async with operator_bus(with_settings) as bus:
            assert await gateways_there(bus) == []
            raise ConfigurationError("No gateway is there")  # not so: nobody was asked

    for user in ("operator", "gateway", "workspace"):
        async with operator_bus(settings(user)) as bus:
            assert [found["id"] for found in await gateways_there(bus)] == [gateway.instance]
    for user in ("auth", "artifacts"):
        told = r"publish on hy\.b\.roll-call; give this command the user .* operator"
        with pytest.raises(NotPermitted, match=told):
            await look(settings(user))


@pytest.mark.parametrize("password", ["12345678", "9e8f", "two words", "a#b", ""])
async def test_passwords_that_would_be_misread_are_refused(password: str, tmp_path: Path) -> None:
    """nats-server would take some for numbers; the way it is started says so instead."""
    (tmp_path / "secret").write_text(password)
    environment = {**os.environ, "NATS_GATEWAY_PASSWORD_FILE": str(tmp_path / "secret"), "NATS_SERVER": "true"}
    process = await asyncio.create_subprocess_exec(
        str(DEPLOY / "start.sh"), env=environment, stderr=asyncio.subprocess.PIPE
    )
    _, told = await process.communicate()
    assert (process.returncode, b"NATS_GATEWAY_PASSWORD must be" in told) == ((1, True) if password else (0, False))
