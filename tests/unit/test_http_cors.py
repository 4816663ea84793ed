from __future__ import annotations

from hypha_gateway.http.cors import CorsPolicy

ORIGIN = b"https://page.example"


def test_any_origin() -> None:
    """With ``*`` the origin is echoed, so that credentials work."""
    headers = dict(CorsPolicy(["*"]).headers(ORIGIN))
    assert headers[b"access-control-allow-origin"] == ORIGIN
    assert headers[b"access-control-allow-credentials"] == b"true"
    assert headers[b"vary"] == b"Origin"
    assert b"Content-Type" in headers[b"access-control-expose-headers"]


def test_listed_origins() -> None:
    """Other origins than the listed get nothing to read with."""
    policy = CorsPolicy(["https://page.example/", "https://other.example"])
    assert policy.allows(ORIGIN)
    assert policy.headers(b"https://evil.example") == [(b"vary", b"Origin")]


def test_preflight() -> None:
    """A preflight is answered OK with what is allowed."""
    status, headers, body = CorsPolicy(["*"]).preflight(ORIGIN)
    found = dict(headers)
    assert (status, body) == (200, b"OK")
    assert found[b"access-control-allow-methods"] == b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
    assert found[b"access-control-max-age"] == b"600"
    assert {b"Authorization", b"Content-Type", b"Range"} <= set(found[b"access-control-allow-headers"].split(b", "))


def test_headers_of_s3() -> None:
    """There are more than can be listed, so those that are asked for are allowed; others are not."""
    asked = b"X-Amz-Meta-Colour, x-amz-date,x-evil, x-amz-\r\nset-cookie, Range"
    found = dict(CorsPolicy(["*"]).preflight(ORIGIN, asked)[1])[b"access-control-allow-headers"].split(b", ")
    assert {b"x-amz-meta-colour", b"x-amz-date", b"Range"} <= set(found)
    assert not [name for name in found if b"evil" in name or b"cookie" in name]


def test_refused_preflight() -> None:
    """A preflight of a foreign origin is refused and allows nothing."""
    status, headers, _ = CorsPolicy(["https://other.example"]).preflight(ORIGIN)
    assert status == 400
    assert b"access-control-allow-origin" not in dict(headers)
