"""Progress bars for whatever may take more than two seconds.

A notebook's bar is a widget, and each change of it sends several messages to the page. Who reads a kernel's messages
only after the cell is done, as nbval does, loses whatever the sockets cannot hold. So a bar is made only once it is
needed, and changes twice a second.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tqdm.auto import tqdm

Item = TypeVar("Item")
_DELAY, _INTERVAL = 2.0, 0.5  # seconds


class Bar:
    """A bar of `total` steps, shown once they have taken two seconds; `leave` keeps it on the page when it is done."""

    def __init__(self, total: int, description: str, *, unit: str = "it", leave: bool = False, disable: bool = False):
        self.total, self.done, self.disable = total, 0, disable
        self._look = {"total": total, "desc": description, "unit": unit, "leave": leave, "mininterval": _INTERVAL}
        self._start = time.monotonic()
        self._shown: tqdm | None = None
        self._notes: dict[str, str] = {}

    def update(self, steps: int = 1) -> None:
        """Count `steps` more as done."""
        self.done += steps
        if self._shown is not None:
            self._shown.update(steps)
        elif not self.disable and self.done < self.total and time.monotonic() - self._start > _DELAY:
            from tqdm.auto import tqdm

            self._shown = tqdm(initial=self.done, postfix=self._notes, **self._look)

    def note(self, **notes: str) -> None:
        """Write `name=text` behind the bar."""
        self._notes = notes
        if self._shown is not None:
            self._shown.set_postfix(notes, refresh=False)

    def close(self) -> None:
        """Take the bar away, or leave it as it is now."""
        if self._shown is not None:
            self._shown.close()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def track(
    items: Iterable[Item], description: str, *, total: int | None = None, unit: str = "it", disable: bool = False
) -> Iterator[Item]:
    """Yield each of `items`; a bar shows how many are done, of `total` where they do not know their own number."""
    total = operator.length_hint(items) if total is None else total
    with Bar(total, description, unit=unit, disable=disable) as bar:
        for item in items:
            yield item
            bar.update()
