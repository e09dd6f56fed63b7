"""How long a battery lasts, from what MLPerf Tiny's submitters measured for one inference of ResNet-8."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape

import torch
from torch import nn

from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure import DEVICES, count_macs
from edgelab.measure.devices import Published
from edgelab.numbers import number

LAB = "10_capstone"
RIVAL_MACS = 12.5e6  # ResNet-8 of MLPerf Tiny (Banbury et al., 2021)
_TINY = "MLPerf Tiny %s, closed division, int8, https://github.com/mlcommons/tiny_results_%s"
_L4R5 = next(device for device in DEVICES if "L4R5" in device.name)
BOARDS = {
    "STM32L4R5 (Cortex-M4)": next(row for row in _L4R5.published if "v1.3" in row.source and row.model == "ResNet-8"),
    "STM32U385 (Cortex-M33)": Published("ResNet-8", "", 182.4, 966e-6, _TINY % ("v1.3", "v1.3")),
    "STM32H7A3 (Cortex-M7)": Published("ResNet-8", "", 40.8, 5090e-6, _TINY % ("v1.2", "v1.2")),
}


@dataclass(frozen=True)
class Cell:
    """A battery: nominal capacity in mAh at a nominal voltage. At large currents or in the cold it gives less."""

    mah: float
    volts: float


CELLS = {"CR2032": Cell(225, 3.0), "LiPo": Cell(1000, 3.7)}
ASLEEP = (0, 3, 10, 30, 100, 300)  # microwatts
PICTURES = (1, 2, 5, 10, 20, 60, 120, 300, 600)  # a minute


def cell_names() -> dict[str, str]:
    """Return what the batteries are called, in the learner's language."""
    return {"CR2032": _("coin cell CR2032, 225 mAh"), "LiPo": _("lithium polymer, 1 000 mAh")}


def predict_days() -> Prediction:
    """Return the prediction of how many days a coin cell lasts at one picture a second on a Cortex-M4."""
    return predict(LAB, "days", _("days that the coin cell lasts"), unit=_("days"), low=0.5, high=2000)


def on_coin_cell(days: Callable) -> float:
    """Return what the learner's `days` says of a coin cell and MLPerf's ResNet-8 on a Cortex-M4, once a second."""
    cell, board = CELLS["CR2032"], next(iter(BOARDS.values()))
    return float(days(cell.mah, cell.volts, _joules(board), 1, 0))


def _joules(board: Published) -> float:
    assert board.joules is not None  # all of `BOARDS` were measured
    return board.joules


def table(days: Callable, model: nn.Module, image: torch.Tensor) -> HtmlTable:
    """Return days on each battery at one picture a second: of the rival as measured, of `model` in proportion."""
    rows, part_of_rival = [], count_macs(model, image) / RIVAL_MACS
    for name, board in BOARDS.items():
        joules = _joules(board)
        lasting = [days(cell.mah, cell.volts, joules * part, 1, 0) for part in (1, part_of_rival)
                   for cell in CELLS.values()]  # fmt: skip
        rows.append([f'<span title="{escape(board.source)}">{escape(name)}</span>', number(1e6 * joules, ".0f"),
                     *(number(one, ".0f" if one >= 10 else ".1f") for one in lasting)])  # fmt: skip
    heads = [_("board"), _("measured, one inference of ResNet-8 (µJ)")]
    for whose in (_("ResNet-8"), _("yours, if energy followed MACs")):
        heads += [f"{whose}: {name} ({_('days')})" for name in CELLS]
    return HtmlTable(list(map(escape, heads)), rows)


def battery_explorer(days: Callable) -> Explorer:
    """Return the days that a battery lasts over pictures a minute, by the learner's `days`: ResNet-8 as measured."""
    controls = {
        "board": choice(_("board"), list(BOARDS)),
        "cell": choice(_("battery"), {label: name for name, label in cell_names().items()}),
        "pictures": slider(_("pictures a minute"), PICTURES, 60),
        "asleep": slider(_("asleep"), ASLEEP, 0, "µW"),
    }
    return Explorer(partial(battery_plot, days), controls)


def battery_plot(days: Callable, board: str, cell: str, pictures: int, asleep: int) -> plots.Picture:
    """Return the days over pictures a minute, one place marked; the title says what sleep takes of the energy there."""
    battery, joules = CELLS[cell], _joules(BOARDS[board])

    def lasting(rate: float, idle: float) -> float:
        return float(days(battery.mah, battery.volts, joules, rate / 60, idle * 1e-6))

    with plots.figure(height=3.4) as fig:
        ax = fig.subplots()
        lines = ((asleep, plots.BLUE, "o"), (0, plots.VERMILION, "")) if asleep else ((0, plots.BLUE, "o"),)
        for idle, colour, marker in lines:
            label = _("%(uw)d µW asleep") % {"uw": idle}
            curve = [lasting(rate, idle) for rate in PICTURES]
            ax.plot(PICTURES, curve, color=colour, marker=marker, ls="-" if marker else "--", label=label)
        ax.axvline(pictures, color=plots.INK, ls=":", lw=1)
        for axis in (ax.xaxis, ax.yaxis):
            plots.logarithmic(axis, (1, 2, 5))
        ax.set(xlabel=_("pictures a minute"), ylabel=_("days"))
        ax.legend(loc="upper right")
        here = lasting(pictures, asleep)
        share = asleep * 1e-6 / (joules * pictures / 60 + asleep * 1e-6)
        title = _("%(days)s days at %(rate)d pictures a minute; sleep takes %(share).0f %% of the energy") % {
            "days": number(here, ".0f" if here >= 10 else ".1f"),
            "rate": pictures,
            "share": 100 * share,
        }
        ax.set_title(title)
        return plots.picture(fig, f"{board}, {cell_names()[cell]}. {title}")
