"""The breakdown as a pandas DataFrame."""

import pandas as pd

from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.report import rows


def frame(breakdown: Breakdown, by: str = "component") -> pd.DataFrame:
    """A tidy frame, units in the column names; what is not known is NaN.

    Args:
        breakdown: the record.
        by: "group", "component", "unit" or "module" as in every report, or "cost": one row a unit and component.

    Raises:
        UsageError: there is no such view.
    """
    keyed: list[tuple[dict[str, object], rows.Row]]
    if by == "cost":
        keyed = [
            ({"unit": cost.unit, "component": str(cost.component)}, rows.row_of(breakdown, "", [cost]))
            for cost in breakdown.costs
        ]
    elif by in rows.VIEWS:
        keyed = [(_key(by, row), row) for row in rows.table(breakdown, by)]
    else:
        raise UsageError(f"there is no view by {by!r}: use one of {', '.join((*rows.VIEWS, 'cost'))}")
    result = pd.DataFrame(
        [
            {
                **key,
                "parameters": row.parameters,
                "parameter_bytes": row.bytes,
                "macs": row.macs,
                "flops": row.flops,
                "time_ms": None if row.time_ms is None else row.time_ms.value,
                "time_low_ms": None if row.time_ms is None else row.time_ms.low,
                "time_high_ms": None if row.time_ms is None else row.time_ms.high,
                "parameters_share": row.parameters_share,
                "macs_share": row.macs_share,
                "flops_share": row.flops_share,
                "time_share": None if row.time_share is None else row.time_share.value,
            }
            for key, row in keyed
        ]
    )
    floats = [name for name in result.columns if name.startswith("time")]
    result[floats] = result[floats].astype("float64")
    if "unit" in result and by == "cost":
        result["unit"] = result["unit"].astype("Int64")
    return result


def _key(by: str, row: rows.Row) -> dict[str, object]:
    if by == "module":
        return {"module": row.label, "component": row.component, "calls": row.calls}
    return {by: row.label}
