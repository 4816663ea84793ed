"""What a token may say of time when the clock of whoever made it is not ours."""

from __future__ import annotations

import time
from collections.abc import Mapping

import jwt
import pytest

from hypha_common.errors import Unauthorized
from hypha_common.tokens import DEFAULT_AUDIENCE, DEFAULT_ISSUER, EXPIRED, TokenCodec

_SECRET = "a secret of at least thirty-two bytes"
_NOT_YET = "Invalid token claims: The token is not yet valid (nbf)"


def _judged(**times: float) -> str:
    """Return what is said of a token, nothing where it is accepted; ``times`` are claims in seconds from now."""
    now = int(time.time())
    claims: Mapping[str, object] = {
        "iss": DEFAULT_ISSUER, "sub": "alice", "aud": DEFAULT_AUDIENCE, "scope": "ws:ws-a#rw",
        **{name: now + seconds for name, seconds in ({"iat": 0, "exp": 7200} | times).items()},
    }  # fmt: skip
    try:
        TokenCodec(_SECRET).verify(jwt.encode(dict(claims), _SECRET, algorithm="HS256"))
    except Unauthorized as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seconds", [-3600, -60, 60, 3600])
def test_when_a_token_was_issued_does_not_matter(seconds: float) -> None:
    assert _judged(iat=seconds) == ""


@pytest.mark.parametrize(
    ("seconds", "told"), [(-3600, ""), (-60, ""), (55, ""), (70, _NOT_YET), (3600, _NOT_YET)]
)  # fmt: skip
def test_a_token_of_somebody_whose_clock_is_a_minute_ahead_is_valid(seconds: float, told: str) -> None:
    assert _judged(nbf=seconds) == told


@pytest.mark.parametrize(
    ("seconds", "told"), [(-3600, EXPIRED), (-60, EXPIRED), (-1, EXPIRED), (0, EXPIRED), (60, ""), (3600, "")]
)
def test_expiry_has_no_leeway(seconds: float, told: str) -> None:
    assert _judged(exp=seconds) == told


@pytest.mark.parametrize("skew_s", [-3600, -60, 60, 3600])
def test_a_token_of_half_an_hour_made_by_a_clock_that_is_wrong(skew_s: float) -> None:
    """A clock that is an hour behind makes tokens that have expired; one ahead, tokens that live longer."""
    assert _judged(iat=skew_s, exp=1800 + skew_s) == (EXPIRED if skew_s < -1800 else "")
