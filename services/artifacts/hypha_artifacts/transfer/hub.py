from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urljoin

import aiohttp
from yarl import URL

from hypha_common.errors import (
    BadRequest,
    HyphaError,
    InternalError,
    NotFound,
    PermissionDenied,
    Unauthorized,
    Unavailable,
)

if TYPE_CHECKING:
    from .target import Target

__all__ = ["Cut", "Hub", "RemoteFile", "etag_of"]

_TRIES = 6
_FIRST_WAIT_S = 0.25
_MAX_WAIT_S = 8.0
_IDLE_TIMEOUT_S = 60.0  # of a connection on which nothing moves
_PAGE = 1000
_PASSING = frozenset((408, 429, 500, 502, 503, 504))
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_TEXT_BYTES = 4096

Result = TypeVar("Result")


class Cut(HyphaError):
    """A transfer ended early, or was refused for the moment: to be tried again."""

    status, code = 503, "unavailable"


class Unreachable(Cut):
    """The server did not take part in a conversation, or left it."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of an artifact, ``path`` in full."""

    path: str
    size: int


class Hub:
    """
    A server as people's machines see it: one session, a number of connections, retries.

    Raises Unauthorized, PermissionDenied, NotFound, BadRequest for what the server refuses, Unavailable where it cannot
    be reached. The token is sent to this server only, and is in no message.

    """

    def __init__(self, server_url: str, token: str | None, *, connections: int) -> None:
        self.server_url = server_url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connections = connections
        self._slots = asyncio.Semaphore(connections)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Hub:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_IDLE_TIMEOUT_S)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=self._connections + 2),
            auto_decompress=False,  # bytes are wanted as they are kept
            headers={"Accept-Encoding": "identity"},
            trust_env=True,
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the artifact manager."""
        url = f"{self.server_url}/public/services/artifact-manager/{method}"

        return await self.post(url, arguments)

    async def post(self, url: str, message: Any = None) -> Any:
        """Send JSON and return what is answered."""

        async def once() -> Any:
            async with self.open("POST", url, json=message) as answer:
                try:
                    return await answer.json(content_type=None)
                except ValueError:
                    raise BadRequest(f"{self.server_url} does not answer as a Hypha server does") from None

        return await self.patiently(once)

    async def enter(self, workspace: str) -> None:
        """Come to a workspace: a user's own is made when they come for the first time."""

        async def once() -> None:
            async with self.open("GET", f"{self.server_url}/{quote(workspace, safe='')}/info") as answer:
                await answer.read()

        await self.patiently(once)

    async def files(
        self, target: Target, folder: str, *, recursive: bool = True, **of: Any
    ) -> AsyncIterator[RemoteFile]:
        """Yield the files below a folder; ``of``: ``version`` or ``stage``."""
        folders = [folder.strip("/")]
        while folders:
            current = folders.pop()
            offset = 0
            while True:
                page = await self.call(
                    "list_files", artifact_id=target.artifact_id, dir_path=current or None, limit=_PAGE, offset=offset,
                    **of,
                )  # fmt: skip
                for entry in page:
                    path = f"{current}/{entry['name']}" if current else entry["name"]
                    if entry["type"] != "directory":
                        yield RemoteFile(path, entry["size"])
                    elif recursive:
                        folders.append(path)
                offset += len(page)
                if len(page) < _PAGE:
                    break

    async def etag(self, target: Target, path: str, **of: Any) -> str | None:
        """Return the etag of a file, without quotes; None where the server gives none. Raises NotFound."""

        async def once() -> str | None:
            async with self.open("HEAD", self.file_url(target, path, **of)) as answer:
                return etag_of(answer.headers)

        return await self.patiently(once)

    def file_url(self, target: Target, path: str, **query: Any) -> str:
        given = {name: str(value) for name, value in query.items() if value not in (None, False)}
        text = f"{self.server_url}{target.url_path}/files/{quote(path, safe='/')}"
        return f"{text}?{urlencode(given)}" if given else text

    def upload_url(self, target: Target, action: str, **query: Any) -> str:
        given = f"?{urlencode(query)}" if query else ""
        return f"{self.server_url}{target.url_path}/{action}-multipart-upload{given}"

    @asynccontextmanager
    async def open(self, method: str, url: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """
        Send a request; the answer is one of success. Redirects are followed, without the token.

        Raises Cut where another try may help.

        """
        assert self._session is not None
        headers = {**(options.pop("headers", None) or {})}
        async with self._slots:
            for _ in range(5):
                own = self._headers if url.startswith(f"{self.server_url}/") and "X-Amz-Signature=" not in url else {}
                try:
                    async with self._session.request(
                        method, URL(url, encoded=True), headers={**headers, **own}, allow_redirects=False, **options
                    ) as answer:
                        if answer.status not in _REDIRECTS:
                            if answer.status >= HTTPStatus.BAD_REQUEST:
                                raise await _refusal(answer)
                            yield answer
                            return
                        url = urljoin(url, answer.headers.get("Location", ""))
                except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                    raise Unreachable(f"{self.server_url} cannot be reached: {_said(error)}") from error
            raise BadRequest("The server redirects without end")

    async def patiently(self, once: Callable[[], Awaitable[Result]]) -> Result:
        """
        Try until it works, or has failed for a while.

        Raises Unavailable where the server cannot be reached, InternalError where it fails at this one request.

        """
        wait_s = _FIRST_WAIT_S
        for left in reversed(range(_TRIES)):
            try:
                return await once()
            except Cut as error:
                if not left:
                    kind = Unavailable if isinstance(error, Unreachable) else InternalError
                    raise kind(str(error)) from error
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _MAX_WAIT_S)
        raise AssertionError("the last try returns or raises")


def etag_of(headers: Mapping[str, str]) -> str | None:
    return headers.get("ETag", "").removeprefix("W/").strip('"') or None


async def _refusal(answer: aiohttp.ClientResponse) -> HyphaError:
    """Return the error for an answer that is none of success."""
    text = (await answer.content.read(_TEXT_BYTES)).decode(errors="replace")
    detail = _detail(text) or f"HTTP {answer.status} {answer.reason or ''}".strip()
    # An error of the service is one at the next try, too.
    if answer.status in _PASSING and not (answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and "Error: " in detail):
        return Cut(detail)
    kinds: dict[int, type[HyphaError]] = {401: Unauthorized, 403: PermissionDenied, 404: NotFound}
    return kinds.get(answer.status, BadRequest)(detail)


def _detail(text: str) -> str:
    """Return the sentence in the body of a refusal."""
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        return text.strip()[:300] if not text.lstrip().startswith("<") else ""
    return detail if isinstance(detail, str) else json.dumps(detail)


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
