"""Grids: the tables of a page, whatever they are of, as the template `grid.html` lays them out and `script.js` reads.

A cell carries its text, which is all that is ever shown of it, and its value, by which it is sorted and copied as CSV.
The script formats no number: switching shows and hides what is written here.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bertprof import formatting

Value = str | int | float | None

DIGITS = 7
"""Significant digits of a value that is no whole number; records hold times to 0.1 µs."""


@dataclass(frozen=True)
class Column:
    """One column beside the names of the rows.

    Attributes:
        name: what a program calls it, its unit in it; unique in its grid.
        header: what stands above it.
        metric: the metric of which it is, for switching; empty: it is there whatever metric is shown.
        form: "absolute", "share", or empty where it is neither.
        word: its cells are words, to the left.
        group: what stands above it and the columns beside it of the same group; empty: nothing.
        side: "before" or "after" where it is of one side of a diff, for switching; empty: of both.
        only: it would be too much for a table of everything; it shows once a metric or a form is chosen.
    """

    name: str
    header: str
    metric: str = ""
    form: str = ""
    word: bool = False
    group: str = ""
    side: str = ""
    only: bool = False


class Group(NamedTuple):
    """What stands above so many columns beside one another, and how many of them show from the start."""

    name: str
    over: int
    shown: int


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what is shown; it is escaped.
        value: the same for a program; None where it is not known, or no finite number.
        bar: how far the bar behind it reaches, 0 to 100; None: there is none.
        tone: "better", "worse", "open" or "plain".
        title: what is told on pointing; empty: nothing.
        heat: how strongly it is coloured, 0 to 1; None: not at all.
    """

    text: str
    value: Value = None
    bar: float | None = None
    tone: str = "plain"
    title: str = ""
    heat: float | None = None


@dataclass(frozen=True)
class Line:
    """One row.

    Attributes:
        label: its name.
        cells: one a column.
        color: of its swatch; None: it has none.
        note: what stands small below the name.
        tip: what is told of the row on pointing and on focus, by line; empty: nothing.
        depth: how deep it stands in a tree: 0 the root, which is in no path, or no tree; its path are the labels of
            the nearest lines above it of each smaller depth and its own, joined by dots.
    """

    label: str
    cells: Sequence[Cell]
    color: str | None = None
    note: str = ""
    tip: str = ""
    depth: int = 0

    @property
    def values(self) -> str:
        """The values of its cells as JSON, for the script."""
        return json.dumps([_rounded(cell.value) for cell in self.cells], separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        by: the view; the header of the names and what is chosen to see it.
        caption: what it is of, in a few words.
        columns: beside the names.
        lines: the rows.
        total: a last row that sums the others up; None: there is none.
        compact: columns are narrow and headers may wrap.
    """

    by: str
    caption: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    total: Line | None = None
    compact: bool = False

    @property
    def groups(self) -> list[Group]:
        """What stands above the columns; nothing where no column has a group."""
        runs = [list(run) for _, run in itertools.groupby(self.columns, key=lambda column: column.group)]
        found = [Group(run[0].group, len(run), sum(not column.only for column in run)) for run in runs]
        return found if any(group.name for group in found) else []

    @property
    def usual(self) -> "Grid":
        """The same without the columns that only a choice shows."""

        def kept(line: Line) -> Line:
            pairs = zip(line.cells, self.columns, strict=True)
            return replace(line, cells=[cell for cell, column in pairs if not column.only])

        columns = [column for column in self.columns if not column.only]
        total = None if self.total is None else kept(self.total)
        return replace(self, columns=columns, lines=[kept(line) for line in self.lines], total=total)


def _rounded(value: Value) -> Value:
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None  # JSON has no such numbers (RFC 8259, section 6)
    rounded = float(f"{value:.{DIGITS}g}")
    return int(rounded) if rounded.is_integer() else rounded


def choices(grids: Sequence[Grid]) -> dict[str, list[tuple[str, str]]]:
    """What can be chosen of some grids: control → value and what it is called, in the order in which they appear.

    Controls are "by" (the grids), "metric", "as" and "side" (their columns); one with a single choice is left out.
    """
    columns = [column for grid in grids for column in grid.columns]
    metrics = dict.fromkeys(column.metric for column in columns if column.metric)
    forms = dict.fromkeys(column.form for column in columns if column.form)
    sides = dict.fromkeys(column.side for column in columns if column.side)
    found = {
        "by": [(grid.by, grid.by) for grid in grids],
        "metric": [("", "all"), *((metric, metric) for metric in metrics)],
        "as": [("", "figures and shares"), *((form, _FORMS[form]) for form in forms)],
        "side": [("", "before and after"), *((side, side) for side in sides)],
    }
    fewest = {"by": 2, "metric": 3, "as": 3, "side": 3}
    return {control: options for control, options in found.items() if len(options) >= fewest[control]}


_FORMS = {"absolute": "figures", "share": "shares"}


def tip(*lines: str) -> str:
    """Sentences as a tip, one a line, each inert in a terminal and in a page."""
    return "\n".join(formatting.plain(line) for line in lines if line)
