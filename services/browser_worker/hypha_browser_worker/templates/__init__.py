"""
Pages for apps that run in a browser: what an app is made of goes in, files that a page is loaded from come out.
"""

from __future__ import annotations

from .compiling import compile  # noqa: A004
from .configuration import CONFIG_KEYS, page_config

__all__ = ["CONFIG_KEYS", "compile", "page_config"]
