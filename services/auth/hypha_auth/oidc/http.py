from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hypha_common.errors import Unavailable

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "ProviderHttp"]

MAX_ANSWER_BYTES = 256 * 1024
_TIMEOUT_S = 5.0
_MAX_REQUESTS = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider answered; ``content`` is its JSON."""

    status: int
    content: dict[str, Any]


class ProviderHttp:
    """
    Requests to the provider: JSON answers of a bounded size in a bounded time, and nothing that leads elsewhere.

    Every failure is Unavailable, whose text a person may read.

    """

    def __init__(self, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._requests = asyncio.Semaphore(_MAX_REQUESTS)
        self._client: httpx.AsyncClient | None = None

    async def get(self, url: str, *, bearer: str = "") -> dict[str, Any]:
        """Return the JSON object at an address."""
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        answer = await self._send("GET", url, headers=headers)
        if answer.status != 200:
            raise Unavailable(f"{_host(url)} answered with status {answer.status}")
        return answer.content

    async def post(self, url: str, form: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form that is encoded already; return the answer whatever its status."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._send("POST", url, content=form.encode(), headers=kind | dict(headers or {}))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _send(self, method: str, url: str, *, headers: Mapping[str, str], content: bytes = b"") -> Answer:
        import httpx

        try:
            async with asyncio.timeout(self._timeout_s), self._requests:
                status, body = await self._exchange(method, url, headers, content)
        except (TimeoutError, httpx.TimeoutException):
            raise Unavailable(f"{_host(url)} does not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise Unavailable(f"{_host(url)} cannot be reached: {type(error).__name__}") from None
        try:
            parsed = json.loads(body)
        except (ValueError, RecursionError):
            raise Unavailable(f"{_host(url)} answered with status {status} and no JSON") from None
        if not isinstance(parsed, dict):
            raise Unavailable(f"{_host(url)} answered with something else than a JSON object")
        return Answer(status, parsed)

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, bytearray]:
        # Compressed answers could grow beyond any limit.
        asked = {"Accept": "application/json", "Accept-Encoding": "identity", **headers}
        body = bytearray()
        async with self._opened().stream(method, url, headers=asked, content=content or None) as response:
            if response.is_redirect or response.headers.get("content-encoding", "identity") != "identity":
                raise Unavailable(f"{_host(url)} gave an answer that is not used: status {response.status_code}")
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise Unavailable(f"{_host(url)} gave an answer of more than {MAX_ANSWER_BYTES} bytes")
        return response.status_code, body

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(follow_redirects=False, timeout=self._timeout_s)
        return self._client


def _host(url: str) -> str:
    return urlsplit(url).netloc or url
