"""The breakdown as CSV, all digits, units in the column names."""

import csv
import io

from bertprof.record import Breakdown
from bertprof.report import rows


def render(breakdown: Breakdown, by: str = "component") -> str:
    """One line a module in the view by module, else one a unit and component, so that any other view can be summed.

    What is not known is empty; `unit` is empty outside of the units.
    """
    lines = rows.records(breakdown, "module" if by == "module" else "cost")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["model", *(lines[0] if lines else ())])
    for line in lines:
        writer.writerow([_text(breakdown.name), *map(_text, line.values())])
    return stream.getvalue()


def _text(value: object) -> str:
    """A cell. What a spreadsheet would take for a formula gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6f}"
    text = str(value)
    return f"'{text}" if text[:1] in "=+-@\t\r" else text
