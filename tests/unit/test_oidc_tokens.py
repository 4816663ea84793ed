from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from joserfc import jwt as jose
from joserfc.jwk import ECKey, RSAKey

from hypha_auth.oidc import OpenIdConnect
from hypha_auth.oidc.identities import Identities, candidates
from hypha_common.db import Database
from hypha_common.errors import HyphaError, Unauthorized, Unavailable
from hypha_common.principal import Permission, Principal
from hypha_common.settings import Settings
from hypha_common.tokens import TokenCodec
from hypha_common.verifier import VerifiedToken
from tests.fixtures.auth import SECRET, auth_database, auth_settings, nats_url, postgres
from tests.fixtures.oidc import AUDIENCE, OidcServer

__all__ = ["auth_database", "auth_settings", "nats_url", "postgres"]

pytestmark = pytest.mark.node

NS = "https://amun.ai/"
DENIED = [
    ("HS512", "Invalid algorithm: HS512"),
    ("none", "Invalid algorithm: none"),
    ("EdDSA", "Invalid algorithm: EdDSA"),
]


def settings_for(base: Settings, server: OidcServer) -> Settings:
    return base.replace(oidc_issuer=server.issuer, oidc_client_id="hub", oidc_audience=AUDIENCE)


@pytest.fixture
async def oidc(
    auth_settings: Settings, auth_database: Database, oidc_server: OidcServer
) -> AsyncIterator[OpenIdConnect]:
    async with connected_to(auth_settings, auth_database, oidc_server) as connected:
        yield connected


@asynccontextmanager
async def connected_to(base: Settings, database: Database, server: OidcServer) -> AsyncIterator[OpenIdConnect]:
    connected = OpenIdConnect.from_settings(settings_for(base, server), database.home)
    assert connected is not None
    try:
        yield connected
    finally:
        await connected.close()


async def accepted(oidc: OpenIdConnect, token: str) -> VerifiedToken:
    verified = await oidc.verify(token)
    assert verified is not None
    return verified


async def refused(oidc: OpenIdConnect, token: str) -> HyphaError:
    with pytest.raises(HyphaError) as caught:
        await oidc.verify(token)
    return caught.value


async def test_accepted(oidc: OpenIdConnect, oidc_server: OidcServer) -> None:
    """The bearer is a user with a workspace, and nothing more."""
    token = oidc_server.machine_token(scope="openid email ws:somebody-elses#a app:somebody-elses")
    verified = await accepted(oidc, token)
    user = verified.principal
    assert (user.id, user.email, user.roles) == ("machine", "machine@example.org", ())
    assert user.scope.workspaces == {"ws-user-machine": Permission.ADMIN}
    assert verified.extra_scopes == ("openid", "email")
    assert verified.workspace is None
    assert verified.expires_at == pytest.approx(time.time() + 300, abs=10)
    assert VerifiedToken.load(verified.dump()) == verified
    # The same user comes back, with the next token too.
    again = await accepted(oidc, oidc_server.machine_token())
    assert again.principal.id == user.id
    assert again.token_id != verified.token_id


async def test_power_is_in_the_namespace(oidc: OpenIdConnect, oidc_server: OidcServer) -> None:
    """Every token here has a plain claim ``roles: ["admin"]``; only the namespaced one counts."""
    chief = await accepted(oidc, oidc_server.machine_token("chief-machine"))
    assert chief.principal.is_admin
    assert chief.principal.permission("anything") is Permission.ADMIN
    assert not (await accepted(oidc, oidc_server.machine_token("machine"))).principal.is_admin


async def test_an_unverified_email_is_none(oidc: OpenIdConnect, oidc_server: OidcServer) -> None:
    verified = await accepted(oidc, oidc_server.machine_token("unverified-machine"))
    assert verified.principal.email is None


async def test_names_of_users(oidc: OpenIdConnect, oidc_server: OidcServer, auth_database: Database) -> None:
    """A subject is the user's id unless it could be mistaken for somebody or something else."""
    assert (await accepted(oidc, oidc_server.machine_token("auth0|machine"))).principal.id == "auth0|machine"
    for subject in ("root", "ada@example.org"):
        user = (await accepted(oidc, oidc_server.machine_token(subject))).principal
        assert user.id.startswith("oidc-")
        assert "@" not in user.id
        assert user.permission("ws-user-root") is Permission.NONE
        assert user.permission(f"ws-user-{user.id}") is Permission.ADMIN
    # The same name at another issuer is somebody else.
    identities = Identities(auth_database.home)
    assert await identities.user_id(oidc_server.issuer, "auth0|machine") == "auth0|machine"
    other = await identities.user_id("https://other.example.org", "auth0|machine")
    assert other.startswith("oidc-")
    assert await identities.user_id("https://other.example.org", "auth0|machine") == other


async def test_another_audience(oidc: OpenIdConnect, oidc_server: OidcServer) -> None:
    error = await refused(oidc, oidc_server.machine_token(audience="https://something.else.example.org"))
    assert isinstance(error, Unauthorized)
    assert "aud" in error.message


