"""The one exception that tells a user what was wrong and what to do, and what another's exception says in a line."""

from types import TracebackType


class EdgelabError(Exception):
    """A mistake the user can mend: its text says what was wrong and what to do; no traceback is shown for it.

    A notebook shows the lines of its own cells that led there, and none of the package's.
    """

    def _render_traceback_(self) -> list[str]:  # what IPython asks an error for
        return own_lines(self) or [f"{type(self).__name__}: {self}"]


def first_line(error: BaseException) -> str:
    """Return the first line of what another library's error says, or the name of its kind where it says nothing.

    >>> first_line(ValueError("no such layer: conv" + chr(10) + "  at 0x7f")), first_line(KeyError())
    ('no such layer: conv', 'KeyError')
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


def own_lines(error: Exception) -> list[str]:
    """Return the lines of the notebook's cells that an error went through, as IPython shows them."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return []
    own: TracebackType | None = None
    frames = []
    here = error.__traceback__
    while here is not None:
        if here.tb_frame.f_globals is shell.user_global_ns:
            frames.append(here)
        here = here.tb_next
    for frame in reversed(frames):
        own = TracebackType(own, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    if own is None:
        return []
    lines = shell.InteractiveTB.structured_traceback(type(error), error, own, tb_offset=0)
    return lines if isinstance(lines, list) else [lines]
