"""
What HTTP callers get wrong, and what ill-meaning ones try, through the whole cluster (contract 01 §4.8, §5).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgpack
import psutil
import pytest

from hypha_common.tokens import TokenKind
from tests.cluster.forged import codec_of, forged
from tests.cluster.raw_socket import raw_socket, upgrade_request
from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect
from tests.fixtures.errors_told import told

pytestmark = pytest.mark.usefixtures("unharmed")

MIB = 2**20
JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack"}


@pytest.fixture
async def http(cluster: RunningCluster) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=cluster.url, timeout=15) as client:
        yield client


class Provider:
    """A client that offers functions, and what it noticed."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self.yielded = 0
        self.contexts: list[dict[str, Any]] = []
        self.path = ""
        self.protected = ""
        self.server: Any = None

    async def count(self, n: int = 3, pause: float = 0.0) -> AsyncIterator[int]:
        try:
            for number in range(n):
                self.yielded += 1
                yield number
                await asyncio.sleep(pause)
        finally:
            self.closed.set()

    def who(self, context: dict[str, Any]) -> str:
        self.contexts.append(context)
        return str(context["user"]["id"])


@pytest.fixture
async def provider(connect: Connect) -> Provider:
    made = Provider()
    made.server = server = await connect()

    def fail() -> None:
        raise ValueError("bad thing")

    functions = {"add": lambda a, b=1: a + b, "echo": lambda x: x, "count": made.count, "fail": fail}
    public = await server.register_service({"id": "open", "config": {"visibility": "public"}, **functions})
    config = {"visibility": "public", "require_context": True}
    await server.register_service({"id": "who", "config": config, "who": made.who})
    await server.register_service({"id": "shut", "add": lambda a: a + 1})
    made.path = f"/{public.id.replace('/', '/services/')}".removesuffix(":open")
    return made


class TestBodies:
    @pytest.mark.parametrize(
        ("headers", "body", "status"),
        [
            (JSON, b"{", 400),
            (JSON, b"\xff\xfe{}", 400),
            (JSON, b'{"a":' + b"[" * 100_000, 400),
            (JSON, b'{"a":1' + b"0" * 5000 + b"}", 400),
            (JSON, b'{"a":"\\ud800"}', 400),
            (JSON, b'{"wrong":1}', 400),
            (JSON, b"[1,2,3]", 400),
            (MSGPACK, b"\xc1", 400),
            (MSGPACK, b"\x81\xa1a" + b"\x91" * 100_000, 400),
            (MSGPACK, b"\xdd\xff\xff\xff\xff", 400),
            (MSGPACK, msgpack.packb({1: 2}), 400),
            ({"Content-Type": "text/plain"}, b"a=1", 415),
            ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", 415),
            ({"Content-Type": ";;;"}, b"{}", 415),
            ({**JSON, "Content-Encoding": "gzip"}, b"\x1f\x8b", 400),
            ({**JSON, "Content-Encoding": "br"}, b"{}", 415),
        ],
        ids=lambda value: repr(value)[:24],
    )
    async def test_refused(
        self, http: httpx.AsyncClient, provider: Provider, headers: dict[str, str], body: bytes, status: int
    ) -> None:
        response = await http.post(f"{provider.path}:open/add", headers=headers, content=body)
        assert response.status_code == status, response.text
        assert response.json()["success"] is False
        assert "Traceback" not in response.text
        assert "File " not in response.text

    async def test_too_large(self, cluster: RunningCluster, http: httpx.AsyncClient, provider: Provider) -> None:
        """17 MB are refused, announced or not, and the gateway does not keep them."""
        gateway = psutil.Process(cluster.pids["gateway"][0])
        before = gateway.memory_info().rss

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(17):
                yield bytes(MIB)

        for content in (bytes(17 * MIB), pieces()):
            response = await http.post(f"{provider.path}:open/echo", headers=MSGPACK, content=content)
            assert (response.status_code, response.json()["success"]) == (413, False)
        assert (gateway.memory_info().rss - before) / MIB < 40

    async def test_large(self, http: httpx.AsyncClient, provider: Provider) -> None:
        """A few megabytes reach the function and come back."""
        data = bytes(range(256)) * 4096 * 3
        response = await http.post(f"{provider.path}:open/echo", headers=MSGPACK, content=msgpack.packb({"x": data}))
        assert msgpack.unpackb(response.content) == data


