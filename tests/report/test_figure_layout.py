"""Texts of figures: they neither overlap nor are cut off, and they are of print size, however narrow a figure is."""

import contextlib
from functools import cache

import pytest
from compared import REAL, distilled, hostile, real
from hypothesis import HealthCheck, given, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from seen import Seen, full, seen

from bertprof import documents
from bertprof.comparison import Comparison
from bertprof.errors import UsageError
from bertprof.report import Document, figure, figures
from handmade import breakdowns, pairs

METHODS = REAL.parents[2] / "reports" / "methods-cpu" / "methods.html"


@cache
def documents_by_name() -> dict[str, list[Document]]:
    return {
        "real": [real()],
        "all components": [full(2)],
        "smaller": [Comparison(real(), distilled()).diff()],
        "all changed": [Comparison(full(2), full(2, 0.5)).diff()],
        "hostile": [hostile()],
        "several": [real(), distilled(), real(), full(2)],
        "methods": [documents.load_any(METHODS)],
    }


CASES = [
    (name, kind)
    for name, of in (
        ("real", "a breakdown"),
        ("all components", "a breakdown"),
        ("smaller", "a diff"),
        ("all changed", "a diff"),
        ("hostile", "a diff"),
        ("several", "several records"),
        ("methods", "the survey's methods"),
    )
    for kind in figures.OF[of]  # type: ignore[index]
    if (name, kind) != ("real", "roofline")
]


def assert_readable(drawn: Figure) -> None:
    found = seen(drawn)
    assert found.clashes == []
    assert found.cut_off == []
    assert found.smallest_pt >= 6


@pytest.mark.parametrize("width_mm", [60, 183])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_texts_do_not_overlap(name: str, kind: str, width_mm: float):
    width_mm = max(width_mm, figures.NARROWEST_OF.get(kind, 0))
    assert_readable(figure.draw(documents_by_name()[name], kind, width_mm))


@pytest.mark.parametrize("width_mm", [89, 183])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_figure_is_within_a_page(name: str, kind: str, width_mm: float):
    """Of one column of a journal or of two, or as narrow as it may be."""
    width_mm = max(width_mm, figures.NARROWEST_OF.get(kind, 0))
    assert figure.draw(documents_by_name()[name], kind, width_mm).get_size_inches()[1] * 25.4 < 260


@pytest.mark.parametrize(("units", "width_mm"), [(1, 60), (12, 183), (24, 89), (48, 183), (97, 60)])
def test_any_number_of_units(units: int, width_mm: float):
    drawn = figure.draw([full(units)], "units", width_mm)
    assert_readable(drawn)
    assert drawn.get_size_inches()[1] * 25.4 < 260  # within a page


def test_a_name_of_any_length_is_cut():
    long = real()
    for name in ("W" * 5000, "$x$ \N{HEBREW LETTER ALEF}\N{RIGHT-TO-LEFT OVERRIDE}" * 500, "界 " * 2500):
        long.label = name
        assert_readable(figure.draw([long, long], "stack", 60))


def test_an_overlap_is_found():
    drawn = Figure(figsize=(2, 1))
    FigureCanvasAgg(drawn)
    drawn.text(0.1, 0.5, "one text")
    drawn.text(0.9, 0.5, "another text")
    assert seen(drawn) == Seen([], ["another text"], 10)
    drawn.text(0.2, 0.55, "in between")
    assert seen(drawn).clashes == [("one text", "in between")]


@given(breakdowns())
@settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
def test_any_record(breakdown):
    for kind in ("figure2", "stack", "units"):
        figure.draw([breakdown], kind, 89)
    with contextlib.suppress(UsageError):  # most have no peaks, or peaks of something else
        figure.draw([breakdown], "roofline", 183)


@given(pairs())
@settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
def test_any_two_records(pair):
    diff = Comparison(*pair).diff()
    for kind in figures.OF["a diff"]:
        figure.draw([diff], kind, 89)
    figure.draw(list(pair), "stack", 89)
