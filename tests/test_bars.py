"""A bar comes when something takes long, and sends little."""

import pytest

from edgelab import bars
from edgelab.bars import Bar, track


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(bars, "_DELAY", -1.0)


def test_what_is_over_soon_shows_nothing(capsys):
    assert list(track(range(1000), "counting")) == list(range(1000))
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_says_what_it_is_and_how_far(at_once, capsys):
    with Bar(4, "counting", unit="sheep", leave=True) as bar:
        bar.note(asleep="no")
        bar.update()
        bar.note(asleep="yes")
        bar.update(3)
    first, last = capsys.readouterr().err.strip("\r").split("\r")
    assert "counting:  25%" in first and "1/4" in first and "asleep=no" in first
    assert "4/4" in last and "sheep" in last and "asleep=yes" in last


def test_a_bar_changes_twice_a_second_and_no_more(at_once, capsys):
    for _item in track(range(100_000), "counting"):
        pass
    shown = capsys.readouterr().err
    assert "counting" in shown
    assert shown.count("\r") < 10


def test_a_bar_of_an_iterator_knows_its_total(at_once, capsys):
    assert list(track(iter("abc"), "counting", total=3)) == ["a", "b", "c"]
    assert "1/3" in capsys.readouterr().err


def test_a_bar_can_be_turned_off(at_once, capsys):
    assert list(track("abc", "counting", disable=True)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_an_error_on_the_way_goes_through(at_once, capsys):
    with pytest.raises(ZeroDivisionError):
        for item in track([1, 0, 2, 3], "counting"):
            assert 1 / item
    assert "counting" in capsys.readouterr().err
