from __future__ import annotations

import time

from hypha_common.revocation import Entry
from hypha_common.tokens import VerifiedToken

__all__ = ["LOGIN_LIFE_S", "MAX_HANDED_LIFE_S", "MAX_LIFE_S", "revocation_of"]

MAX_LIFE_S = 100 * 365 * 86400.0  # of any token
LOGIN_LIFE_S = 86400.0  # of a person's own token
MAX_HANDED_LIFE_S = 366 * 86400.0  # of a token that a login hands on


def revocation_of(verified: VerifiedToken, reconnection_life_s: float) -> Entry:
    """
    Return what revokes a token, and how long that must be remembered.

    Longer than the token lives itself, because others descend from it: the reconnection tokens of connections made
    with it, and the tokens that logins have handed on. From a token that is limited to a workspace these never live
    longer than it does.

    """
    descendants_s = reconnection_life_s
    if verified.principal.parent is None and verified.workspace is None:
        descendants_s = max(descendants_s, MAX_HANDED_LIFE_S)
    return verified.token_id, max(verified.expires_at or 0.0, time.time() + descendants_s)
