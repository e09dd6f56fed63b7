"""The frame of the pages that grading writes: complete in one file, with no script, and nothing fetched."""

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


def html_page(title: str, body: Iterable[str], *, lang: str, style: str, pictures: bool = False) -> str:
    """Return a page: `title` is a text, `body` its lines of HTML, `style` CSS; `pictures` may be in it as data."""
    allowed = "img-src data:; " if pictures else ""
    return _FRAME.format(
        lang=lang, pictures=allowed, title=html.escape(title), style=style.strip(), body="\n".join(body)
    )
