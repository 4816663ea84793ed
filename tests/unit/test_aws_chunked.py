from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypha_common.errors import BadRequest
from hypha_gateway.http.files.aws_chunked import AwsChunks

_SIGNATURE = b";chunk-signature=" + b"a" * 64


def _framed(chunks: list[bytes], *, signed: bool, trailers: bytes) -> bytes:
    mark = _SIGNATURE if signed else b""
    body = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), mark, chunk) for chunk in chunks if chunk)
    return b"%s0%s\r\n%s\r\n" % (body, mark, trailers)


@given(
    chunks=st.lists(st.binary(max_size=40), max_size=5),
    signed=st.booleans(),
    trailers=st.sampled_from([b"", b"x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:bb\r\n"]),
    steps=st.lists(st.integers(1, 30), min_size=1),
)
def test_taken_off(chunks: list[bytes], signed: bool, trailers: bytes, steps: list[int]) -> None:
    """Whatever the pieces are in which it comes."""
    framed, found, framing, turn = _framed(chunks, signed=signed, trailers=trailers), b"", AwsChunks(), 0
    while framed:
        step = steps[turn % len(steps)]
        assert not framing.is_complete or not found or len(found) == sum(map(len, chunks))
        found += b"".join(framing.feed(framed[:step]))
        framed, turn = framed[step:], turn + 1
    assert found == b"".join(chunks)
    assert framing.is_complete


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n", b"\r\n", b"-1\r\n", b"0x1\r\n", b"1\r\nab", b"1000000000000\r\n", b"1" + b";" * 5000,
        b"0\r\n\r\nmore\n", b"0\r\n" + b"a:b\r\n" * 40,
    ],
)  # fmt: skip
def test_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="aws-chunked"):
        list(AwsChunks().feed(body + b"\r\n"))


@pytest.mark.parametrize("body", [b"", b"5\r\nhel", b"5\r\nhello\r\n", b"5\r\nhello\r\n0"])
def test_not_complete(body: bytes) -> None:
    framing = AwsChunks()
    list(framing.feed(body))
    assert not framing.is_complete
