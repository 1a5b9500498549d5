"""The breakdown as CSV: one line a unit and component, all digits, units in the column names."""

import csv
import io

from bertprof.record import Breakdown

COLUMNS = (
    "model",
    "unit",
    "component",
    "parameters",
    "parameter_bytes",
    "macs",
    "flops",
    "time_ms",
    "time_low_ms",
    "time_high_ms",
    "time_share",
)


def render(breakdown: Breakdown) -> str:
    """All costs of the record. What is not known is empty; `unit` is empty outside of the units."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for cost in breakdown.costs:
        time, share = breakdown.time_of([cost]), breakdown.time_share([cost])
        writer.writerow(
            [
                _inert(breakdown.name),
                "" if cost.unit is None else cost.unit,
                str(cost.component),
                cost.parameters,
                cost.parameter_bytes,
                cost.macs,
                cost.flops,
                *(("", "", "") if time is None else (f"{time.value:.6f}", f"{time.low:.6f}", f"{time.high:.6f}")),
                "" if share is None else f"{share.value:.6f}",
            ]
        )
    return stream.getvalue()


def _inert(name: str) -> str:
    """A name that a spreadsheet would take for a formula gets an apostrophe in front."""
    return f"'{name}" if name[:1] in "=+-@\t\r" else name
