from __future__ import annotations

import time
from typing import Any

import pytest

from hypha_common.errors import Unauthorized
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.revocation import RevokedTokens
from hypha_common.tokens import EXPIRED, TokenCodec, TokenKind
from hypha_common.verifier import REVOKED, Authenticator, RootToken, TokenVerifier

ROOT = "kR7pQ2vX9mB4nZ6tC1wY8sD5fG3hJ0lU"
ALICE = Principal(id="alice", scope=Scope())


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def codec() -> TokenCodec:
    return TokenCodec("a secret of at least thirty-two bytes")


@pytest.fixture
def revoked() -> RevokedTokens:
    return RevokedTokens()


@pytest.fixture
def verifier(codec: TokenCodec, revoked: RevokedTokens, clock: Clock) -> TokenVerifier:
    return TokenVerifier(codec, revoked, max_cached=3, now=clock)


def test_remembered(verifier: TokenVerifier, codec: TokenCodec) -> None:
    """The same token is decoded once."""
    token = codec.sign(ALICE, life_s=60)
    assert verifier.verify(token) is verifier.verify(token)


def test_forgets_the_least_recently_used(verifier: TokenVerifier, codec: TokenCodec) -> None:
    """The memory is bounded."""
    tokens = [codec.sign(ALICE, life_s=60) for _ in range(4)]
    first, second = (verifier.verify(token) for token in tokens[:2])
    verifier.verify(tokens[2])
    assert verifier.verify(tokens[0]) is first
    verifier.verify(tokens[3])
    assert verifier.verify(tokens[0]) is first
    assert verifier.verify(tokens[1]) is not second


def test_expiry_of_a_remembered_token(verifier: TokenVerifier, codec: TokenCodec, clock: Clock) -> None:
    """What was good before is looked at again."""
    token = codec.sign(ALICE, life_s=60)
    verifier.verify(token)
    clock.now += 61
    with pytest.raises(Unauthorized) as caught:
        verifier.verify(token)
    assert caught.value.message == EXPIRED


def test_revocation_of_a_remembered_token(verifier: TokenVerifier, codec: TokenCodec, revoked: RevokedTokens) -> None:
    token = codec.sign(ALICE, life_s=60)
    verified = verifier.verify(token)
    revoked.add([(verified.token_id, time.time() + 60)])
    with pytest.raises(Unauthorized) as caught:
        verifier.verify(token)
    assert caught.value.message == REVOKED


def test_revocation_reaches_reconnection_tokens(
    verifier: TokenVerifier, codec: TokenCodec, revoked: RevokedTokens
) -> None:
    """Whoever came in with a revoked token does not come back with what that connection was given."""
    origin = codec.verify(codec.sign(ALICE, life_s=60)).token_id
    token = codec.reconnection_token(ALICE, "ws-user-alice", "c", 1, 60, origins=[origin])
    assert verifier.verify(token, TokenKind.RECONNECTION).origins == (origin,)
    revoked.add([(origin, time.time() + 60)])
    with pytest.raises(Unauthorized):
        verifier.verify(token, TokenKind.RECONNECTION)


def test_kind(verifier: TokenVerifier, codec: TokenCodec) -> None:
    """A token is taken for what it is, also from memory."""
    token = codec.reconnection_token(ALICE, "ws-user-alice", "c", 1, 60)
    for _ in range(2):
        with pytest.raises(Unauthorized, match="Invalid token type"):
            verifier.verify(token)
    assert verifier.verify(token, None).client_id == "c"


def test_root_token() -> None:
    """The root token is root in its own workspace, and nothing else is."""
    root = RootToken(ROOT)
    verified = root.verify(ROOT)
    assert verified is not None
    assert (verified.principal.id, verified.workspace) == ("root", "ws-user-root")
    assert verified.principal.permission("any") is Permission.ADMIN
    assert root.verify(ROOT[:-1]) is None
    assert root.verify("\ud800é") is None


def test_no_root_token() -> None:
    """Without a root token nobody is root, an empty text least of all."""
    assert RootToken("").verify("") is None


async def test_authenticator_asks_for_what_it_cannot_judge(
    verifier: TokenVerifier, codec: TokenCodec, revoked: RevokedTokens, clock: Clock
) -> None:
    """Own tokens are judged here; others by auth, whose word holds for a while but never past a revocation."""
    asked: list[str] = []
    root = RootToken(ROOT)

    async def ask(token: str) -> dict[str, Any]:
        asked.append(token)
        verified = root.verify(token)
        if verified is None:
            raise Unauthorized("Error decoding token headers.")
        return verified.dump()

    authenticator = Authenticator(verifier, ask, now=clock)
    assert (await authenticator.verify(codec.sign(ALICE, life_s=60))).principal.id == "alice"
    assert asked == []
    for _ in range(3):
        assert (await authenticator.verify(ROOT)).principal.is_admin
    assert asked == [ROOT]
    with pytest.raises(Unauthorized):
        await authenticator.verify(ROOT, TokenKind.RECONNECTION)
    with pytest.raises(Unauthorized):
        await authenticator.verify("no token")
    clock.now += 31
    await authenticator.verify(ROOT)
    assert asked == [ROOT, "no token", ROOT]
    revoked.add([(root.token_id, time.time() + 60)])
    with pytest.raises(Unauthorized):
        await authenticator.verify(ROOT)


async def test_somebody_else_judges_what_looks_like_ours(verifier: TokenVerifier, codec: TokenCodec) -> None:
    """Only what the cluster has not signed; an expired or revoked token of its own stays that."""
    asked: list[str] = []
    others = False
    root = RootToken(ROOT).verify(ROOT)
    assert root is not None

    async def ask(token: str) -> dict[str, Any]:
        asked.append(token)
        return root.dump()

    authenticator = Authenticator(verifier, ask, others=lambda: others)
    theirs = TokenCodec("another secret of thirty-two bytes!!").sign(ALICE, life_s=60)
    with pytest.raises(Unauthorized, match="Signature verification failed"):
        await authenticator.verify(theirs)
    others = True
    assert (await authenticator.verify(theirs)).principal.id == "root"
    assert (await authenticator.verify(codec.sign(ALICE, life_s=60))).principal.id == "alice"
    with pytest.raises(Unauthorized, match="Invalid token type"):
        await authenticator.verify(theirs, TokenKind.RECONNECTION)
    assert asked == [theirs]
    authenticator.forget()
    await authenticator.verify(theirs)
    assert asked == [theirs, theirs]
