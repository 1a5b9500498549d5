"""Bars of 100 %, stacked by component, before they are drawn: of records side by side, or of before and after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bertprof import formatting
from bertprof.conditions import dequantised
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import changes, rows, several
from bertprof.report.rows import Row

_READ: Mapping[str, Callable[[Row], float | None]] = MappingProxyType(
    {
        "bytes": lambda row: row.bytes,
        "flops": lambda row: row.flops,
        "time": lambda row: None if row.time_ms is None else row.time_ms.value,
        "energy": lambda row: row.energy_mj,
    }
)
"""What there is a bar of, by its name in gates → how it is read from a row."""


@dataclass(frozen=True)
class Stack:
    """One bar.

    Attributes:
        name: of the record, or of the side.
        total: what all parts are together, as text; a dash: it is not known.
        shares: component → its share, 0 to 1, of the sum of all, in the order of display; empty: it is not known.
    """

    name: str
    total: str
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Block:
    """The bars of one metric: its name as in gates, what it is called, and a bar a record or a side."""

    metric: str
    title: str
    stacks: Sequence[Stack]


def of_breakdowns(breakdowns: Sequence[Breakdown]) -> list[Block]:
    """The weights as they are stored, FLOPs, time and energy, as far as any record knows them, a bar a record.

    Of what a record knows of some components only, it has no bar. Times are those of the forward with marks, to which
    components add up.
    """
    names = several.names(breakdowns)
    tables = [rows.table(breakdown, "component") for breakdown in breakdowns]
    no_kernel = [dequantised(breakdown) for breakdown in breakdowns]
    return _blocks(names, no_kernel, lambda metric, i: {row.label: _READ[metric](row) for row in tables[i]})


def of_diff(diff: Diff) -> list[Block]:
    """The same of both sides, `before` and `after`, each 100 % of its own."""
    table = changes.table(diff, "component")

    def figures(metric: str, i: int) -> dict[str, float | None]:
        found = {row.scope: row.metrics.get(metric) for row in table}
        return {scope: None if change is None else (change.before, change.after)[i] for scope, change in found.items()}

    return _blocks(("before", "after"), [dequantised(side) for side in (diff.before, diff.after)], figures)


def _blocks(
    names: Sequence[str], no_kernel: Sequence[bool], figures: Callable[[str, int], Mapping[str, float | None]]
) -> list[Block]:
    """The blocks of which any bar is known; `figures` are those of a metric by component, of the bar of a number."""
    found = []
    for metric in _READ:
        stacks = [_stack(name, metric, figures(metric, i), no_kernel[i]) for i, name in enumerate(names)]
        if any(stack.shares for stack in stacks):
            found.append(Block(metric, changes.title(metric), stacks))
    return found


def _stack(name: str, metric: str, figures: Mapping[str, float | None], no_kernel: bool) -> Stack:
    known = {label: float(value) for label, value in figures.items() if value is not None}
    if not known or len(known) < len(figures):
        return Stack(name, "–", {})
    whole = sum(known.values())
    shares = {label: value / whole if whole else 0.0 for label, value in known.items()}
    return Stack(name, _total(whole, metric, no_kernel), shares)


def _total(value: float, metric: str, no_kernel: bool) -> str:
    """What the parts are together, as text."""
    match metric:
        case "bytes":
            return formatting.size(value)
        case "flops":
            return formatting.count(value)
        case "energy":
            return f"{formatting.measured(value)} mJ"
    return f"{formatting.measured(value)} ms{', dequantised' if no_kernel else ''}"
