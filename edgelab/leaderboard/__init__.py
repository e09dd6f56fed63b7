"""The leader board: models scored by the code of `edgelab measure`, behind one gate of accuracy, and checked again.

`enter` measures a file and writes an entry to hand in; `board.merge` makes a table and a page of a class's entries.
"""

from edgelab.leaderboard.entering import enter
from edgelab.leaderboard.entry import Entry, Figures
from edgelab.leaderboard.gate import gate

__all__ = ["Entry", "Figures", "enter", "gate"]
