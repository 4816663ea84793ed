"""ID tokens that a provider which errs, or somebody in its place, might give us."""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, RSAKey

from hypha_auth.oidc.discovery import ProviderMetadata
from hypha_auth.oidc.id_tokens import verify_id_token
from hypha_common.errors import Unauthorized

ISSUER = "https://accounts.example.org"
NONCE = "the nonce of our request"
RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
METADATA = ProviderMetadata(
    ISSUER, f"{ISSUER}/auth", f"{ISSUER}/token", f"{ISSUER}/jwks", "", "", (), names_itself=True
)


class Keys:
    """The provider's keys, without the provider."""

    async def find(self, key_id: str | None, algorithm: str, *, newer: bool = False) -> Key | None:
        return {"rsa": RSA, "ec": EC}.get(str(key_id))


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"iss": ISSUER, "sub": "ada", "aud": "hub", "iat": now, "exp": now + 60, "nonce": NONCE, **changes}
    return {name: value for name, value in given.items() if value is not None}


def signed(content: dict[str, Any], key: Key = RSA, **header: Any) -> str:
    return jwt.encode({"alg": "RS256", "kid": "rsa", **header}, content, key, algorithms=[header.get("alg", "RS256")])


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


async def verify(token: object, access_token: str = "") -> dict[str, Any]:
    return await verify_id_token(
        token,
        metadata=METADATA,
        keys=Keys(),  # type: ignore[arg-type]
        client_id="hub",
        nonce=NONCE,
        access_token=access_token,
    )


@pytest.mark.parametrize(
    ("key", "header", "changes"),
    [
        (RSA, {}, {}),
        (RSA, {"alg": "PS256"}, {}),
        (EC, {"alg": "ES256", "kid": "ec"}, {}),
        (RSA, {}, {"aud": ["hub"]}),
        (RSA, {}, {"aud": ["hub", "another"], "azp": "hub"}),
        (RSA, {}, {"iat": int(time.time()) + 30}),  # its clock is ahead
    ],
)
async def test_good(key: Key, header: dict[str, Any], changes: dict[str, Any]) -> None:
    assert (await verify(signed(claims(**changes), key, **header)))["sub"] == "ada"


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example.org"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": None},
        {"aud": ["hub", "another"]},
        {"aud": ["hub", "another"], "azp": "another"},
        {"azp": "another"},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
        {"exp": "never"},
        {"exp": float("nan")},
        {"iat": None},
        {"iat": int(time.time()) + 3600},
        {"nbf": int(time.time()) + 3600},
        {"nonce": "of another request"},
        {"nonce": None},
        {"sub": None},
        {"sub": 5},
    ],
)
async def test_claims_that_are_not_for_us(changes: dict[str, Any]) -> None:
    with pytest.raises(Unauthorized, match="is not good"):
        await verify(signed(claims(**changes)))


async def test_access_token_of_somebody_else() -> None:
    """An ID token that tells which access token it was given with binds it."""
    right = signed(claims(at_hash="tJGD7RzeKzkdqQAkDC2Q2g"))
    with pytest.raises(Unauthorized, match="at_hash"):
        await verify(right, access_token="somebody else's")


@pytest.mark.parametrize("token", [None, 5, "", "a.b", "a.b.c", "a.b.c.d", "x" * 50_000])
async def test_no_token(token: object) -> None:
    with pytest.raises(Unauthorized):
        await verify(token)


async def test_signatures() -> None:
    """Made with a key of somebody else's, with the public key as if it were a secret, or not at all."""
    head, body, _ = signed(claims()).split(".")
    signing = encoded(b'{"alg":"HS256","kid":"rsa"}') + "." + body
    mac = hmac.digest(RSA.as_pem(private=False), signing.encode(), "sha256")
    for token in (
        signed(claims(), RSAKey.generate_key(2048)),
        f"{signing}.{encoded(mac)}",
        signed(claims(), kid="unknown"),
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
    ):
        with pytest.raises(Unauthorized, match=r"Signature verification failed|Invalid algorithm: HS256"):
            await verify(token)
