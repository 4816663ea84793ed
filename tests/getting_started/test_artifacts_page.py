"""The page about artifacts, docs/how-to/artifacts.md: its examples, one after the other, as they stand there."""

from __future__ import annotations

import ast
import re
from inspect import iscoroutine
from pathlib import Path
from typing import Any

from tests.cluster.running_cluster import RunningCluster

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "artifacts.md"


async def test_the_examples(cluster: RunningCluster) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"server_url": cluster.url, "token": cluster.user_token()}
    try:
        for block in blocks:
            code = compile(block, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if iscoroutine(running):
                await running
    finally:
        if "server" in names:
            await names["server"].disconnect()
    assert len(blocks) >= 6
