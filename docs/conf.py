"""The Sphinx configuration of the documentation: `make docs`."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import solobox

from generate import docstring_to_rst, shorten_types, write_pages  # isort: skip

project = "Solobox"
copyright = "the Solobox developers, Apache-2.0"  # noqa: A001 (Sphinx's name)
version = release = solobox.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_generated", "_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
smartquotes = False  # it would turn -- of an option into a dash
default_role = "literal"  # names in docstrings

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
# Types of other packages: their inventories would come from the network.
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = "Solobox"
html_static_path = ["_static"]
html_css_files = ["solobox.css"]
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_only_copy_prompt_lines = True


def setup(app: Sphinx) -> None:
    """Write the pages that are made from the code before Sphinx looks for them."""
    app.connect("builder-inited", lambda app: write_pages(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", docstring_to_rst)
    app.connect("autodoc-process-signature", shorten_types)
