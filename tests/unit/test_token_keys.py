"""Which key a token is judged by, and every way to get around that."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from hypha_auth.key_making import PrivateKey, Sealer, make_key
from hypha_auth.key_repository import KeyRow
from hypha_common.errors import BadRequest, ConfigurationError, Unauthorized
from hypha_common.principal import Permission, Principal, Scope
from hypha_common.tokens import DEFAULT_AUDIENCE, DEFAULT_ISSUER, TokenCodec, TokenKind, UnknownKey

SECRET = "a secret of at least thirty-two bytes"
OTHER = "another secret of thirty-two bytes!!"
ALICE = Principal(id="alice", scope=Scope({"ws-a": Permission.READ}, current_workspace="ws-a"))
SEALER = Sealer(SECRET)
BAD_SIGNATURE = "Signature verification failed."


class Ring:
    """A signer with one key."""

    def __init__(self, row: KeyRow) -> None:
        self.row = row
        opened = SEALER.open(row)
        assert opened is not None
        self.key: PrivateKey = opened

    def key_for(self, expires_at: float) -> PrivateKey:
        return self.key


@pytest.fixture(scope="module")
def ring() -> Ring:
    return Ring(make_key(SEALER))


@pytest.fixture
def codec(ring: Ring) -> TokenCodec:
    """What a gateway has: the secret and the public keys."""
    codec = TokenCodec(SECRET)
    codec.keys.ring.replace([ring.row.public_key])
    return codec


@pytest.fixture
def auth(ring: Ring) -> TokenCodec:
    """What the auth service has."""
    codec = TokenCodec(SECRET)
    codec.signer = ring
    codec.keys.ring.replace([ring.row.public_key])
    return codec


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {"iss": DEFAULT_ISSUER, "sub": "alice", "aud": DEFAULT_AUDIENCE, "iat": now, "exp": now + 60, "scope": ""}
    return {name: value for name, value in {**made, **changes}.items() if value is not ...}


def signed(ring: Ring, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token under the ring's key, with what claims and headers one likes."""
    return jwt.encode(
        claims(**changes), ring.key.jwk, algorithm="ES256", headers={"kid": ring.row.id, **(headers or {})}
    )


def header(token: str) -> dict[str, Any]:
    return jwt.get_unverified_header(token)


