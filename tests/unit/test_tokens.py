from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from hypha_common.errors import ConfigurationError, Unauthorized
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import (
    DEFAULT_AUDIENCE,
    DEFAULT_ISSUER,
    DEFAULT_NAMESPACE,
    TokenCodec,
    TokenKind,
    VerifiedToken,
)

SECRET = "a secret of at least thirty-two bytes"
ALICE = Principal(
    id="alice",
    roles=("user",),
    email="alice@example.org",
    scope=Scope({"ws-a": Permission.READ}, current_workspace="ws-a", client_id="c 1", extra_scopes=("openid",)),
)


@pytest.fixture
def codec() -> TokenCodec:
    return TokenCodec(SECRET)


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of contract 01 §4.3 and nothing of our own."""
    now = int(time.time())
    made = {
        "iss": DEFAULT_ISSUER,
        "sub": "alice",
        "aud": DEFAULT_AUDIENCE,
        "iat": now,
        "exp": now + 60,
        "scope": "ws:ws-a#rw wid:ws-a",
        "gty": "client-credentials",
        f"{DEFAULT_NAMESPACE}roles": ["user"],
        f"{DEFAULT_NAMESPACE}email": None,
    }
    made.update(changes)
    return {name: value for name, value in made.items() if value is not ...}


def signed(key: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def refused(codec: TokenCodec, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        codec.verify(token)
    return caught.value.message


def test_round_trip(codec: TokenCodec) -> None:
    """A signed principal comes back as it was, with its binding and its end."""
    verified = codec.verify(codec.sign(ALICE, life_s=60))
    assert verified.principal.id == "alice"
    assert verified.principal.roles == ("user",)
    assert verified.principal.email == "alice@example.org"
    assert verified.principal.parent is None
    assert verified.principal.scope == ALICE.scope
    assert (verified.workspace, verified.client_id) == ("ws-a", "c 1")
    assert verified.kind is TokenKind.ACCESS
    assert verified.expires_at == pytest.approx(time.time() + 60, abs=2)
    assert VerifiedToken.load(verified.dump()) == verified


def test_token_ids_differ(codec: TokenCodec) -> None:
    """Two tokens made in the same second can be revoked one by one."""
    one, two = (codec.verify(codec.sign(ALICE, life_s=60)) for _ in range(2))
    assert one.token_id != two.token_id


def test_reconnection_token(codec: TokenCodec) -> None:
    """It is bound to workspace, client and generation, and names the token that it descends from."""
    verified = codec.verify(codec.reconnection_token(ALICE, "ws-b", "c2", 7, 60, origins=["first"]))
    assert verified.kind is TokenKind.RECONNECTION
    assert (verified.workspace, verified.client_id, verified.generation) == ("ws-b", "c2", 7)
    assert verified.origins == ("first",)


def test_kinds_are_not_exchangeable(codec: TokenCodec) -> None:
    """A reconnection token is no access token, nor the other way round."""
    access = codec.verify(codec.sign(ALICE, life_s=60))
    reconnection = codec.verify(codec.reconnection_token(ALICE, "ws-b", "c2", 7, 60))
    assert access.require(TokenKind.ACCESS) is access
    assert reconnection.require(TokenKind.RECONNECTION) is reconnection
    with pytest.raises(Unauthorized):
        access.require(TokenKind.RECONNECTION)
    with pytest.raises(Unauthorized):
        reconnection.require(TokenKind.ACCESS)


def test_tokens_of_another_implementation(codec: TokenCodec) -> None:
    """Claims of contract 01 §4.3 alone are enough: users and their clients migrate."""
    access = codec.verify(signed())
    assert access.require(TokenKind.ACCESS).principal.permission("ws-a") is Permission.READ_WRITE
    with pytest.raises(Unauthorized):
        access.require(TokenKind.RECONNECTION)
    bound = codec.verify(signed(scope="ws:ws-a#a cid:raw1 wid:ws-a"))
    assert bound.require(TokenKind.RECONNECTION).client_id == "raw1"


def test_child_token_of_another_implementation(codec: TokenCodec) -> None:
    """The parent is read from its namespaced claim."""
    verified = codec.verify(signed(sub="teal-windshield-00007438", **{f"{DEFAULT_NAMESPACE}parent": "alice"}))
    assert verified.principal.parent == "alice"


def test_own_workspace(codec: TokenCodec) -> None:
    """A user owns the personal workspace, unless the token is bound to another one."""
    assert codec.verify(signed(scope="")).principal.permission("ws-user-alice") is Permission.ADMIN
    assert codec.verify(signed(scope="wid:ws-user-alice")).principal.permission("ws-user-alice") is Permission.ADMIN
    assert codec.verify(signed()).principal.permission("ws-user-alice") is Permission.NONE


def test_roles(codec: TokenCodec) -> None:
    """An administrator may everything; an anonymous user stays one."""
    admin = codec.verify(signed(**{f"{DEFAULT_NAMESPACE}roles": ["admin"]})).principal
    assert admin.permission("anything") is Permission.ADMIN
    assert codec.verify(signed(**{f"{DEFAULT_NAMESPACE}roles": ["anonymous"]})).principal.is_anonymous


def test_expired(codec: TokenCodec) -> None:
    assert refused(codec, signed(exp=int(time.time()) - 1)) == "The token has expired. Please fetch a new one"


def test_clock_of_another_node(codec: TokenCodec) -> None:
    """A token from a node whose clock is a minute ahead is good at once."""
    now = int(time.time())
    assert codec.verify(signed(iat=now + 60, exp=now + 120)).principal.id == "alice"


def test_other_key(codec: TokenCodec) -> None:
    assert refused(codec, signed(key="another secret of thirty-two bytes")) == "Signature verification failed."


def test_changed_payload(codec: TokenCodec) -> None:
    """Claims of one token under the signature of another do not pass."""
    header, _, signature = signed().split(".")
    forged = signed(scope="ws:*#a").split(".")[1]
    assert refused(codec, f"{header}.{forged}.{signature}") == "Signature verification failed."


def test_none_algorithm(codec: TokenCodec) -> None:
    token = jwt.encode(claims(), None, algorithm="none")
    assert refused(codec, token) == "Invalid algorithm: none"


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_other_symmetric_algorithms(codec: TokenCodec, algorithm: str) -> None:
    """Even with the right key only one algorithm is taken."""
    long_key = "k" * 64
    assert refused(TokenCodec(long_key), signed(key=long_key, algorithm=algorithm)) == f"Invalid algorithm: {algorithm}"


def test_asymmetric_algorithm(codec: TokenCodec) -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode(claims(), private, algorithm="RS256")
    assert refused(codec, token) == "Invalid algorithm: RS256"
    assert not codec.judges(token)


@pytest.mark.parametrize(
    "token", ["", "abc", "a.b.c", "..", "é.é.é", "\ud800", "x" * 100_000, "e30.e30.", "bnVsbA.bnVsbA.bnVsbA"]
)
def test_malformed(codec: TokenCodec, token: str) -> None:
    """Anything that is no token is refused with the contract's words, never with an error of a library."""
    assert refused(codec, token) in ("Error decoding token headers.", "Invalid algorithm: None")
    assert not codec.judges(token)


