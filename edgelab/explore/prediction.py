"""Predict before you measure: a number is committed first, and only then is the measurement shown."""

from html import escape

import ipywidgets as widgets

from edgelab.course import progress
from edgelab.explore.html import in_widget
from edgelab.i18n import _
from edgelab.numbers import number


class Prediction(widgets.VBox):
    """A slider and a button that locks it. `reveal` shows what was measured, and waits for the lock to do so.

    The lock is kept in the learner's progress: a prediction once made stays, also when the notebook is opened again.
    """

    def __init__(self, lab: str, name: str, slider: widgets.Widget, unit: str):
        self._lab, self._name, self._slider, self._unit = lab, name, slider, unit
        self._button = widgets.Button(description=_("Lock it in"), icon="lock", button_style="primary")
        self._button.on_click(lambda _button: self.lock())
        self._status = widgets.HTML()
        super().__init__([widgets.HBox([slider, self._button], layout={"flex_flow": "row wrap"}), self._status])
        self.add_class("edgelab-prediction")
        self.value: float | None = None  # until it is locked
        before = _made.get(name)
        if before is not None and before._lab == lab:
            before._slider.disabled = before._button.disabled = True  # the cell was run again: one lock is enough
        _made[name] = self
        earlier = progress.predictions(lab).get(name)
        if earlier is not None:
            self._close(earlier)
        else:
            for measured in _waiting.get(name, []):
                measured.wait()

    def lock(self) -> None:
        """Commit to the slider's value, or to the earlier one that is on record."""
        self._close(progress.record_prediction(self._lab, self._name, self._slider.value))

    def _close(self, value: float) -> None:
        self.value = value
        self._slider.value = value
        self._slider.disabled = self._button.disabled = True
        self._button.button_style = ""  # greyed out in blue it can't be read on a dark page
        text = _("You predicted %(value)s. It stays on record.") % {"value": self._number(value)}
        self._status.value = in_widget(f"<p>✓ {escape(text)}</p>")
        for measured in _waiting.pop(self._name, []):
            measured.show(self)

    def comparison(self, measured: float) -> str:
        """Return what was predicted beside what was `measured`, as HTML."""
        predicted = self.value or 0.0
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
        shown = number(value, ".0f") if abs(value) >= 1000 else f"{value:.3g}"
        return f"{shown} {self._unit}".strip()


class _Measured:
    """A measurement that is shown as soon as the prediction of its name is locked, whenever that is made."""

    def __init__(self, name: str, value: float, shown: tuple):
        self.name, self._value, self._shown = name, value, shown
        self.widget = widgets.HTML()

    def wait(self) -> None:
        """Say what is missing."""
        if self.name in _made:
            text = _("Lock in your prediction above: the measurement then appears here.")
        else:
            text = _("It is measured. Run the cell of the prediction above, and lock it in: it then appears here.")
        style = "border-left: 3px solid; padding-left: 0.6em; font-style: italic"
        self.widget.value = in_widget(f'<p class="edgelab-waiting" style="{style}">{escape(text)}</p>')

    def show(self, prediction: Prediction) -> None:
        self.widget.value = in_widget(prediction.comparison(self._value) + self._pictures())

    def alone(self, prediction: Prediction) -> str:
        """Return as HTML what was measured, beside no prediction."""
        text = _("Measured here: %(measured)s.") % {"measured": prediction._number(self._value)}
        return f"<p><b>{escape(text)}</b></p>{self._pictures()}"

    def _pictures(self) -> str:
        shown = [(one, getattr(one, "_repr_html_", None)) for one in self._shown]
        return "".join(f"<p>{escape(str(one))}</p>" if as_html is None else as_html() for one, as_html in shown)


_made: dict[str, Prediction] = {}  # by name, the latest
_waiting: dict[str, list[_Measured]] = {}


def reveal(name: str, measured: float, *shown: object) -> widgets.HTML:
    """Return a widget that shows `measured` beside the prediction `name` once that is locked, then `shown`.

    `shown` are pictures, or what reads as a sentence. It waits, too, for a prediction whose cell was not run.
    """
    result = _Measured(name, measured, shown)
    prediction = _made.get(name)
    if prediction is not None and prediction.value is not None:
        result.show(prediction)
    else:
        _waiting.setdefault(name, []).append(result)
        result.wait()
    return result.widget


def waiting() -> dict[str, str]:
    """Return what waits for a prediction to be locked: by the id of the widget that will show it, its HTML.

    It is for a page on which nobody can lock anything, where a reader uncovers it.
    """
    return {
        one.widget.model_id: one.alone(_made[name])
        for name, measured in _waiting.items()
        for one in measured
        if name in _made
    }


def forget() -> None:
    """Forget all predictions of this process; those on record stay there."""
    _made.clear()
    _waiting.clear()


def predict(lab: str, name: str, question: str, *, unit: str = "", low: float = 1, high: float = 100) -> Prediction:
    """Return a prediction on a logarithmic slider from `low` to `high` (both above 0), in `unit`.

    `lab` and `name` are the key it is kept under in the learner's progress.
    """
    values = [_round(low * (high / low) ** (step / 60)) for step in range(61)]
    values = sorted(set(values))
    options = [(f"{number(value, 'g')} {unit}".strip(), value) for value in values]
    start = values[len(values) // 2]
    slider = widgets.SelectionSlider(
        options=options,
        value=start,
        description=question,
        style={"description_width": "initial"},
        layout={"width": "min(100%, 42em)"},
    )
    return Prediction(lab, name, slider, unit)


def _round(value: float) -> float:
    """Return `value` with two significant digits: nobody predicts more."""
    return float(f"{value:.2g}")
