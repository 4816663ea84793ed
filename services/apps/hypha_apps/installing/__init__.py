"""From what somebody wrote to a committed app: compiled, stored as a draft, tried, published (contract 03 §1.3)."""

from __future__ import annotations

from .commits import Commits
from .copies import Copies
from .drafts import COLLECTION, AppDrafts
from .installer import Installer, Order
from .turns import Turns
from .uploads import Uploads

__all__ = ["COLLECTION", "AppDrafts", "Commits", "Copies", "Installer", "Order", "Turns", "Uploads"]