async def test_expired(
    start_oidc_server: Callable[..., OidcServer], auth_settings: Settings, auth_database: Database
) -> None:
    server = start_oidc_server(tokenLife=1)
    async with connected_to(auth_settings, auth_database, server) as oidc:
        token = server.machine_token()
        time.sleep(1.1)
        assert (await refused(oidc, token)).message == "The token has expired. Please fetch a new one"


@pytest.mark.parametrize(("algorithm", "text"), DENIED)
async def test_algorithms(oidc: OpenIdConnect, oidc_server: OidcServer, algorithm: str, text: str) -> None:
    """Whoever knows the public key must not be able to sign with it, or leave the signature out."""
    assert (await refused(oidc, unsigned(oidc_server, {"alg": algorithm}))).message == text


async def test_forged(oidc: OpenIdConnect, oidc_server: OidcServer) -> None:
    """A key of somebody else's, under a name that is known, unknown, or none; also one that the token brings along."""
    real = oidc_server.machine_token()
    known = json.loads(base64.urlsafe_b64decode(real.split(".")[0] + "=="))["kid"]
    mine = RSAKey.generate_key(2048)
    curve = ECKey.generate_key("P-256")
    claims = claims_for(oidc_server)
    for header, key in [
        ({"alg": "RS256", "kid": known}, mine),
        ({"alg": "RS256", "kid": "nobody's"}, mine),
        ({"alg": "RS256"}, mine),
        ({"alg": "RS256", "kid": known, "jwk": mine.as_dict(private=False)}, mine),
        ({"alg": "ES256", "kid": known}, curve),
    ]:
        error = await refused(oidc, jose.encode(header, claims, key))
        assert error.message == "Signature verification failed."
    head, _, signature = real.split(".")
    changed = ".".join((head, encoded({**claims, "sub": "somebody"}), signature))
    assert (await refused(oidc, changed)).message == "Signature verification failed."


@pytest.mark.parametrize(
    "token",
    [
        "",
        "rubbish",
        "a.b.c",
        "..",
        f"{'x' * 20000}.y.z",
        TokenCodec(SECRET).sign(Principal(id="ada"), life_s=60),
        "\udcff.a.b",
    ],
)
async def test_what_is_not_of_the_issuer_is_left_to_others(oidc: OpenIdConnect, token: str) -> None:
    assert await oidc.verify(token) is None


async def test_tokens_of_other_issuers_are_left_to_others(oidc: OpenIdConnect, oidc_server: OidcServer) -> None:
    header = {"alg": "RS256", "typ": "JWT"}
    claims = {**claims_for(oidc_server), "iss": oidc_server.issuer + ".evil.example.org"}
    assert await oidc.verify(".".join((encoded(header), encoded(claims), "c2ln"))) is None


async def test_rotation(
    start_oidc_server: Callable[..., OidcServer],
    auth_settings: Settings,
    auth_database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The provider comes back with another key, under another name and under the same: no restart of ours."""
    monkeypatch.setattr("hypha_auth.oidc.keys._RETRY_S", 0.1)
    server = start_oidc_server()
    async with connected_to(auth_settings, auth_database, server) as oidc:
        old = server.machine_token()
        await accepted(oidc, old)
        for options in ({}, {"keyId": "the-same"}, {"keyId": "the-same"}):
            server.stop()
            server.options |= options
            server.start()
            await accepted(oidc, server.machine_token())
        assert (await refused(oidc, old)).message == "Signature verification failed."


async def test_provider_down(
    start_oidc_server: Callable[..., OidcServer], auth_settings: Settings, auth_database: Database
) -> None:
    """Its tokens cannot be judged until it has been seen once; then known keys serve on."""
    server = start_oidc_server()
    token = server.machine_token()
    keys = server.options
    server.stop()
    async with connected_to(auth_settings, auth_database, server) as oidc:
        error = await refused(oidc, token)
        assert isinstance(error, Unavailable)
        assert "cannot be reached" in error.message
        began = time.monotonic()
        await refused(oidc, token)
        assert time.monotonic() - began < 0.2  # not tried again at once
        server.options = keys
        time.sleep(1.0)  # from then on it is tried again
        server.start()
        fresh = server.machine_token()
        await accepted(oidc, fresh)
        server.stop()
        await accepted(oidc, fresh)


def claims_for(server: OidcServer) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": server.issuer,
        "sub": "machine",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + 60,
        f"{NS}roles": ["admin"],
    }


def unsigned(server: OidcServer, header: dict[str, Any]) -> str:
    return ".".join((encoded(header), encoded(claims_for(server)), ""))


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize("subject", ["ada", "github|123", "auth0|5f-a.b_c", "1234567890", "a" * 128])
def test_subjects_that_are_ids(subject: str) -> None:
    assert candidates("https://a.example.org", subject)[0] == subject


@pytest.mark.parametrize(
    "subject",
    [
        *("root", "Root", "public", "anonymouz-http", "local-teal-windshield-00007438", "teal-windshield-00007438"),
        *("oidc-abc", "ada@example.org", "a b", "a/b", "a:b", "*", "ä", "-a", "", "a" * 129, "a\n"),
    ],
)
def test_subjects_that_are_not(subject: str) -> None:
    (derived,) = candidates("https://a.example.org", subject)
    assert re.fullmatch(r"oidc-[a-z2-7]{26}", derived)
    assert candidates("https://b.example.org", subject) != [derived]
