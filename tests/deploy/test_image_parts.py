"""What deploy/Dockerfile says, and what its images hold: nothing that a service does not import, all that it does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from itertools import pairwise
from pathlib import Path

import pytest

from hypha_common.version import __version__
from tests.deploy.dockerfile import DOCKERFILE, ROOT, read_stages
from tests.fixtures.loopback_server import program

STAGES = read_stages()
IMAGES = [name for name, stage in STAGES.items() if stage.of("ENTRYPOINT")]
# Read from modules' files: the code of other services is beside it in every image, and must not be imported.
_PACKAGES = {
    path.name: path
    for folder in (ROOT / "libs").iterdir()
    for path in folder.iterdir()
    if path.is_dir() and path.name.startswith("hypha")
} | {path.name: path for path in (ROOT / "services").glob("*/hypha_*")}
_PACKAGE_OF = {"browser-worker": "hypha_browser_worker", "startup": "hypha.startup"}
# Imported where it is there: applications bring it along, and the client of the hub does.
_OPTIONAL = {"numpy"}


def test_the_linter_of_dockerfiles_passes() -> None:
    """Without ignores but those that the file itself explains."""
    done = subprocess.run(
        [program("hadolint"), "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    lines = DOCKERFILE.read_text("utf-8").splitlines()
    assert all(before.startswith("# ") for before, line in pairwise(lines) if "hadolint ignore" in line)


def test_there_is_an_image_for_each_service() -> None:
    assert sorted(IMAGES) == ["apps", "artifacts", "auth", "browser-worker", "gateway", "startup", "workspace"]


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_alike(name: str) -> None:
    """Nobody's root, a check by the service itself, and nothing installed but the two parts made before."""
    stage = STAGES[name]
    assert stage.base == "base" and STAGES["base"].last("STOPSIGNAL").rest == "SIGTERM"
    assert stage.last("USER").rest == "10001:10001"
    assert stage.last("ENTRYPOINT").words == [f"hypha-{name}"] and stage.last("CMD").words == ["serve"]
    assert stage.last("HEALTHCHECK").words == [f"hypha-{name}", "probe", "readiness"]
    assert [copy.flag("from") for copy in stage.of("COPY")] == [f"{name}-dependencies", "code"]
    assert not [run for run in stage.of("RUN") if "pip" in run.rest]


def test_the_base_image_and_the_version_are_named_once() -> None:
    """Pinned to a patch release; labels say the same."""
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", STAGES["python"].base)
    label = STAGES["base"].last("LABEL").rest
    assert f'base.name="{STAGES["python"].base}"' in label and f'image.version="{__version__}"' in label


@pytest.mark.parametrize("name", [*IMAGES, "build"])
def test_locks_are_of_the_groups(name: str) -> None:
    """Every requirement of the group is locked by hash, in the version that is tested, and no file names an address."""
    text = (ROOT / "requirements" / "services" / f"{name}.txt").read_text("utf-8")
    locked, tested = _locked(text), _locked((ROOT / "requirements" / "dev.txt").read_text("utf-8"))
    assert locked.items() <= tested.items() and "://" not in text
    assert text.count("==") <= text.count("--hash=sha256:")
    assert _wanted(name) <= locked.keys()


@pytest.mark.parametrize("name", IMAGES)
def test_images_hold_what_their_service_imports(name: str) -> None:
    """All of it, at any depth and in functions, too; and no group asks for more."""
    locked = _locked((ROOT / "requirements" / "services" / f"{name}.txt").read_text("utf-8"))
    imported = _imported(_PACKAGE_OF.get(name, f"hypha_{name}"))
    assert {top for top in imported if not {_name(one) for one in _distributions(top)} & locked.keys()} == set()
    found = {_name(one) for top in imported for one in _distributions(top)}
    # Parts of others that are imported by name: asyncpg's dialect, exporters.
    found |= {"opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"}
    assert _wanted(name) - found == set()


@cache
def _all_distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def _distributions(top: str) -> list[str]:
    return _all_distributions().get(top, [f"(nothing here has {top})"])


def _imported(package: str) -> set[str]:
    """Return the third parties that a package imports, by itself and by what it imports of ours."""
    found: set[str] = set()
    waiting = list(_file(package).parent.rglob("*.py"))
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for module in _imports(path):
            top = module.partition(".")[0]
            if top in _PACKAGES:
                waiting += [parent for part in _parents(module) if (parent := _file(part)).exists()]
            elif top not in sys.stdlib_module_names:
                found.add(top)
    return found - _OPTIONAL


def _parents(module: str) -> Iterator[str]:
    words = module.split(".")
    yield from (".".join(words[: count + 1]) for count in range(len(words)))


@cache
def _imports(path: Path) -> frozenset[str]:
    """Return the modules, and names in them that may be modules, that a file imports; not those for types alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [_above(path, node.level), node.module]))
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        waiting += ast.iter_child_nodes(node)
    return frozenset(found)


def _above(path: Path, level: int) -> str:
    """Return the package that so many dots mean in a file."""
    if not level:
        return ""
    root = next(folder.parent for folder in _PACKAGES.values() if path.is_relative_to(folder))
    parts = path.relative_to(root).parts[:-1]
    return ".".join(parts[: len(parts) - level + 1])


def _file(module: str) -> Path:
    """Return the file of a module of ours; it need not exist: a name in a module looks the same."""
    top, *rest = module.split(".")
    folder = _PACKAGES[top].joinpath(*rest)
    return folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")


def _wanted(group: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "dependency-group"), group], capture_output=True, text=True, check=True
    )
    return {_name(re.split(r"[\[>=<]", line)[0]) for line in done.stdout.split()}


def _locked(text: str) -> dict[str, str]:
    return {_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^ \\]+)", text, re.MULTILINE)}


def _name(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_groups_ask_for_what_the_distribution_asks_for() -> None:
    """The same requirements, word for word: two lists of versions would drift apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    asked = {*project["project"]["dependencies"], *(line for extra in extras for line in extra)}
    groups = {name: lines for name, lines in project["dependency-groups"].items() if name != "build"}
    assert {line for lines in groups.values() for line in lines if isinstance(line, str)} <= asked
