from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from typing import Any

import structlog

from hypha_common.custom_auth import LOGIN, MAX_TOKEN_BYTES, PROVIDER_SERVICE, CustomAuth, checked_user
from hypha_common.errors import BadRequest, HyphaError, Unauthorized, Unavailable
from hypha_common.ids import PUBLIC_WORKSPACE, ROLE_CLIENTS, Address
from hypha_common.principal import Principal
from hypha_common.rpc.peer import RpcPeer
from hypha_common.security_feed import Security
from hypha_common.tokens import BAD_HEADER, EXPIRED, TokenKind, VerifiedToken

__all__ = ["CustomTokens"]

log = structlog.get_logger(__name__)

_TIMEOUT_S = 5.0
_AT_ONCE = 64  # calls of this replica; more wait, and fail when their time is over
_AUTH = Address(PUBLIC_WORKSPACE, next(client for client, role in ROLE_CLIENTS.items() if role == "auth"))
AWAY = "Custom authentication is temporarily unavailable"


class CustomTokens:
    """
    Judges and makes tokens by the functions of a startup function, where there are some.

    Whatever goes wrong on the way there is Unavailable: such a token is neither accepted nor taken for nobody's.

    """

    def __init__(self, security: Security, *, now: Callable[[], float] = time.time) -> None:
        self.peer: RpcPeer | None = None  # asks the functions; set once it is made
        self._security = security
        self._now = now
        self._slots = asyncio.Semaphore(_AT_ONCE)

    @property
    def judges(self) -> bool:
        """Whether there are functions that judge tokens."""
        return self._custom("parse_token") is not None

    async def judge(self, token: str) -> VerifiedToken | None:
        """Return what a token says that the cluster has not signed; None: nobody else judges tokens here."""
        custom = self._custom("parse_token")
        if custom is None:
            return None
        if len(token.encode("utf-8", "surrogatepass")) > MAX_TOKEN_BYTES:
            raise Unauthorized(BAD_HEADER)
        answer = await self._ask(custom, "parse_token", token)
        if "error" in answer:
            raise Unauthorized(str(answer["error"]))
        try:
            user = checked_user(answer["result"])
        except (BadRequest, KeyError, TypeError) as error:
            log.warning("custom_auth_bad_user", error=str(error))
            raise Unauthorized(f"Custom authentication returned no user: {error}") from None
        if user.expires_at is not None and user.expires_at <= self._now():
            raise Unauthorized(EXPIRED)
        return VerifiedToken(
            principal=user,
            workspace=user.scope.current_workspace,
            client_id=user.scope.client_id,
            extra_scopes=user.scope.extra_scopes or (),
            expires_at=user.expires_at,
            token_id=hashlib.sha256(token.encode()).hexdigest(),
            kind=TokenKind.ACCESS,
        )

    async def generate(self, caller: Principal, child: Principal, life_s: int) -> str | None:
        """
        Return a token for ``child``, which ``caller`` may give away; None: the cluster makes it.

        Tokens of the cluster itself and of nobody in particular are not a person's, and stay the cluster's.

        """
        custom = self._custom("generate_token")
        if custom is None or caller.is_anonymous or "root" in (caller.id, caller.parent):
            return None
        answer = await self._ask(custom, "generate_token", child.dump(), life_s)
        token = answer.get("result")
        if "error" in answer or not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_BYTES:
            raise BadRequest(f"Custom authentication made no token: {answer.get('error', 'that is no text')}")
        return token

    def gate_login(self, sender: str) -> None:
        """Close the default login to all but the custom one, also while that is away. Raises Unavailable."""
        custom = self._custom(LOGIN)
        if custom is not None and sender != str(custom.provider):
            raise Unavailable("The login of this server is temporarily unavailable")

    def _custom(self, part: str) -> CustomAuth | None:
        custom = CustomAuth.load(self._security.custom_auth)
        return custom if custom is not None and part in custom.parts else None

    async def _ask(self, custom: CustomAuth, part: str, *arguments: Any) -> dict[str, Any]:
        method = f"services.{PROVIDER_SERVICE}.{part}"
        if self.peer is None:
            raise Unavailable(AWAY)
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._slots:
                answer = await self.peer.call(
                    custom.provider,
                    method,
                    *arguments,
                    sender=_AUTH,
                    workspace=PUBLIC_WORKSPACE,
                    timeout=_TIMEOUT_S,
                )
        except (TimeoutError, HyphaError) as error:
            log.warning("custom_auth_away", part=part, error=str(error) or "no answer in time")
            raise Unavailable(AWAY) from None
        return answer if isinstance(answer, dict) else {"error": "no answer"}
