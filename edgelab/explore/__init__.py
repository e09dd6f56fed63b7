"""The kit that the labs' widgets, pictures and tables are made of."""

from edgelab.explore.board import lab_map, progress_board
from edgelab.explore.pictures import accuracy_bars, contact_sheet
from edgelab.explore.prediction import predict, reveal
from edgelab.numbers import number

__all__ = ["accuracy_bars", "contact_sheet", "lab_map", "number", "predict", "progress_board", "reveal"]
