from __future__ import annotations

from tests.fixtures.hub import hub
from tests.fixtures.scripts import node_modules, start_script

__all__ = ["hub", "node_modules", "start_script"]
