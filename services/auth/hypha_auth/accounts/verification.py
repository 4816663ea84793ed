from __future__ import annotations

import hmac
from dataclasses import dataclass, replace

import structlog

from hypha_common.errors import HyphaError

from .codes import Codes
from .errors import AccountError, TooManyAttempts
from .mailer import Mailer
from .repository import Account, AccountRows
from .texts import normal_email
from .throttle import ThrottleRows, Throttles

__all__ = ["Verification", "VerificationLimits"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class VerificationLimits:
    """The settings ``verification_*``."""

    code_life_s: float = 600.0
    max_attempts: int = 5
    resend_throttle_s: float = 30.0
    max_pending: int = 10_000


class Verification:
    """
    Codes of six digits, mailed to an address and typed in by whoever reads it.

    Where there is no mailer a code is returned instead of sent. It lets people in, but shows nothing about the address:
    only with ``believes_shown``, on a hub that nobody but its owner reaches, is it taken for theirs all the same.

    """

    def __init__(
        self,
        *,
        rows: AccountRows,
        attempts: ThrottleRows,
        codes: Codes,
        mailer: Mailer | None,
        public_base_url: str,
        limits: VerificationLimits,
        throttles: Throttles,
        believes_shown: bool = False,
    ) -> None:
        self.limits = limits
        self._rows = rows
        self._attempts = attempts
        self._codes = codes
        self._mailer = mailer
        self._believes_shown = believes_shown
        self._base_url = public_base_url
        self._code_throttle = throttles.code
        self._mail_throttle = replace(throttles.mail, first_s=limits.resend_throttle_s)

    @property
    def sends_mail(self) -> bool:
        return self._mailer is not None

    def is_done(self, account: Account) -> bool:
        """Tell whether an account may be used: with a mailer, only when a mail has reached its address."""
        return account.email_proven if self.sends_mail else account.email_verified

    def owns_address(self, account: Account) -> bool:
        """Tell whether the address may stand for the person: workspaces and services are shared by it."""
        return account.email_proven or (account.email_verified and not self.sends_mail and self._believes_shown)

    async def send(self, account: Account) -> str | None:
        """Make a new code and mail it, or return it. Raises AccountError where the mail is not taken."""
        code = self._codes.new()
        await self._rows.put_code(account.user_id, self._codes.hash(account.user_id, code), self.limits.code_life_s)
        if self._mailer is None:
            return code
        text = _MAIL.format(code=code, url=self._base_url, minutes=max(1, round(self.limits.code_life_s / 60)))
        try:
            await self._mailer.send(account.email, f"{code} is your Hypha verification code", text)
        except HyphaError as error:
            log.warning("mail_not_sent", user=account.user_id, error=str(error))
            await self._attempts.give_back(self._mail_throttle, account.email)
            raise AccountError("The mail with the code could not be sent, try again later") from None
        return None

    async def send_first(self, account: Account) -> str | None:
        """Do as :meth:`send`, unless a mail went to that address a moment ago: its code is still good."""
        try:
            await self.admit_mail(account.email)
        except TooManyAttempts:
            return None
        return await self.send(account)

    async def admit_mail(self, email: str) -> None:
        """Count a mail to an address, whether it has an account or not. Raises TooManyAttempts."""
        if self._mailer is not None and self.limits.resend_throttle_s:
            await self._attempts.admit(self._mail_throttle, email)

    async def check(self, email: str, code: str) -> Account:
        """Return the account that this is the code of. Raises AccountError, the same for every other address."""
        email = normal_email(email)
        await self._attempts.admit(self._code_throttle, email)
        account = await self._rows.by_email(email)
        wanted = None if account is None else await self._rows.try_code(account.user_id, self.limits.max_attempts)
        if account is None or wanted is None or not hmac.compare_digest(wanted, self._hash(account, code)):
            raise _wrong_code()
        await self._attempts.forget(self._code_throttle, email)
        return account

    async def use(self, account: Account, code: str) -> Account:
        """Take a code's word that the address is its owner's. Raises AccountError where it was used meanwhile."""
        if not await self._rows.verify(account.user_id, self._hash(account, code), mailed=self.sends_mail):
            raise _wrong_code()
        return replace(account, email_verified=True, email_proven=account.email_proven or self.sends_mail)

    def _hash(self, account: Account, code: str) -> bytes:
        return self._codes.hash(account.user_id, code.strip())


_MAIL = """Your verification code is

    {code}

It is for the Hypha server at {url} and good for {minutes} minutes.

If you have not asked for it, somebody else has typed your address: do not pass the code on, and ignore this mail.
"""


def _wrong_code() -> AccountError:
    return AccountError("Invalid or expired verification code")
