"""The frame of the pages that the course writes: complete in one file, with no script, and nothing fetched."""

import html
from collections.abc import Iterable

_FRAME = """<!DOCTYPE html>
<html lang="{lang}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; {pictures}style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
{body}
</body>
</html>
"""

# Light or dark, as the reader's system is; pictures drawn in `currentColor` follow.
BOTH_THEMES = """
:root { color-scheme: light dark; --ink: #222; --faint: #666; --line: #ddd; --paper: #fff; --band: #f3f6f9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --faint: #aaa; --line: #444; --paper: #16191d; --band: #20252b; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper); }
.wide { overflow-x: auto; margin-bottom: 2rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
thead th { background: var(--band); vertical-align: bottom; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
.wide { font-size: .9rem; }
.faint { color: var(--faint); }
"""


def html_page(title: str, body: Iterable[str], *, lang: str, style: str, pictures: bool = False) -> str:
    """Return a page: `title` is a text, `body` its lines of HTML, `style` CSS; `pictures` may be in it as data."""
    allowed = "img-src data:; " if pictures else ""
    return _FRAME.format(
        lang=lang, pictures=allowed, title=html.escape(title), style=style.strip(), body="\n".join(body)
    )
