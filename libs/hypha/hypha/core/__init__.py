"""
What startup functions use to describe users.
"""

from __future__ import annotations

from .users import ScopeInfo, UserInfo, create_scope

__all__ = ["ScopeInfo", "UserInfo", "create_scope"]