class TestTargets:
    @pytest.mark.parametrize(
        ("path", "status", "detail"),
        [
            ("ws-nowhere/services/s/f", 404, "RemoteException: KeyError: 'Service not found: ws-nowhere/*:s@*'"),
            ("{ws}/services/nothing/f", 404, "RemoteException: KeyError: 'Service not found: {ws}/*:nothing@*'"),
            ("{ws}/services/open/nothing", 404, "nothing not found."),
            ("{ws}/services/open/add.more", 404, "add.more not found."),
            ("{ws}/services/shut/add?a=1", 403, "RemoteException: PermissionError: Permission denied"),
            ("{ws}/services/open/fail", 400, "RemoteException: ValueError: bad thing"),
            ("{ws}/services/open/add", 400, "RemoteException: TypeError: "),
            ("{ws}/services/open/add?a=1&c=2", 400, "RemoteException: TypeError: "),
            ("{ws}/services/a:b:c/f", 400, "RemoteException: AssertionError: "),
            ("{ws}/services/open/add?a=1&_mode=nonsense", 400, "RemoteException: ValueError: Invalid mode: nonsense"),
            ("*/services/open/add?a=1", 400, "RemoteException: AssertionError: "),
            ("public/services/ws/set_env?key=a&value=1", 403, "RemoteException: PermissionError: "),
            ("public/services/ws/subscribe?event_type=x", 404, "RemoteException: RuntimeError: Connection not found"),
        ],
    )
    async def test_errors(
        self, http: httpx.AsyncClient, provider: Provider, path: str, status: int, detail: str
    ) -> None:
        workspace = provider.server.config.workspace
        response = await http.get("/" + path.format(ws=workspace))
        assert (response.status_code, response.json()["success"]) == (status, False), response.text
        assert response.json()["detail"].startswith(detail.format(ws=workspace))

    async def test_protected_from_outside(
        self, cluster: RunningCluster, http: httpx.AsyncClient, provider: Provider
    ) -> None:
        """For members only: not for other users, not for root acting from its own workspace."""
        url = f"{provider.path}:shut/add?a=1"
        member = await provider.server.generate_token()
        assert (await http.get(url, headers=_bearer(member))).json() == 2
        for token in (cluster.user_token(), cluster.root_token):
            assert (await http.get(url, headers=_bearer(token))).status_code == 403
        response = await http.post(f"{provider.path}:built-in/get_service", json={"service_id": "shut"})
        assert (response.status_code, "Permission denied" in response.text) == (403, True)
        listed = await http.get(f"/{provider.server.config.workspace}/services/")
        assert "shut" not in listed.text

    async def test_identity_is_not_to_be_forged(
        self, cluster: RunningCluster, http: httpx.AsyncClient, provider: Provider
    ) -> None:
        """Whatever arguments and headers claim, the function is told who the token says."""
        url = f"{provider.path}:who/who"
        claims = {"context": {"user": {"id": "root"}}}
        token = _bearer(cluster.user_token("ada"))
        answers = [
            await http.post(url, json=claims),
            await http.get(url, params={"context": json.dumps(claims["context"])}),
            await http.get(url, headers={"X-User": "root", "X-Forwarded-User": "root", "From": "root"}),
            await http.get(url, headers=token),
            await http.post(url, json=claims, headers=token),
        ]
        assert {answer.json() for answer in answers if answer.status_code == 200} <= {"anonymouz-http", "ada"}
        assert {context["user"]["id"] for context in provider.contexts} == {"anonymouz-http", "ada"}
        assert answers[3].json() == "ada"

    @pytest.mark.parametrize(
        "target",
        [
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/..%2f..%2fetc%2fpasswd",
            "/static/../../etc/passwd",
            "/assets/..%2f..%2f..%2fetc/passwd",
            "/public/services/..%2f..%2fx/f",
            "/public/services/%2e%2e/%2e%2e",
            "/public//services//x//f",
            "//public/services/x/f",
            "/a%00b/services/x/f",
            "/public/services/x%00/f",
            "/public/services/x/f%00?a=%00",
            "/public/services/%ff%fe/f",
            "/public/services/%0d%0aSet-Cookie:%20a=b/f",
            "/public/services/" + "x" * 9000 + "/f",
            "/" + "w" * 9000 + "/services/x/f",
            "/public/services/x/" + "f." * 4000 + "f",
            "/public/services/x/f?" + "&".join(f"a{number}=1" for number in range(2000)),
            "/public/services/x/f?a=" + "%7B" * 5000,
            "/%F0%9F%98%80/services/x/f",
            "/public/services/x>*.y/f",
            "/ws/services/x/f",
            "/*/services/*/f",
        ],
        ids=lambda target: target[:40],
    )
    async def test_odd_paths(self, cluster: RunningCluster, target: str) -> None:
        """Each is refused as what it is; none reaches a file, a header or another function."""
        async with raw_socket(cluster.url) as socket:
            request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            await socket.send(request.encode("latin-1"))
            answer = await socket.rest()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split()[1] in (b"400", b"403", b"404"), head
        assert b"Set-Cookie" not in head
        assert b"root:" not in body
        assert b"Traceback" not in body

    async def test_wrong_methods(self, http: httpx.AsyncClient, provider: Provider) -> None:
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
            response = await http.request(method, f"{provider.path}:open/add?a=1")
            assert response.status_code in (405, 501), method
        assert (await http.post("/health/readiness")).status_code == 405
        for path in (f"{provider.path}:open/add?a=1", "/health/readiness", "/"):
            head = await http.head(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == (await http.get(path)).headers["content-length"]

    async def test_preflight(self, http: httpx.AsyncClient, provider: Provider) -> None:
        origin = {"Origin": "https://page.example"}
        asked = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = await http.options(f"{provider.path}:open/add", headers=asked)
        assert (preflight.status_code, preflight.text) == (200, "OK")
        assert preflight.headers["access-control-allow-origin"] == origin["Origin"]
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert "Authorization" in preflight.headers["access-control-allow-headers"]
        for path in (f"{provider.path}:open/add?a=1", f"{provider.path}:open/fail"):
            answer = await http.get(path, headers=origin)
            assert answer.headers.get_list("access-control-allow-origin") == [origin["Origin"]]
        assert (await http.options(f"{provider.path}:open/add")).status_code == 405


class TestTokens:
    @pytest.mark.parametrize(
        ("token", "detail"),
        [
            pytest.param(lambda c: "abc", "Error decoding token headers.", id="rubbish"),
            pytest.param(lambda c: forged(c, exp=1), "The token has expired. Please fetch a new one", id="expired"),
            pytest.param(lambda c: forged(c, key="k" * 40), "Signature verification failed.", id="another key"),
            pytest.param(lambda c: forged(c, algorithm="none"), "Invalid algorithm: none", id="not signed"),
            pytest.param(lambda c: c.root_token[:-1], "Error decoding token headers.", id="nearly root"),
            pytest.param(lambda c: "x" * 60_000, "Error decoding token headers.", id="long"),
        ],
    )
    async def test_not_good(
        self,
        cluster: RunningCluster,
        http: httpx.AsyncClient,
        provider: Provider,
        token: Callable[[RunningCluster], str],
        detail: str,
    ) -> None:
        """401 with the reason wherever the token stands, never somebody anonymous."""
        text = token(cluster)
        for headers in (_bearer(text), {"Authorization": text}, {"Cookie": f"a=b; access_token={text}"}):
            response = await http.get(f"{provider.path}:open/add?a=1", headers=headers)
            assert (response.status_code, told(response)) == (401, {"detail": detail})
            assert response.headers["www-authenticate"] == "Bearer"

    async def test_revoked(self, http: httpx.AsyncClient, provider: Provider) -> None:
        """From the moment that the revocation returns."""
        url, token = f"{provider.path}:open/add?a=1", await provider.server.generate_token()
        assert (await http.get(url, headers=_bearer(token))).json() == 2
        await provider.server.revoke_token(token)
        response = await http.get(url, headers=_bearer(token))
        assert (response.status_code, told(response)) == (401, {"detail": "Token has been revoked"})

    async def test_reconnection_token(
        self, cluster: RunningCluster, http: httpx.AsyncClient, provider: Provider
    ) -> None:
        principal = codec_of(cluster).verify(cluster.user_token()).principal
        token = codec_of(cluster).sign(principal, life_s=60, kind=TokenKind.RECONNECTION)
        response = await http.get(f"{provider.path}:open/add?a=1", headers=_bearer(token))
        assert response.status_code == 401

    async def test_query_is_no_place_for_tokens(
        self, cluster: RunningCluster, http: httpx.AsyncClient, provider: Provider
    ) -> None:
        """Addresses are logged."""
        response = await http.get(f"{provider.path}:who/who", params={"token": cluster.root_token})
        assert response.status_code == 400
        assert provider.contexts == []


class TestStreams:
    async def test_events(self, http: httpx.AsyncClient, provider: Provider) -> None:
        """A generator arrives item by item."""
        async with http.stream("GET", f"{provider.path}:open/count?n=3&pause=0.2") as response:
            assert response.headers["content-type"] == "text/event-stream"
            started, times, lines = time.monotonic(), [], []
            async for line in response.aiter_lines():
                if line:
                    lines.append(line)
                    times.append(time.monotonic() - started)
        assert lines == ["data: 0", "data: 1", "data: 2", "data: [DONE]"]
        assert times[2] - times[0] > 0.3

    async def test_msgpack(self, http: httpx.AsyncClient, provider: Provider) -> None:
        response = await http.post(f"{provider.path}:open/count", headers=MSGPACK, content=msgpack.packb({"n": 100}))
        unpacker = msgpack.Unpacker()
        unpacker.feed(response.content)
        assert list(unpacker) == list(range(100))

    async def test_reader_that_leaves(self, http: httpx.AsyncClient, provider: Provider) -> None:
        """Whoever hangs up in the middle ends the generator over there."""
        async with http.stream("GET", f"{provider.path}:open/count?n=1000000&pause=0.01") as response:
            async for _ in response.aiter_lines():
                break
        await asyncio.wait_for(provider.closed.wait(), 5)
        assert provider.yielded < 200

    async def test_provider_that_leaves(self, http: httpx.AsyncClient, provider: Provider) -> None:
        """A stream whose provider is gone ends with an error."""
        async with http.stream("GET", f"{provider.path}:open/count?n=1000000&pause=0.01") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "data: 0"
            await provider.server.disconnect()
            rest = [line async for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert "not connected" in json.loads(rest[-2].removeprefix("data: "))["error"]

    async def test_caller_that_leaves(self, http: httpx.AsyncClient, provider: Provider) -> None:
        """Many callers that do not wait for their answers leave nothing behind."""
        for _ in range(20):
            with pytest.raises(httpx.ReadTimeout):
                await http.get(f"{provider.path}:open/count?n=1000&pause=1", timeout=0.05)
        assert (await http.get(f"{provider.path}:open/add?a=1")).json() == 2


class TestConnections:
    async def test_keep_alive(self, cluster: RunningCluster, provider: Provider) -> None:
        """One connection serves many requests, good ones and bad ones."""
        paths = ["add?a=1", "nothing", "fail", "add?a=2"]
        async with raw_socket(cluster.url) as socket:
            answers = []
            for path in paths:
                await socket.send(f"GET {provider.path}:open/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                answers.append(await socket.answer())
        assert [status for status, _ in answers] == [200, 404, 400, 200]
        assert [answers[0][1], answers[3][1]] == [b"2", b"3"]

    async def test_pipeline(self, cluster: RunningCluster, provider: Provider) -> None:
        """Requests sent at once are answered in their order, after a body too."""
        get = "GET {}:open/add?a={} HTTP/1.1\r\nHost: x\r\n\r\n"
        post = (
            "POST {}:open/add HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n"
            '{{"a": {}}}'
        )
        requests = [get.format(provider.path, 1), post.format(provider.path, 5), get.format(provider.path, 7)]
        async with raw_socket(cluster.url) as socket:
            await socket.send("".join(requests).encode())
            assert [await socket.answer() for _ in requests] == [(200, b"2"), (200, b"6"), (200, b"8")]

    async def test_upgrade_later(self, cluster: RunningCluster) -> None:
        """A websocket needs a connection of its own; asked for on a used one, the client is told to come again."""
        async with raw_socket(cluster.url) as socket:
            await socket.send(b"GET /health/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await socket.answer())[0] == 200
            await socket.send(upgrade_request())
            assert " 503 " in await socket.head()

    @pytest.mark.parametrize(
        "request_",
        [
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), id="TLS"),
            pytest.param(b"hello\r\n\r\n", id="no HTTP"),
            pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no host"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two hosts"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", id="blank before the colon"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n", id="NUL in a header"),
            pytest.param(b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n", id="control character in the path"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 60_000 + b"\r\n", id="many headers"),
            pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * MIB + b"\r\n\r\n", id="long header"),
            pytest.param(b"GET /" + b"x" * MIB + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="long path"),
            pytest.param(b"GET /ws" + b"x" * MIB + b" HTTP/1.1\r\nHost: x\r\n\r\n", id="long path of a websocket"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
            pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", id="negative length"),
            pytest.param(
                b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", id="lengths"
            ),
            pytest.param(
                b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", id="chunk without a size"
            ),
        ],
    )
    async def test_what_is_no_request(self, cluster: RunningCluster, request_: bytes) -> None:
        """Refused, and the connection ends: what follows cannot be understood."""
        async with raw_socket(cluster.url) as socket:
            await socket.send(request_)
            answer = await socket.rest(12)
        statuses = [line.split()[1] for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        assert set(statuses) <= {b"400", b"404", b"405", b"414", b"431"}

    async def test_slow_head(self, cluster: RunningCluster) -> None:
        """A request that does not come to the end of its head is waited for ten seconds, whatever drips in."""
        begun = (b"", b"G", b"GET /ws HTTP/1.1\r\nHost: x\r\n", b"POST /x HTTP/1.1\r\nHost: x\r\nA:")
        assert all(9 < waited < 13 for waited in await asyncio.gather(*(self._drip(cluster, head) for head in begun)))

    async def _drip(self, cluster: RunningCluster, begun: bytes) -> float:
        started = time.monotonic()
        async with raw_socket(cluster.url) as socket:
            await socket.send(begun)
            end = asyncio.create_task(socket.rest(15))
            while not end.done():
                await asyncio.sleep(0.2)
                if begun.endswith(b":"):
                    await socket.send(b"x")
            await end
        return time.monotonic() - started

    async def test_no_switch_to_another_protocol(self, cluster: RunningCluster) -> None:
        """A proxy in front would not see what passes afterwards."""
        async with raw_socket(cluster.url) as socket:
            fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"
            await socket.send(f"GET /health/liveness HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n".encode())
            assert (await socket.answer())[0] == 200


class TestRates:
    async def test_addresses_and_tokens(self, limited_cluster: RunningCluster) -> None:
        """Who asks too often is told when to come again; probes are not counted, a token has a bucket of its own."""
        url, token = "/assets/config.json", _bearer(limited_cluster.user_token())
        async with httpx.AsyncClient(base_url=limited_cluster.url, timeout=10) as http:
            answers = [await http.get(url) for _ in range(14)]
            assert [answer.status_code for answer in answers[:8]] == [200] * 8
            refused = answers[-1]
            assert (refused.status_code, told(refused)) == (429, {"detail": "Rate limit exceeded. Please slow down."})
            assert int(refused.headers["retry-after"]) >= 1
            forged_token = await http.get(url, headers=_bearer("forged"))
            assert forged_token.status_code == 429
            statuses = [(await http.get(url, headers=token)).status_code for _ in range(24)]
            assert (statuses[:15], statuses[-1]) == ([200] * 15, 429)
            for _ in range(20):
                assert (await http.get("/health/readiness")).status_code == 200
            await asyncio.sleep(int(refused.headers["retry-after"]) + 0.2)
            assert (await http.get(url)).status_code == 200


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
