"""Breakdowns and diffs as pandas DataFrames.

Every view is tidy: one row a thing, a column a figure, its unit in the column's name. A column has the same type in
every frame, whatever the record knows: texts are `string`, counts that are always known `int64`, counts that may not
be `Int64`, all other figures `float64`. What is not known is missing: NaN in a column of `float64`, else NA.

A frame that is written as CSV is read back without loss by `pandas.read_csv(path, dtype=frame.dtypes.to_dict(),
keep_default_na=False, na_values=[""])`; before pandas 3.1, `float_precision="round_trip"` as well.
"""

from collections.abc import Mapping

import pandas as pd

from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import changes, tabular

_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("group", "component", "module", "type", "bound"), "string"),
    **dict.fromkeys(("parameters", "macs", "flops", "calls"), "int64"),
    **dict.fromkeys(("inclusive_parameters", "inclusive_macs", "inclusive_flops"), "int64"),
    **dict.fromkeys(("unit", "nonzero_parameters", "parameter_bytes", "useful_macs"), "Int64"),
    **dict.fromkeys(("bytes_moved", "activation_bytes", "activation_peak_bytes", "allocated_peak_bytes"), "Int64"),
}
"""Column → its type, where that is not float64."""

_DIFF_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("scope", "level", "component"), "string"),
    "unit": "Int64",
    **dict.fromkeys(("metric", "measured_in"), "string"),
    **dict.fromkeys(("before", "after", "change", "ratio", "ratio_low", "ratio_high", "share_of_change"), "float64"),
    "verdict": "string",
}
"""The columns of a diff, in their order, and their types."""


def frame(breakdown: Breakdown, by: str = "component") -> pd.DataFrame:
    """A tidy frame of a breakdown, units in the column names; what is not known is NaN, or NA in a column of counts
    or texts.

    First what the row is: `group`, `component`, `unit` (NA outside of all), `unit` and `component` of a cost, or
    `module` with its `type`, `component` and `calls`. Then counts, times in ms with the ends of their 95 % interval,
    shares of the whole from 0 to 1 and what the roofline says; of a module also `inclusive_*`, with all below it.

    Args:
        breakdown: the record.
        by: "group", "component", "unit", "module" or "cost"; see `bertprof.report.tabular.records`.

    Raises:
        UsageError: there is no such view, or the record holds no modules.
    """
    names = tabular.fields(breakdown, by)
    types = {name: _TYPES.get(name, "float64") for name in names}
    return pd.DataFrame(tabular.records(breakdown, by), columns=names).astype(types)


def diff_frame(diff: Diff, by: str = "component") -> pd.DataFrame:
    """A tidy frame of a diff, one row a `by` and metric; what is not known is NaN, or NA in `unit` and `component`.

    `before`, `after` and `change` are in what `measured_in` says: count, bytes, ms, mJ or share. `ratio` is after
    against before, with its interval where it was measured; `share_of_change` the row's part of the total's change.

    Args:
        diff: the comparison.
        by: "total", or a view: "group", "component", "unit" or "cell"; see `bertprof.report.changes.table`.

    Raises:
        UsageError: there is no such view.
    """
    found = [diff.row("total")] if by == "total" else changes.table(diff, by)
    return pd.DataFrame(changes.records(found), columns=[*_DIFF_TYPES]).astype({**_DIFF_TYPES})
