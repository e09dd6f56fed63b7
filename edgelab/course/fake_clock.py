"""A clock that a check sets: times become exact, the same on every computer, and cost no time to wait for."""

import functools
import inspect
import threading
import time
import timeit
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

# The other clocks of the module `time`: they go on telling what they told, and it is noted that they were asked.
_OTHERS = ("time", "monotonic", "process_time", "thread_time")


@dataclass
class FakeClock:
    """What `time.perf_counter` tells, in seconds, and which other clocks were asked meanwhile, by name.

    Only the thread that set the clock is listened to: a kernel has others, which ask for the time as they like.
    """

    now: float = 100.0
    others: set[str] = field(default_factory=set)
    thread: int = field(default_factory=threading.get_ident)


@contextmanager
def fake_clock(function: Callable) -> Iterator[FakeClock]:
    """Yield the clock that `function` reads as `time.perf_counter` within the `with` block, wherever it has it from.

    >>> with fake_clock(time.perf_counter) as clock:
    ...     start, clock.now = time.perf_counter(), clock.now + 0.25
    ...     time.perf_counter() - start
    0.25

    `timeit` tells the same; its `autorange` never ends unless what it times moves the clock.

    >>> with fake_clock(timeit.repeat) as clock:
    ...     timeit.repeat("clock.now += 0.5", repeat=2, number=3, globals={"clock": clock})
    [1.5, 1.5]
    """
    clock = FakeClock()
    fakes = {id(time.perf_counter): lambda: clock.now, id(time.perf_counter_ns): lambda: round(1e9 * clock.now)}
    for name in [*_OTHERS, *(f"{name}_ns" for name in _OTHERS)]:
        if real := getattr(time, name, None):  # not every system has them all
            fakes[id(real)] = functools.partial(_note, clock, name, real)
    places = [place for place in _places(function) if id(place[1]) in fakes]
    try:
        for put, value in places:
            put(fakes[id(value)])
        yield clock
    finally:
        for put, value in places:
            put(value)


def _note(clock: FakeClock, name: str, real: Callable) -> float:
    if threading.get_ident() == clock.thread:
        clock.others.add(name)
    return real()


_Place = tuple[Callable[[Any], None], Any]  # how to put something else there, and what is there


def _places(function: Any) -> Iterator[_Place]:
    """Yield the places from which `function` may take a clock: modules, and what it can reach by names of its own."""
    yield from _in_dict(vars(time))
    yield from _in_dict(vars(timeit))
    waiting, seen = [function, timeit.timeit, timeit.repeat, timeit.Timer.__init__], set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        for put, value in _held_by(thing):
            yield put, value
            if isinstance(value, _LOOKED_INTO) or _of_the_notebook(value):
                waiting.append(value)


_LOOKED_INTO = (types.FunctionType, types.MethodType, functools.partial, list, tuple, dict)


def _held_by(thing: Any) -> Iterable[_Place]:
    """Yield what one object holds, if it is of a kind that may hold a clock."""
    if isinstance(thing, types.FunctionType):
        names = _names(thing.__code__)
        yield from _in_dict(thing.__globals__, names)
        for cell in thing.__closure__ or ():
            yield functools.partial(setattr, cell, "cell_contents"), _content(cell)
        yield from _in_tuple(thing.__defaults__ or (), lambda values: setattr(thing, "__defaults__", values))
        yield from _in_dict(thing.__kwdefaults__ or {})
        yield from _in_dict(vars(thing))  # a wrapper has what it wraps there
    elif isinstance(thing, types.MethodType):
        yield from ((_never, part) for part in (thing.__func__, thing.__self__))
    elif isinstance(thing, functools.partial):

        def arguments(values: tuple) -> None:
            cast(Any, thing).__setstate__((thing.func, values, thing.keywords, vars(thing)))

        yield from _in_tuple(thing.args, arguments)
        yield from _in_dict(thing.keywords)
        yield _never, thing.func
    elif isinstance(thing, dict):
        yield from _in_dict(thing)
    elif isinstance(thing, list):
        yield from ((functools.partial(thing.__setitem__, place), value) for place, value in enumerate(thing))
    elif isinstance(thing, tuple):
        yield from ((_never, value) for value in thing)
    else:  # an object of the learner's, or its class
        for owner in (thing, *inspect.getmro(type(thing))[:-1]):
            held = getattr(owner, "__dict__", {})
            yield from ((functools.partial(setattr, owner, name), value) for name, value in list(held.items()))


def _in_dict(held: dict, names: Iterable[str] | None = None) -> Iterator[_Place]:
    for name in list(held) if names is None else names:
        if name in held:
            yield functools.partial(held.__setitem__, name), held[name]


def _in_tuple(values: tuple, put_all: Callable[[tuple], None]) -> Iterator[_Place]:
    """A tuple cannot be changed: another takes its place."""
    now = list(values)

    def put(place: int, value: Any) -> None:
        now[place] = value
        put_all(tuple(now))

    yield from ((functools.partial(put, place), value) for place, value in enumerate(values))


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function's code, and the functions in it, look up."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _of_the_notebook(value: Any) -> bool:
    """Return whether it is a class that was written in the notebook, or an object of one."""
    kind = value if isinstance(value, type) else type(value)
    return kind.__module__ == "__main__"


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _never(_value: Any) -> None:
    """What stands here is looked into, and never a clock itself."""
