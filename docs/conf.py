"""How Sphinx makes the site: `make site` calls it once for each language, with the pages that `edgelab.site` wrote."""

import tomllib
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
SPANISH = tags.has("es")  # noqa: F821  (Sphinx gives `tags` to this file)

project = "edgelab"
release = version = PROJECT["version"]
author = "the edgelab authors"
language = "es" if SPANISH else "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = False

# Labs: executed before, by `edgelab.site`, which keeps what came out.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]

# Reference: what a package exports, in the order of its `__all__`; docstrings have names between single backticks.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # what torch says of `forward` is not about ours
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "edgelab"
html_static_path = ["static"]
html_css_files = ["site.css"]
templates_path = ["templates"]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "navbar_end": ["language", "theme-switcher"],
    "footer_start": ["licence"],
    "footer_end": ["theme-version"],
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "show_toc_level": 2,
}
html_sidebars = {"index": [], "glossary": []}


def setup(app) -> None:
    """Have formulas written as MathML: browsers draw it without a script, and screen readers read it."""

    def mathml(node: nodes.Element, display: str) -> str:
        return convert(node.astext().replace(r"\_", "_"), display=display)

    def inline(translator, node: nodes.math) -> None:
        translator.body.append(mathml(node, "inline"))
        raise nodes.SkipNode

    def block(translator, node: nodes.math_block) -> None:
        translator.body.append(f'<div class="edgelab-formula" tabindex="0">{mathml(node, "block")}</div>')
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", inline_renderers=(inline, None), block_renderers=(block, None))


html_math_renderer = "mathml"
