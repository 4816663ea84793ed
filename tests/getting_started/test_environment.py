from __future__ import annotations

import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.scripts import StartScript

from .conftest import Snippet


async def test_environment_variables(cluster: RunningCluster, start_script: StartScript, snippet: Snippet) -> None:
    script = await start_script(snippet("env.py", token=cluster.user_token()))
    lines = (await script.end()).splitlines()
    assert "Database URL: postgres://localhost:5432/mydb" in lines
    assert "All variables: {'DATABASE_URL': 'postgres://localhost:5432/mydb'}" in lines


@pytest.mark.node
async def test_environment_variables_in_javascript(
    cluster: RunningCluster, start_script: StartScript, snippet: Snippet
) -> None:
    code = snippet("env.js", token=cluster.user_token())
    # Kept running by its connection otherwise.
    script = await start_script(code.replace("\nmain();", "\nawait main(); process.exit(0)"), language="js")
    lines = (await script.end()).splitlines()
    assert "Database URL: postgres://localhost:5432/mydb" in lines
    assert "All variables: { DATABASE_URL: 'postgres://localhost:5432/mydb' }" in lines
