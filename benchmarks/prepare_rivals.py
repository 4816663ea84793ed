from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from pathlib import Path

from .server_kinds import default_rivals_dir

__all__ = ["RIVALS", "prepare_rival"]

# The release of the PyPI hub does not start with the newest of what it asks for, nor without some that it does not ask
# for: with files boto3, too.
RIVALS = {
    "hypha": ["hypha", "sqlmodel==0.0.24", "sqlalchemy<2.1", "aiobotocore", "dulwich", "boto3"],
    "crossbar": ["crossbar"],
}


def prepare_rival(name: str, rivals_dir: Path) -> Path:
    """A virtual environment with the rival in it; what is there already is kept."""
    directory = rivals_dir / name
    if not (directory / "bin" / "python").exists():
        venv.create(directory, with_pip=True, symlinks=True)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *RIVALS[name]], check=True)
    return directory


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Install the servers to compare with, each in an environment of its own."
    )
    parser.add_argument("--rivals-dir", type=Path, default=default_rivals_dir())
    parser.add_argument("--only", action="append", choices=list(RIVALS))
    arguments = parser.parse_args()
    for rival in arguments.only or RIVALS:
        sys.stdout.write(f"{rival}: {prepare_rival(rival, arguments.rivals_dir)}\n")
