"""What `edgelab measure` says below its table, and the picture that it draws."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from edgelab.deploy.measured import Measured
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.numbers import number


def describe(found: Mapping[str, Measured], device: str) -> Iterator[str]:
    """Yield a sentence for each comparison, arena, estimate, broken limit, and missing figure."""
    first = next(iter(found))
    verdicts = {"faster": _("faster"), "slower": _("slower"), "inconclusive": _("inconclusive")}
    for name, model in found.items():
        if model.speed is not None:
            speed = model.speed
            yield _("%(name)s against %(first)s: %(verdict)s, %(ratio).2f times as fast (95 %% interval: %(low).2f to %(high).2f)") % {
                "name": name, "first": first, "verdict": verdicts[speed.verdict], "ratio": speed.ratio,
                "low": speed.low, "high": speed.high,
            }  # fmt: skip
        if model.arena_bytes is not None:
            yield _("%(name)s in TensorFlow Lite Micro: an arena of %(kib)s KiB") % {
                "name": name,
                "kib": number(model.arena_bytes / 1024, ".1f"),
            }
        if model.npu is not None:
            npu = model.npu
            yield _(
                "%(name)s on an %(npu)s, by Arm's estimate: %(us)s µs, %(flash)s KiB of flash, %(sram)s KiB of SRAM, "
                "%(share).0f %% of the operators on the NPU"
            ) % {
                "name": name,
                "npu": npu.accelerator,
                "us": number(npu.microseconds, ".0f"),
                "flash": number(npu.flash_bytes / 1024, ".1f"),
                "sram": number(npu.sram_bytes / 1024, ".1f"),
                "share": 100 * npu.npu_share,
            }
        if model.breaks is not None:
            fits = (
                _("%(name)s fits %(device)s") if not model.breaks else _("%(name)s does not fit %(device)s: %(limits)s")
            )
            yield fits % {"name": name, "device": device, "limits": ", ".join(model.breaks)}
        for figure, reason in (model.unmeasured or {}).items():
            yield _("%(name)s, %(figure)s: left out. %(reason)s") % {"name": name, "figure": figure, "reason": reason}


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