@pytest.mark.parametrize("missing", ["iss", "sub", "aud", "iat", "exp"])
def test_required_claims(codec: TokenCodec, missing: str) -> None:
    assert refused(codec, signed(**{missing: ...})).startswith("Invalid token claims")


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://elsewhere/"},
        {"aud": "another api"},
        {"sub": ""},
        {"scope": "ws:x#z"},
        {"scope": 5},
        {f"{DEFAULT_NAMESPACE}typ": "sesame"},
        {f"{DEFAULT_NAMESPACE}roles": "admin"},
        {f"{DEFAULT_NAMESPACE}gen": "x"},
    ],
)
def test_wrong_claims(codec: TokenCodec, wrong: dict[str, Any]) -> None:
    assert refused(codec, signed(**wrong)).startswith("Invalid token claims")


def test_id_without_jti_ignores_how_the_signature_is_written(codec: TokenCodec) -> None:
    """A revoked token does not come back by spelling its signature differently."""
    token = signed()
    head, _, signature = token.rpartition(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = f"{head}.{signature[:-1]}{alphabet[alphabet.index(signature[-1]) ^ 1]}"
    assert twin != token
    with suppress(Unauthorized):  # newer releases of the library refuse all spellings but one
        assert codec.verify(twin).token_id == codec.verify(token).token_id


@pytest.mark.parametrize("extra", ["\n", "=", ";", "\r\nSet-Cookie: a=b", "\x00"])
def test_nothing_is_skipped_in_a_token(codec: TokenCodec, extra: str) -> None:
    """A good token with something added is not a good token."""
    assert refused(codec, signed() + extra) == "Error decoding token headers."


def test_short_secret() -> None:
    """A weak secret stops the process before it serves anybody."""
    with pytest.raises(ConfigurationError, match="at least 32 bytes"):
        TokenCodec("x" * 31)


def test_judges(codec: TokenCodec) -> None:
    """Only what this codec has a key for is judged by it; a root token is for the auth service."""
    assert codec.judges(codec.sign(ALICE, life_s=1))
    assert not codec.judges("0123456789abcdef0123456789abcdef")
    assert not codec.judges(urlsafe_b64encode(b'{"alg":"HS256"}').decode())


def test_verify_is_fast(codec: TokenCodec, record_property: Callable[[str, object], None]) -> None:
    """A cold verification costs CPU in the order of 0.1 ms; the bound allows for a busy machine."""
    token = codec.sign(ALICE, life_s=60)
    start = time.process_time()
    for _ in range(500):
        codec.verify(token)
    each_us = (time.process_time() - start) / 500 * 1e6
    record_property("verify_us", each_us)
    assert each_us < 500
