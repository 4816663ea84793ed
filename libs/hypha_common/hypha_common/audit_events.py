from __future__ import annotations

__all__ = ["EVENTS"]

# What :class:`hypha_common.audit.Audit` is given to record. Apart from it: command lines name these, and start quickly.
EVENTS = (
    *("login", "login_failed", "account_created", "password_changed", "token_issued", "token_revoked"),
    *("denied", "blocked", "unblocked", "keys_rotated", "kicked"),
)
