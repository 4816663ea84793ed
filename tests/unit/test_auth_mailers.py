from __future__ import annotations

import asyncio
import datetime
import json
import ssl
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hypha_auth.accounts.mailer import ResendMailer, SmtpMailer, mailer_of
from hypha_common.errors import ConfigurationError, Unavailable
from hypha_common.settings import Settings
from tests.fixtures.smtp import MailServer, mail_server

__all__ = ["mail_server"]

SENDER = "Hub <hub@example.org>"


class Resend:
    """Takes one request after another, and answers with ``status``."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (text.partition(": ") for text in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append((line, headers, body))
        writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def resend() -> AsyncIterator[Resend]:
    service = Resend()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield service
    server.close()
    await server.wait_closed()


def certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return contexts of a server and of a client that trusts it, and nobody else."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = signed.public_bytes(serialization.Encoding.PEM)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = directory / "certificate.pem"
    path.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()) + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cadata=pem.decode())


async def test_smtp(mail_server: MailServer) -> None:
    mailer = SmtpMailer(f"smtp://127.0.0.1:{mail_server.port}", SENDER)
    await mailer.send("ada@example.org", "Grüße", "Your code is\n\n    123456\n\n.\nend\n")
    mail = mail_server.mails.get_nowait()
    assert (mail["To"], mail["From"], mail["Auto-Submitted"]) == ("ada@example.org", SENDER, "auto-generated")
    assert "    123456" in str(mail.get_payload())


async def test_smtp_with_login_and_encryption(tmp_path: Path) -> None:
    """A server that offers encryption is used with it; its certificate must be one that is trusted."""
    server_tls, client_tls = certificate(tmp_path)
    server = MailServer(tls=server_tls, login=("hub@example.org", "pass:word"))
    await server.start()
    url = f"smtp://hub%40example.org:pass%3Aword@127.0.0.1:{server.port}"
    await SmtpMailer(url, SENDER, tls=client_tls).send("ada@example.org", "x", "y")
    assert server.encrypted
    with pytest.raises(Unavailable, match="SSLCertVerificationError"):
        await SmtpMailer(url, SENDER).send("ada@example.org", "x", "y")
    with pytest.raises(Unavailable, match="SMTPAuthenticationError"):
        await SmtpMailer(url.replace("pass%3A", ""), SENDER, tls=client_tls).send("ada@example.org", "x", "y")
    await server.stop()


async def test_smtp_fails(mail_server: MailServer) -> None:
    mail_server.refuses = True
    with pytest.raises(Unavailable, match="did not take the mail"):
        await SmtpMailer(f"smtp://127.0.0.1:{mail_server.port}", SENDER).send("ada@example.org", "x", "y")
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        await SmtpMailer("smtp://127.0.0.1:1", SENDER).send("ada@example.org", "x", "y")


async def test_resend(resend: Resend) -> None:
    mailer = ResendMailer("re_key", SENDER, base_url=resend.url)
    await mailer.send("ada@example.org", "123456 is your code", "text")
    line, headers, body = resend.requests[0]
    assert line == "POST /emails HTTP/1.1"
    assert headers["authorization"] == "Bearer re_key"
    assert body == {"from": SENDER, "to": ["ada@example.org"], "subject": "123456 is your code", "text": "text"}


async def test_resend_fails(resend: Resend) -> None:
    resend.status = 403
    with pytest.raises(Unavailable, match="status 403"):
        await ResendMailer("re_key", SENDER, base_url=resend.url).send("ada@example.org", "x", "y")
    with pytest.raises(Unavailable, match="does not answer"):
        await ResendMailer("re_key", SENDER, base_url="http://127.0.0.1:1").send("ada@example.org", "x", "y")


def test_settings() -> None:
    """What is configured is used; half a configuration is an error, and tells no password."""

    def mailer(**values: str) -> object:
        return mailer_of(Settings.load(values, environ={}))

    assert mailer() is None
    assert isinstance(mailer(resend_api_key="re_key", verification_from_email=SENDER), ResendMailer)
    assert isinstance(mailer(smtp_url="smtps://u:p@mail.example.org", verification_from_email=SENDER), SmtpMailer)
    with pytest.raises(ConfigurationError, match="verification_from_email is missing"):
        mailer(smtp_url="smtp://mail.example.org")
    for url in ("mail.example.org:25", "http://u:geheim@mail.example.org", "smtp://"):
        with pytest.raises(ConfigurationError, match="smtp_url must look like") as caught:
            mailer(smtp_url=url, verification_from_email=SENDER)
        assert "geheim" not in str(caught.value)
