"""Rows: what every table and figure of a breakdown shows, before it is formatted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

from bertprof import formatting, roofline
from bertprof.components import GROUPS, Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Cost, Module, added
from bertprof.sampling import Estimate

View = Literal["group", "component", "unit", "module"]
VIEWS: tuple[str, ...] = get_args(View)


@dataclass(frozen=True)
class Row:
    """One row. Shares are of the whole model, 0 to 1; times are in ms; what is not known is None.

    `flops_per_s`, `bytes_per_s`, `roof_share` and `bound` are those of `bertprof.roofline`. `inclusive_*` are a
    module's own figures and those of all modules below it. They, `type`, `component` and `calls` are None in all other
    views; in the view by module, whose record does not split them, so are `bytes` with its share, the four after the
    shares and the four of the roofline.
    """

    label: str
    parameters: int
    bytes: int | None
    macs: int
    flops: int
    parameters_share: float
    bytes_share: float | None
    macs_share: float
    flops_share: float
    nonzero_parameters: int | None = None
    useful_macs: int | None = None
    bytes_moved: int | None = None
    activation_bytes: int | None = None
    time_ms: Estimate | None = None
    time_share: Estimate | None = None
    flops_per_s: float | None = None
    bytes_per_s: float | None = None
    roof_share: float | None = None
    bound: str | None = None
    device_time_ms: float | None = None
    energy_mj: float | None = None
    activation_peak_bytes: int | None = None
    allocated_peak_bytes: int | None = None
    type: str | None = None
    component: str | None = None
    calls: int | None = None
    inclusive_parameters: int | None = None
    inclusive_macs: int | None = None
    inclusive_flops: int | None = None
    inclusive_time_ms: Estimate | None = None

    @property
    def nonzero_share(self) -> float | None:
        """The share of the row's own parameters that are not zero; None where it has none."""
        if self.nonzero_parameters is None or not self.parameters:
            return None
        return self.nonzero_parameters / self.parameters

    @property
    def intensity(self) -> float | None:
        """Arithmetic intensity in FLOP per byte moved; None where no byte is."""
        return self.flops / self.bytes_moved if self.bytes_moved else None

    @property
    def plus_minus(self) -> Estimate | None:
        """The time where its interval is known."""
        return self.time_ms if self.time_ms is not None and self.time_ms.half_width > 0 else None


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
    for label, costs in selections(breakdown, by):
        row = row_of(breakdown, label, costs)
        if row.parameters or row.flops or (row.time_share is not None and row.time_share.value > 0):
            rows.append(row)
    return rows


def selections(breakdown: Breakdown, by: str) -> list[tuple[str, list[Cost]]]:
    """The costs behind each row of a view by its label, in order; see `table`, which leaves out what costs nothing."""
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
    size = sum(cost.parameter_bytes for cost in costs)
    roof = roofline.of(breakdown, costs)
    return Row(
        label=label,
        parameters=parameters,
        bytes=size,
        macs=macs,
        flops=flops,
        parameters_share=_share(parameters, breakdown.total("parameters")),
        bytes_share=_share(size, breakdown.total("parameter_bytes")),
        macs_share=_share(macs, breakdown.total("macs")),
        flops_share=_share(flops, breakdown.total("flops")),
        nonzero_parameters=added(cost.nonzero_parameters for cost in costs),
        useful_macs=added(cost.useful_macs for cost in costs),
        bytes_moved=added(cost.bytes_moved for cost in costs),
        activation_bytes=added(cost.activation_bytes for cost in costs),
        time_ms=breakdown.time_of(costs),
        time_share=breakdown.time_share(costs),
        flops_per_s=None if roof is None else roof.flops_per_s,
        bytes_per_s=None if roof is None else roof.bytes_per_s,
        roof_share=None if roof is None else roof.share,
        bound=None if roof is None else roof.bound,
        device_time_ms=breakdown.median_of(costs, "device_time_ms"),
        energy_mj=breakdown.median_of(costs, "energy_mj"),
        activation_peak_bytes=_most(cost.activation_peak_bytes for cost in costs),
        allocated_peak_bytes=_most(cost.allocated_peak_bytes for cost in costs),
    )


