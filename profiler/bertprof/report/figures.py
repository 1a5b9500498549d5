"""Which figures there are, and of what: light, so that a wrong name is refused before anything long begins.

`bertprof.report.figure` draws them.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from bertprof.difference import Diff
from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.survey.methods import Methods
from bertprof.survey.table2 import Table2

Kind = Literal["a breakdown", "a diff", "several records", "the survey's methods", "the survey's Table 2"]
"""What a figure is of."""

OF: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {
        "a breakdown": ("figure2", "stack", "units", "roofline"),
        "a diff": ("pairs", "stack", "units", "waterfall"),
        "several records": ("stack",),
        "the survey's methods": ("methods",),
        "the survey's Table 2": (),
    }
)
"""Which there are of what, the usual one first."""

FIGURES = tuple(dict.fromkeys(name for names in OF.values() for name in names))
"""All names."""

KINDS: Mapping[type, Kind] = MappingProxyType(
    {Breakdown: "a breakdown", Diff: "a diff", Methods: "the survey's methods", Table2: "the survey's Table 2"}
)
"""What a figure of one document is of, by its type."""

WIDTH_MM = 183.0
"""Two columns of a journal, as Nature has them; one is 89 mm."""

NARROWEST_MM, WIDEST_MM = 60.0, 400.0

NARROWEST_OF: Mapping[str, float] = MappingProxyType({"methods": 160.0})
"""Figures that would not fit a page of a journal in a narrower one: its panels would stand below one another."""


def listed(*kinds: Kind) -> str:
    """Which there are, in a phrase: figure2 or stack of a breakdown; stack of several records."""
    return "; ".join(f"{' or '.join(filter(None, (', '.join(OF[k][:-1]), OF[k][-1])))} of {k}" for k in kinds)


def kind_of(documents: Sequence[Any]) -> Kind:
    """What a figure of these documents is of.

    Raises:
        UsageError: there are several, and one is no record.
    """
    if len(documents) == 1:
        return KINDS[type(documents[0])]
    if not all(isinstance(document, Breakdown) for document in documents):
        raise UsageError("a figure of several documents is of records only")
    return "several records"


def usual(kind: Kind) -> str:
    """The figure of which there is no need to say its name.

    Raises:
        UsageError: there is none of that kind.
    """
    if not OF[kind]:
        raise UsageError(f"there is no figure of {kind}")
    return OF[kind][0]


def check(figure: str | None, width_mm: float | None, kind: Kind | None = None) -> None:
    """Makes sure that there is such a figure.

    Args:
        figure: its name; None: the usual one.
        width_mm: how wide it is to be; None: as usual.
        kind: of what; None: that is not known yet.

    Raises:
        UsageError: there is none of that name, none of that name of such a document, or it is too narrow or too wide.
    """
    if width_mm is not None and not NARROWEST_MM <= width_mm <= WIDEST_MM:
        raise UsageError(f"--width-mm {width_mm:g}: a figure is {NARROWEST_MM:g} to {WIDEST_MM:g} mm wide")
    name = OF[kind][0] if figure is None and kind is not None and OF[kind] else figure
    least_mm = NARROWEST_OF.get(name or "", NARROWEST_MM)
    if width_mm is not None and width_mm < least_mm:
        raise UsageError(f"--width-mm {width_mm:g}: the figure {name} is at least {least_mm:g} mm wide")
    if figure is None:
        return
    if figure not in FIGURES:
        raise UsageError(f"--figure {figure!r}: there is no such figure; use one of {', '.join(FIGURES)}")
    if kind is not None and figure not in OF[kind]:
        others = f"use {', '.join(OF[kind])}" if OF[kind] else "there is none"
        raise UsageError(f"--figure {figure}: no such figure of {kind}; {others}")
