from __future__ import annotations

import re
import unicodedata

from .errors import AccountError

__all__ = ["check_password", "normal_email", "normal_name", "normal_password"]

MIN_PASSWORD_CHARACTERS = 8
MAX_PASSWORD_BYTES = 1024
MAX_NAME_CHARACTERS = 100

_MAX_EMAIL = 254  # RFC 5321
_MAX_LOCAL = 64
_LOCAL = re.compile(r"[^\s@\"(),:;<>\[\\\]\x00-\x1f\x7f-\x9f]+")
_DOMAIN = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.[^\W_](?:[\w-]{0,61}[^\W_])?)*")


def normal_email(text: str) -> str:
    """
    Return the one way in which an address is stored and looked up, in small letters. Raises AccountError.

    Mail servers that tell ``Ann@`` from ``ann@`` hardly exist; people who type both do.

    """
    email = unicodedata.normalize("NFKC", text).strip().lower()
    local, at, domain = email.rpartition("@")
    if (
        not at
        or len(email) > _MAX_EMAIL
        or len(local) > _MAX_LOCAL
        or not _LOCAL.fullmatch(local)
        or not _DOMAIN.fullmatch(domain)
        or not email.isprintable()
        or "\ud800" <= max(email) <= "\udfff"
    ):
        raise AccountError("Invalid email address")
    return email


def normal_name(text: str, *, email: str) -> str:
    """Return a name as it is shown; without one, the part of the address before the @. Raises AccountError."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        raise AccountError(f"The name must be text of at most {MAX_NAME_CHARACTERS} characters")
    return name or email.partition("@")[0]


def normal_password(password: str) -> bytes | None:
    """
    Return what is hashed, or None for what can be nobody's password.

    The same characters are the same password, however a keyboard composes them.

    """
    try:
        encoded = unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        return None
    return encoded if 0 < len(encoded) <= MAX_PASSWORD_BYTES else None


def check_password(password: str) -> bytes:
    """Return what is hashed of a new password. Raises AccountError where it is too short or too long."""
    if len(unicodedata.normalize("NFC", password)) < MIN_PASSWORD_CHARACTERS:
        raise AccountError(f"Password must be at least {MIN_PASSWORD_CHARACTERS} characters")
    encoded = normal_password(password)
    if encoded is None:
        raise AccountError(f"Password must be text of at most {MAX_PASSWORD_BYTES} bytes")
    return encoded
