"""Configuration of the documentation: ``sphinx-build -W docs docs/_build/html``; no network is needed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import ipi_driver

here = Path(__file__).parent
sys.path.insert(0, str(here / "_ext"))

project = "ipi_driver"
copyright = "the authors of ipi_driver"
version = release = ipi_driver.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinxcontrib.programoutput",
    "from_code",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "ipi_driver"
html_static_path = ["_static"]
templates_path: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "none"
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False

programoutput_prompt_template = "$ {command}\n{output}"
nitpicky = False

# the tutorial's commands are run in this folder, which is new for each build
tutorial = here / "_build" / "tutorial"
shutil.rmtree(tutorial, ignore_errors=True)
tutorial.mkdir(parents=True)
(here / "_static").mkdir(exist_ok=True)
