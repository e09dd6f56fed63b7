"""Predict before you measure: a number is committed first, and only then is the measurement shown."""

from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from edgelab.course import progress
from edgelab.explore import plots
from edgelab.i18n import _


class Prediction(widgets.VBox):
    """A slider and a button that locks it. `reveal` shows a measurement, and waits for the lock to do so.

    The lock is kept in the learner's progress: a prediction once made stays, also when the notebook is opened again.
    """

    def __init__(self, lab: str, name: str, slider: widgets.Widget, unit: str):
        self._lab, self._name, self._slider, self._unit = lab, name, slider, unit
        self._waiting: list[Callable[[float], None]] = []
        self._button = widgets.Button(description=_("Lock it in"), icon="lock", button_style="primary")
        self._button.on_click(lambda _button: self.lock())
        self._status = widgets.HTML()
        super().__init__([widgets.HBox([slider, self._button], layout={"flex_flow": "row wrap"}), self._status])
        self.add_class("edgelab-prediction")
        self.value: float | None = None  # until it is locked
        earlier = progress.predictions(lab).get(name)
        if earlier is not None:
            self._close(earlier)

    def lock(self) -> None:
        """Commit to the slider's value, or to the earlier one that is on record."""
        self._close(progress.record_prediction(self._lab, self._name, self._slider.value))

    def reveal(self, measured: float, picture: plots.Picture | None = None) -> widgets.HTML:
        """Return a widget that shows `measured` beside the prediction, and `picture` under it, once it is locked."""
        shown = widgets.HTML()

        def show(predicted: float) -> None:
            html = picture._repr_html_() if picture is not None else ""
            shown.value = self._comparison(predicted, measured) + html

        if self.value is None:
            text = _("Lock in your prediction above: the measurement then appears here.")
            style = "border-left: 3px solid; padding-left: 0.6em; font-style: italic"
            shown.value = f'<p class="edgelab-waiting" style="{style}">{escape(text)}</p>'
            self._waiting.append(show)
        else:
            show(self.value)
        return shown

    def _close(self, value: float) -> None:
        self.value = value
        self._slider.value = value
        self._slider.disabled = self._button.disabled = True
        text = _("You predicted %(value)s. It stays on record.") % {"value": self._number(value)}
        self._status.value = f"<p>✓ {escape(text)}</p>"
        for show in self._waiting:
            show(value)
        self._waiting.clear()

    def _comparison(self, predicted: float, measured: float) -> str:
        numbers = {"predicted": self._number(predicted), "measured": self._number(measured)}
        lines = [_("You predicted %(predicted)s. Measured here: %(measured)s.") % numbers]
        if predicted > 0 and measured > 0:
            factor = predicted / measured
            if 0.8 <= factor <= 1.25:
                lines.append(_("That is close: within a quarter of it."))
            elif factor > 1:
                lines.append(_("Your prediction was %(factor)s times too high.") % {"factor": f"{factor:.2g}"})
            else:
                lines.append(_("Your prediction was %(factor)s times too low.") % {"factor": f"{1 / factor:.2g}"})
        return f"<p><b>{escape(lines[0])}</b> {escape(' '.join(lines[1:]))}</p>"

    def _number(self, value: float) -> str:
        return f"{value:.3g} {self._unit}".strip()


def predict(lab: str, name: str, question: str, *, unit: str = "", low: float = 1, high: float = 100) -> Prediction:
    """Return a prediction on a logarithmic slider from `low` to `high` (both above 0), in `unit`.

    `lab` and `name` are the key it is kept under in the learner's progress.
    """
    values = [_round(low * (high / low) ** (step / 60)) for step in range(61)]
    values = sorted(set(values))
    options = [(f"{value:g} {unit}".strip(), value) for value in values]
    start = values[len(values) // 2]
    slider = widgets.SelectionSlider(
        options=options,
        value=start,
        description=question,
        style={"description_width": "initial"},
        layout={"width": "34em"},
    )
    return Prediction(lab, name, slider, unit)


def _round(value: float) -> float:
    """Return `value` with two significant digits: nobody predicts more."""
    return float(f"{value:.2g}")
