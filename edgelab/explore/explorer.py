"""A picture driven by sliders: the one kind of widget that every lab's explorers are made of."""

import time
from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from edgelab.i18n import _
from edgelab.numbers import number


class Explorer(widgets.VBox):
    """Controls above a picture that is drawn again whenever one of them changes.

    `draw` is a pure function of the controls' values, called by name, that returns something with `_repr_html_`. It
    runs once as the explorer is made, so an error in it stops a notebook that nobody is looking at. Later errors are
    shown in the place of the picture. `milliseconds` is how long the last drawing took.
    """

    def __init__(self, draw: Callable, controls: dict[str, widgets.Widget]):
        self._draw, self._controls = draw, controls
        self.picture = widgets.HTML()
        self.picture.add_class("edgelab-picture")
        self._redraw()
        for control in controls.values():
            control.observe(self._on_change, "value")
        super().__init__([_grid(list(controls.values())), self.picture])
        self.add_class("edgelab-explorer")

    def redraw(self) -> None:
        """Draw again with the controls as they are; show an error instead of the picture if there is one."""
        try:
            self._redraw()
        except Exception as error:
            message = _("This cannot be drawn: %(reason)s") % {"reason": error}
            self.picture.value = f'<p role="alert">⚠ {escape(message)}</p>'

    def _redraw(self) -> None:
        start = time.perf_counter()
        drawing = self._draw(**{name: control.value for name, control in self._controls.items()})
        self.picture.value = drawing._repr_html_()
        self.milliseconds = 1000 * (time.perf_counter() - start)

    def _on_change(self, _change: object) -> None:
        self.redraw()


def _grid(controls: list[widgets.Widget]) -> widgets.GridBox:
    """Return the controls in as many columns as there is room for: labels aligned, sliders of one length."""
    label = max(len(control.description) for control in controls) * 0.55 + 1
    for control in controls:
        control.style.description_width = f"{label:.1f}em"
        control.layout.width, control.layout.min_width = "auto", "0"
    columns = f"repeat(auto-fill, minmax(min(100%, {label + 17:.0f}em), 1fr))"
    layout = {"grid_template_columns": columns, "grid_gap": "0.3em 2em", "margin": "0.3em 0 0.9em", "max_width": "66em"}
    return widgets.GridBox(controls, layout=layout)


def slider(label: str, values: range | tuple, value: float | str, unit: str = "") -> widgets.SelectionSlider:
    """Return a slider over `values` that starts at `value`, shows `unit`, and moves with the arrow keys."""
    options = [(f"{number(option) if isinstance(option, int) else option} {unit}".strip(), option) for option in values]
    return widgets.SelectionSlider(options=options, value=value, description=label)


def choice(label: str, options: list | dict, value: object = None) -> widgets.Dropdown:
    """Return a list to choose one option from: names, or names with the values that stand behind them."""
    options = list(options.items()) if isinstance(options, dict) else [(option, option) for option in options]
    return widgets.Dropdown(options=options, value=options[0][1] if value is None else value, description=label)
