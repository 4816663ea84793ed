from __future__ import annotations

from hypha_common.version import __version__

__all__ = ["__version__"]
