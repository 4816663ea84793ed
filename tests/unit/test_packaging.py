from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hypha_gateway.http.assets import fetch
from hypha_gateway.http.assets.bundle import NAMES

_ROOT = Path(__file__).parents[2]
_TREE = ("libs", "services", "pyproject.toml", "hatch_build.py", "README.md", "CHANGELOG.md")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The source as a clone has it: without what npm brings."""
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in _TREE:
        if (_ROOT / name).is_dir():
            shutil.copytree(
                _ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "files", "*.egg-info")
            )
        else:
            shutil.copy(_ROOT / name, tree / name)
    return tree


def _wheel(tree: Path, **environ: str) -> set[str]:
    """Build a wheel on a machine that has no programs but Python, and return the names of the gateway's files in it."""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", "."],
        cwd=tree,
        env={**os.environ, "PATH": str(tree), **environ},
        check=True,
        timeout=100,
    )
    (wheel,) = (tree / "out").glob("*.whl")
    return {Path(name).name for name in zipfile.ZipFile(wheel).namelist() if "/http/assets/" in name}


@pytest.mark.slow
def test_wheel(tree: Path) -> None:
    """An installed hub has the bundles, wherever it was built."""
    names = _wheel(tree)
    assert set(NAMES) <= names
    assert {f"{name}.gz" for name in ("hypha-rpc-websocket.mjs", "swagger-ui-bundle.js")} <= names


@pytest.mark.slow
def test_wheel_without_bundles(tree: Path) -> None:
    names = _wheel(tree, HYPHA_BUILD_WITHOUT_ASSETS="1")
    assert "packages.json" in names
    assert "hypha-rpc-websocket.mjs" not in names


def test_nothing_of_it_is_committed() -> None:
    """What npm brings is in no repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--error-unmatch", str(fetch._FILES)], cwd=_ROOT, capture_output=True, check=False
    )
    assert listed.returncode != 0
