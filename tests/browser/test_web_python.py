"""web-python apps, with Pyodide from a folder that the hub serves: nothing of it comes from the internet."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypha_rpc import connect_to_server
from playwright.async_api import Browser
from playwright.async_api import Error as PageError

from hypha_browser_worker.pyodide_folder import make_folder
from tests.browser.app_pages import app_page, install
from tests.cluster.running_cluster import RunningCluster

pytestmark = [pytest.mark.browser, pytest.mark.node]

_SCRIPT = """
import os
import sys

import helpers
from hypha_rpc import api
from tools.names import shout

print("on", sys.platform)


class Greeter:
    config = {"visibility": "public"}

    def __init__(self):
        self._count = 0

    def setup(self):
        print("set up")

    async def greet(self, name, progress):
        self._count += 1
        await progress(0.5)
        return helpers.greeting(shout(name), self._count)

    def environment(self):
        return {name: os.environ[name] for name in os.environ if name.startswith("HYPHA_") or name == "COLOUR"}

    def total(self, pixels):
        return sum(pixels)

    def fail(self):
        raise ValueError("no such greeting")


api.export(Greeter)
"""
_FILES = {
    "main.py": _SCRIPT,
    "lib/helpers.py": "def greeting(name, count):\n    return f'Hello {name}, number {count}'\n",
    "parts/tools/__init__.py": "",
    "parts/tools/names.py": "def shout(name):\n    return name.upper()\n",
}


@pytest.fixture(scope="module")
def package(node_modules: Path) -> Path:
    """Pyodide as npm has it: the interpreter, and no packages."""
    if not (node_modules / "pyodide").is_dir():
        pytest.skip("the npm package pyodide is not installed in tests/js: scripts/setup tests")
    return node_modules / "pyodide"


@pytest.fixture(scope="module")
def served(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the cluster serves at ``/pyodide``: folders with Pyodide."""
    served = tmp_path_factory.mktemp("served")
    make_folder(package, served / "core")
    return served


@pytest.fixture(scope="module")
def with_micropip(package: Path, served: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As an operator adds packages: wheels in pure Python."""
    wheels = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(wheels)]
    target = ["--only-binary=:all:", "--python-version=3.13", "micropip==0.10.0", "packaging==25.0"]
    done = subprocess.run([*command, *target], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot have micropip, which is a package for Pyodide only: {done.stderr}")
    make_folder(package, served / "more", wheels.iterdir())
    with zipfile.ZipFile(served / "more" / "shouting-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("shouting.py", "def shout(text):\n    return text.upper()\n")
        about = {"METADATA": "Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n", "RECORD": ""}
        about["WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        for name, text in about.items():
            wheel.writestr(f"shouting-1.0.dist-info/{name}", text)
    return served / "more"


@pytest.fixture(scope="module")
def python_cluster(served: Path) -> Iterator[RunningCluster]:
    running = RunningCluster(f"--static-mounts=/pyodide:{served}", storage=True)
    yield running
    errors = running.errors()
    running.stop()
    assert errors == []


@pytest.fixture
async def server(python_cluster: RunningCluster) -> AsyncIterator[Any]:
    async with connect_to_server({"server_url": python_cluster.url, "token": python_cluster.user_token()}) as server:
        yield server


async def test_python_app(python_cluster: RunningCluster, server: Any, browser: Browser) -> None:
    """A class is exported and called; it finds its environment, and files of its artifact."""
    token = await server.generate_token()
    manifest = {
        "type": "web-python",
        "name": "Greeter",
        "entry_point": "main.py",
        "env": {"COLOUR": "red"},
        "required_artifact_files": ["lib/helpers.py", "parts/"],
    }
    installed = await install(server, manifest, _FILES, {"pyodide_url": "/pyodide/core/"})
    async with app_page(browser, python_cluster, server, installed, token) as app:
        await app.started()
        service = await server.get_service(f"{app.client_id}:default")
        reports: list[float] = []
        assert await service.greet("ida", reports.append) == "Hello IDA, number 1"
        assert reports == [0.5]
        assert await service.total(bytes(range(5))) == 10
        assert await service.environment() == {
            "COLOUR": "red",
            "HYPHA_SERVER_URL": python_cluster.url,
            "HYPHA_WORKSPACE": server.config.workspace,
            "HYPHA_CLIENT_ID": app.client_id,
            "HYPHA_TOKEN": token,
            "HYPHA_APP_ID": installed["id"],
        }
        with pytest.raises(Exception, match="no such greeting"):
            await service.fail()
        assert service.name == "Greeter"
        assert "[log] on emscripten" in app.console
        assert [line for line in app.console if "set up" in line] == ["[log] set up"]
        assert app.errors == []


@pytest.mark.parametrize(
    ("script", "more", "expected"),
    [
        ("raise RuntimeError('no camera')", {}, "Error: RuntimeError: no camera"),
        ("pass", {"requirements": ["scikit-image"]}, "has no micropip, which has to install scikit-image"),
        ("pass", {"required_artifact_files": ["gone.py"]}, "There is no file gone.py"),
    ],
)
async def test_python_app_that_fails(
    python_cluster: RunningCluster, server: Any, browser: Browser, script: str, more: dict[str, Any], expected: str
) -> None:
    token = await server.generate_token()
    manifest = {"type": "web-python", "entry_point": "main.py", **more}
    installed = await install(server, manifest, {"main.py": script}, {"pyodide_url": "/pyodide/core/"})
    async with app_page(browser, python_cluster, server, installed, token) as app:
        with pytest.raises(PageError, match=expected):
            await app.started()
        assert any(expected in error for error in app.errors)


async def test_no_pyodide(python_cluster: RunningCluster, server: Any, browser: Browser) -> None:
    token = await server.generate_token()
    manifest = {"type": "web-python", "entry_point": "main.py"}
    installed = await install(server, manifest, {"main.py": "pass"}, {"pyodide_url": "/nowhere/"})
    async with app_page(browser, python_cluster, server, installed, token) as app:
        with pytest.raises(PageError, match=f"Pyodide cannot be loaded from {python_cluster.url}/nowhere/"):
            await app.started()


async def test_requirements(python_cluster: RunningCluster, server: Any, browser: Browser, with_micropip: Path) -> None:
    """With micropip in the folder, requirements are what it takes: here, the address of a wheel."""
    script = """
import shouting
from hypha_rpc import api

api.export({"shout": shouting.shout, "id": "other", "_secret": 1}, {"visibility": "public"})
"""
    token = await server.generate_token()
    wheel = f"{python_cluster.url}/pyodide/more/shouting-1.0-py3-none-any.whl"
    manifest = {"type": "web-python", "entry_point": "main.py", "requirements": [wheel]}
    installed = await install(server, manifest, {"main.py": script}, {"pyodide_url": "/pyodide/more"})
    async with app_page(browser, python_cluster, server, installed, token) as app:
        await app.started()
        service = await server.get_service(f"{app.client_id}:default")
        assert await service.shout("ida") == "IDA"
        assert "_secret" not in service
