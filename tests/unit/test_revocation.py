from __future__ import annotations

from hypha_common.revocation import RevokedTokens


def test_forgets_what_has_expired() -> None:
    """An entry is kept until its token is refused for its age anyway."""
    now = 1000.0
    revoked = RevokedTokens(now=lambda: now)
    assert revoked.add([("a", 1010.0), ("b", 1020.0), ("old", 999.0)]) == {"a", "b"}
    assert revoked.add([("a", 1005.0)]) == set()
    assert "a" in revoked
    assert "old" not in revoked
    now = 1015.0
    revoked.drop_expired()
    assert "a" not in revoked
    assert "b" in revoked
    assert len(revoked) == 1
