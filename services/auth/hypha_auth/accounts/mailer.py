from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from hypha_common.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["Mailer", "ResendMailer", "SmtpMailer", "mailer_of"]

RESEND_URL = "https://api.resend.com"

_TIMEOUT_S = 10.0
_MAX_SENDING = 16  # mails on their way at the same time; each holds a thread or a connection


class Mailer(Protocol):
    """Sends a mail of plain text. Raises Unavailable where nobody takes it."""

    async def send(self, to: str, subject: str, text: str) -> None: ...


class ResendMailer:
    """Sends through the HTTP API of Resend."""

    def __init__(self, api_key: str, sender: str, *, base_url: str = RESEND_URL) -> None:
        self._api_key = api_key
        self._sender = sender
        self._url = f"{base_url}/emails"
        self._sending = asyncio.Semaphore(_MAX_SENDING)

    async def send(self, to: str, subject: str, text: str) -> None:
        import httpx

        message = {"from": self._sender, "to": [to], "subject": subject, "text": text}
        headers = {"Authorization": f"Bearer {self._api_key}"}
        try:
            async with self._sending, httpx.AsyncClient(timeout=_TIMEOUT_S) as client:
                answer = await client.post(self._url, json=message, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"The mail service does not answer: {type(error).__name__}") from None
        if not answer.is_success:
            raise Unavailable(f"The mail service refused the mail: status {answer.status_code}")


class SmtpMailer:
    """
    Sends through a mail server: ``smtp://user:password@host:587``, encrypted where the server offers it, or
    ``smtps://…``, encrypted from the start.

    """

    def __init__(self, url: str, sender: str, *, tls: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ConfigurationError("smtp_url must look like smtp://user:password@host:587 or smtps://…")
        self._host = parts.hostname
        self._encrypted = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._encrypted else 587)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._sender = sender
        self._tls = tls or ssl.create_default_context()
        self._sending = asyncio.Semaphore(_MAX_SENDING)

    async def send(self, to: str, subject: str, text: str) -> None:
        message = EmailMessage(policy=SMTP)
        message["From"], message["To"], message["Subject"] = self._sender, to, subject
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday reply is wanted
        message.set_content(text)
        async with self._sending:
            try:
                await asyncio.to_thread(self._send, message)
            except (OSError, smtplib.SMTPException) as error:
                raise Unavailable(f"The mail server did not take the mail: {type(error).__name__}") from None

    def _send(self, message: EmailMessage) -> None:
        with self._connected() as server:
            server.ehlo()
            if not self._encrypted and server.has_extn("starttls"):
                server.starttls(context=self._tls)
                server.ehlo()
            if self._user:
                server.login(self._user, self._password)
            server.send_message(message)

    def _connected(self) -> smtplib.SMTP:
        if self._encrypted:
            return smtplib.SMTP_SSL(self._host, self._port, timeout=_TIMEOUT_S, context=self._tls)
        return smtplib.SMTP(self._host, self._port, timeout=_TIMEOUT_S)


def mailer_of(settings: Settings) -> Mailer | None:
    """Return what the settings name, or None. Raises ConfigurationError."""
    if not settings.resend_api_key and not settings.smtp_url:
        return None
    settings.require("verification_from_email")
    if settings.resend_api_key:
        return ResendMailer(settings.resend_api_key, settings.verification_from_email)
    return SmtpMailer(settings.smtp_url, settings.verification_from_email)
