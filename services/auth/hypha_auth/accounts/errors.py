from __future__ import annotations

import math

from hypha_common.errors import HyphaError

__all__ = ["AccountError", "NotVerified", "TooManyAttempts", "WrongPassword"]


class AccountError(HyphaError):
    """What a person is told who signs up or logs in."""

    status, code, rpc_type = 400, "account", "ValueError"


class WrongPassword(AccountError):
    status = 401

    def __init__(self, message: str = "Invalid email or password") -> None:
        super().__init__(message)


class NotVerified(AccountError):
    """The password is right, but nobody has shown yet that the address is theirs."""

    status = 403

    def __init__(self, ticket: str) -> None:
        super().__init__("Email not verified, enter the code that was sent to it")
        self.ticket = ticket  # shows that the password was entered


class TooManyAttempts(AccountError):
    status = 429

    def __init__(self, wait_s: float) -> None:
        self.wait_s = max(1, math.ceil(wait_s))
        super().__init__(f"Too many attempts, try again in {self.wait_s} seconds")
