"""The heat map of a breakdown's page: unit by component, one table a metric."""

from collections.abc import Callable, Sequence

from bertprof import formatting
from bertprof.components import Component
from bertprof.record import Breakdown, Cost
from bertprof.report import rows
from bertprof.report.page.grid import Cell, Column, Grid, Line

LEAST_HEAT = 0.02
"""A cell with less than this share of the largest has no colour: none would be seen."""


def heat_maps(breakdown: Breakdown) -> dict[str, Grid]:
    """Metric → its map; none of a model without units, and no map of a metric that is zero everywhere.

    A cell is coloured by its share of the largest cell of its map.
    """
    if not breakdown.units:
        return {}

    def time_ms(costs: Sequence[Cost]) -> float:
        estimate = breakdown.time_of(costs)
        assert estimate is not None  # the record is timed
        return estimate.value

    found = {
        "time": _map(breakdown, "time, ms", "time_ms", time_ms, formatting.measured) if breakdown.timed else None,
        "FLOPs": _map(breakdown, "FLOPs", "flops", _sum("flops"), formatting.count),
        "MACs": _map(breakdown, "MACs", "macs", _sum("macs"), formatting.count),
        "parameters": _map(breakdown, "parameters", "parameters", _sum("parameters"), formatting.count),
    }
    return {metric: grid for metric, grid in found.items() if grid is not None}


def _sum(field: str) -> Callable[[Sequence[Cost]], float]:
    return lambda costs: sum(getattr(cost, field) for cost in costs)


def _map(
    breakdown: Breakdown,
    what: str,
    field: str,
    measure: Callable[[Sequence[Cost]], float],
    written: Callable[[float], str],
) -> Grid | None:
    """One map; `field` is what a program calls the metric, its unit in it."""
    components = [component for component in Component if breakdown.of(component)]
    units = rows.selections(breakdown, "unit")
    values: dict[tuple[str, Component], float] = {}
    for label, costs in units:
        for component in components:
            own = [cost for cost in costs if cost.component is component]
            if own:
                values[label, component] = measure(own)
    largest = max(values.values(), default=0)
    if not largest:
        return None

    def cell(label: str, component: Component) -> Cell:
        value = values.get((label, component))
        if value is None:
            return Cell("")
        return Cell(written(value), value, heat=value / largest if value >= LEAST_HEAT * largest else None)

    return Grid(
        by="unit",
        caption=f"Each component in each unit: {what}. The stronger the colour, the more.",
        columns=[Column(f"{component.replace('-', '_')}_{field}", component) for component in components],
        lines=[Line(label, [cell(label, component) for component in components]) for label, _ in units],
        compact=True,
    )
