"""The notebooks run from top to bottom in fresh kernels, and say what their outputs show."""

import math
import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from executing import executed

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ["01-figure2", "02-compression", "03-your-model"]

MOST_BYTES = 400_000

ARITHMETIC = re.compile(r"([\d,]+(?:\s[·+]\s[\d,]+)+)\s=\s([\d,]+)")
LONG_NUMBER = re.compile(r"\d{1,3}(?:,\d{3}){2,}")
PERCENT = re.compile(r"\d+\.\d %")
PATHS = re.compile(r"/(?:home|root|tmp|usr|opt|work|Users|private|var)/|site-packages|\b[A-Z]:\\")


def committed(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell: NotebookNode) -> list[str]:
    """All outputs of a cell but pictures."""
    found = []
    for output in cell.outputs:
        found.append(output.get("text", ""))
        found += [text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")]
    return found


def tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in code_of(notebook) if tag in cell.metadata.get("tags", ())]


def exact(notebook: NotebookNode) -> list[str]:
    """What the cells print that only count, or load."""
    return ["".join(texts(cell)) for cell in tagged(notebook, "exact")]


def kinds(cell: NotebookNode) -> list[str]:
    """What a cell puts out: MIME types, and streams by their names."""
    found = [kind for output in cell.outputs for kind in output.get("data", {output.get("name", "error"): ""})]
    return sorted(found)


def prose(notebook: NotebookNode) -> str:
    return " ".join(" ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown").split())


def test_all_are_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_committed_and_clean(name: str):
    notebook = committed(name)
    nbformat.validate(notebook)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < MOST_BYTES
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}
    assert notebook.metadata.language_info == {"name": "python"}
    assert all(cell.metadata.keys() <= {"tags"} for cell in notebook.cells)
    cells = code_of(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 1  # the imports of some print nothing
    for cell in cells:
        assert all(output.output_type != "error" for output in cell.outputs)
        assert all(output.get("name") != "stderr" for output in cell.outputs)
        assert not [found for text in [cell.source, *texts(cell)] for found in PATHS.findall(text)]


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_pictures(name: str):
    figures = tagged(committed(name), "figure")
    assert figures
    assert all("image/png" in kinds(cell) for cell in figures)


@pytest.mark.parametrize("name", NAMES)
def test_exact_numbers_of_the_text_stand_in_the_outputs(name: str):
    """Sums and products are done again; any other long number or share of the text is printed by a cell that counts."""
    notebook = committed(name)
    text, printed = prose(notebook), " ".join(exact(notebook)).replace(",", "")
    for left, right in ARITHMETIC.findall(text):
        products = [[int(n) for n in term.split("·")] for term in left.replace(",", "").split("+")]
        assert sum(map(math.prod, products)) == int(right.replace(",", ""))
    for number in LONG_NUMBER.findall(ARITHMETIC.sub("", text)):
        assert re.search(rf"(?<!\d){number.replace(',', '')}(?!\d)", printed), number
    for share in PERCENT.findall(text):
        assert share in printed


def test_the_text_has_exact_numbers():
    """That the test above tests something."""
    assert len(LONG_NUMBER.findall(prose(committed("01-figure2")))) >= 5
    assert len(LONG_NUMBER.findall(prose(committed("02-compression")))) >= 4
    assert ARITHMETIC.search(prose(committed("03-your-model")))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_fresh_run_prints_the_same_counts(name: str):
    before, after = committed(name), executed(FOLDER / f"{name}.ipynb")
    assert exact(after) == exact(before)
    for was, cell in zip(code_of(before), code_of(after), strict=True):
        assert kinds(cell) == kinds(was)
