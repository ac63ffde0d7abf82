"""How Sphinx builds the documentation: `make docs`, warnings are errors."""

from __future__ import annotations

import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

project = "Barrel P2P"
author = "the Barrel P2P authors"
copyright = "the Barrel P2P authors, Apache-2.0"
release = tomllib.loads(PYPROJECT.read_text())["project"]["version"]

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "changes"]
nitpicky = True

html_theme = "furo"
html_title = f"Barrel P2P {release}"
html_copy_source = False
html_show_sphinx = False