def refused(codec: TokenCodec, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        codec.verify(token)
    return caught.value.message


def test_access_tokens_are_signed_by_the_ring(auth: TokenCodec, codec: TokenCodec, ring: Ring) -> None:
    """Who holds only public keys can verify access tokens; what gateways sign stays under the secret."""
    token = auth.sign(ALICE, life_s=60)
    assert (header(token)["alg"], header(token)["kid"]) == ("ES256", ring.row.id)
    verified = codec.verify(token)
    assert (verified.principal.id, verified.kind, verified.key_id) == ("alice", TokenKind.ACCESS, ring.row.id)
    assert f"key:{ring.row.id}" in verified.revocable
    for gateway in (auth, codec):
        reconnection = gateway.reconnection_token(ALICE, "ws-a", "c", 1, 60)
        assert header(reconnection)["alg"] == "HS256"
        assert codec.verify(reconnection).kind is TokenKind.RECONNECTION
    assert codec.verify(codec.sign(ALICE, life_s=60)).key_id == ""


def test_scope_is_readable_without_the_key(auth: TokenCodec) -> None:
    """Clients look for ``wid:`` in the scope claim, unverified."""
    payload = auth.sign(ALICE, life_s=60).split(".")[1]
    read = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert "wid:ws-a" in read["scope"].split()


def test_lineage(auth: TokenCodec) -> None:
    """What is made from a token falls with it, with what that came from, and with its key; links leave no trace."""
    first = auth.verify(auth.sign(ALICE, life_s=60))
    second = auth.verify(auth.sign(ALICE, life_s=60, origins=first.lineage))
    assert set(second.lineage) == {first.token_id, second.token_id, f"key:{first.key_id}"}
    back = auth.verify(auth.reconnection_token(ALICE, "ws-a", "c", 1, 60, origins=second.lineage))
    assert set(back.lineage) == set(second.lineage)


def test_secrets_of_before(codec: TokenCodec) -> None:
    """A secret can be changed: what was signed with it is accepted wherever it is named, with and without a key id."""
    changed = TokenCodec(OTHER, previous=[SECRET])
    for token in (codec.sign(ALICE, life_s=60), jwt.encode(claims(), SECRET, algorithm="HS256")):
        assert changed.verify(token).principal.id == "alice"
    named = jwt.encode(claims(), SECRET, algorithm="HS256", headers={"kid": "what another deployment calls it"})
    assert changed.verify(named).principal.id == "alice"
    assert refused(codec, changed.sign(ALICE, life_s=60)) == BAD_SIGNATURE
    assert refused(TokenCodec(OTHER), codec.sign(ALICE, life_s=60)) == BAD_SIGNATURE


def test_key_id_decides(codec: TokenCodec) -> None:
    """A token that names one of our secrets is judged by that one alone."""
    changed = TokenCodec(OTHER, previous=[SECRET])
    kid = changed.keys.secret.id
    forged = jwt.encode(claims(), SECRET, algorithm="HS256", headers={"kid": kid})
    assert refused(changed, forged) == BAD_SIGNATURE
    assert kid != codec.keys.secret.id
    assert OTHER not in kid


@pytest.mark.parametrize("previous", ["", "short", "x" * 31])
def test_short_previous_secret(previous: str) -> None:
    with pytest.raises(ConfigurationError, match="at least 32 bytes"):
        TokenCodec(SECRET, previous=[previous])


def test_signed_with_the_public_key(codec: TokenCodec, ring: Ring) -> None:
    """The public key is known to everybody: HS256 under it, in any spelling, is worth nothing."""
    public = ECAlgorithm.from_jwk(ring.row.public_key)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for key in (pem, der, json.dumps(ring.row.public_key).encode(), ring.row.public_key["x"].encode()):
        for headers in ({"kid": ring.row.id}, {}):
            head = {"alg": "HS256", "typ": "JWT", **headers}
            assert refused(codec, _hs256(head, claims(), key)) == BAD_SIGNATURE


@pytest.mark.parametrize("algorithm", ["none", "NONE", "None", "", None, 5, ["ES256"], "HS384", "ES512", "es256"])
def test_other_algorithms(codec: TokenCodec, ring: Ring, algorithm: object) -> None:
    """Whatever key it names, a token of another algorithm is not looked at, signed or not."""
    head = {"alg": algorithm, "kid": ring.row.id}
    for signature in (b"", b"x" * 64):
        token = ".".join((_part(head), _part(claims()), _base64(signature)))
        assert refused(codec, token) == f"Invalid algorithm: {algorithm}"
        assert not codec.judges(token)


def test_algorithm_belongs_to_the_key(codec: TokenCodec, ring: Ring) -> None:
    """A secret's id with ES256, and the other way round: no key has both."""
    crossed = jwt.encode(claims(), ring.key.jwk, algorithm="ES256", headers={"kid": codec.keys.secret.id})
    with pytest.raises(UnknownKey):
        codec.verify(crossed)
    crossed = jwt.encode(claims(), SECRET, algorithm="HS256", headers={"kid": ring.row.id})
    assert codec.verify(crossed).key_id == ""  # judged by the secret, whatever it names


@pytest.mark.parametrize("kid", ["unknown", "", 5, None, ["x"], ...])
def test_foreign_key(codec: TokenCodec, kid: object) -> None:
    """A key that is not in the ring: not judged here, and no more than a bad signature to who asks."""
    key = ec.generate_private_key(ec.SECP256R1())
    head = {"alg": "ES256"} | ({} if kid is ... else {"kid": kid})
    body = f"{_part(head)}.{_part(claims())}"
    signature = ECAlgorithm(ECAlgorithm.SHA256).sign(body.encode(), key)
    token = f"{body}.{_base64(signature)}"
    assert not codec.judges(token)
    with pytest.raises(UnknownKey, match=BAD_SIGNATURE):
        codec.verify(token)


def test_signed_by_another_under_our_name(codec: TokenCodec, ring: Ring) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(claims(), key, algorithm="ES256", headers={"kid": ring.row.id})
    assert refused(codec, token) == BAD_SIGNATURE


def test_keys_in_the_header_are_ignored(codec: TokenCodec, ring: Ring) -> None:
    """Where a token says its key can be found, nobody looks (RFC 8725 §3.10)."""
    key = ec.generate_private_key(ec.SECP256R1())
    own = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    for extra in ({"jwk": own}, {"jku": "http://127.0.0.1:1/jwks"}, {"x5u": "http://127.0.0.1:1/x"}, {"x5c": ["MII"]}):
        token = jwt.encode(claims(), key, algorithm="ES256", headers={"kid": ring.row.id, **extra})
        assert refused(codec, token) == BAD_SIGNATURE
        assert codec.verify(signed(ring, extra)).principal.id == "alice"


def test_critical_extensions(codec: TokenCodec, ring: Ring) -> None:
    """An extension that must be understood is not (RFC 7515 §4.1.11)."""
    assert refused(codec, signed(ring, {"crit": ["exp"]})) == "Error decoding token headers."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": int(time.time()) - 1}, "The token has expired. Please fetch a new one"),
        ({"nbf": int(time.time()) + 3600}, "Invalid token claims: The token is not yet valid (nbf)"),
        ({"iss": "https://elsewhere/"}, "Invalid token claims: Invalid issuer"),
        ({"aud": "another"}, "Invalid token claims: Audience doesn't match"),
        *(
            ({name: ...}, f'Invalid token claims: Token is missing the "{name}" claim')
            for name in ("iss", "sub", "aud")
        ),
        *(({name: ...}, f'Invalid token claims: Token is missing the "{name}" claim') for name in ("iat", "exp")),
        ({"sub": ""}, "Invalid token claims: a subject"),
        ({"sub": 5}, "Invalid token claims: Subject must be a string"),
        ({"exp": "never"}, "Error decoding token headers."),
    ],
)
def test_claims(codec: TokenCodec, ring: Ring, changes: dict[str, Any], message: str) -> None:
    """The ring's signature does not make up for what a token says."""
    assert refused(codec, signed(ring, **changes)).startswith(message)


