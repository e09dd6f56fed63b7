"""The one exception that tells a user what was wrong and what to do."""


class EdgelabError(Exception):
    """A mistake the user can mend: its text says what was wrong and what to do; no traceback is shown for it."""
