from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypha_common.errors import Unauthorized
from hypha_common.ids import is_text

__all__ = ["Profile", "subject_of"]

_MAX_SUBJECT = 255  # OpenID Connect Core 1.0 §2
_MAX_TEXT = 2048
# Roles that mean something to this cluster and that nobody gets by logging in.
_RESERVED_ROLES = frozenset({"anonymous"})


@dataclass(frozen=True, slots=True)
class Profile:
    """What an issuer says of a person. ``email`` is None unless the issuer has verified it: e-mails own workspaces."""

    subject: str
    email: str | None = None
    name: str | None = None
    nickname: str | None = None
    picture: str | None = None
    roles: tuple[str, ...] = ()

    @classmethod
    def of(cls, claims: Mapping[str, Any], namespace: str) -> Profile:
        """
        Read verified claims. Raises Unauthorized where they name nobody.

        Roles, and the e-mail of an access token, are in claims of the cluster's own namespace, which only whoever
        administers the issuer can put there.

        """
        return cls(
            subject=subject_of(claims),
            email=_email(claims, namespace) or _email(claims, ""),
            name=_text(claims, "name"),
            nickname=_text(claims, "nickname") or _text(claims, "preferred_username"),
            picture=_text(claims, "picture"),
            roles=_roles(claims.get(f"{namespace}roles")),
        )


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return who claims are about. Raises Unauthorized."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT or not subject.isprintable():
        raise Unauthorized("Invalid token claims: a subject of at most 255 characters is needed")
    return subject


def _email(claims: Mapping[str, Any], prefix: str) -> str | None:
    email = _text(claims, f"{prefix}email")
    # Some providers write the boolean as text.
    is_verified = claims.get(f"{prefix}email_verified", claims.get("email_verified")) in (True, "true")
    return email if email and is_verified and "@" in email else None


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if not isinstance(value, str) or not value or len(value) > _MAX_TEXT or "\x00" in value or not is_text(value):
        return None
    return value


def _roles(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(role for role in value if isinstance(role, str) and role and role not in _RESERVED_ROLES)
