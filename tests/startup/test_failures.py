from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hypha.startup.functions import load_functions
from hypha_common.errors import ConfigurationError
from hypha_common.settings import Settings
from tests.cluster.running_cluster import RunningCluster


@pytest.fixture
def there(functions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(functions)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("entrypoint", "error"),
    [
        ("./absent.py:f", "there is no file .*/absent.py"),
        ("./failing.py:absent", "./failing.py has no function absent"),
        ("./failing.py:synchronous", "Entrypoint synchronous is not a coroutine"),
        ("./unimportable.py:f", "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"),
        ("./broken.py:f", "cannot be imported: SyntaxError: invalid syntax"),
        ("a_module_that_nobody_has:f", "ModuleNotFoundError"),
        ("package.context:absent", "has no function absent"),
    ],
)
def test_a_function_that_cannot_be_used(entrypoint: str, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        load_functions([entrypoint])


@pytest.mark.usefixtures("there")
def test_the_author_is_shown_where(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback begins in the author's file."""
    with pytest.raises(ConfigurationError):
        load_functions(["./unimportable.py:f"])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert 'unimportable.py", line 1' in lines[1]


@pytest.mark.usefixtures("there")
def test_a_file_is_run_once() -> None:
    """Also where two functions of it are named, or a method of what it made."""
    first, second = load_functions(["./failing.py:fails", "failing.py:functions.start"])
    assert first.function.__globals__ is second.function.__func__.__globals__  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["no-colon", ":f", "file.py:"])
def test_an_entrypoint_of_the_wrong_form(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must look like file\.py:function"):
        Settings.load({"startup_functions": text}, environ={})


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: what is in it takes longer to make than a start takes."""
    return tmp_path_factory.mktemp("failures") / "data"


def test_a_failing_function_ends_the_start(functions: Path, data_dir: Path) -> None:
    """At once, with status 1, the function's name, its error and where; nothing is left running."""
    command = [sys.executable, "-m", "hypha.server", "--port=0", f"--data-dir={data_dir}", "--print-config=false"]
    command += ["--startup-functions=example-startup-function.py:hypha_startup", "failing.py:fails"]
    process = subprocess.Popen(command, cwd=functions, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    errors = ""
    while (line := process.stderr.readline()) and "failing.py:fails failed" not in line:
        errors += line
    failed = time.monotonic()
    output, rest = process.communicate(timeout=30)
    assert process.returncode == 1
    assert time.monotonic() - failed < 10
    assert 'failing.py", line 3, in fails\n' in errors
    assert line == "hypha-startup: Startup function failing.py:fails failed: ValueError: boom\n"
    assert rest.endswith("hypha-server: startup-functions ended at once (1); see above\n")
    assert " is ready at " not in output
    assert not _left(data_dir)


def test_under_an_asgi_server(functions: Path, data_dir: Path) -> None:
    """It is told why the start failed, and ends."""
    command = [sys.executable, "-m", "uvicorn", "hypha.server:app", "--port=0"]
    environ = {"HYPHA_DATA_DIR": str(data_dir), "HYPHA_STARTUP_FUNCTIONS": "./failing.py:fails"}
    done = subprocess.run(command, cwd=functions, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "Startup function ./failing.py:fails failed: ValueError: boom\n" in done.stderr
    assert "hypha.server: startup-functions ended at once (1)" in done.stderr
    assert not _left(data_dir)


def test_second_server_of_the_same_id(startup_cluster: RunningCluster, functions: Path) -> None:
    """The one that is there stays; the other says so and ends."""
    environ = psutil.Process(startup_cluster.pids["startup"][0]).environ() | {"HYPHA_METRICS_PORT": "0"}
    command = [
        sys.executable,
        "-m",
        "hypha.startup",
        "serve",
        "--startup-functions=example-startup-function.py:hypha_startup",
    ]
    done = subprocess.run(command, cwd=functions, env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "hypha-startup: Server with the same id (hypha) is already running" in done.stderr


def test_stop_while_a_function_runs(
    start_cluster: Callable[..., RunningCluster], tmp_path: Path, data_dir: Path
) -> None:
    """A function that takes its time does not keep Ctrl-C waiting."""
    (tmp_path / "slow.py").write_text(
        "import asyncio\nasync def f(server):\n  print('slow')\n  await asyncio.sleep(99)\n"
    )
    cluster = start_cluster("--startup-functions=slow.py:f", cwd=tmp_path, data_dir=data_dir, wait=False)
    deadline = time.monotonic() + 60
    while "slow" not in cluster.output:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    processes, started = cluster.tree()[1:], time.monotonic()
    assert cluster.stop() == 0
    assert time.monotonic() - started < 15
    assert not [process for process in processes if process.is_running()]


def _left(directory: Path) -> list[list[str]]:
    """Processes that were started for a data directory below this one."""
    found = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        words = [*(process.info["environ"] or {}).values(), *(process.info["cmdline"] or [])]
        if any(str(directory) in word for word in words):
            found.append(process.info["cmdline"])
    return found
