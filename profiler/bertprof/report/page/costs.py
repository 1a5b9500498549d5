"""The tables of a breakdown's page: one a view, each figure and each share, and of each row how its figures come about.

`bertprof.report.rows` says what a view has; here it becomes a grid.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bertprof import formatting
from bertprof.components import DESCRIPTIONS, GROUPS, Component
from bertprof.record import Breakdown, Cost
from bertprof.report import rows
from bertprof.report.page.grid import Cell, Column, Grid, Line, tip
from bertprof.report.palette import color_of
from bertprof.report.rows import Row
from bertprof.sampling import Estimate

MOST_OPERATORS = 3
"""Operators named in a tip; of more it says how many there are."""


def grids(breakdown: Breakdown, by: str, wide: bool) -> list[Grid]:
    """A table for each view that the record has, the one that is asked for first.

    Args:
        breakdown: the record.
        by: the view that is asked for; see `bertprof.report.rows.table`.
        wide: with traffic, intensity, activations and rates; see `bertprof.report.rows.headers`.

    Raises:
        UsageError: there is no such view, or the record holds no modules.
    """
    views = [view for view in rows.VIEWS if view != "module" or breakdown.modules is not None]
    return [grid(breakdown, view, wide) for view in dict.fromkeys((by, *views))]


def grid(breakdown: Breakdown, by: str, wide: bool = False) -> Grid:
    """The table of one view; see `grids`."""
    return _module_grid(breakdown) if by == "module" else _cost_grid(breakdown, by, wide)


# By group, component and unit -----------------------------------------------------------------------------------------

_COUNTED = {
    "parameters": Column("parameters", "count", "parameters", "absolute", group="parameters"),
    "parameters_share": Column("parameters_share", "%", "parameters", "share", group="parameters"),
    "nonzero_share": Column("nonzero_share", "non-zero %", "parameters", group="parameters"),
    "bytes": Column("parameter_bytes", "size", "bytes", "absolute", group="bytes"),
    "bytes_share": Column("parameter_bytes_share", "%", "bytes", "share", group="bytes", only=True),
    "macs": Column("macs", "count", "MACs", "absolute", group="MACs"),
    "macs_share": Column("macs_share", "%", "MACs", "share", group="MACs"),
    "useful_macs": Column("useful_macs", "useful", "MACs", "absolute", group="MACs"),
    "flops": Column("flops", "count", "FLOPs", "absolute", group="FLOPs"),
    "flops_share": Column("flops_share", "%", "FLOPs", "share", group="FLOPs"),
    "bytes_moved": Column("bytes_moved", "moved", "traffic", "absolute", group="traffic"),
    "intensity": Column("intensity_flop_per_byte", "FLOP/B", "traffic", group="traffic"),
    "activation_bytes": Column("activation_bytes", "activations", "traffic", "absolute", group="traffic"),
}
_MEASURED = {
    "time_ms": Column("time_ms", "ms", "time", "absolute", group="time"),
    "plus_minus": Column("time_half_width_ms", "±", "time", "absolute", group="time"),
    "time_share": Column("time_share", "%", "time", "share", group="time"),
    "flops_per_s": Column("achieved_flops_per_s", "GFLOP/s", "time", group="reached"),
    "bytes_per_s": Column("achieved_bytes_per_s", "GB/s", "time", group="reached"),
    "roof_share": Column("roof_share", "%", "time", group="roof"),
    "bound": Column("bound", "bound", "time", word=True, group="roof"),
    "device_time_ms": Column("device_time_ms", "ms", "GPU time", "absolute", group="GPU time", only=True),
    "device_time_share": Column("device_time_share", "%", "GPU time", "share", group="GPU time", only=True),
    "energy_mj": Column("energy_mj", "mJ", "energy", "absolute", group="energy", only=True),
    "energy_share": Column("energy_share", "%", "energy", "share", group="energy", only=True),
}
_COLUMNS: Mapping[str, Column] = {**_COUNTED, **_MEASURED}
"""Field of `Row` → column, in the order of display; two shares more than a row has, each of the field before it."""

_SHARES = {"device_time_share": "device_time_ms", "energy_share": "energy_mj"}


def _cost_grid(breakdown: Breakdown, by: str, wide: bool) -> Grid:
    total = rows.total(breakdown)
    known = {*rows.headers(breakdown, by, wide), "bytes_share"}
    known |= {"device_time_ms", "device_time_share"} if total.device_time_ms is not None else set()
    known |= {"energy_mj", "energy_share"} if total.energy_mj is not None else set()
    fields = [field for field in _COLUMNS if field in known]
    costs = dict(rows.selections(breakdown, by))
    return Grid(
        by=by,
        caption=f"Cost by {by}.",
        columns=[replace(_COLUMNS[field], only=_COLUMNS[field].only and not wide) for field in fields],
        lines=[
            Line(
                label=row.label,
                cells=[_cell(row, field, total) for field in fields],
                color=None if by == "unit" else color_of(row.label),
                note=_note(row.label),
                tip=tip(*_reckoning(row, total), *_operators(costs[row.label])),
            )
            for row in rows.table(breakdown, by)
        ],
        total=Line("total", [_cell(total, field, total, whole=True) for field in fields]),
    )


def _note(label: str) -> str:
    """What a component is, or of which a group is made."""
    if label in set(Component):
        return DESCRIPTIONS[Component(label)]
    members = GROUPS.get(label, ())
    return "" if label == "rest" or not members else " and ".join(members)


def _cell(row: Row, field: str, total: Row, whole: bool = False) -> Cell:
    """A row's field, or that of the total, which has no bar."""
    if field in _SHARES:
        part, all_of_it = getattr(row, _SHARES[field]), getattr(total, _SHARES[field])
        share = None if part is None or all_of_it is None else part / all_of_it if all_of_it else 0.0
        return Cell(formatting.percent(share), share, _bar(share, whole))
    value = getattr(row, field)
    if field in ("device_time_ms", "energy_mj"):
        return Cell("–" if value is None else formatting.measured(value), value)
    text = rows.total_cell(row, field) if whole else rows.cell(row, field)
    if isinstance(value, Estimate):
        value = value.half_width if field == "plus_minus" else value.value
    is_share = _COLUMNS[field].form == "share"
    return Cell(text, value if text else None, _bar(value, whole) if is_share else None)


