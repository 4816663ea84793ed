"""
``python -m hypha.workers.browser``: the browser worker, by the name that documents of other servers have for it.
"""

from __future__ import annotations

from hypha_browser_worker.cli import main

if __name__ == "__main__":
    main()
