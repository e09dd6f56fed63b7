"""The one exception that tells a user what was wrong and what to do, and what another's exception says in a line."""


class EdgelabError(Exception):
    """A mistake the user can mend: its text says what was wrong and what to do; no traceback is shown for it."""


def first_line(error: BaseException) -> str:
    """Return the first line of what another library's error says, or the name of its kind where it says nothing.

    >>> first_line(ValueError("no such layer: conv" + chr(10) + "  at 0x7f")), first_line(KeyError())
    ('no such layer: conv', 'KeyError')
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__
