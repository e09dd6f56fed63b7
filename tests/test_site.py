"""The site: what a page shows of a lab, what an execution depends on, and a glossary in two languages."""

import re
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from edgelab.course import build
from edgelab.course.address import FIRST_CELL
from edgelab.errors import EdgelabError
from edgelab.site import execute, fingerprint, pages, pictures, sources
from edgelab.site.execute import Run

ROOT = Path(__file__).parents[1]
LABS = build.sources(ROOT / "labs")
SOURCE = '''# %% [markdown]
# # Halves
#
# See [the next](01_next.ipynb).

# %% half tags=["exercise"]
def half(x):
    """Return half of x."""
    # BEGIN SOLUTION
    return 0.5 * x + 0
    # END SOLUTION


# %% half-check tags=["check"] points=1
check.half(half)

# %% half-hidden tags=["hidden"]
print(half(SEED))

# %% picture
explorer(half)

# %% map
lab_map("00_halves")
'''


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "labs" / "source" / "00_halves.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE)
    return path


def widget(name: str, **state) -> dict:
    return {"_model_name": name, **state}


WIDGETS = {
    "a": widget("VBoxModel", children=["IPY_MODEL_b", "IPY_MODEL_c"]),
    "b": widget("GridBoxModel", children=["IPY_MODEL_d"]),
    "c": widget("HTMLModel", value="<svg>two bars</svg>"),
    "d": widget("SelectionSliderModel", description="bits", index=1, _options_labels=["4", "8 <b>"]),
    "bar": widget("HBoxModel", children=["IPY_MODEL_progress"]),
    "progress": widget("FloatProgressModel", value=3),
    "waits": widget("HTMLModel", value="<p>Lock it in</p>"),
}


def shown_widget(model_id: str) -> NotebookNode:
    data = {pages.WIDGET: {"model_id": model_id}, "text/plain": "VBox()"}
    return new_output("display_data", data)


def page(source: Path, *outputs: list[NotebookNode], failure: str = "") -> NotebookNode:
    """Return the page of the small lab whose code cells gave `outputs`, in order; the one that installs gave none."""
    return pages.lab_page(source, "en", Run("00_halves", "en", [[], *outputs], WIDGETS, {}, failure))


def test_a_page_shows_the_stub_and_what_the_solution_gave(source):
    done = page(source, [], [new_output("stream", text="✓ Exercise 1")], [], [])
    code = {cell.id: cell for cell in done.cells if cell.cell_type == "code"}
    assert "0.5 * x" not in build.as_bytes(done).decode()
    assert "raise NotImplementedError" in code["half"].source
    assert [output.text for output in code["half-check"].outputs] == ["✓ Exercise 1"]
    assert "half-hidden" not in code
    assert FIRST_CELL not in code
    assert done.cells[0].source.startswith("# 00 · ")


def test_a_widget_is_its_picture_and_says_what_it_needs(source):
    done = page(source, [], [], [shown_widget("a"), shown_widget("bar")], [])
    (output,) = next(cell for cell in done.cells if cell.id == "picture").outputs
    assert "<svg>two bars</svg>" in output.data["text/html"]
    assert "bits: <b>8 &lt;b&gt;</b>" in output.data["text/html"]
    assert "need a running kernel" in output.data["text/html"]
    assert pages.WIDGET not in output.data


def test_what_waits_for_a_prediction_is_uncovered_by_the_reader():
    shown = pictures.picture("waits", WIDGETS, {"waits": "<p>768 KiB</p>"}, "es")
    assert re.search(r"<details.*<summary>.+</summary><p>768 KiB</p></details>", shown)


def test_a_learners_own_progress_is_left_out(source):
    own = next(cell for cell in page(source, [], [], [], []).cells if cell.id == "map")
    assert own.metadata.tags == ["remove-cell"]


def test_links_in_outputs_lead_to_pages(source):
    html = new_output("display_data", {"text/html": '<a href="01_next.ipynb">next</a>'})
    done = page(source, [], [], [html], [])
    (output,) = next(cell for cell in done.cells if cell.id == "picture").outputs
    assert output.data["text/html"] == '<a href="01_next.html">next</a>'


def test_a_lab_that_failed_says_so_and_shows_no_line_of_the_error(source):
    error = new_output("error", ename="ValueError", evalue="0.5", traceback=["----> return 0.5 * x + 0"])
    done = page(source, [], [error], [new_output("stream", text="3")], failure="cell half-check: ValueError: 0.5")
    assert "without an error" in done.cells[1].source
    assert [cell.outputs for cell in done.cells if cell.get("outputs")] == [[{**new_output("stream", text="3")}]]
    assert "0.5 * x" not in build.as_bytes(done).decode()


def test_the_lines_of_solutions_are_known(source):
    assert pages.solution_lines(source) == {"return 0.5 * x + 0"}


