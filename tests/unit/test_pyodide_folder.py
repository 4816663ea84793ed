from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from hypha_rpc import __version__

from hypha_browser_worker.pyodide_folder import main, make_folder
from hypha_common.errors import ConfigurationError

_PARTS = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Pyodide with one of the two packages that it could have."""
    source = tmp_path / "pyodide"
    source.mkdir()
    for name in (*_PARTS, "msgpack-1.1.1-cp313-cp313-pyodide_2025_0_wasm32.whl"):
        (source / name).write_text(name)
    packages = {
        "msgpack": {"file_name": "msgpack-1.1.1-cp313-cp313-pyodide_2025_0_wasm32.whl", "depends": []},
        "numpy": {"file_name": "numpy-2.2.5-cp313-cp313-pyodide_2025_0_wasm32.whl", "depends": []},
    }
    (source / "pyodide-lock.json").write_text(json.dumps({"info": {"python": "3.13.2"}, "packages": packages}))
    return source


def test_folder(source: Path, tmp_path: Path) -> None:
    """It has the client as it is installed here, what that needs, and no compiled code of this machine."""
    names = make_folder(source, tmp_path / "made")
    assert {"hypha-rpc", "httpx", "munch", "msgpack"} <= set(names) and "numpy" not in names
    lock = json.loads((tmp_path / "made" / "pyodide-lock.json").read_text())
    assert lock["info"] == {"python": "3.13.2"}
    assert lock["packages"]["msgpack"]["file_name"].endswith("wasm32.whl")  # its own, which is compiled
    entry = lock["packages"]["hypha-rpc"]
    assert entry["version"] == __version__
    assert "msgpack" in entry["depends"] and "websockets" not in entry["depends"]
    wheel = tmp_path / "made" / entry["file_name"]
    assert hashlib.sha256(wheel.read_bytes()).hexdigest() == entry["sha256"]
    with zipfile.ZipFile(wheel) as archive:
        found = archive.namelist()
    assert "hypha_rpc/__init__.py" in found
    assert not [name for name in found if name.endswith((".pyc", ".so", "direct_url.json")) or ".." in name]
    made = {file.name: file.read_bytes() for file in (tmp_path / "made").iterdir()}
    assert make_folder(source, tmp_path / "made") == names
    assert made == {file.name: file.read_bytes() for file in (tmp_path / "made").iterdir()}


def test_more_wheels(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "extra_tools-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        needs = "Requires-Dist: munch (>=1)\nRequires-Dist: pytest; extra == 'test'\nRequires-Dist: numpy\n"
        archive.writestr("extra_tools-1.0.dist-info/METADATA", f"Name: extra-tools\n{needs}")
        archive.writestr("extra_tools/__init__.py", "")
    assert main([str(source), str(tmp_path / "made"), str(wheel)]) == 0
    assert "extra-tools" in capsys.readouterr().out
    entry = json.loads((tmp_path / "made" / "pyodide-lock.json").read_text())["packages"]["extra-tools"]
    assert (entry["imports"], entry["depends"]) == (["extra_tools"], ["munch"])


def test_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match="not in pure Python"):
        make_folder(source, tmp_path / "made", [Path("numpy-2.2.5-cp313-cp313-linux.whl")])
    empty = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(empty, "w"):
        pass
    with pytest.raises(ConfigurationError, match="has no METADATA"):
        make_folder(source, tmp_path / "made", [empty])
    (source / "pyodide.js").unlink()
    assert main([str(source), str(tmp_path / "made")]) == 1
    assert "is no Pyodide: it has no pyodide.js" in capsys.readouterr().err
