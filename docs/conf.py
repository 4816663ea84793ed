"""What Sphinx builds the site from: `scripts/docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from hypha_common.version import __version__

project = "Hypha"
copyright = "the authors of Hypha"  # noqa: A001 - the name is Sphinx's
version = release = __version__

extensions = ["myst_parser", "sphinx_design", "repository", "generated"]
exclude_patterns = ["_ext"]
nitpicky = True

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3
# Examples leave things out with an ellipsis: what cannot be coloured stays plain.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"Hypha {version}"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sphinx = False
