"""What deploy/k8s/make-secrets prints, as containers are given it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.deploy.manifests import FOLDER

__all__ = ["printed_secrets", "secret_values"]


def printed_secrets(overlay: str) -> dict[str, Any]:
    """Run the script as an operator does, with keys of stores where the overlay needs them."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text("an-access-key\na-secret-access-key\n")
        given = ["--s3-keys", str(keys), "--backup-s3-keys", str(keys)] if overlay == "production" else []
        done = subprocess.run(
            [sys.executable, "-I", str(FOLDER / "make-secrets"), overlay, *given],
            capture_output=True, check=True, text=True, timeout=30,
        )  # fmt: skip
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


@functools.cache
def secret_values(overlay: str) -> dict[str, dict[str, str]]:
    """Return the values of every Secret of an overlay, by name and key; the same ones each time."""
    values = {item["metadata"]["name"]: item["stringData"] for item in printed_secrets(overlay)["items"]}
    if overlay == "production":  # CloudNativePG makes it
        values["hypha-db-app"] = {"uri": "postgresql://hypha:password@hypha-db-rw.hypha:5432/hypha"}
    return values
