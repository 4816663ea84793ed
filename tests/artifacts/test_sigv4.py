"""Signatures: what botocore signs is accepted, whatever the key is called; what was changed on the way is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from botocore.utils import percent_encode_sequence
from hypothesis import given
from hypothesis import strategies as st

from hypha_artifacts.blobs.sigv4 import Credentials, presign
from hypha_artifacts.s3.errors import S3Error
from hypha_artifacts.s3.signature import MAX_SKEW_S, Signature, SignedRequest

KEY_ID, SECRET = "HY07ABCDEFGHIJKLMNOP", "secret/with+odd=signs"
HOST = "hub.example:9527"

ODD_KEYS = [
    "plain.txt",
    "ws-a/folder/file.txt",
    "with space/and  two",
    "plus+and&amp=equals?question#hash",
    "percent%20%2F%",
    "quotes'\"`",
    "brackets(){}[]<>",
    "dots../...a/.hidden",
    "tilde~dash-under_score",
    "ünïcödé/日本語/😀.txt",
    "back\\slash|pipe^caret",
    "comma,semicolon;colon:at@dollar$star*bang!",
    "x" * 200,
]


def boto_request(method: str, key: str, headers: dict[str, str] | None = None, **params: str) -> AWSRequest:
    """Return a request as botocore builds it before it signs it."""
    query = percent_encode_sequence(params)
    url = f"https://{HOST}/hub/s3/bucket/{quote(key, safe='/~')}" + (f"?{query}" if query else "")
    return AWSRequest(method=method, url=url, headers=headers or {}, data=b"")


def sent(request: AWSRequest, *, method: str = "", host: str = HOST) -> SignedRequest:
    """Return what arrives here when a signed request of botocore is sent."""
    prepared = request.prepare()
    parts = urlsplit(prepared.url)
    query = [
        (unquote(name), unquote(value))
        for name, _, value in (part.partition("=") for part in parts.query.split("&") if part)
    ]
    headers = {name.lower(): value for name, value in prepared.headers.items()}
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in headers.items()}
    return SignedRequest([method or request.method], [parts.path], [host], query, {"host": host, **texts})


def signed_by_header(request: AWSRequest, secret: str = SECRET) -> AWSRequest:
    S3SigV4Auth(BotoCredentials(KEY_ID, secret), "s3", "EU").add_auth(request)
    return request


def signed_by_query(request: AWSRequest, expires: int = 600) -> AWSRequest:
    S3SigV4QueryAuth(BotoCredentials(KEY_ID, SECRET), "s3", "eu-west-1", expires=expires).add_auth(request)
    return request


def check(request: SignedRequest, *secrets: str, now: float | None = None) -> Signature:
    signature = Signature.of(request)
    signature.check_time(datetime.now(UTC).timestamp() if now is None else now)
    signature.check(request, secrets or (SECRET,))
    return signature


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("sign", [signed_by_header, signed_by_query])
def test_what_botocore_signs_is_accepted(key: str, sign: Any) -> None:
    signature = check(sent(sign(boto_request("GET", key))))
    assert signature.access_key_id == KEY_ID


@pytest.mark.parametrize("sign", [signed_by_header, signed_by_query])
def test_parameters_are_signed(sign: Any) -> None:
    """With odd names, empty values and signs that must be encoded; a changed one is refused."""
    params = {"prefix": "ws-a/ü +&%", "list-type": "2", "delimiter": "/", "uploads": ""}
    request = sent(sign(boto_request("GET", "k", **params)))
    check(request)
    changed = [(name, "ws-b/" if name == "prefix" else value) for name, value in request.query]
    with pytest.raises(S3Error, match="does not match"):
        check(SignedRequest(request.methods, request.paths, request.hosts, changed, request.headers))


def test_headers_are_signed() -> None:
    """In whatever spacing; one of S3 that is not signed is refused, and so is a changed one."""
    headers = {"x-amz-meta-title": "two   spaces ", "Content-Type": "text/plain", "Content-Length": "0"}
    request = sent(signed_by_header(boto_request("PUT", "k", headers)))
    check(request)
    for change in ({"x-amz-meta-title": "other"}, {"content-type": "text/html"}):
        changed = {**request.headers, **change}
        with pytest.raises(S3Error, match="does not match"):
            check(SignedRequest(request.methods, request.paths, request.hosts, request.query, changed))
    more = {**request.headers, "x-amz-copy-source": "/bucket/other"}
    with pytest.raises(S3Error, match="not signed: x-amz-copy-source"):
        check(SignedRequest(request.methods, request.paths, request.hosts, request.query, more))


@pytest.mark.parametrize(
    "payload", ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"]
)
def test_bodies_that_are_not_hashed(payload: str) -> None:
    request = boto_request("PUT", "k", {"X-Amz-Content-SHA256": payload})
    request.context["payload_signing_enabled"] = False

    class Auth(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: AWSRequest) -> str:
            return payload

    Auth(BotoCredentials(KEY_ID, SECRET), "s3", "EU").add_auth(request)
    assert check(sent(request)).payload_hash == payload


def test_wrong_secret_method_and_path() -> None:
    request = sent(signed_by_header(boto_request("GET", "k")))
    with pytest.raises(S3Error, match="does not match"):
        check(request, "another secret")
    check(request, "another secret", SECRET)
    for changed in (
        sent(signed_by_header(boto_request("GET", "k")), method="DELETE"),
        SignedRequest(["GET"], ["/hub/s3/bucket/other"], request.hosts, request.query, request.headers),
        SignedRequest(["GET"], request.paths, ["other.example"], request.query, request.headers),
    ):
        with pytest.raises(S3Error) as caught:
            check(changed)
        assert (caught.value.code, caught.value.status) == ("SignatureDoesNotMatch", 403)


def test_proxies_may_change_host_and_path() -> None:
    """As long as what the client signed is among what it may have signed."""
    request = sent(signed_by_query(boto_request("GET", "a b")))
    paths = ["/s3/bucket/a%20b", "/hub/s3/bucket/a%20b"]
    check(SignedRequest(request.methods, paths, ["internal:8080", HOST], request.query, request.headers))


def test_time() -> None:
    now = datetime.now(UTC).timestamp()
    request = sent(signed_by_query(boto_request("GET", "k"), expires=600))
    check(request, now=now + 598)
    with pytest.raises(S3Error, match="has expired") as caught:
        check(request, now=now + 602)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)
    with pytest.raises(S3Error, match="not valid yet"):
        check(request, now=now - MAX_SKEW_S - 2)
    by_header = sent(signed_by_header(boto_request("GET", "k")))
    check(by_header, now=now + MAX_SKEW_S - 2)
    for skew in (MAX_SKEW_S + 2, -MAX_SKEW_S - 2):
        with pytest.raises(S3Error) as caught:
            check(by_header, now=now + skew)
        assert caught.value.code == "RequestTimeTooSkewed"


@pytest.mark.parametrize(
    ("query", "headers", "code"),
    [
        ({}, {}, "AccessDenied"),
        ({}, {"authorization": "AWS key:signature"}, "InvalidRequest"),
        ({"AWSAccessKeyId": "x", "Signature": "y"}, {}, "InvalidRequest"),
        ({}, {"authorization": "AWS4-HMAC-SHA256 nonsense"}, "AuthorizationHeaderMalformed"),
        ({"X-Amz-Credential": "x/20261126/EU/s3/aws4_request"}, {}, "AuthorizationQueryParametersError"),
    ],
)
def test_what_is_no_signature(query: dict[str, str], headers: dict[str, str], code: str) -> None:
    with pytest.raises(S3Error) as caught:
        Signature.of(SignedRequest(["GET"], ["/s3/b/k"], [HOST], list(query.items()), headers))
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["X-Amz-Algorithm", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"])
@pytest.mark.parametrize("value", ["", "nonsense", "-1", "99999999999999", "20269999T999999Z", "é"])
def test_parameters_of_a_signature_that_make_no_sense(name: str, value: str) -> None:
    request = sent(signed_by_query(boto_request("GET", "k")))
    query = [(key, value if key == name else known) for key, known in request.query]
    with pytest.raises(S3Error):
        check(SignedRequest(request.methods, request.paths, request.hosts, query, request.headers))


@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40).filter(lambda key: key[0] != "/")
)
def test_our_own_addresses(key: str) -> None:
    """What `presign` signs, for any key, is verified from the address alone."""
    url = presign(
        "PUT",
        f"http://{HOST}/s3/bucket/{key.replace('?', '_').replace('#', '_')}",
        Credentials("hypha", SECRET, "EU"),
        expires_s=60,
        now=1_800_000_000,
        query=[("partNumber", "1"), ("uploadId", "a+b/c=")],
    )
    parts = urlsplit(url)
    query = [(unquote(n), unquote(v)) for n, _, v in (part.partition("=") for part in parts.query.split("&"))]
    check(SignedRequest(["PUT"], [parts.path], [HOST], query, {"host": HOST}), now=1_800_000_030)
