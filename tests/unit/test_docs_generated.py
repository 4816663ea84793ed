"""The parts of the documentation that are made from code tell all there is, and nothing is told of nothing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from sphinx.errors import ExtensionError

from hypha_common.settings import OPTIONS

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_ROOT / "docs" / "_ext"))
        import generated

        return generated


@pytest.fixture(scope="module")
def part(generated: ModuleType) -> Callable[..., str]:
    return lambda words: str(generated.expand(f"```{{generated}} {words}\n```\n"))


def test_every_setting_is_told_with_its_flag_and_its_variable(part: Callable[..., str]) -> None:
    page = part("settings")
    for name, row in OPTIONS.items():
        assert f"**`{name}`{{#setting-{name}}}**" in page
        assert f"`HYPHA_{name.upper()}`" in page
        assert (f"`{row.flag}`" in page) is (not row.secret or row.exposed)
    assert "`HYPHA_JWT_SECRET_FILE`" in page


def test_every_console_script_is_told_with_its_verbs(part: Callable[..., str]) -> None:
    page = part("command-lines")
    scripts = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for script in scripts:
        assert f"\n## `{script}`\n" in f"\n{page}"
    assert "### `hypha-workspace kick`" in page
    assert "`--reason REASON`" in page
    assert "| `WORKSPACE/CLIENT` |" in page
    assert "--database-url" not in page  # settings have a page of their own


def test_every_route_is_told_with_what_it_takes_and_answers(part: Callable[..., str]) -> None:
    page = part("routes")
    call = page[page.index("`/{workspace}/services/{service}/{keys}`") :].partition("\n### ")[0]
    assert "| `keys` | path |" in call and "| 200 |" in call
    assert "[Health](#health)" in page and "### Health" in part("schemas")


def test_every_method_of_every_service_is_told(part: Callable[..., str]) -> None:
    page = part("service artifact-manager")
    assert "## `commit`\n\n`commit(artifact_id, version=None, comment=None, branch=None)`" in page
    assert re.search(r"\| `artifact_id` \| `string` \| – \| .+ \|", page)
    assert "Args:" not in page and "context" not in page.partition("## `commit`")[2].partition("## ")[0]
    pages = {path.stem for path in (_ROOT / "docs" / "reference" / "rpc").glob("*.md")}
    assert set(re.findall(r"\(rpc/([a-z0-9-]+)\.md\)", part("services"))) == pages


def test_metrics_are_told_by_the_processes_that_have_them(part: Callable[..., str]) -> None:
    sections = dict(re.findall(r"^## (.+)\n\n((?:\|.*\n?)+)", part("metrics"), re.MULTILINE))
    assert "| `eventloop_lag_seconds` | gauge |" in sections["Every process"]
    assert "| `websocket_connections` | gauge | `transport` |" in sections["Gateway"]
    assert "| `hypha_workspace_sweeps_total` | counter | `outcome` |" in sections["Workspace"]


def test_errors_and_subjects_are_told(part: Callable[..., str]) -> None:
    assert "| `not_found` | 404 | `KeyError` |" in part("errors")
    assert "| `hy.f.46.ws-user-ada.laptop` |" in part("subjects")
    assert "| `gateway` | publish |" in part("permissions")


def test_a_part_that_finds_nothing_or_is_unknown_fails_the_build(
    generated: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(generated.PARTS, "settings", lambda: " \n")
    with pytest.raises(ExtensionError, match="nothing was found in the code to generate 'settings' from"):
        generated.expand("# Settings\n\n```{generated} settings\n```\n")
    with pytest.raises(ExtensionError, match="nothing generates 'settngs'"):
        generated.expand("```{generated} settngs\n```\n")
