"""A claim holds a figure to its goal, and the report loses nothing that was measured."""

import json

import pytest

from edgelab.bench.claims import Claim, report


@pytest.mark.parametrize(
    ("claim", "met", "goal"),
    [
        (Claim("loss", 0.2, at_most=0.2), True, "<= 0.2"),
        (Claim("loss", 0.21, at_most=0.2), False, "<= 0.2"),
        (Claim("smaller", 3.7, "x", at_least=3.7), True, ">= 3.7"),
        (Claim("smaller", 3.69, "x", at_least=3.7), False, ">= 3.7"),
        (Claim("accuracy", 96.0, "%"), None, ""),
    ],
)
def test_a_claim_is_met_where_its_goal_is_reached(claim, met, goal):
    assert claim.met is met
    assert claim.goal == goal


def test_what_was_measured_before_ctrl_c_is_printed_and_written(tmp_path, capsys):
    def claims():
        yield Claim("file smaller", 3.89, "x", at_least=3.7)
        yield Claim("faster", 3.33, "x", at_least=3.4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        report(claims(), tmp_path / "figures.json")
    written = json.loads((tmp_path / "figures.json").read_text())
    assert written["machine"]["cpu"]
    assert [(row["name"], row["measured"], row["met"]) for row in written["claims"]] == [
        ("file smaller", 3.89, True),
        ("faster", 3.33, False),
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["✓", "3.89", "x", ">=", "3.7", "file", "smaller"]
    assert lines[-1].split() == ["✗", "3.33", "x", ">=", "3.4", "faster"]
