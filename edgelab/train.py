"""The one training loop of the course, and the one way accuracy is counted."""

import copy
import hashlib
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edgelab.bars import Bar, track
from edgelab.data import Split, normalize
from edgelab.data.inputs import fast_layout, is_safe_fast, plain_layout, run_fast, run_on
from edgelab.data.storage import atomic_write
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.resuming import Keeper


@dataclass
class History:
    """What happened in a training run: one entry an epoch.

    `loss` is the mean training loss, `val_accuracy` the share of validation images read correctly, in [0, 1] (empty
    without a validation split), `seconds` the wall time so far. `interrupted` tells a run that Ctrl-C ended early.
    """

    loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    interrupted: bool = False


def fit(
    model: nn.Module, train: Split, *, val: Split | None = None, resume: Path | None = None, **options: Any
) -> History:
    """Train `model` on the split `train` in place and return the `History`.

    Options, with their defaults: `epochs=10`, `lr=0.1` (the peak of a one-cycle schedule), `batch_size=128` (of
    pictures larger than 32x32 fewer, see `usual_batch`), `weight_decay=5e-4`, `seed=0`, `augment=None` (a function of a
    uint8 batch `(N, C, H, W)` that returns a batch of the same shape), `loss_fn=cross_entropy` (of logits
    `(N, classes)` and labels `(N,)`), `progress=True`.

    With a `teacher`, the loss is `loss_fn(logits, what the teacher says, labels)`. The teacher is a function of the
    very images that the model sees, normalised and augmented; or a tensor of what it has said, a row for each image.

    With `val`, the weights of the best epoch on that split are kept; without it, the last ones. Ctrl-C ends the run
    early with the weights kept so far, except inside `remembering`. A last batch of one image joins the one before it:
    no batch norm can learn of one. Source of the schedule: Smith and Topin, 2018, "Super-convergence".

    With `resume`, a path, each epoch is kept there, and a training of the same options that was stopped or killed goes
    on behind its last whole epoch. The file stays when the training is done: remove it.

    It trains where the model is: after `model.cuda()`, on the GPU.

    Raise `EdgelabError` for what is no `Split`, for a model without parameters to train, and for one that cannot run on
    the images.
    """
    _must_be_split(train)
    run = _Run(**{"batch_size": usual_batch(train.images), **options})
    train = train.to(device_of(model))
    memory = _memory.get()
    kept = None if memory is None or val is not None else _kept_at(memory, model, train, run)
    if kept is not None and kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["weights"])
        model.eval()
        return History(loss=state["loss"], seconds=state["seconds"])
    with torch.no_grad():
        _logits, fast = run_fast(model.eval(), normalize(train.images[:2]))
    fast = fast and is_safe_fast(model)
    layout = torch.channels_last if fast else torch.contiguous_format
    cast(Any, model).to(memory_format=layout)  # documented, but not among the types of `to`
    torch.manual_seed(run.seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise EdgelabError(_("This model has no parameters to train: what `convert` returns is done with training."))
    optimizer = torch.optim.SGD(parameters, lr=run.lr, momentum=0.9, nesterov=True, weight_decay=run.weight_decay)
    steps = len(_batches(len(train), run.batch_size))
    total = max(4, run.epochs * steps)  # with fewer, there is no step between the ends of the warm-up to divide by
    warmup = max(0.25, 2 / total)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, run.lr, total_steps=total, pct_start=warmup)
    history, best = History(), None
    plan = {"epochs": run.epochs, "lr": run.lr, "batch": run.batch_size, "decay": run.weight_decay, "seed": run.seed}
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    keeper = Keeper(resume, {**plan, "images": len(train)}, parts)
    if (reached := keeper.take_up()) is not None:
        history, best = History(**reached["history"]), reached["best"]
    start = time.perf_counter() - sum(history.seconds[-1:])
    bar = Bar(run.epochs * steps, _("training"), unit=_("batch"), disable=not run.progress)
    bar.update(len(history.loss) * steps)
    threads = _Threads(run.epochs * steps)

    def on_step() -> None:
        schedule.step()
        bar.update()
        threads.step()

    try:
        for epoch in range(len(history.loss), run.epochs):
            history.loss.append(_one_epoch(model, train, run, optimizer, on_step, fast))
            history.seconds.append(time.perf_counter() - start)
            if val is not None:
                accuracy = evaluate(model, val)
                if accuracy >= max(history.val_accuracy, default=0.0):
                    best = copy.deepcopy(model.state_dict())
                history.val_accuracy.append(accuracy)
                bar.note(accuracy=f"{accuracy:.2%}")
            keeper.keep(epoch + 1, history=asdict(history), best=best)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
        threads.close()
    if history.interrupted and memory is not None:
        raise Interrupted
    if history.interrupted and resume is not None:
        text = _("Training was interrupted: epochs kept: %(n)d of %(of)d.")
        print(text % {"n": keeper.epochs, "of": run.epochs})
    elif history.interrupted and best is not None:  # said once the bar has ended its line
        print(_("Training was interrupted: the weights of the best epoch so far are kept."))
    elif history.interrupted:
        print(_("Training was interrupted: its last weights are kept, and its schedule is not finished."))
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".part")
        torch.save({"weights": model.state_dict(), "loss": history.loss, "seconds": history.seconds}, partial)
        partial.replace(kept)
    return history


