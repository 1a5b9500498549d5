"""Rows: what every table and figure of a breakdown shows, before it is formatted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from bertprof import formatting
from bertprof.components import GROUPS, Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Cost
from bertprof.sampling import Estimate

View = Literal["group", "component", "unit", "module"]
VIEWS: tuple[str, ...] = get_args(View)


@dataclass(frozen=True)
class Row:
    """One row. Shares are of the whole model, 0 to 1; `time_ms` and its share are None where no time is known.

    `bytes` is None in the view by module, whose record does not split bytes; `component` and `calls` are None in all
    other views.
    """

    label: str
    parameters: int
    bytes: int | None
    macs: int
    flops: int
    parameters_share: float
    macs_share: float
    flops_share: float
    time_ms: Estimate | None = None
    time_share: Estimate | None = None
    component: str | None = None
    calls: int | None = None


def table(breakdown: Breakdown, by: str) -> list[Row]:
    """The rows of a view, in order. What has no parameters, FLOPs or time is left out.

    Args:
        breakdown: the record.
        by: "group" (four groups and the rest), "component", "unit" (and what stands outside of all) or "module".

    Raises:
        UsageError: there is no such view, or the record holds no modules.
    """
    if by == "module":
        return _modules(breakdown)
    rows = []
    for label, costs in _selections(breakdown, by):
        row = row_of(breakdown, label, costs)
        if row.parameters or row.flops or (row.time_share is not None and row.time_share.value > 0):
            rows.append(row)
    return rows


def _selections(breakdown: Breakdown, by: str) -> list[tuple[str, list[Cost]]]:
    if by == "group":
        return [(name, breakdown.of(*members)) for name, members in GROUPS.items()]
    if by == "component":
        return [(str(component), breakdown.of(component)) for component in Component]
    if by == "unit":
        outside = [("outside the units", [c for c in breakdown.costs if c.unit is None])]
        units = [(f"unit {u}", [c for c in breakdown.costs if c.unit == u]) for u in range(breakdown.units)]
        return units + outside
    raise UsageError(f"there is no view by {by!r}: use one of {', '.join(VIEWS)}")


def row_of(breakdown: Breakdown, label: str, costs: Sequence[Cost]) -> Row:
    """Several costs as one row."""
    parameters = sum(cost.parameters for cost in costs)
    macs = sum(cost.macs for cost in costs)
    flops = sum(cost.flops for cost in costs)
    return Row(
        label=label,
        parameters=parameters,
        bytes=sum(cost.parameter_bytes for cost in costs),
        macs=macs,
        flops=flops,
        parameters_share=_share(parameters, breakdown.total("parameters")),
        macs_share=_share(macs, breakdown.total("macs")),
        flops_share=_share(flops, breakdown.total("flops")),
        time_ms=breakdown.time_of(costs),
        time_share=breakdown.time_share(costs),
    )


def total(breakdown: Breakdown) -> Row:
    """The whole model. Its time is the median of the instrumented forward, to which the rows add up."""
    row = row_of(breakdown, "total", breakdown.costs)
    whole = breakdown.instrumented_time_ms
    return Row(**{**vars(row), "time_ms": whole, "time_share": None if whole is None else Estimate(1.0, 1.0, 1.0)})


def _modules(breakdown: Breakdown) -> list[Row]:
    """The module tree without what costs nothing, as dropout; all figures are a module's own, children excluded."""
    if breakdown.modules is None:
        raise UsageError("the record holds no modules; measure again to see them")
    whole = breakdown.instrumented_time_ms
    shown: set[str] = set()
    for module in breakdown.modules:
        if module.parameters or module.flops or module.time_ms:
            names = module.path.split(".")
            shown |= {".".join(names[:depth]) for depth in range(len(names) + 1)}
    rows = []
    for module in breakdown.modules:
        if module.path not in shown:
            continue
        time = None if module.time_ms is None else Estimate(module.time_ms, module.time_ms, module.time_ms)
        rows.append(
            Row(
                label=module.path or "(model)",
                parameters=module.parameters,
                bytes=None,
                macs=module.macs,
                flops=module.flops,
                parameters_share=_share(module.parameters, breakdown.total("parameters")),
                macs_share=_share(module.macs, breakdown.total("macs")),
                flops_share=_share(module.flops, breakdown.total("flops")),
                time_ms=time,
                time_share=None if time is None or whole is None else time.scaled(1 / whole.value),
                component=str(module.component),
                calls=module.calls,
            )
        )
    return rows


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


