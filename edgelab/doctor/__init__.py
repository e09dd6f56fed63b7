"""Whether this computer can run the labs, what will be slow on it, and the cure for what is missing.

`examine()` looks and changes nothing; `summary`, `as_dict` and `render` show the report it returns: as rows for
people, as JSON for programs, and in the terminal.
"""

from edgelab.doctor.diagnosis import Note, Report, examine
from edgelab.doctor.show import as_dict, render, summary

__all__ = ["Note", "Report", "as_dict", "examine", "render", "summary"]
