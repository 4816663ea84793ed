from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from base64 import urlsafe_b64encode

__all__ = ["Codes"]

_TICKET_LIFE_S = 1800


class Codes:
    """
    Verification codes, and tickets that say who entered the password a moment ago.

    Six digits are soon guessed from a plain hash, so that the hash is keyed: the database alone gives no code away.

    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(b"hypha accounts: " + secret.encode()).digest()

    @staticmethod
    def new() -> str:
        return f"{secrets.randbelow(10**6):06d}"

    def hash(self, user_id: str, code: str) -> bytes:
        return self._mac("code", user_id, code)

    def ticket(self, user_id: str, password_hash: str) -> str:
        """Return what shows that its bearer has entered this user's password: the verification may log in then."""
        until = str(int(time.time()) + _TICKET_LIFE_S)
        return f"{until}.{self._signature(user_id, password_hash, until)}"

    def is_ticket(self, ticket: str, user_id: str, password_hash: str) -> bool:
        until, _, signature = ticket.partition(".")
        if not until.isascii() or not until.isdecimal() or len(until) > 12 or int(until) < time.time():
            return False
        wanted = self._signature(user_id, password_hash, until)
        return hmac.compare_digest(signature.encode("utf-8", "surrogatepass"), wanted.encode())

    def _signature(self, *parts: str) -> str:
        return urlsafe_b64encode(self._mac("ticket", *parts)).decode().rstrip("=")

    def _mac(self, *parts: str) -> bytes:
        # "\0" occurs in no part: two lists of parts never read the same.
        return hmac.digest(self._key, "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256")