LEAST_BAR = 0.005
"""A share below this has no bar: it would be thinner than a line."""


def _bar(share: float | None, whole: bool) -> float | None:
    return None if share is None or whole or share < LEAST_BAR else min(100.0, 100 * share)


# How figures come about -----------------------------------------------------------------------------------------------


def _reckoning(row: Row, total: Row) -> Iterator[str]:
    """Each figure of a row with all its digits, and of what it is made or what it is a part of."""
    if row.parameters:
        zero = row.parameters - row.nonzero_parameters if row.nonzero_parameters is not None else 0
        pruned = f", {formatting.exact(zero)} of them zero" if zero else ""
        yield f"parameters: {_part(row.parameters, total.parameters)}{pruned}"
    if row.bytes:
        yield f"bytes: {_part(row.bytes, total.bytes or 0)}"
    yield _macs(row.macs, total.macs, row.useful_macs)
    yield _flops(row.flops, row.macs, row.flops_share)
    if row.time_ms is not None and row.time_share is not None and total.time_ms is not None:
        whole = f"of the forward with marks, {formatting.milliseconds(total.time_ms)} ms"
        yield f"time: {formatting.interval(row.time_ms)} = {formatting.percent(row.time_share.value)} % {whole}"
    if row.device_time_ms is not None and total.device_time_ms:
        yield f"GPU time: {_measured_part(row.device_time_ms, total.device_time_ms, 'ms')}, without launch gaps"
    if row.energy_mj is not None and total.energy_mj:
        yield f"energy: {_measured_part(row.energy_mj, total.energy_mj, 'mJ')}"
    if row.bytes_moved:
        yield f"traffic: {formatting.exact(row.bytes_moved)} bytes moved, {rows.cell(row, 'intensity')} FLOP/byte"
    if row.roof_share is not None:
        yield f"roofline: {row.bound}-bound, {formatting.percent(row.roof_share)} % of its roof"


def _part(some: int, all_of_it: int) -> str:
    share = some / all_of_it if all_of_it else 0.0
    return f"{formatting.exact(some)} = {formatting.percent(share)} % of {formatting.exact(all_of_it)}"


def _measured_part(some: float, all_of_it: float, unit: str) -> str:
    whole = f"{formatting.measured(all_of_it)} {unit}"
    return f"{formatting.measured(some)} {unit} = {formatting.percent(some / all_of_it)} % of {whole}"


