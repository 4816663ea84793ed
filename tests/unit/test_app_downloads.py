from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hypha_apps.sources import download
from hypha_apps.sources.download import Downloads
from hypha_apps.sources.reading import read_source
from hypha_common.errors import BadRequest, PayloadTooLarge

HOST = "apps.example.org"


class Site:
    """An HTTPS server on this machine that answers by path."""

    def __init__(self, tls: ssl.SSLContext, certificate: Path) -> None:
        self._tls = tls
        self.answers: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.port = 0
        trust = ssl.create_default_context(cafile=str(certificate))
        self.downloads = Downloads(resolve=self._resolve, tls=trust)

    def url(self, path: str) -> str:
        return f"https://{HOST}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        writer.write(self.answers.get(head.split()[1], b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"))
        await writer.drain()
        writer.close()

    async def _resolve(self, host: str, port: int) -> list[str]:
        if host != HOST:
            return await download._public_addresses(host, port)
        return ["127.0.0.1"]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(_certificate())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    found = Site(tls, certificate)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


def _certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret + certificate.public_bytes(pem)


def _ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def test_a_plugin_is_fetched(site: Site) -> None:
    site.answers["/x.imjoy.html?v=1"] = _ok(b'<config>{"name": "far", "type": "window"}</config><script>1</script>')
    found = await read_source(site.url("/x.imjoy.html?v=1"), None, None, site.downloads)
    assert found.manifest["name"] == "far"
    assert f"host: {HOST}:{site.port}" in site.asked[0].lower()


async def test_redirects_are_followed_to_secured_addresses_of_the_world_only(site: Site) -> None:
    moved = "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n"
    site.answers["/a"] = moved.format("/b").encode()
    site.answers["/b"] = _ok("é".encode())
    assert await site.downloads.fetch(site.url("/a")) == "é"
    site.answers["/b"] = moved.format("http://example.org/").encode()
    with pytest.raises(BadRequest, match="Only secured https urls"):
        await site.downloads.fetch(site.url("/a"))
    site.answers["/b"] = moved.format(f"https://127.0.0.1:{site.port}/c").encode()
    with pytest.raises(BadRequest, match="not on the public internet"):
        await site.downloads.fetch(site.url("/a"))
    site.answers["/b"] = moved.format("/a").encode()
    with pytest.raises(BadRequest, match="redirected too often"):
        await site.downloads.fetch(site.url("/a"))


async def test_what_is_no_source_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest, match="status 404"):
        await site.downloads.fetch(site.url("/missing"))
    site.answers["/zipped"] = _ok(b"x", "content-encoding: gzip")
    with pytest.raises(BadRequest, match="cannot be read"):
        await site.downloads.fetch(site.url("/zipped"))
    site.answers["/binary"] = _ok(b"\xff")
    with pytest.raises(BadRequest, match="cannot be read: UnicodeDecodeError"):
        await site.downloads.fetch(site.url("/binary"))
    monkeypatch.setattr(download, "MAX_SOURCE_BYTES", 10)
    site.answers["/large"] = _ok(b"x" * 11)
    with pytest.raises(PayloadTooLarge, match="10 bytes at most"):
        await site.downloads.fetch(site.url("/large"))


async def test_a_server_that_nobody_vouches_for_is_not_believed(site: Site) -> None:
    site.answers["/x"] = _ok(b"x")
    with pytest.raises(BadRequest, match="cannot be read: ConnectError"):
        await Downloads(resolve=site._resolve).fetch(site.url("/x"))


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:10.0.0.1]", "0.0.0.0", "224.0.0.1"],
)
async def test_nobody_looks_into_our_network(host: str) -> None:
    with pytest.raises(BadRequest, match="not on the public internet"):
        await Downloads().fetch(f"https://{host}/x")