def test_kinds(auth: TokenCodec) -> None:
    """None is taken for another, whichever key signed it."""
    access = auth.verify(auth.sign(ALICE, life_s=60))
    reconnection = auth.verify(auth.reconnection_token(ALICE, "ws-a", "c", 1, 60))
    for token, kind in ((access, TokenKind.RECONNECTION), (reconnection, TokenKind.ACCESS)):
        with pytest.raises(Unauthorized, match="Invalid token type"):
            token.require(kind)


def test_too_long(codec: TokenCodec, ring: Ring) -> None:
    """An over-long token is neither made nor looked at."""
    assert refused(codec, signed(ring, padding="x" * 8192)) == "Error decoding token headers."
    scope = Scope(extra_scopes=tuple(f"scope-{number:04}" for number in range(1000)))
    with pytest.raises(BadRequest, match="too long"):
        codec.sign(Principal(id="alice", scope=scope), life_s=60)


def test_keys_that_cannot_be_used(codec: TokenCodec, ring: Ring) -> None:
    """One broken entry does not take the others along; nothing but ES256 and nothing private gets in."""
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    foreign = {**jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key, as_dict=True), "kid": "rsa", "alg": "RS256"}
    secret = {"kty": "oct", "k": "eA", "kid": "oct", "alg": "HS256"}
    private = {**ring.row.public_key, "kid": "private", "d": "x"}
    broken = {**ring.row.public_key, "kid": "broken", "x": "AAAA"}
    codec.keys.ring.replace([foreign, secret, private, broken, {}, ring.row.public_key])
    assert ring.row.id in codec.keys.ring
    for kid in ("rsa", "oct", "private", "broken"):
        assert kid not in codec.keys.ring


def test_a_public_key_is_public(ring: Ring) -> None:
    assert set(ring.row.public_key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}


def test_sealed() -> None:
    """A stored key opens with the secret, also as a previous one, and under its own id only."""
    row = make_key(SEALER)
    assert Sealer(OTHER, [SECRET]).open(row) is not None
    assert Sealer(OTHER).open(row) is None
    moved = KeyRow(**{**{name: getattr(row, name) for name in KeyRow.__slots__}, "id": "another"})
    assert SEALER.open(moved) is None
    assert row.private_key is not None
    assert b"BEGIN" not in row.private_key


def _hs256(head: dict[str, Any], body: dict[str, Any], key: bytes) -> str:
    text = f"{_part(head)}.{_part(body)}"
    return f"{text}.{_base64(hmac.digest(key, text.encode(), 'sha256'))}"


def _part(value: object) -> str:
    return _base64(json.dumps(value).encode())


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
