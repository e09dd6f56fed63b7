"""The kit that the labs' widgets, pictures and tables are made of."""

from edgelab.explore.board import progress_board
from edgelab.explore.pictures import accuracy_bars, contact_sheet
from edgelab.explore.prediction import predict

__all__ = ["accuracy_bars", "contact_sheet", "predict", "progress_board"]
