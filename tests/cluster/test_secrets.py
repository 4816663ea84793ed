from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil
from hypha_rpc import connect_to_server
from websockets.asyncio.client import connect as open_websocket

from hypha.server.data_directory import DataDirectory
from hypha_common.ids import new_id
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.commands import run_command
from tests.fixtures.nats import nats_passwords
from tests.fixtures.smtp import MailServer

_STARTUP = """
async def start(server):
    token = await server.generate_token()
    with open({path!r}, "w") as file:
        file.write(token)
    await server.register_service({{"id": "started", "config": {{"visibility": "public"}}, "fail": fail}})

def fail(secret):
    raise RuntimeError("a handler fails")
"""


class Secrets:
    """Whatever must never be seen, by name."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def add(self, name: str, secret: str) -> str:
        assert len(secret) >= 6, f"{name} is too short to be looked for"
        self._known[name] = secret
        return secret

    def in_text(self, text: str) -> list[str]:
        """Return the names of the secrets in a text: whole, encoded, or the part of a token that proves something."""
        return [name for name, secret in self._known.items() if _is_in(secret, text)]


def _is_in(secret: str, text: str) -> bool:
    if secret.isdigit():  # not as part of a time or another number
        return re.search(rf"(?<![\d.]){secret}(?![\d.])", text) is not None
    return any(form in text for form in _forms(secret))


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret, safe="")
    yield base64.b64encode(secret.encode()).decode().rstrip("=")[:-1]
    if secret.startswith("eyJ"):
        yield secret.rpartition(".")[2]  # the signature


async def _use(cluster: RunningCluster, known: Secrets) -> None:
    """Let clients do with tokens what clients do, right and wrong."""
    token = known.add("user token", cluster.user_token("leaky"))
    wrong = known.add("wrong token", token[:-6] + "AAAAAA")
    password = known.add("tried password", f"pw-{new_id(12)}")
    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        known.add("reconnection token", server.config["reconnection_token"])
        child = known.add("child token", await server.generate_token({"expires_in": 100}))
        await server.set_env("API_KEY", known.add("environment variable", f"env-{new_id(12)}"))
        queue = await server.get_service("public/queue")
        await queue.push("q", {"secret": known.add("queued task", f"task-{new_id(12)}")})
        with suppress(Exception):
            await (await server.get_service("public/started")).fail(known.add("argument", f"arg-{new_id(12)}"))
        with suppress(Exception):
            await server.parse_token(wrong)
        await server.revoke_token(child)
    target = cluster.url.replace("http", "ws", 1) + "/ws"
    for message in (
        {"token": wrong},
        {"token": child},
        {"reconnection_token": wrong},
        {"token": ["no text", token]},
        {"token": token, "workspace": "ws-user-root"},
        {"token": token, "client_id": "a/b"},
    ):
        async with open_websocket(target) as websocket:
            await websocket.send(json.dumps({"client_id": f"c-{new_id(6)}", **message}))
            await websocket.recv()
    async with open_websocket(f"{target}?token={token}&client_id=a") as websocket:
        await websocket.wait_closed()
    async with open_websocket(target) as websocket:
        await websocket.send(f'{{"client_id": "x", "token": "{token}"')  # no JSON
    async with open_websocket(target) as websocket:
        await websocket.send(json.dumps({"client_id": f"c-{new_id(6)}", "token": token}))
        known.add("second reconnection token", json.loads(await websocket.recv())["reconnection_token"])
        await websocket.send(b"\xc1" + token.encode())  # no msgpack
        await websocket.send(json.dumps({"type": "refresh_token", "token": token}))
        known.add("third reconnection token", json.loads(await websocket.recv())["reconnection_token"])
    root = cluster.root_token
    async with httpx.AsyncClient(base_url=cluster.url, timeout=20) as http:
        for headers in (
            {"Authorization": f"Bearer {token}"},
            {"Authorization": f"Bearer {wrong}"},
            {"Authorization": f"Bearer {root}"},
            {"Authorization": f"Bearer {root[:-1]}"},
            {"Authorization": wrong},
            {"Authorization": "Basic " + base64.b64encode(f"me:{token}".encode()).decode()},
            {"Authorization": "Basic " + base64.b64encode(f"me:{password}".encode()).decode()},
            {"Cookie": f"access_token={token}"},
            {"Cookie": f"access_token={wrong}"},
        ):
            for path in ("/public/services/queue/get_length?queue_name=q", "/ws-user-leaky/info", "/nothing"):
                await http.get(path, headers=headers)
        for parameter in ("token", "access_token", "reconnection_token", "key", "password"):
            for value in (token, wrong, password):
                await http.get(f"/public/services?{parameter}={value}")
                async with http.stream("GET", f"/rpc?client_id=x&{parameter}={quote(value)}"):
                    pass  # it may be let in, as somebody without a name
        start = (await http.post("/public/services/hypha-login/start", json={})).json()
        key = known.add("login key", start["key"])
        await http.get(start["login_url"].removeprefix(cluster.url))
        await http.post("/public/services/hypha-login/check", json={"key": key, "timeout": 0})
        await http.post("/public/services/hypha-login/report", json={"key": key, "token": wrong})
        await http.post("/public/services/hypha-login/report", json={"key": key, "token": token})
        done = await http.post("/public/services/hypha-login/check", json={"key": key, "timeout": 1})
        known.add("token of a login", done.json())
        await http.post("/public/services/queue/push", content=b"{" + token.encode())


async def _log_in(cluster: RunningCluster, known: Secrets, mail_server: MailServer) -> None:
    """Let a person have an account, with all that may go wrong."""
    email, password = "leaky@example.org", known.add("password", f"Pw-{new_id(12)}")
    new = known.add("new password", f"Pw-{new_id(12)}")
    async with httpx.AsyncClient(base_url=f"{cluster.url}/public/services/hypha-login", timeout=20) as http:

        async def call(method: str, token: str = "", **fields: str) -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer: dict[str, Any] = (await http.post(f"/{method}", json=fields, headers=headers)).json()
            return answer

        assert (await call("signup", email=email, password=password, name="Leaky"))["success"]
        code = known.add("verification code", await mail_server.code(email))
        assert not (await call("verify_email", email=email, code="123456" if code != "123456" else "654321"))["success"]
        assert (await call("verify_email", email=email, code=code))["success"]
        assert not (await call("login", email=email, password=new))["success"]
        token = known.add("token of an account", (await call("login", email=email, password=password))["token"])
        assert (await call("change_password", token, current_password=password, new_password=new))["success"]
        await call("login", email=email, password=password)
        known.add("newer token of an account", (await call("login", email=email, password=new))["token"])
        mail_server.refuses = True
        other = known.add("other password", f"Pw-{new_id(12)}")
        await call("signup", email="other@example.org", password=other, name="Other")
        await call("nothing", password=other)
        for page in ("login", "signup", ""):
            form = {"email": email, "password": other, "new_password": other, "code": code, "name": "x"}
            await http.post(f"{cluster.url}/public/apps/hypha-login/{page}", data=form)
            await http.get(f"{cluster.url}/public/apps/hypha-login/{page}?password={other}&key={other}")


async def _fail(cluster: RunningCluster, known: Secrets) -> None:
    """Let the same happen while what is needed is away, so that handlers fail."""
    (postgres,) = cluster.pids["postgres"]
    token = known.add("another token", cluster.user_token("unlucky"))
    async with connect_to_server({"server_url": cluster.url, "token": token}) as server:
        psutil.Process(postgres).suspend()
        try:
            calls = [
                server.revoke_token(known.add("token to revoke", cluster.user_token("other"))),
                server.set_env("KEY", known.add("lost variable", f"env-{new_id(12)}")),
                server.log(known.add("lost event", f"log-{new_id(12)}")),
            ]
            for process in psutil.Process(postgres).children():
                process.kill()
            done, running = await asyncio.wait([asyncio.ensure_future(call) for call in calls], timeout=2)
        finally:
            psutil.Process(postgres).kill()
        await asyncio.gather(*done, *running, return_exceptions=True)
    (nats,) = cluster.pids["nats"]
    psutil.Process(nats).kill()
    async with httpx.AsyncClient(base_url=cluster.url, timeout=20) as http:
        for _ in range(3):
            await http.get("/ws-user-unlucky/info", headers={"Authorization": f"Bearer {token}"})
        async with asyncio.timeout(30):
            while (await http.get("/health/readiness")).status_code != 200:
                await asyncio.sleep(0.2)


async def _everything_told(cluster: RunningCluster) -> dict[str, str]:
    """Return all that the cluster writes, answers and shows to whoever looks at the machine, by where that is."""
    told = {"log": cluster.log, "output": cluster.log_file.with_suffix(".out").read_text()}
    for file in sorted((cluster.data_dir / "logs").iterdir()):
        told[f"logs/{file.name}"] = file.read_text(errors="replace")
    environments = {}
    for process in cluster.tree():
        told[f"command line of {process.pid}"] = " ".join(process.cmdline())
        if process.cmdline()[1:2] == ["-m"]:
            environments[process.cmdline()[2]] = process.environ()
    async with httpx.AsyncClient(timeout=20) as http:
        for path in ("/metrics", "/health", "/health/readiness", "/health/liveness"):
            told[path] = (await http.get(cluster.url + path)).text
        for module, environ in environments.items():
            if port := environ.get("HYPHA_METRICS_PORT"):
                for path in ("/metrics", "/health/readiness"):
                    told[f"{module} {path}"] = (await http.get(f"http://127.0.0.1:{port}{path}")).text
    for module, environ in environments.items():
        if module in ("hypha.server", "hypha_auth", "hypha_gateway", "hypha_workspace"):
            settings = {name: value for name, value in environ.items() if name.startswith("HYPHA_")}
            done = await run_command(module, "check-config", environ=settings)
            assert "effective configuration" in done.out
            told[f"{module} check-config"] = done.out + done.err
    return told


async def test_no_secret_is_ever_told(start_cluster: Callable[..., RunningCluster], tmp_path: Path) -> None:
    """Whatever happens and however much is logged: not in logs, metrics, health, configuration or command lines."""
    known = Secrets()
    mail_password = known.add("mail password", new_id(20))
    mail_server = MailServer(login=("mailer", mail_password))
    await mail_server.start()
    startup = tmp_path / "startup.py"
    startup.write_text(_STARTUP.format(path=str(tmp_path / "token")))
    cluster = start_cluster(
        "--startup-functions",
        f"{startup}:start",
        environ={
            "HYPHA_LOG_LEVEL": "DEBUG",
            "HYPHA_PRINT_CONFIG": "true",
            "HYPHA_JWT_PREVIOUS_SECRETS": known.add("previous secret", secrets.token_hex(32)),
            "HYPHA_SMTP_URL": f"smtp://mailer:{mail_password}@127.0.0.1:{mail_server.port}",
            "HYPHA_VERIFICATION_FROM_EMAIL": "hub@example.org",
        },
    )
    made = DataDirectory(cluster.data_dir).read_secrets()
    known.add("root token", cluster.root_token)
    known.add("jwt secret", made.jwt_secret)
    for user, password in nats_passwords(cluster.data_dir).items():
        known.add(f"bus password of {user}", password)
    known.add("database password", made.postgres_password)
    known.add("token of a startup function", (tmp_path / "token").read_text())
    await _use(cluster, known)
    await _log_in(cluster, known, mail_server)
    await _fail(cluster, known)
    told = await _everything_told(cluster)
    leaks = {
        place: [(name, _around(text, known, name)) for name in found]
        for place, text in told.items()
        if (found := known.in_text(text))
    }
    # The looking itself works: what is no secret is found, in the log of each process.
    assert known.in_text("prefix " + quote(cluster.root_token)) == ["root token"]
    for event in ("leaky", "gateway_started", "auth_started", "replica_ready", "database_url"):
        assert event in told["log"], event
    assert leaks == {}
    await mail_server.stop()


def _around(text: str, known: Secrets, name: str) -> str:
    """Return the line that tells a secret, for whoever has to find out why."""
    lines = [line for line in text.splitlines() if name in known.in_text(line)]
    return lines[0][:300] if lines else ""
