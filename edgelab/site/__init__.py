"""The course as pages to read: its labs executed once, with stubs for exercises, beside a glossary and a reference.

Sphinx with myst-nb makes the pages; `docs/conf.py` is its configuration. This package makes what they are made from.
"""
