"""Accounts over a real database, with everything else in the hand of the test."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypha_auth.accounts.accounts import Accounts
from hypha_auth.accounts.codes import Codes
from hypha_auth.accounts.mailer import Mailer
from hypha_auth.accounts.passwords import Passwords
from hypha_auth.accounts.repository import AccountRows
from hypha_auth.accounts.throttle import ThrottleRows, Throttles
from hypha_auth.accounts.verification import Verification, VerificationLimits
from hypha_common.db import Database
from tests.fixtures.auth import SECRET, HeardAudit

__all__ = ["FAST", "Bench", "Mailbox", "bench_of"]

# A hash in half a millisecond instead of 25.
FAST = 64

_PATIENT = replace(Throttles().account, free=1000)


class Mailbox:
    """Takes mails, or refuses them."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str, str]] = []
        self.refuses: Exception | None = None

    async def send(self, to: str, subject: str, text: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.mails.append((to, subject, text))

    def code(self) -> str:
        """Return the code in the last mail."""
        return self.mails[-1][1].split()[0]


@dataclass
class Bench:
    accounts: Accounts
    rows: AccountRows
    attempts: ThrottleRows
    mailbox: Mailbox
    audit: HeardAudit
    revoked: list[tuple[str, str]] = field(default_factory=list)


def bench_of(
    database: Database,
    *,
    mail: bool = True,
    limits: VerificationLimits | None = None,
    throttles: Throttles | None = None,
    memory_kib: int = FAST,
    private: bool = False,
) -> Bench:
    """Put accounts together as ``People`` does. Without ``throttles`` of its own a test may guess as it likes."""
    home, mailbox, audit = database.home, Mailbox(), HeardAudit()
    rows, attempts, codes = AccountRows(home), ThrottleRows(home), Codes(SECRET)
    mailer: Mailer | None = mailbox if mail else None
    throttles = throttles or Throttles(account=_PATIENT, code=replace(Throttles().code, free=1000))
    revoked: list[tuple[str, str]] = []

    async def revoke(origin: str, user_id: str) -> None:
        revoked.append((origin, user_id))

    heard: Any = audit
    verification = Verification(
        rows=rows,
        attempts=attempts,
        codes=codes,
        mailer=mailer,
        public_base_url="http://hub.example.org",
        limits=limits or VerificationLimits(resend_throttle_s=0),
        throttles=throttles,
        believes_shown=private,
    )
    accounts = Accounts(
        rows=rows,
        attempts=attempts,
        passwords=Passwords(memory_kib=memory_kib),
        codes=codes,
        verification=verification,
        revoke=revoke,
        audit=heard,
        throttles=throttles,
    )
    return Bench(accounts, rows, attempts, mailbox, audit, revoked)
