"""Sphinx's settings for the site.

Sphinx, because the reference comes from the docstrings and pytest's own plugins are
documented with it; MyST, because the pages are the Markdown that the README is.
"""

from __future__ import annotations

import importlib.metadata

project = "pytest-channelstub"
author = "The pytest-channelstub authors"
project_copyright = "The pytest-channelstub authors, Apache-2.0"
release = importlib.metadata.version(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "code"  # the docstrings' single backticks
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "pytest-channelstub"
html_static_path = ["_static"]
html_css_files = ["wrap.css"]
