"""Breakdowns and diffs as pandas DataFrames."""

import pandas as pd

from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import changes, rows

_WORDS = ("group", "component", "module", "type")
_WHOLE = ("nonzero_parameters", "parameter_bytes", "useful_macs", "bytes_moved", "activation_bytes")


def frame(breakdown: Breakdown, by: str = "component") -> pd.DataFrame:
    """A tidy frame, units in the column names; what is not known is NaN, or NA in a column of whole numbers.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.records`.

    Raises:
        UsageError: there is no such view, or the record holds no modules.
    """
    result = pd.DataFrame(rows.records(breakdown, by))
    for name in result:
        if name in _WHOLE or (name, by) == ("unit", "cost"):
            result[name] = result[name].astype("Int64")
        elif result[name].isna().all():
            result[name] = result[name].astype("float64")
    return result


def diff_frame(diff: Diff, by: str = "component") -> pd.DataFrame:
    """A tidy frame, one row a `by` and metric; what is not known is NaN, or NA in `unit`.

    `before`, `after` and `change` are in what `measured_in` says.

    Args:
        diff: the comparison.
        by: "total", or a view; see `bertprof.report.changes.table`.

    Raises:
        UsageError: there is no such view.
    """
    rows_ = [diff.row("total")] if by == "total" else changes.table(diff, by)
    return pd.DataFrame(changes.records(rows_)).astype(
        {"unit": "Int64"} | dict.fromkeys(("before", "after", "change", "ratio", "ratio_low", "ratio_high"), "float64")
    )