@pytest.mark.parametrize("lab", LABS, ids=lambda path: path.stem)
def test_no_lab_shows_a_solution_before_it_is_executed(lab):
    lines = pages.solution_lines(lab)
    for lang in sources.LANGUAGES:
        text = "\n".join(cell.source for cell in pages.lab_page(lab, lang, Run(lab.stem, lang, [], {}, {})).cells)
        assert len(lines) >= 3
        assert [line for line in lines if line in text] == []


# Executing


def test_a_lab_is_executed_once_and_what_failed_again(source, tmp_path, monkeypatch):
    text = SOURCE[: SOURCE.index("# %% picture")].replace("check.half(half)", "print(half(3))")
    text += "# %% fails\nhalf('3')\n\n# %% more\nprint(7)\n"
    source.write_text(text)
    failed = execute.run(source, "en", tmp_path / "kept")
    assert failed.failure.startswith("cell fails: TypeError: ")
    assert [output.text for outputs in failed.outputs for output in outputs if output.output_type == "stream"] == [
        *("1.5\n", "7\n")
    ]
    assert not (tmp_path / "kept").exists()

    source.write_text(text.replace("half('3')", "half(4)"))
    done = execute.run(source, "en", tmp_path / "kept")
    assert (done.failure, len(list((tmp_path / "kept").iterdir()))) == ("", 1)
    monkeypatch.setattr(execute, "_execute", None)  # a second execution would call it
    assert execute.run(source, "en", tmp_path / "kept") == done


# What an execution depends on


def key(*cells: str, lang: str = "en") -> str:
    return fingerprint.fingerprint(new_notebook(cells=[new_code_cell(cell) for cell in cells]), lang)


def test_prose_and_comments_cost_no_execution(source):
    before = build.reference(source, "en", outputs=False)
    source.write_text(SOURCE.replace("# See", "# Read").replace('"""Return half of x."""', '"""Half."""  # of it'))
    after = build.reference(source, "en", outputs=False)
    assert before != after
    assert fingerprint.fingerprint(before, "en") == fingerprint.fingerprint(after, "en")


def test_code_and_language_and_what_the_package_says_are_counted(tmp_path, monkeypatch):
    cell = "from edgelab.numbers import number\nnumber(3)"
    keys = [key(cell), key(cell + " + 1"), key(cell, lang="es")]
    (tmp_path / "numbers.py").write_text("def number(value):\n    return 'three'\n")
    monkeypatch.setattr(fingerprint, "_files", lambda name: (tmp_path / "numbers.py",))
    keys.append(key(cell + "\n"))
    (tmp_path / "numbers.py").write_text("def number(value):\n    return 'four'\n")
    keys.append(key(cell + "\n"))
    assert len(set(keys)) == 5


def test_what_a_lab_reaches_is_followed_through_the_package():
    lab = build.reference(LABS[1], "en", outputs=False)
    found = fingerprint.reached([cell.source for cell in lab.cells if cell.cell_type == "code"])
    names = {str(path.relative_to(fingerprint.PACKAGE)) for path in found}
    assert {"labs/lab_01_edge_budget/check.py", "measure/counts.py", "data/signs.py"} <= names
    assert not any(name.startswith(("grading", "site", "labs/lab_02")) for name in names)


# The glossary


def test_the_glossary_is_complete_in_both_languages():
    terms = sources.read_glossary(ROOT / "docs" / "glossary.toml")
    assert len({term["en"] for term in terms}) == len({term["es"] for term in terms}) == len(terms) >= 40
    assert [term["en"] for term in terms if not term["url"].startswith("https://")] == []
    for lang, other in (("en", "es"), ("es", "en")):
        text = sources.glossary_page(terms, lang)
        assert [term for term in terms if f"\n{term[lang]}\n  " not in text] == []
        assert [term for term in terms if f"*{term[other]}*" not in text or term["url"] not in text] == []


def test_a_term_that_lacks_a_language_is_named(tmp_path):
    (tmp_path / "glossary.toml").write_text('[[term]]\nen = "scale"\nmeaning = "a step"\n')
    with pytest.raises(EdgelabError, match=r"term 1 \(scale\) lacks es, significado, source, url"):
        sources.read_glossary(tmp_path / "glossary.toml")


def test_both_languages_have_the_same_pages():
    pages_of = {
        lang: {str(path.relative_to(ROOT / "docs" / lang)) for path in (ROOT / "docs" / lang).rglob("*.md")}
        for lang in sources.LANGUAGES
    }
    assert {name for name in pages_of["en"] if not name.startswith("reference/")} == pages_of["es"] - {
        "reference/index.md"
    }


def test_every_package_with_public_names_is_in_the_reference():
    exporting = {
        path.parent.name for path in fingerprint.PACKAGE.glob("*/__init__.py") if "__all__" in path.read_text()
    }
    described = {path.stem for path in (ROOT / "docs" / "en" / "reference").glob("*.md")}
    assert exporting <= described
