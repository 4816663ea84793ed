"""The page about finding artifacts, docs/how-to/artifact-search.md: its examples find what they ask for."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.running_cluster import RunningCluster
from tests.fixtures.clients import Connect

_PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "artifact-search.md").read_text()


def snippets(language: str, workspace: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", _PAGE, re.DOTALL)
    return [code.replace("my-workspace", workspace) for code in found]


async def test_the_examples(cluster: RunningCluster, connect: Connect, capsys: pytest.CaptureFixture[str]) -> None:
    client = await connect(token=cluster.user_token())
    workspace = client.config.workspace
    artifacts = await client.get_service("public/artifact-manager")
    await artifacts.create(alias="zoo", type="collection", manifest={"name": "Zoo"}, config={"permissions": {"*": "r"}})
    for number in range(43):
        manifest = {"name": f"Nuclei {number}", "license": "MIT" if number else "BSD", "tags": ["2d", "cells"]}
        await artifacts.create(parent_id="zoo", alias=f"model-{number}", type="model", manifest=manifest)
    for code in snippets("python", workspace):
        names: dict[str, Any] = {"artifacts": artifacts}
        await eval(compile(code, "artifact-search.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        assert len(names["zoo"]) == 43
    # All have been viewed as seldom as the others: the last of them is the first.
    assert capsys.readouterr().out == "42 ['Nuclei 2', 'Nuclei 1']\n"
    (script,) = snippets("sh", workspace)
    answers = [json.loads(line) for line in await run(script.replace("https://hub.example", cluster.url))]
    assert [artifact["alias"] for artifact in answers[0]] == ["zoo"]
    assert (answers[1]["total"], len(answers[1]["items"])) == (43, 20)
    assert [artifact["manifest"]["name"] for artifact in answers[2]][-1] == "Nuclei 1"
    assert len(answers[2]) == 42
    assert answers[3]["id"] == f"{workspace}/zoo"


async def run(script: str) -> list[bytes]:
    """Return what each command prints, which must be a line."""
    script = script.replace("curl ", "curl --silent --show-error --fail --write-out '\\n' ")
    process = await asyncio.create_subprocess_exec("bash", "-ec", script, stdout=-1, stderr=-1)
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.splitlines()
