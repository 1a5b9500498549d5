"""What is published under reports/ is what today's code makes of what was measured."""

import importlib.util
import io
import re
import shutil
from pathlib import Path
from types import ModuleType

import matplotlib
import matplotlib.image
import numpy as np
import pytest

import bertprof
from bertprof import documents, report, schema
from bertprof.components import Component
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.survey import claims, methods
from bertprof.survey.methods import Methods

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("publish", REPORTS / "publish.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


publish = loaded()
ALL = list(publish.renderings(REPORTS))


def unpacked(content: bytes) -> tuple[bytes, bytes]:
    """A page without what it carries, and that; another zlib may pack the same in other bytes."""
    if not content.lstrip().startswith(b"<!DOCTYPE"):
        return content, b""
    return re.sub(rb"base64,[A-Za-z0-9+/=]+", b"", content), schema.unpacked(content, "page")


@pytest.mark.parametrize("one", [one for one in ALL if not one.file.endswith(".png")], ids=lambda one: one.file)
def test_texts_and_pages_are_those_of_today(one):
    committed = (REPORTS / one.file).read_bytes()
    assert unpacked(publish.rendered(REPORTS, one)) == unpacked(committed), "run `make published`"


@pytest.mark.slow
@pytest.mark.parametrize("one", [one for one in ALL if one.file.endswith(".png")], ids=lambda one: one.file)
def test_figures_are_those_of_today(one):
    pinned = re.search(r"^matplotlib==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    if matplotlib.__version__ != pinned[1]:
        pytest.skip(f"drawn by matplotlib {pinned[1]}, and this is {matplotlib.__version__}")
    drawn, committed = (
        matplotlib.image.imread(io.BytesIO(content))
        for content in (publish.rendered(REPORTS, one), (REPORTS / one.file).read_bytes())
    )
    assert drawn.shape == committed.shape, "run `make published`"
    # Not to the byte: rounding may move an edge by a fraction of a pixel, which no spot of the figure shows much of.
    assert worst_spot(np.abs(drawn - committed).max(axis=-1)) < 0.05, "run `make published`"


def worst_spot(different: np.ndarray, size: int = 32) -> float:
    """The largest mean difference over spots of so many pixels square, 0 to 1."""
    rows, columns = (length // size * size for length in different.shape)
    spots = different[:rows, :columns].reshape(rows // size, size, columns // size, size)
    return float(spots.mean(axis=(1, 3)).max())


@pytest.mark.slow
def test_a_figure_of_other_times_would_be_noticed():
    breakdown = bertprof.load(REPORTS / publish.FIGURE2 / "figure2.html")
    committed = matplotlib.image.imread(REPORTS / publish.FIGURE2 / "figure2.png")
    for cost in breakdown.of(Component.SOFTMAX_ATTENTION):
        cost.time_ms = [1.02 * sample for sample in cost.time_ms or ()]
    drawn = matplotlib.image.imread(io.BytesIO(report.render(breakdown, Path("x.png"))))
    assert worst_spot(np.abs(drawn - committed).max(axis=-1)) > 0.05


def test_the_index_is_that_of_today():
    assert publish.index(REPORTS) == (REPORTS / "README.md").read_text(), "run `make published`"


def test_every_link_of_the_index_leads_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", (REPORTS / "README.md").read_text())
    # 24 methods with a page; 6 of their figures and tables, 3 pictures of Figure 2, 2 of steps; the others by hand
    assert len(links) >= 24 + 11
    assert [link for link in links if not (REPORTS / link).exists()] == []


def test_every_method_that_runs_has_its_page():
    document = documents.load_any(REPORTS / publish.METHODS / "methods.html")
    expected = {f"{publish.file_name(row.name)}.html" for row in document.rows if row.measured is not None}
    assert {path.name for path in (REPORTS / publish.PAGES).iterdir()} == expected
    assert len(expected) == 24


def test_the_page_of_a_method_is_of_the_same_measurement_as_the_table():
    document = documents.load_any(REPORTS / publish.METHODS / "methods.html")
    assert isinstance(document, Methods)
    for row in (row for row in document.rows if row.measured is not None):
        diff = documents.load_any(REPORTS / publish.PAGES / f"{publish.file_name(row.name)}.html")
        assert isinstance(diff, Diff)
        assert methods.measured_of(diff) == row.measured, row.name


def test_counts_of_figure_2_are_those_of_today():
    published = bertprof.load(REPORTS / publish.FIGURE2 / "figure2.html")
    assert published.timed
    today = bertprof.breakdown(claims.MODEL, sequence_length=claims.SEQUENCE_LENGTH, time=False)
    assert counts(published) == counts(today)


def counts(breakdown: Breakdown) -> list[tuple[object, ...]]:
    return [
        (c.unit, c.component, c.parameters, c.parameter_bytes, c.macs, c.flops, c.bytes_moved, c.activation_bytes)
        for c in breakdown.costs
        if c.parameters or c.flops
    ]


def test_it_stays_small():
    files = [path for path in REPORTS.rglob("*") if path.is_file() and "local" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 5_000_000


def test_all_of_it_is_made_again_elsewhere(tmp_path: Path):
    # One page suffices: the others are compared above.
    for folder in (publish.FIGURE2, publish.METHODS, publish.TABLE2):
        shutil.copytree(REPORTS / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.md", "*.png"))
    for page in list((tmp_path / publish.PAGES).iterdir())[2:]:
        if page.stem not in publish.SHOWN:
            page.unlink()
    publish.main(tmp_path)
    assert (tmp_path / "README.md").exists()
    assert (tmp_path / publish.FIGURE2 / "figure2.md").read_bytes() == (
        REPORTS / publish.FIGURE2 / "figure2.md"
    ).read_bytes()
