"""Figures, with matplotlib. Which there are is told by `bertprof.report.figures`."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from bertprof.report import Document, figures
from bertprof.report.figure import figure2, methods, pairs, roofline, stack, units, waterfall
from bertprof.report.figure.drawing import Figure, saved, styled

_DRAWN: Mapping[tuple[figures.Kind, str], Callable[[Any, float], Figure]] = MappingProxyType(
    {
        ("a breakdown", "figure2"): figure2.draw,
        ("a breakdown", "stack"): stack.draw,
        ("a breakdown", "units"): units.draw,
        ("a breakdown", "roofline"): roofline.draw,
        ("a diff", "pairs"): pairs.draw,
        ("a diff", "stack"): stack.draw_diff,
        ("a diff", "units"): units.draw_diff,
        ("a diff", "waterfall"): waterfall.draw,
        ("several records", "stack"): stack.draw_several,
        ("the survey's methods", "methods"): methods.draw,
    }
)
"""Of what, and the figure's name → what draws it, so many millimetres wide: `bertprof.report.figures.OF` in full."""


def draw(documents: Sequence[Document], figure: str | None = None, width_mm: float | None = None) -> Figure:
    """A figure of one document, or of several records.

    Args:
        documents: what it is of.
        figure: its name in `bertprof.report.figures`; None: the usual one.
        width_mm: how wide it is in print; None: `bertprof.report.figures.WIDTH_MM`.

    Raises:
        UsageError: there is no such figure of such documents, or they do not hold what it shows.
    """
    kind = figures.kind_of(documents)
    figures.check(figure, width_mm, kind)
    width = figures.WIDTH_MM if width_mm is None else width_mm
    with styled():
        shown = documents if kind == "several records" else documents[0]
        return _DRAWN[kind, figure or figures.usual(kind)](shown, width)


def render(
    documents: Sequence[Document],
    suffix: Literal["png", "svg"],
    figure: str | None = None,
    width_mm: float | None = None,
) -> bytes:
    """The same as a file's content. The same document gives the same bytes."""
    return saved(draw(documents, figure, width_mm), suffix)
