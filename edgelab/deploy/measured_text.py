"""What `edgelab measure` says below its table, and the picture that it draws."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from edgelab.deploy.measured import Measured, Speed
from edgelab.deploy.npu import NpuEstimate
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.numbers import number


def describe(found: Mapping[str, Measured], device: str) -> Iterator[str]:
    """Yield a sentence for each comparison, arena, estimate, limit of the device, and missing figure."""
    first = next(iter(found))
    for name, model in found.items():
        if model.speed is not None:
            yield f"{name}: {_speed(model.speed, first)}"
        if model.arena_bytes is not None:
            arena = number(model.arena_bytes / 1024, ".1f")
            yield _("%(name)s: an arena of %(kib)s KiB in TensorFlow Lite Micro") % {"name": name, "kib": arena}
        if model.npu is not None:
            yield f"{name}: {_npu(model.npu)}"
        if model.breaks:
            limits = ", ".join(model.breaks)
            yield _("%(name)s: does not fit %(device)s: %(limits)s") % {
                "name": name,
                "device": device,
                "limits": limits,
            }
        elif model.breaks is not None:
            yield _("%(name)s: fits %(device)s") % {"name": name, "device": device}
        for figure, reason in (model.unmeasured or {}).items():
            yield _("%(name)s: %(figure)s is left out. %(reason)s") % {
                "name": name,
                "figure": figure,
                "reason": reason,
            }


def _speed(speed: Speed, first: str) -> str:
    verdicts = {"faster": _("faster"), "slower": _("slower"), "inconclusive": _("inconclusive")}
    words = _("%(ratio).2f times as fast as %(first)s (95 %% interval: %(low).2f to %(high).2f): %(verdict)s")
    return words % {**vars(speed), "first": first, "verdict": verdicts[speed.verdict]}


def _npu(npu: NpuEstimate) -> str:
    words = _(
        "by Arm's estimate %(us)s µs on an %(npu)s, with %(flash)s KiB of flash and %(sram)s KiB of SRAM; "
        "%(share).0f %% of the operators run on it"
    )
    return words % {
        "npu": npu.accelerator,
        "us": number(npu.microseconds, ".0f"),
        "flash": number(npu.flash_bytes / 1024, ".1f"),
        "sram": number(npu.sram_bytes / 1024, ".1f"),
        "share": 100 * npu.npu_share,
    }


def draw(found: Mapping[str, Measured], path: Path) -> None:
    """Draw accuracy over latency to a PNG; raise `EdgelabError` where no model has an accuracy, or for the place."""
    from matplotlib.figure import Figure

    known = {name: model.row for name, model in found.items() if model.row.accuracy is not None}
    if not known:
        raise EdgelabError(_("There is nothing to draw: none of the models has an accuracy here."))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for row in known.values():
        axes.scatter(row.p50_ms, 100 * (row.accuracy or 0), s=30 + row.size_bytes / 8192, alpha=0.6)
    for name, row in known.items():
        axes.annotate(
            Path(name).name, (row.p50_ms, 100 * (row.accuracy or 0)), textcoords="offset points", xytext=(6, 6)
        )
    axes.set_xscale("log")
    axes.set_xlabel(_("latency p50 (ms)"))
    axes.set_ylabel(_("accuracy (%)"))
    axes.set_title(_("The area of a point is the size of its file"), fontsize="medium")
    try:
        figure.savefig(path, format="png", dpi=150)
    except OSError as error:
        raise EdgelabError(
            _("%(path)s cannot be written: %(reason)s.") % {"path": path, "reason": error.strerror or error}
        ) from None
