"""The breakdown as a pandas DataFrame."""

import pandas as pd

from bertprof.record import Breakdown
from bertprof.report import rows

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
