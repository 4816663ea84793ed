"""The browser bundles: which (``packages.json``), how they are fetched (:mod:`.fetch`), and what serves them."""

from __future__ import annotations

from .routes import asset, static

__all__ = ["asset", "static"]
