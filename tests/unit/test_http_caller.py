from __future__ import annotations

import base64

import pytest

from hypha_common.errors import Unauthorized
from hypha_gateway.http.caller import token_of


def basic(text: str) -> bytes:
    return b"Basic " + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ([], None),
        ([(b"authorization", b"Bearer abc")], "abc"),
        ([(b"authorization", b"bearer   abc ")], "abc"),
        ([(b"authorization", b"abc")], "abc"),
        ([(b"authorization", basic("user:abc"))], "abc"),
        ([(b"authorization", basic("user:a:b"))], "a:b"),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"")], None),
        ([(b"cookie", b"a=1; access_token=abc; b=2")], "abc"),
        ([(b"cookie", b'access_token="abc"')], "abc"),
        ([(b"cookie", b"a=1"), (b"cookie", b"access_token=abc")], "abc"),
        ([(b"cookie", b"not_access_token=abc; access_token=")], None),
        ([(b"cookie", b"access_token=cookie"), (b"authorization", b"Bearer header")], "header"),
        ([(b"cookie", b"access_token=first; access_token=second")], "first"),
        ([(b"cookie", b"access_token=cookie; hypha_local_token=local")], "local"),
        ([(b"cookie", b"hypha_local_token=local"), (b"authorization", b"Bearer header")], "header"),
        ([(b"authorization", b"Bearer header"), (b"x-local-auth", b" local ")], "local"),
        ([(b"x-local-auth", b""), (b"cookie", b"access_token=cookie")], "cookie"),
        ([(b"authorization", b"Bearer "), (b"cookie", b"access_token=cookie")], "cookie"),
    ],
)
def test_token(headers: list[tuple[bytes, bytes]], token: str | None) -> None:
    """A token is found in all its places; the header wins over the cookie."""
    assert token_of(headers) == token


@pytest.mark.parametrize("value", [b"Basic !!!", b"Bearer \xff\xfe", b"\xff", "Basic ä".encode()])
def test_unreadable_credentials(value: bytes) -> None:
    """Credentials that cannot be read are refused, never taken for none."""
    with pytest.raises(Unauthorized, match="Error decoding token headers"):
        token_of([(b"authorization", value)])