def _most(peaks: Iterable[int | None]) -> int | None:
    """The largest of peaks, which do not add; None where none is known."""
    return max((peak for peak in peaks if peak is not None), default=None)


def total(breakdown: Breakdown) -> Row:
    """The whole model. Its time is the median of the instrumented forward, to which the rows add up."""
    row = row_of(breakdown, "total", breakdown.costs)
    whole = breakdown.instrumented_time_ms
    return replace(row, time_ms=whole, time_share=None if whole is None else Estimate(1.0, 1.0, 1.0))


MODEL = "(model)"
"""The label of the root of the module tree."""


@dataclass
class _Sums:
    """What a module costs with all modules below it; no time where none of them carries a mark."""

    parameters: int = 0
    macs: int = 0
    flops: int = 0
    time_ms: float | None = None

    def add(self, module: Module) -> None:
        self.parameters += module.parameters
        self.macs += module.macs
        self.flops += module.flops
        if module.time_ms is not None:
            self.time_ms = module.time_ms + (self.time_ms or 0.0)


def _modules(breakdown: Breakdown) -> list[Row]:
    """The module tree, each module before those below it, without what costs nothing, as dropout."""
    if breakdown.modules is None:
        raise UsageError("the record holds no modules; measure again to see them")
    whole = breakdown.instrumented_time_ms
    sums: dict[str, _Sums] = {}
    place: dict[str, int] = {}
    for i, module in enumerate(breakdown.modules):
        for path in _ancestry(module.path):
            sums.setdefault(path, _Sums()).add(module)
            place.setdefault(path, i)
    rows = []
    for module in sorted(breakdown.modules, key=lambda m: [place[path] for path in _ancestry(m.path)]):
        below = sums[module.path]
        if not (below.parameters or below.flops or below.time_ms):
            continue
        time = _exactly(module.time_ms)
        rows.append(
            Row(
                label=module.path or MODEL,
                parameters=module.parameters,
                bytes=None,
                macs=module.macs,
                flops=module.flops,
                parameters_share=_share(module.parameters, breakdown.total("parameters")),
                bytes_share=None,
                macs_share=_share(module.macs, breakdown.total("macs")),
                flops_share=_share(module.flops, breakdown.total("flops")),
                time_ms=time,
                time_share=None if time is None or whole is None else time.scaled(1 / whole.value),
                type=module.type,
                component=str(module.component),
                calls=module.calls,
                inclusive_parameters=below.parameters,
                inclusive_macs=below.macs,
                inclusive_flops=below.flops,
                inclusive_time_ms=_exactly(below.time_ms),
            )
        )
    return rows


def _ancestry(path: str) -> list[str]:
    """A module's path after those of all above it, the model's ("") first.

    A method that is timed like a module, `a.b.method()`, is below `a.b`.
    """
    names = path.split(".") if path else []
    return [".".join(names[:depth]) for depth in range(len(names) + 1)]


def in_tree(modules: Sequence[Row]) -> Iterator[tuple[int, str, Row]]:
    """Each row of the view by module, with how deep it stands below the rows above it, and its name from these on.

    The root's depth is 0. A module of which no other above it has a row keeps its path.
    """
    above: list[str] = []
    for row in modules:
        path = "" if row.label == MODEL else row.label
        while above and not path.startswith(f"{above[-1]}."):
            above.pop()
        yield len(above) + 1 if path else 0, path[len(above[-1]) + 1 if above else 0 :] or row.label, row
        if path:
            above.append(path)


def _exactly(value: float | None) -> Estimate | None:
    """A figure of whose interval nothing is known."""
    return None if value is None else Estimate(value, value, value)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


# What a table shows of its rows.

HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "parameters": "parameters",
        "parameters_share": "%",
        "nonzero_share": "non-zero %",
        "bytes": "bytes",
        "macs": "MACs",
        "macs_share": "%",
        "useful_macs": "useful MACs",
        "flops": "FLOPs",
        "flops_share": "%",
        "bytes_moved": "moved",
        "intensity": "FLOP/B",
        "activation_bytes": "activations",
        "time_ms": "time ms",
        "plus_minus": "±",
        "time_share": "%",
        "flops_per_s": "GFLOP/s",
        "bytes_per_s": "GB/s",
        "roof_share": "roof %",
        "bound": "bound",
    }
)
"""Field of `Row` → header, in the order of display."""

MODULE_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "type": "class",
        "component": "component",
        "parameters": "params, own",
        "inclusive_parameters": "params, incl.",
        "macs": "MACs, own",
        "inclusive_macs": "MACs, incl.",
        "flops": "FLOPs, own",
        "inclusive_flops": "FLOPs, incl.",
        "time_ms": "time ms, own",
        "inclusive_time_ms": "time ms, incl.",
        "time_share": "time %, own",
    }
)
"""The same for the view by module. Own: children excluded; incl.: with all modules below."""

TEXTS = ("type", "component", "bound")
"""Fields that are words; all others are figures."""


_RATES = ("flops_per_s", "bytes_per_s")

SPARSE_BELOW = 0.99
"""From this share of non-zero parameters on downwards, a usual table shows it."""


def headers(breakdown: Breakdown, by: str, wide: bool = False) -> dict[str, str]:
    """The columns beside the row's name: field of `Row` → header, in the order of display.

    Args:
        breakdown: the record. Without times in it, their columns are left out, and without a roofline its own.
        by: the view; see `table`.
        wide: with what stays out of a usual table: non-zero parameters and useful MACs where they are known, traffic,
            arithmetic intensity and activations, achieved rates where there is a roofline. The view by module has
            none of them.
    """
    absent = set() if breakdown.timed else {"time_ms", "plus_minus", "time_share", "inclusive_time_ms"}
    if by == "module":
        return {field: header for field, header in MODULE_HEADERS.items() if field not in absent}
    if not wide:
        absent |= {"bytes_moved", "intensity", "activation_bytes", *_RATES}
    rows = table(breakdown, by)
    if all(row.roof_share is None for row in rows):
        absent |= {*_RATES, "roof_share", "bound"}
    # Biases that are still zero, or the row of a padding token, would fill a usual table with 100.0.
    share = total(breakdown).nonzero_share
    if share is None or not (wide or share < SPARSE_BELOW):
        absent.add("nonzero_share")
    useful = [(row.useful_macs, row.macs) for row in rows if row.useful_macs is not None]
    if not (useful and breakdown.workload.padding) and not (wide and any(some < all_ for some, all_ in useful)):
        absent.add("useful_macs")
    return {field: header for field, header in HEADERS.items() if field not in absent}


def cell(row: Row, field: str, exact: bool = False) -> str:
    """A row's field as text, counts with all their digits or with a prefix; a dash for what is not known."""
    value = getattr(row, field)
    if value is None:
        return "–"
    match field:
        case "type" | "component" | "bound":
            return formatting.plain(value)
        case "inclusive_time_ms":
            return _unsure(value)
        case "time_ms":
            return _unsure(value) if row.type is not None else formatting.milliseconds(value)
        case "plus_minus":
            return formatting.plus_minus(value)
        case "time_share":
            return formatting.percent(value.value)
        case "bytes" | "bytes_moved" | "activation_bytes":
            return formatting.size(value)
        case "intensity":
            return formatting.intensity(value)
        case "flops_per_s" | "bytes_per_s":
            return formatting.three(value / 1e9)
    if field.endswith("_share"):
        return formatting.percent(value)
    return formatting.exact(value) if exact else formatting.count(value)


def _unsure(time: Estimate) -> str:
    """A module's time, of whose interval nothing is known: to µs below 0.1 ms, else to two decimals at most."""
    return formatting.milliseconds(time) if 0 < time.value < 0.0995 else formatting.measured(time.value)


def total_cell(row: Row, field: str, exact: bool = False) -> str:
    """The same in the line of totals, where there is nothing for words and for what does not add up."""
    return "" if field in TEXTS or field.startswith("inclusive") else cell(row, field, exact)
