"""Sphinx configuration: MyST pages, generated API reference, executed gallery.

The build needs no network. ``make docs`` runs it with warnings as errors.
"""

import ast
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import mmgraph

DOCS = Path(__file__).parent
EXAMPLES = DOCS.parent / "examples"
sys.path.insert(0, str(DOCS / "_ext"))

project = "mmgraph"
author = "The mmgraph developers"
copyright = "The mmgraph developers, MIT license"
version = release = mmgraph.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "code_blocks",
    "mathml",
    "public_names",
    "command_pages",
    "repository_links",
]
exclude_patterns = ["_build", "gallery/**/*.ipynb", "gallery/**/*.py", "README.md"]
templates_path = ["_templates"]
smartquotes = False  # "--option" must stay as it is typed
nitpicky = True
# Glossary entries and base classes of other libraries have no page here.
nitpick_ignore_regex = [(r"py:.*", r"(?!mmgraph\.).*")]
suppress_warnings = ["config.cache"]  # the gallery configuration holds functions

# MyST
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

# API reference
default_role = "code"
add_module_names = False
autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
# Inherited members are shown up to these base classes, which have documentation of
# their own.
autodoc_default_options = {
    "inherited-members": "Module,BaseEstimator,ClassifierMixin,RegressorMixin,"
    "TransformerMixin,ABC,Protocol,Exception,ValueError,UserWarning,tuple,dict",
    "exclude-members": "T_destination,call_super_init,dump_patches,training",
}
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # types are in the signature
napoleon_use_rtype = False

# HTML
html_theme = "pydata_sphinx_theme"
html_title = f"mmgraph {version}"
html_static_path = ["_static"]
html_css_files = ["mmgraph.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "mmgraph"},
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "show_nav_level": 1,
    "header_links_before_dropdown": 6,
    "navbar_persistent": ["search-button"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"getting_started": []}  # no pages below it
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_math_renderer = "mathml"


def _imported(script: Path) -> set[str]:
    """Return the top-level packages that a script imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def _executed(folder: Path) -> str:
    """Return the pattern of the scripts that have every package they import.

    The others are listed in the gallery without output.
    """
    missing = sorted(
        script.name
        for script in folder.glob("**/*.py")
        if not all(find_spec(name) for name in _imported(script))
    )
    listed_only = "|".join(map(re.escape, missing))
    return rf"[\\/](?!({listed_only})$)[^\\/]+\.py$" if missing else r"\.py$"


def _gallery() -> dict[str, object]:
    return {
        "examples_dirs": "../examples",
        "gallery_dirs": "gallery",
        "filename_pattern": _executed(EXAMPLES),
        "ignore_pattern": r"(__init__|conftest)\.py$",
        "within_subsection_order": "gallery_order.QuickstartFirst",
        "abort_on_example_error": True,
        "download_all_examples": False,
        "remove_config_comments": True,
        "show_memory": False,
        "show_signature": False,
        "min_reported_time": 1,
        "parallel": 2,
        "plot_gallery": "True",
        "reset_modules": ("matplotlib",),
    }


sphinx_gallery_conf = _gallery()
