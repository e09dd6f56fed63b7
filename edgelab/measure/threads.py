"""How many threads torch may use: one for a fair clock, and one where many small operations would mostly wait."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Hold torch to `count` threads meanwhile; where nobody has loaded torch, there is nothing to hold.

    On a busy machine, threads that share thousands of small operations spend their time on waiting for each other.
    It decorates functions, too: `@torch_threads(1)`.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)
