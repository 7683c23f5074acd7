"""How Sphinx makes the site: ``make docs`` writes it to ``build/docs/html``."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT), str(ROOT / "protocols")]

from apihour.version import __version__  # noqa: E402 (the checkout's, not an installed one's)

project = "apihour"
author = "the authors of apihour"
copyright = author
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "page_links"]
exclude_patterns = ["make_*.py"]

html_theme = "furo"
html_title = f"apihour {version}"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
pygments_style = "default"
highlight_language = "console"
