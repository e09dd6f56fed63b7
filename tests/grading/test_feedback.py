"""What a learner gets back: their own work, in their language, and nothing of the hidden cells."""

import html
import re
import sys
from html.parser import HTMLParser

import pytest

from edgelab.course.source import read_source
from edgelab.grading import feedback
from edgelab.grading.collect import Submission
from edgelab.grading.mark import grade

# Listens to every cell, and says all it has heard whenever it can.
SPY = """
seen = []
get_ipython().events.register("pre_run_cell", lambda info: seen.append(info.raw_cell))
get_ipython().events.register("post_run_cell", lambda result: print("HEARD", seen))
print("<script>alert(1)</script>", "\\x1b[31mred\\x1b[0m")
from IPython.display import HTML, Javascript, Markdown, display
display(HTML("<img src=x onerror=alert(2)><iframe src='https://example.org'></iframe>"))
display(Javascript("alert(3)"), Markdown("[x](javascript:alert(4))"))
def half(number):
    return number * 0.5
"""
EVENS = "def evens(numbers):\n    return numbers  # </code><script>alert(5)</script>\n"


@pytest.fixture(scope="module")
def graded(lab_reference, labs, tmp_path_factory):
    """Return how a hostile notebook was graded, handed in by a hostile name."""
    import json

    from edgelab.grading.limits import Limits

    notebook = json.loads((labs / "es" / "01_halves.ipynb").read_text())
    for cell in notebook["cells"]:
        cell["source"] = {"half": SPY, "evens": EVENS}.get(cell["id"], cell["source"])
    folder = tmp_path_factory.mktemp("back")
    (folder / "x.ipynb").write_text(json.dumps(notebook))
    return grade(Submission("<b>ada</b>", "", "01_halves", folder, "x.ipynb"), lab_reference, Limits(wall_seconds=90))


@pytest.fixture
def page(graded, source) -> str:
    return feedback.page(graded, "<b>ada</b>", source, read_source(source))


def test_nothing_of_the_hidden_cells_is_in_it(page: str):
    text = html.unescape(re.sub("<[^>]*>", "", page))
    assert "HEARD" in text
    for secret in ("SECRET", "rng", "hidden.show", "SEED", "hidden => ["):
        assert secret not in text


class Elements(HTMLParser):
    """Collect the names of a page's elements, and their attributes."""

    def __init__(self):
        super().__init__()
        self.names, self.attributes = set(), []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs


def test_nothing_in_it_can_run_or_call_home(page: str):
    elements = Elements()
    elements.feed(page.partition("<body>")[2])
    formula = {"math", "mrow", "mi", "mo", "mn"}
    assert elements.names <= {"h1", "h2", "h3", "p", "strong", "div", "pre", "span", "code", "a", "img"} | formula
    assert {name for name, _ in elements.attributes} <= {
        "class",
        "id",
        "style",
        "alt",
        "src",
        "href",
        "title",
        "xmlns",
        "display",
    }
    assert not [value for name, value in elements.attributes if name in ("src", "href") and ":" in value]
    assert "default-src 'none'" in page


def test_it_shows_the_learners_work_and_a_verdict(page: str):
    text = html.unescape(re.sub("<[^>]*>", "", page))
    assert "return number * 0.5" in text
    assert "✓ half: correct." in text
    assert "The even ones of 1, 2, 4 are 2 and 4." in text
    assert "<b>ada</b>" in text
    assert 'class="verdict correct"' in page


def test_it_speaks_the_notebooks_language(page: str):
    assert '<html lang="es">' in page
    assert "Mitades y pares" in page
    assert "la mitad de un number" in page


def test_formulas_are_drawn(page: str):
    assert "<math" in page and "$n/2$" not in page


def test_code_that_took_python_down_is_shown(mark, answer, source):
    graded = mark(answer(half="import os\nos._exit(0)", evens=EVENS))
    text = html.unescape(re.sub("<[^>]*>", "", feedback.page(graded, "ada", source, read_source(source))))
    assert "os._exit(0)" in text
    assert "NotImplementedError" not in text


def test_a_page_that_cannot_be_drawn_costs_no_marks(course_of_one, monkeypatch):
    """As nbconvert stopped once at half an ANSI colour."""
    half = "print('\\x1b[38m', '\\x1b[48;5m', '\\x1b[38;2;1m')\ndef half(number):\n    return number / 2"
    row, page = course_of_one(half)
    assert (row["status"], row["exercises"]["half"]["points"]) == ("graded", 3)
    assert "Exercise 1. Points: 3 of 3" in page

    def fails(*_):
        raise RuntimeError

    monkeypatch.setattr(feedback, "page", fails)
    row, page = course_of_one(half)
    assert (row["status"], row["exercises"]["half"]["points"]) == ("graded", 3)
    assert "Exercise 1. Points: 3 of 3" in page
    assert html.escape("return number / 2") in page


@pytest.fixture
def course_of_one(answer, hand_in, lab_reference, source, tmp_path):
    """Return a function that grades one answer to `half`, and returns the row and the page."""
    from edgelab.grading import session
    from edgelab.grading.limits import Limits

    def graded(half: str) -> tuple[dict, str]:
        submission = hand_in(answer(half=half))
        job = session.Job(submission, "", lab_reference, source, tmp_path / "out", Limits(wall_seconds=90), "")
        row = session.grade_one(job)
        return row, (tmp_path / "out" / row["feedback"]).read_text()

    return graded


def test_it_tells_nothing_of_the_graders_folders(course_of_one):
    half = (
        "import sys, edgelab, os\nprint(sys.executable, edgelab.__file__, os.__file__)\n"
        "from edgelab.course import hidden\nhidden.rng()\n"
    )
    _row, page = course_of_one(half)
    text = html.unescape(re.sub("<[^>]*>", "", page))
    assert "edgelab/course/hidden.py" in text or "TypeError" in text
    for folder in (str(feedback.PACKAGE.parent), sys.prefix, sys.base_prefix):
        assert folder not in text


def test_where_an_answer_was_found_and_what_it_lacked_is_told(mark, answer, source):
    notebook = answer(half="import pandas_of_mine")
    notebook["cells"].append({"cell_type": "code", "metadata": {}, "source": "def evens(numbers):\n    return []"})
    page = html.unescape(feedback.page(mark(notebook), "ada", source, read_source(source)))
    assert "The course does not have the package pandas_of_mine" in page
    assert "Your answer was found in another cell" in page
    shown = feedback.with_marks_by_hand(page, {"half": (1.5, "<b>nearly</b>")}, "en")
    assert "Points given by hand: 1.5. &lt;b&gt;nearly&lt;/b&gt;" in shown
    assert feedback.with_marks_by_hand(shown, {}, "en") == page


def test_names_become_folders():
    plain = [
        "ada",
        "Ada",
        "ADA",
        "a/b",
        "a_b",
        "..",
        "",
        "=A(1)",
        "a" * 300,
        "a" * 301,
        "Ñ",
        "con\x00",
        "ada 5",
        "o'brien",
    ]
    names = [*((name, "") for name in plain), ("ada", "5"), ("ada 5", "1"), ("ada", "5 1")]
    names += [(feedback.file_name(*name), "") for name in names if feedback.file_name(*name) != name[0]]
    folders = [feedback.file_name(*name) for name in names]
    assert len({folder.lower() for folder in folders}) == len(names)
    assert all(0 < len(folder) < 100 and not set(folder) & set('/\\:*?"<>|\x00') for folder in folders)
    assert not any(folder.startswith(".") for folder in folders)
