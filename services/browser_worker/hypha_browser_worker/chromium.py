from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hypha_common.errors import ConfigurationError

if TYPE_CHECKING:
    from hypha_common.settings import Settings

__all__ = ["FLAGS", "find_chromium", "may_sandbox"]

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OTHERWISE = "or let no browser worker run here (--browser-workers=0)"

FLAGS = (
    "--disable-dev-shm-usage",  # /dev/shm of a container is 64 MiB
    "--disable-background-networking",
    "--disable-quic",
    "--disable-sync",
    "--enable-unsafe-webgpu",  # what apps compute with; in software where there is no graphics card
    "--no-first-run",
    "--site-per-process",
)


def find_chromium(settings: Settings) -> str | None:
    """
    Return the program that apps run in; None: the one that Playwright installed.

    Raises ConfigurationError with what to do where there is none, or no Playwright.

    """
    if importlib.util.find_spec("playwright") is None:
        raise ConfigurationError(
            f"Apps in browsers need Playwright: install hypha[server-apps] (pip install playwright), {_OTHERWISE}"
        )
    if settings.browser_executable:
        path = shutil.which(settings.browser_executable)
        if path is None:
            raise ConfigurationError(f"browser_executable: {settings.browser_executable} is no program")
        return path
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    if any(_installed_by_playwright().glob("chromium*")):
        return None
    raise ConfigurationError(
        "There is no Chromium for apps in browsers: install one (`playwright install chromium`), name one with "
        f"--browser-executable, {_OTHERWISE}"
    )


def may_sandbox(settings: Settings) -> bool:
    """Tell whether Chromium can put pages in its own sandbox: not as root, and not in most containers."""
    return not settings.in_docker and not (hasattr(os, "geteuid") and os.geteuid() == 0)


def _installed_by_playwright() -> Path:
    place = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "")
    if place == "0":
        found = importlib.util.find_spec("playwright")
        assert found is not None and found.origin is not None
        return Path(found.origin).parent / "driver" / "package" / ".local-browsers"
    if place:
        return Path(place)
    caches = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return caches / "ms-playwright"
