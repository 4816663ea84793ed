from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

import httpx
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import percent_encode_sequence

from hypha_artifacts.main import ArtifactsService
from hypha_common.plans import Fetch, HttpCall, Reply, Stored, load_plan
from hypha_common.principal import Principal
from hypha_common.subjects import role_verb

__all__ = ["Answer", "HttpCaller", "S3Caller"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client would read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error of the S3 API."""
        return self.texts("Code")[0]

    def texts(self, name: str) -> list[str]:
        """Return the texts of all elements of a name in a document."""
        return [
            element.text or "" for element in ElementTree.fromstring(self.body).iter() if element.tag.endswith(name)
        ]


class HttpCaller:
    """Asks the verbs `http` and `stored` as a gateway does, and does what the plan says."""

    def __init__(self, service: ArtifactsService, http: httpx.AsyncClient) -> None:
        self._bus = service.bus
        self._http = http

    async def call(
        self,
        route: str,
        method: str,
        user: Principal,
        body: bytes = b"",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **params: str,
    ) -> Answer:
        """Raises the HyphaError that a gateway would answer."""
        is_read = method == "POST"
        call = HttpCall(
            route=route,
            method=method,
            params=params,
            query=list((query or {}).items()),
            headers=headers or {},
            user=user.dump(),
            workspace=params.get("workspace", "public"),
            base_url="http://hub.example",
            body=body if is_read else b"",
        )
        plan = load_plan(await self._bus.request(role_verb("artifacts", 0, "http"), call.dump()))
        if isinstance(plan, Fetch):
            return await self._fetch(plan, method)
        if not isinstance(plan, Reply):
            send = [(name, value) for name, value in plan.send if name != "content-length"]
            answer = await self._http.put(plan.url, content=body, headers=send)
            if answer.status_code != 200:
                return Answer(answer.status_code, answer.headers, answer.content)
            stored = Stored(plan.receipt, len(body), answer.headers["etag"].strip('"'))
            plan = load_plan(await self._bus.request(role_verb("artifacts", 0, "stored"), stored.dump()))
            assert isinstance(plan, Reply)
        return Answer(plan.status, dict(plan.headers), plan.body)

    async def _fetch(self, plan: Fetch, method: str) -> Answer:
        answer = await self._http.request(method, plan.url, headers=plan.send)
        return Answer(answer.status_code, {**answer.headers, **dict(plan.headers)}, answer.content)


class S3Caller:
    """Signs requests as botocore does, and makes them."""

    def __init__(self, http: HttpCaller, key_id: str, secret: str) -> None:
        self._http = http
        self._credentials = Credentials(key_id, secret)

    async def __call__(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        in_query: bool = False,
        sent_body: bytes | None = None,
    ) -> Answer:
        """Make a request; ``path`` begins with the bucket."""
        text = percent_encode_sequence(dict(query or {}))
        url = f"http://hub.example/s3/{quote(path, safe='/~')}" + (f"?{text}" if text else "")
        request = AWSRequest(method=method, url=url, headers=dict(headers or {}), data=body)
        auth: Any = S3SigV4QueryAuth if in_query else S3SigV4Auth
        auth(self._credentials, "s3", "EU").add_auth(request)
        prepared = request.prepare()
        sent = {name: value.decode() if isinstance(value, bytes) else value for name, value in prepared.headers.items()}
        arriving = body if sent_body is None else sent_body
        return await self.send(self._http, method, prepared.url, arriving, headers=sent)

    @staticmethod
    async def send(
        http: HttpCaller, method: str, url: str, body: bytes = b"", *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make a request to an address of `/s3` as it is."""
        parts = urlsplit(url)
        bucket, _, key = unquote(parts.path.removeprefix("/s3/")).partition("/")
        sent = {name.lower(): value for name, value in (headers or {}).items()}
        sent |= {"host": parts.netloc, "x-hypha-raw-path": parts.path, "x-hypha-raw-query": parts.query}
        sent.setdefault("content-length", str(len(body)))
        nobody = Principal(id="anonymouz-http", is_anonymous=True)
        return await http.call("s3", method, nobody, body, headers=sent, bucket=bucket, key=key)
