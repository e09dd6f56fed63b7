"""The widgets and pictures of the labs: what every lab uses, and a module for each lab's own explorers."""

from edgelab.explore.board import progress_board
from edgelab.explore.pictures import accuracy_bars, contact_sheet
from edgelab.explore.prediction import predict

__all__ = ["accuracy_bars", "contact_sheet", "predict", "progress_board"]
