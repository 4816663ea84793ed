"""The documentation builds without a warning, and what names a page of it names one that is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
_NAMED = re.compile(r"\bdocs/[\w./-]+\.md\b")


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=_ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for path in map(_ROOT.joinpath, listed.stdout.split()) if path.is_file()]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    # All is read and every link followed; `scripts/docs` writes the pages, too, which takes as long again.
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "--builder",
        "dummy",
        "--fresh-env",
        "--fail-on-warning",
        "--nitpicky",
        "--quiet",
    ]
    done = subprocess.run([*build, _ROOT / "docs", tmp_path], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_files_beside_the_site_link_to_what_is_there() -> None:
    files = [path for path in _tracked("*.md") if not path.is_relative_to(_ROOT / "docs")]
    links = [(path, link) for path in files for link in _LINK.findall(path.read_text())]
    assert len(links) > 20
    assert [(path.name, link) for path, link in links if not (path.parent / link).exists()] == []


def test_pages_that_code_and_tests_name_are_there() -> None:
    named = [(path, name) for path in _tracked("*.py", "*.md", "scripts") for name in _NAMED.findall(path.read_text())]
    assert len(named) > 20
    assert [(str(path.relative_to(_ROOT)), name) for path, name in named if not (_ROOT / name).exists()] == []
