"""Breakdowns and diffs as CSV, all digits, units in the column names."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from bertprof import formatting
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import changes, several, tabular


def render(breakdown: Breakdown, by: str = "component") -> str:
    """One line a module in the view by module, else one a unit and component, so that any other view can be summed.

    What is not known is empty; `unit` is empty outside of the units.
    """
    view = "module" if by == "module" else "cost"
    found = ({"model": breakdown.name, **row} for row in tabular.records(breakdown, view))
    return written(["model", *tabular.fields(breakdown, view)], found)


def render_diff(diff: Diff) -> str:
    """One line a row and metric, of all views: `level` tells total, group, component, unit and cell apart.

    `before`, `after` and `change` are in what `measured_in` says; the other figures are relative.
    """
    found = changes.records(diff.rows)
    return written([*(found[0] if found else ())], found)


def render_several(breakdowns: Sequence[Breakdown], by: str = "component") -> str:
    """One line a record and row, totals first, for which `by` is "total"; each `_ratio` is against the first record.

    The columns are those of `bertprof.report.several.records`.
    """
    found = several.records(breakdowns, by)
    return written([*found[0]], found)


def written(header: Sequence[str], found: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV, under a header."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    for row in found:
        writer.writerow([_text(value) for value in row.values()])
    return stream.getvalue()


def _text(value: object) -> str:
    """A cell. A text that a spreadsheet would take for a formula gets an apostrophe in front.

    A line break in a text would end the row for readers that take any for one, so control characters are replaced.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    if not isinstance(value, str):
        return str(value)
    text = formatting.plain(value)
    return f"'{text}" if text[:1] in "=+-@" or value[:1] in "\t\r" else text
