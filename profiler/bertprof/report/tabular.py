"""The rows of a breakdown for a program to read, as CSV and frames have them: all digits, units in the names."""

from typing import Any

from bertprof.record import Breakdown
from bertprof.report import rows
from bertprof.report.rows import Row


def records(breakdown: Breakdown, by: str) -> list[dict[str, object]]:
    """The rows of a view for a program to read, units in the names; None for what is not known.

    Args:
        breakdown: the record.
        by: "group", "component", "unit" (None: outside of all) or "module" as in every report, or "cost": one row a
            unit and component.

    Raises:
        UsageError: there is no such view, or the record holds no modules.
    """
    if by == "cost":
        return [
            {"unit": cost.unit, "component": str(cost.component), **figures(rows.row_of(breakdown, "", [cost]))}
            for cost in breakdown.costs
        ]
    return [record(row, by) for row in rows.table(breakdown, by)]


def fields(breakdown: Breakdown, by: str) -> list[str]:
    """The names in `records`, which are there even where there are no rows."""
    if by == "cost":
        return ["unit", "component", *figures(rows.total(breakdown))]
    return [*record(rows.total(breakdown), by)]


def record(row: Row, by: str) -> dict[str, object]:
    """A row of a view, or the line of totals, for a program to read; see `records`. `unit` is a number or None."""
    if by == "module":
        return {
            "module": row.label,
            "type": row.type,
            "component": row.component,
            "calls": row.calls,
            **figures(row),
            "inclusive_parameters": row.inclusive_parameters,
            "inclusive_macs": row.inclusive_macs,
            "inclusive_flops": row.inclusive_flops,
            "inclusive_time_ms": None if row.inclusive_time_ms is None else row.inclusive_time_ms.value,
        }
    if by == "unit":
        number = row.label.removeprefix("unit ")
        return {"unit": int(number) if number.isdecimal() else None, **figures(row)}
    return {by: row.label, **figures(row)}


def figures(row: Row) -> dict[str, Any]:
    """A row's figures, units in the names, and the word for what it is bound by."""
    time = row.time_ms
    return {
        "parameters": row.parameters,
        "nonzero_parameters": row.nonzero_parameters,
        "parameter_bytes": row.bytes,
        "macs": row.macs,
        "useful_macs": row.useful_macs,
        "flops": row.flops,
        "bytes_moved": row.bytes_moved,
        "activation_bytes": row.activation_bytes,
        "intensity_flop_per_byte": row.intensity,
        "time_ms": None if time is None else time.value,
        "time_low_ms": None if time is None else time.low,
        "time_high_ms": None if time is None else time.high,
        "parameters_share": row.parameters_share,
        "macs_share": row.macs_share,
        "flops_share": row.flops_share,
        "time_share": None if row.time_share is None else row.time_share.value,
        "achieved_flops_per_s": row.flops_per_s,
        "achieved_bytes_per_s": row.bytes_per_s,
        "roof_share": row.roof_share,
        "bound": row.bound,
        "device_time_ms": row.device_time_ms,
        "energy_mj": row.energy_mj,
        "activation_peak_bytes": row.activation_peak_bytes,
        "allocated_peak_bytes": row.allocated_peak_bytes,
    }