def usual_batch(images: torch.Tensor, at_32: int = 128) -> int:
    """Return how many images `(N, C, H, W)` of this size make a batch: `at_32` up to 32x32, and of larger ones fewer.

    Halved until a batch has about as many pixels, because a network's memory grows with those.
    """
    pixels, batch = images.shape[-2] * images.shape[-1], at_32
    while batch > at_32 // 8 and batch * pixels > 1.3 * at_32 * 32 * 32:
        batch //= 2
    return batch


def fit_whole(*args: Any, **options: Any) -> History:
    """Train as `fit` does. A training that Ctrl-C has cut short is no result: raise `KeyboardInterrupt`."""
    return whole(fit(*args, **options))


def whole(history: History) -> History:
    """Return `history`; raise `KeyboardInterrupt` where its training was interrupted."""
    if history.interrupted:
        raise KeyboardInterrupt
    return history


class Interrupted(KeyboardInterrupt):
    """A training whose result is to be measured was stopped: there is none. A notebook shows no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [_("Interrupted: nothing was measured or counted. Run the cell again when you have time for it.")]


_memory: ContextVar[Path | None] = ContextVar("memory", default=None)


@contextmanager
def remembering(folder: str | Path) -> Iterator[None]:
    """Keep every finished training of `fit` in `folder`, and give it back when the same one is asked for again.

    The same is: the same weights to start from, images and options, without augmentation; a teacher's answers count if
    they are a tensor, a loss if it is a function of a package, or `partial` of one. Ctrl-C raises `Interrupted`
    meanwhile, and keeps nothing.
    """
    token = _memory.set(Path(folder))
    try:
        yield
    finally:
        _memory.reset(token)


def remembered(model: nn.Module, split: Split, folder: str | Path) -> torch.Tensor:
    """Return the logits `(N, classes)` of `model` for `split`, from `folder` if it has said them there before.

    The same is: the same weights and the same images. What `predict` raises, this does.
    """
    digest = hashlib.sha256(split.images.numpy().tobytes())
    for value in model.state_dict().values():
        digest.update(value.detach().contiguous().numpy().tobytes())
    path = Path(folder, f"answers-{digest.hexdigest()[:16]}.pt")
    if path.exists():
        return torch.load(path, weights_only=True)
    found = predict(model, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        torch.save(found, file)
    return found


def _kept_at(folder: Path, model: nn.Module, train: Split, run: "_Run") -> Path | None:
    """Return where the result of this very training is kept, or None for one whose options have no name."""
    loss, teacher = _name_of(run.loss_fn), run.teacher
    if run.augment is not None or loss is None or not (teacher is None or isinstance(teacher, torch.Tensor)):
        return None
    digest = hashlib.sha256(repr((run.epochs, run.lr, run.batch_size, run.weight_decay, run.seed, loss)).encode())
    digest.update(repr(model).encode())
    state = {**model.state_dict(), "images": train.images, "labels": train.labels, "teacher": teacher}
    for name, value in state.items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return folder / f"trained-{digest.hexdigest()[:16]}.pt"


def _name_of(loss_fn: Callable) -> str | None:
    """Return a name that tells all of a loss, options of a `partial` included; None for a function of a notebook."""
    given = loss_fn if isinstance(loss_fn, partial) else partial(loss_fn)
    function, options = given.func, given.keywords
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<unknown>")
    plain = all(isinstance(value, int | float | str) for value in options.values())
    if module in (None, "__main__") or "<" in name or given.args or not plain:
        return None
    return f"{module}.{name}({sorted(options.items())})"


_TRIED = 4  # batches with all threads, and then with one


class _Threads:
    """All threads where they win a tenth, else one, found by trying both: on a busy machine they wait a lot."""

    def __init__(self, steps: int):
        self.all = torch.get_num_threads()
        self.open = self.all > 1 and steps >= 10 * _TRIED
        self._seconds: list[float] = []
        self._begun = time.perf_counter()

    def step(self) -> None:
        """Count one batch as done."""
        if not self.open:
            return
        now = time.perf_counter()
        self._seconds.append(now - self._begun)
        self._begun = now
        done = len(self._seconds)
        if done == _TRIED + 1:  # the first one warms up
            torch.set_num_threads(1)
        elif done == 2 * _TRIED + 2:
            many, one = min(self._seconds[1 : _TRIED + 1]), min(self._seconds[_TRIED + 2 :])
            if many <= 0.9 * one:
                torch.set_num_threads(self.all)
            self.open = False

    def close(self) -> None:
        """Give torch its threads back."""
        torch.set_num_threads(self.all)


@dataclass(frozen=True)
class _Run:
    """The options of one training run."""

    epochs: int = 10
    lr: float = 0.1
    batch_size: int = 128
    weight_decay: float = 5e-4
    seed: int = 0
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None
    loss_fn: Callable[..., torch.Tensor] = F.cross_entropy
    teacher: Callable[[torch.Tensor], Any] | torch.Tensor | None = None
    progress: bool = True


def _one_epoch(
    model: nn.Module,
    train: Split,
    run: _Run,
    optimizer: torch.optim.Optimizer,
    on_step: Callable[[], None],
    fast: bool,
) -> float:
    """Train on every image once, in a random order; return the mean loss."""
    model.train()
    total = 0.0
    for batch in torch.randperm(len(train)).split(_batches(len(train), run.batch_size)):
        images = train.images[batch]
        if run.augment is not None:
            images = run.augment(images)
        images = (fast_layout if fast else plain_layout)(normalize(images))
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda or has_bfloat16()):
            logits = run_on(model, images)
            taught = _taught(run.teacher, images, batch)
        loss = run.loss_fn(logits.float(), *taught, train.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(batch)
        on_step()
    return total / len(train)


def _taught(teacher: Callable | torch.Tensor | None, images: torch.Tensor, batch: torch.Tensor) -> tuple:
    """Return what the teacher says of a batch, as arguments of the loss: one, or none where nobody teaches."""
    if teacher is None:
        return ()
    return (teacher[batch].to(images.device),) if isinstance(teacher, torch.Tensor) else (teacher(images),)


def _batches(images: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of one epoch."""
    sizes = [batch_size] * (images // batch_size) + ([rest] if (rest := images % batch_size) else [])
    return [*sizes[:-2], sizes[-2] + 1] if len(sizes) > 1 and sizes[-1] == 1 < batch_size else sizes


def _must_be_split(split: object) -> None:
    if not isinstance(split, Split):
        raise EdgelabError(
            _("Expected a split of a data set, as `data.load().train`, not %(kind)s.") % {"kind": type(split).__name__}
        )


def evaluate(model: Callable[[torch.Tensor], torch.Tensor], split: Split, *, batch_size: int | None = None) -> float:
    """Return the accuracy of `model` on `split`, in [0, 1]; `model` is what `predict` takes."""
    return accuracy(predict(model, split, batch_size=batch_size), split)


@torch.inference_mode()
def predict(
    model: Callable[[torch.Tensor], torch.Tensor], split: Split, *, batch_size: int | None = None
) -> torch.Tensor:
    """Return the logits `(N, classes)` of `model` for the images of `split`, 250 at once, of large ones fewer.

    `model` is an `nn.Module`, or any function of normalised float32 images `(N, C, H, W)` that returns logits
    `(N, classes)`. A module is put into evaluation mode. Raise `EdgelabError` for what is no `Split`, for a model that
    cannot run on the images, and for one that returns something else.
    """
    _must_be_split(split)
    if isinstance(model, nn.Module):
        model.eval()
    device, fast, found = device_of(model), True, []
    for batch in track(split.images.split(batch_size or usual_batch(split.images, 250)), _("evaluating")):
        images = normalize(batch.to(device))
        logits, fast = run_fast(model, images) if fast else (run_on(model, images), False)
        found.append(_as_logits(logits, len(batch)))
    return torch.cat(found)


def _as_logits(logits: object, images: int) -> torch.Tensor:
    if isinstance(logits, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(logits)
        if tensor.dim() == 2 and len(tensor) == images:
            return tensor.cpu()
    found = tuple(logits.shape) if isinstance(logits, (torch.Tensor, np.ndarray)) else type(logits).__name__
    raise EdgelabError(
        _("A model gives logits (N, classes), here (%(images)d, classes), and not %(found)s: return them alone.")
        % {"images": images, "found": found}
    )


def accuracy(logits: torch.Tensor, split: Split) -> float:
    """Return the share of `split` that `logits` `(N, classes)` name correctly, in [0, 1]."""
    return (logits.argmax(1) == split.labels).sum().item() / len(split)


def device_of(model: object) -> torch.device:
    """Return where the weights of `model` are; the CPU for one without weights, and for any other function."""
    weights = itertools.chain(model.parameters(), model.buffers()) if isinstance(model, nn.Module) else ()
    return next((weight.device for weight in weights), torch.device("cpu"))


def has_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 natively (AVX512-BF16 or AMX); emulated, it would be slower."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def shift(images: torch.Tensor, pixels: int = 2) -> torch.Tensor:
    """Return a batch `(N, C, H, W)` with every image moved by up to `pixels` in each direction, its edge repeated."""
    n, _channels, height, width = images.shape
    padded = F.pad(images.float(), [pixels] * 4, mode="replicate").to(images.dtype)
    here = images.device
    top, left = torch.randint(0, 2 * pixels + 1, (2, n, 1), device=here)
    rows, columns = torch.arange(height, device=here) + top, torch.arange(width, device=here) + left
    every = torch.arange(n, device=here)[:, None, None]
    return padded.permute(0, 2, 3, 1)[every, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def mirror(images: torch.Tensor) -> torch.Tensor:
    """Return a batch `(N, C, H, W)` with half of the images mirrored left to right."""
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5, images.flip(3), images)
