"""Widgets as a page without a kernel can show them: their default picture, and what their controls are set to."""

from collections.abc import Callable
from html import escape

from edgelab.i18n import translator

CONTROLS = ("SelectionSliderModel", "DropdownModel")  # those that the labs' kit is made of


def picture(model_id: str, widgets: dict[str, dict], measured: dict[str, str], lang: str) -> str:
    """Return as HTML what the widget `model_id` shows before anybody touches it; nothing for a bar that is gone.

    `widgets` is the state of each widget by its id. Where it waits for a prediction, a reader may uncover what is
    `measured`, HTML by the widget's id.
    """
    _ = translator(lang)
    shown = list(_shown(model_id, widgets))
    if not shown or any(one["_model_name"] == "FloatProgressModel" for one in shown):
        return ""
    controls = [_setting(one, _) for one in shown if one["_model_name"] in CONTROLS]
    parts = [one["value"] for one in shown if one["_model_name"] == "HTMLModel" and one.get("value")]
    answer = measured.get(model_id)
    if answer is not None:
        summary = escape(_("What was measured when this page was made"))
        return f'<details class="edgelab-measured"><summary>{summary}</summary>{answer}</details>'
    if controls:
        items = "".join(f"<li>{line}</li>" for line in controls)
        note = escape(_("The controls need a running kernel: open the lab in Jupyter (make lab) to move them."))
        parts.insert(0, f'<div class="edgelab-controls"><ul>{items}</ul><p>{note}</p></div>')
    return f'<div class="edgelab-default">{"".join(parts)}</div>' if parts else ""


def _shown(model_id: str, widgets: dict[str, dict]) -> list[dict]:
    """Return the state of a widget and of all that it holds, in the order in which they stand."""
    state = widgets.get(model_id)
    if state is None:
        return []
    found = [state]
    for child in state.get("children", []):
        found += _shown(str(child).removeprefix("IPY_MODEL_"), widgets)
    return found


def _setting(state: dict, _: Callable[[str], str]) -> str:
    """Return what a control is set to, as HTML: its label, its value, and how many values there are."""
    options = state["_options_labels"]
    count = escape(_("one of %(n)d") % {"n": len(options)})
    return f"{escape(state['description'])}: <b>{escape(str(options[state['index']]))}</b> <small>({count})</small>"
