from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from hypha_auth.identity import Identity
from hypha_common.audit import Audit
from hypha_common.ids import new_id
from hypha_common.names import readable_name

from .codes import Codes
from .errors import AccountError, NotVerified, WrongPassword
from .passwords import Passwords
from .repository import Account, AccountRows
from .texts import check_password, normal_email, normal_name, normal_password
from .throttle import ThrottleRows, Throttles
from .verification import Verification

__all__ = ["Accounts", "SignedUp"]

log = structlog.get_logger(__name__)

_ROLES = ("user",)
_UNVERIFIED_LIFE_S = 86400.0


@dataclass(frozen=True, slots=True)
class SignedUp:
    """An account that waits for its code. ``code`` is told only where there is no mail to send it in."""

    email: str
    ticket: str
    code: str | None


class Accounts:
    """
    People with an e-mail address and a password: sign up, verify, log in, change.

    Nothing here tells whether an address has an account, but for signing up, which has to. What is slowed down is
    counted in the database, for all replicas together.

    """

    def __init__(
        self,
        *,
        rows: AccountRows,
        attempts: ThrottleRows,
        passwords: Passwords,
        codes: Codes,
        verification: Verification,
        revoke: Callable[[str, str], Awaitable[None]],
        audit: Audit,
        throttles: Throttles,
    ) -> None:
        self._rows = rows
        self._attempts = attempts
        self._passwords = passwords
        self._codes = codes
        self._verification = verification
        self._revoke = revoke  # (origin of tokens, user id): refuse those tokens from now on
        self._audit = audit
        self._throttles = throttles

    @property
    def sends_mail(self) -> bool:
        return self._verification.sends_mail

    async def sign_up(self, email: str, password: str, name: str = "", *, address: str = "") -> SignedUp:
        """Create an account, and send the code that verifies its address. Raises AccountError, Unavailable."""
        email = normal_email(email)
        name = normal_name(name, email=email)
        secret = check_password(password)
        throttles = self._throttles
        await self._attempts.admit(throttles.sign_up if address else throttles.sign_up_unknown, address)
        known = await self._rows.by_email(email)
        if known is not None and known.email_verified:
            raise AccountError("Email already registered")
        limits = self._verification.limits
        if known is None and await self._rows.pending() >= limits.max_pending:
            raise AccountError("Too many accounts wait for verification, try again later")
        if known is not None and self.sends_mail and await self._passwords.matches(secret, known.password_hash):
            return await self._signed_up(known)
        account = await self._rows.create(
            readable_name("local-"),
            email=email,
            name=name,
            password_hash=await self._passwords.hash(secret),
            roles=_ROLES,
            origin=new_id(),
            code_life_s=limits.code_life_s,
            # Who holds the code of the first attempt must not verify the password of another one.
            replace=not self.sends_mail,
        )
        if account is None:
            minutes = max(1, round(limits.code_life_s / 60))
            raise AccountError(
                "A code was sent to this address already, for another password. "
                f"Enter it, or try again in {minutes} minutes"
            )
        log.info("account_created", user=account.user_id)
        self._audit.record("account_created", user=account.user_id, address=address)
        return await self._signed_up(account)

    async def verify_email(self, email: str, code: str) -> Account:
        """Show that an address is one's own, and return its account. Raises AccountError."""
        account = await self._verification.use(await self._verification.check(email, code), code)
        log.info("email_verified", user=account.user_id)
        return account

    async def resend_code(self, email: str) -> str | None:
        """Send another code, if the address waits for one; returns it where there is no mail. Raises AccountError."""
        email = normal_email(email)
        await self._verification.admit_mail(email)
        account = await self._rows.by_email(email)
        if account is None or self._verification.is_done(account):
            return None
        return await self._verification.send(account)

    async def forgot_password(self, email: str) -> None:
        """Send a code with which a new password can be set, if the address has an account. Raises AccountError."""
        email = normal_email(email)
        if not self.sends_mail:
            raise AccountError("This server sends no mail: ask its operator for a new password")
        await self._verification.admit_mail(email)
        account = await self._rows.by_email(email)
        if account is not None:
            await self._verification.send(account)

    async def reset_password(self, email: str, code: str, password: str) -> Account:
        """
        Set a new password with a code from a mail, and end all that was logged in with the old one.

        That the mail arrived verifies the address as well: whoever signed up with somebody else's loses it here.

        """
        secret = check_password(password)
        account = await self._verification.check(email, code)
        hashed = await self._passwords.hash(secret)
        account = await self._verification.use(account, code)
        await self._attempts.forget(self._throttles.account, account.email)
        return await self._replace_password(account, hashed, everywhere=True)

    async def log_in(self, email: str, password: str, *, address: str = "") -> Account:
        """Return the account of whoever knows its password. Raises WrongPassword, NotVerified, TooManyAttempts."""
        try:
            email = normal_email(email)
        except AccountError:
            raise WrongPassword from None
        if address:
            await self._attempts.admit(self._throttles.address, address)
        await self._attempts.admit(self._throttles.account, email)
        account = await self._rows.by_email(email)
        if not await self._matches(account, password) or account is None:
            self._failed(account, address)
            raise WrongPassword
        await self._attempts.forget(self._throttles.account, email)
        if address:
            await self._attempts.give_back(self._throttles.address, address)
        if not self._verification.is_done(account):
            raise NotVerified(self._ticket(account))
        return account

    def holds_ticket(self, account: Account, ticket: str) -> bool:
        """Tell whether somebody has entered this account's password a moment ago."""
        return self._codes.is_ticket(ticket, account.user_id, account.password_hash)

    async def account(self, user_id: str) -> Account | None:
        return await self._rows.by_id(user_id)

    async def by_email(self, email: str) -> Account | None:
        return await self._rows.by_email(normal_email(email))

    def identity(self, account: Account) -> Identity:
        """Return the person behind an account, for the token that a login gives."""
        return Identity(
            user_id=account.user_id,
            email=account.email,
            email_verified=self._verification.owns_address(account),
            name=account.name,
            roles=account.roles,
            origin=account.origin,
        )

    async def rename(self, account: Account, name: str) -> None:
        await self._rows.rename(account.user_id, normal_name(name, email=account.email))

    async def change_password(
        self, account: Account, current: str | None, new: str, *, everywhere: bool = False, trusted: bool = False
    ) -> Account:
        """
        Change a password, and return the account as it is now. Raises WrongPassword and other AccountErrors.

        Args:
            everywhere: end all that was logged in with the password before
            trusted: an administrator does it, who needs not know the current one

        """
        secret = check_password(new)
        if not trusted:
            await self._attempts.admit(self._throttles.account, account.email)
            if not await self._matches(account, current or ""):
                self._failed(account, "")
                raise WrongPassword("Current password is incorrect")
            await self._attempts.forget(self._throttles.account, account.email)
        if everywhere:
            await self._attempts.admit(self._throttles.revoking, account.user_id)
        return await self._replace_password(account, await self._passwords.hash(secret), everywhere=everywhere)

    async def sweep(self) -> None:
        """Forget old attempts, and accounts that nobody has verified within a day."""
        await self._attempts.delete_forgotten()
        await self._rows.delete_unverified(_UNVERIFIED_LIFE_S)

    def close(self) -> None:
        self._passwords.close()

    async def _signed_up(self, account: Account) -> SignedUp:
        return SignedUp(account.email, self._ticket(account), await self._verification.send_first(account))

    def _ticket(self, account: Account) -> str:
        return self._codes.ticket(account.user_id, account.password_hash)

    async def _matches(self, account: Account | None, password: str) -> bool:
        secret = normal_password(password)
        hashed = None if account is None else account.password_hash
        if not await self._passwords.matches(secret, hashed):
            return False
        if account is not None and secret is not None and self._passwords.is_outdated(account.password_hash):
            await self._rows.rehash(account.user_id, account.password_hash, await self._passwords.hash(secret))
        return True

    async def _replace_password(self, account: Account, hashed: str, *, everywhere: bool) -> Account:
        origin = new_id() if everywhere else account.origin
        await self._rows.set_password(account.user_id, hashed, origin=origin)
        if everywhere:
            await self._revoke(account.origin, account.user_id)
        log.info("password_changed", user=account.user_id, everywhere=everywhere)
        self._audit.record("password_changed", user=account.user_id, everywhere=everywhere)
        return replace(account, password_hash=hashed, origin=origin)

    def _failed(self, account: Account | None, address: str) -> None:
        user = "" if account is None else account.user_id
        log.info("login_failed", user=user)
        self._audit.record("login_failed", user=user, address=address)
