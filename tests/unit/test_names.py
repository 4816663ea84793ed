from __future__ import annotations

import re

from hypha_common.names import readable_name


def test_form() -> None:
    """Names can be read, and go into ids of workspaces as they are."""
    names = {readable_name("x-") for _ in range(500)}
    assert len(names) == 500
    assert all(re.fullmatch(r"x-[a-z]+-[a-z]+-\d{8}", name) for name in names)