# Lines that every report has beside its table.


def title(breakdown: Breakdown) -> str:
    """What to call the breakdown."""
    return formatting.plain(breakdown.name)


def caveat_lines(breakdown: Breakdown) -> list[str]:
    """The caveats, one line each."""
    return [formatting.plain(" ".join(caveat.text.split())) for caveat in breakdown.caveats]


def headline(breakdown: Breakdown) -> str:
    """The answer in a sentence, from the record alone."""
    rows = table(breakdown, "component")
    if not rows:
        return "The record is empty."
    flops = max(rows, key=lambda row: row.flops_share)
    share = next((row for row in rows if row.label == "softmax-attention"), None)
    timed = [row for row in rows if row.time_share is not None]
    if not timed:
        return f"{flops.label} does {100 * flops.flops_share:.0f} % of the FLOPs."
    slowest = max(timed, key=lambda row: row.time_share.value if row.time_share else 0.0)
    assert slowest.time_share is not None
    text = (
        f"{slowest.label} takes {100 * slowest.time_share.value:.0f} % of the time "
        f"and does {100 * slowest.flops_share:.0f} % of the FLOPs"
    )
    if share is not None and share.time_share is not None and share.flops_share > 0 and share is not slowest:
        times = share.time_share.value / share.flops_share
        text += f"; softmax-attention takes {times:.1f} × its share of FLOPs"
    return text + "."


def workload_line(breakdown: Breakdown) -> str:
    """What was asked, in one line."""
    w = breakdown.workload
    parts = [f"{w.batch_size} × {w.sequence_length} tokens", w.dtype, w.attention]
    if w.task:
        parts.insert(0, w.task)
    if w.mask != "none":
        parts.append(f"{w.mask.upper()} mask")
    parts.append(w.device if breakdown.timed else "counted, not timed")
    if breakdown.timed and w.threads is not None and w.device == "cpu":
        parts.append(f"{w.threads} thread{'s' if w.threads > 1 else ''}")
    if w.weights is not None:
        parts.append({"random": "random weights", "checkpoint": "checkpoint", "module": "live module"}[w.weights])
    return formatting.plain(", ".join(parts))


def host_line(breakdown: Breakdown) -> str:
    """The machine and the versions, in one line."""
    h = breakdown.host
    machine = h.gpu if breakdown.workload.device.startswith("cuda") and h.gpu else f"{h.cpu}, {h.cores} cores"
    return formatting.plain(f"{machine}; torch {h.torch}, transformers {h.transformers}, Python {h.python}")


def timing_lines(breakdown: Breakdown) -> list[str]:
    """How the time was measured and how far it can be trusted; empty where there is none."""
    end_to_end, overhead, residual = breakdown.end_to_end_time_ms, breakdown.overhead, breakdown.residual
    if end_to_end is None or overhead is None or residual is None or breakdown.end_to_end_ms is None:
        return []
    w = breakdown.workload
    tokens = 1000 * w.batch_size * w.sequence_length / end_to_end.value
    lines = [
        f"end to end {formatting.interval(end_to_end)}, {formatting.exact(round(tokens))} tokens/s: "
        f"median of {len(breakdown.end_to_end_ms)} bare forwards with its 95 % interval",
        f"marks ({w.marks}, {w.clock} clock) cost {formatting.change(overhead.value)} "
        f"[{formatting.change(overhead.low)}, {formatting.change(overhead.high)}]; "
        f"sum of the rows against the bare forward {100 * residual:+.1f} %",
    ]
    return [formatting.plain(line) for line in lines]
