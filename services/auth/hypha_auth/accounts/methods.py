from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

from hypha_auth.callers import address_of, person_of
from hypha_auth.login_flow import LoginFlow
from hypha_auth.login_request import LoginRequest
from hypha_common.errors import DeadlineExceeded, HyphaError, Unavailable
from hypha_common.ids import personal_workspace
from hypha_common.rpc.caller import Caller
from hypha_common.rpc.service import rpc_method

from .accounts import Accounts
from .errors import AccountError, NotVerified
from .repository import Account

__all__ = ["AccountMethods"]

P = ParamSpec("P")
Answer = dict[str, Any]


def _answered(method: Callable[P, Awaitable[Answer]]) -> Callable[P, Awaitable[Answer]]:
    """Make a method answer ``{success, error?}``; only what trying again may mend is still raised."""

    @functools.wraps(method)
    async def answered(*args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            return {"success": True, **await method(*args, **kwargs)}
        except NotVerified as error:
            return {"success": False, "error": error.message, "verification_required": True}
        except (Unavailable, DeadlineExceeded):
            raise
        except HyphaError as error:
            return {"success": False, "error": error.message}

    return answered


class AccountMethods:
    """What local accounts add to the service ``hypha-login`` (contract 01 §4.7)."""

    def __init__(self, *, accounts: Accounts, flow: LoginFlow) -> None:
        self._accounts = accounts
        self._flow = flow

    @rpc_method
    @_answered
    async def signup(self, name: str, email: str, password: str, context: Caller | None = None) -> Answer:
        """
        Create an account; the code that is sent to the address verifies it.

        Args:
            name: how the person is called
            email: the address of the person
            password: at least 8 characters

        """
        signed_up = await self._accounts.sign_up(email, password, name, address=address_of(context))
        answer: Answer = {"verification_required": True, "email": signed_up.email}
        return answer if signed_up.code is None else {**answer, "dev_code": signed_up.code}

    @rpc_method
    @_answered
    async def verify_email(self, email: str, code: str) -> Answer:
        """
        Verify the address of a new account.

        Args:
            email: the address
            code: the six digits that were sent to it

        """
        account = await self._accounts.verify_email(email, code.zfill(6))
        return {"user_id": account.user_id, "email_verified": True}

    @rpc_method
    @_answered
    async def resend_code(self, email: str) -> Answer:
        """Send another code to an address that waits for one."""
        code = await self._accounts.resend_code(email)
        return {"email": email} if code is None else {"email": email, "dev_code": code}

    @rpc_method
    @_answered
    async def login(
        self,
        email: str,
        password: str,
        workspace: str | None = None,
        key: str | None = None,
        context: Caller | None = None,
    ) -> Answer:
        """
        Log in.

        Args:
            email: the address of the account
            password: its password
            workspace: limit the token to this workspace
            key: complete the login that a program has started with this key, too

        """
        account = await self._accounts.log_in(email, password, address=address_of(context))
        request = LoginRequest(key=key or "", workspace=workspace or "")
        person = await self._flow.finish(request, self._accounts.identity(account))
        token = await self._flow.limited(person, workspace) if workspace else person.token
        return {
            "token": token,
            "user_id": account.user_id,
            "email": account.email,
            "workspace": workspace or personal_workspace(account.user_id),
        }

    @rpc_method
    @_answered
    async def update_profile(
        self,
        user_email: str,
        name: str | None = None,
        current_password: str | None = None,
        new_password: str | None = None,
        context: Caller | None = None,
    ) -> Answer:
        """
        Change one's own name or password; an administrator may do it for anybody.

        Args:
            user_email: the address of the account
            name: the new name
            current_password: needed for a new password
            new_password: at least 8 characters

        """
        account = await self._accounts.by_email(user_email)
        account = self._allowed(account, context)
        if new_password is not None:
            trusted = _is_administrator(context) and person_of(context) != account.user_id
            account = await self._accounts.change_password(account, current_password, new_password, trusted=trusted)
        if name is not None:
            await self._accounts.rename(account, name)
        return {"user_id": account.user_id, "email": account.email}

    @rpc_method
    @_answered
    async def change_password(
        self,
        current_password: str,
        new_password: str,
        sign_out_everywhere: bool = False,
        context: Caller | None = None,
    ) -> Answer:
        """
        Change one's own password.

        Args:
            current_password: the one that is good now
            new_password: at least 8 characters
            sign_out_everywhere: refuse all tokens of earlier logins; the answer has a new one

        """
        account = self._allowed(await self._accounts.account(person_of(context)), context)
        account = await self._accounts.change_password(
            account, current_password, new_password, everywhere=sign_out_everywhere
        )
        return {"token": self._flow.token_of(self._accounts.identity(account))} if sign_out_everywhere else {}

    @rpc_method
    @_answered
    async def forgot_password(self, email: str) -> Answer:
        """Send a code for a new password to an address, if it has an account."""
        await self._accounts.forgot_password(email)
        return {"email": email}

    @rpc_method
    @_answered
    async def reset_password(self, email: str, code: str, new_password: str) -> Answer:
        """
        Set a new password with the code of a mail; tokens of earlier logins are refused from then on.

        Args:
            email: the address of the account
            code: the six digits that were sent to it
            new_password: at least 8 characters

        """
        account = await self._accounts.reset_password(email, code.zfill(6), new_password)
        return {"user_id": account.user_id}

    def _allowed(self, account: Account | None, context: Caller | None) -> Account:
        """Return the account if the caller may change it. Raises AccountError, the same where there is none."""
        if account is not None and (account.user_id == person_of(context) or _is_administrator(context)):
            return account
        raise AccountError("Permission denied: log in to this account first")


def _is_administrator(context: Caller | None) -> bool:
    return context is not None and context.principal.is_admin and context.principal.parent is None