def _macs(macs: int, all_of_it: int, useful: int | None) -> str:
    if not macs:
        return ""
    padded = f", {formatting.exact(useful)} of them on tokens that are no padding" if useful not in (None, macs) else ""
    return f"MACs: {_part(macs, all_of_it)}{padded}"


def _flops(flops: int, macs: int, share: float) -> str:
    """FLOPs with their share, taken apart into those of matrix products and all others."""
    if not flops:
        return ""
    return f"FLOPs: {formatting.exact(flops)}{_made(flops, macs)}, {formatting.percent(share)} % of all"


def _made(flops: int, macs: int) -> str:
    """Of what FLOPs are made; empty where they are of one kind."""
    if not macs or flops < 2 * macs:
        return ""
    return f" = 2 × {formatting.exact(macs)} MACs + {formatting.exact(flops - 2 * macs)} other arithmetic"


def _operators(costs: Sequence[Cost]) -> Iterator[str]:
    """The operators of some costs, the dearest first."""
    calls, macs, flops = Counter[str](), Counter[str](), Counter[str]()
    for cost in costs:
        for name, operator in cost.operators.items():
            calls[name] += operator.calls
            macs[name] += operator.macs
            flops[name] += operator.flops
    names = sorted(calls, key=lambda name: (-flops[name], -calls[name], name))
    for name in names[:MOST_OPERATORS]:
        done = [f"{formatting.count(macs[name])} MACs"] if macs[name] else []
        done += [f"{formatting.count(flops[name])} FLOPs"] if flops[name] else []
        yield f"{formatting.exact(calls[name])} × {formatting.line(name, 60)}{': ' if done else ''}{', '.join(done)}"
    if len(names) > MOST_OPERATORS:
        yield f"and {len(names) - MOST_OPERATORS} more operators"


# By module ------------------------------------------------------------------------------------------------------------

_MODULE_COLUMNS: Mapping[str, Column] = {
    "parameters": Column("parameters", "own", "parameters", "absolute", group="parameters"),
    "inclusive_parameters": Column("inclusive_parameters", "incl.", "parameters", "absolute", group="parameters"),
    "parameters_share": Column("parameters_share", "own %", "parameters", "share", group="parameters"),
    "macs": Column("macs", "own", "MACs", "absolute", group="MACs"),
    "inclusive_macs": Column("inclusive_macs", "incl.", "MACs", "absolute", group="MACs"),
    "macs_share": Column("macs_share", "own %", "MACs", "share", group="MACs"),
    "flops": Column("flops", "own", "FLOPs", "absolute", group="FLOPs"),
    "inclusive_flops": Column("inclusive_flops", "incl.", "FLOPs", "absolute", group="FLOPs"),
    "flops_share": Column("flops_share", "own %", "FLOPs", "share", group="FLOPs"),
    "time_ms": Column("time_ms", "own ms", "time", "absolute", group="time"),
    "inclusive_time_ms": Column("inclusive_time_ms", "incl. ms", "time", "absolute", group="time"),
    "time_share": Column("time_share", "own %", "time", "share", group="time"),
}


def _module_grid(breakdown: Breakdown) -> Grid:
    known = {*rows.headers(breakdown, "module"), "parameters_share", "macs_share", "flops_share"}
    fields = [field for field in _MODULE_COLUMNS if field in known]
    total = rows.total(breakdown)
    return Grid(
        by="module",
        caption="Cost by module. Own: without the modules below; incl.: with them. A dash: no time was taken there, it "
        "is in the module above.",
        columns=[_MODULE_COLUMNS[field] for field in fields],
        lines=[_module(*placed, fields) for placed in rows.in_tree(rows.table(breakdown, "module"))],
        total=Line("total", [_module_cell(total, field, whole=True) for field in fields]),
    )


def _module(depth: int, name: str, row: Row, fields: Sequence[str]) -> Line:
    calls = "" if row.calls in (None, 0, 1) else f", {formatting.exact(row.calls)} calls"
    return Line(
        label=name,
        cells=[_module_cell(row, field) for field in fields],
        color=color_of(row.component or ""),
        note=f"{formatting.line(row.type or '', 100)}, {row.component}{calls}",
        depth=depth,
    )


def _module_cell(row: Row, field: str, whole: bool = False) -> Cell:
    value = getattr(row, field)
    if isinstance(value, Estimate):
        value = value.value
    text = rows.total_cell(row, field) if whole else rows.cell(row, field)
    return Cell(text, value if text else None, _bar(value, whole) if field == "time_share" else None)
