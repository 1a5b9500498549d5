"""Alignment: which costs of one breakdown stand beside which of another.

By component, and by unit where the units of both sides correspond: where they have as many, or where the user says so.
Otherwise every unit stands alone. What only one side has is a part like any other.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bertprof.components import GROUPS, Component
from bertprof.difference import Level
from bertprof.record import Breakdown, Cost


@dataclass(frozen=True)
class Part:
    """A scope of both sides: the costs of each that belong to it. Scopes are named as in `bertprof.difference.Row`."""

    scope: str
    level: Level
    component: Component | None
    unit: int | None
    before: Sequence[Cost]
    after: Sequence[Cost]

    @property
    def costs(self) -> list[Cost]:
        """Those of both sides."""
        return [*self.before, *self.after]


def parts(before: Breakdown, after: Breakdown, *, by_index: bool) -> list[Part]:
    """The parts of two breakdowns that either side has, in the order of display.

    Total, groups of several components, components, units and what is outside of all, and the components of each.

    Args:
        before: one side.
        after: the other.
        by_index: units of the same index correspond; otherwise none do.
    """
    found = [Part("total", "total", None, None, before.costs, after.costs)]
    for name, members in GROUPS.items():
        if len(members) > 1:
            found.append(Part(name, "group", None, None, before.of(*members), after.of(*members)))
    for component in Component:
        found.append(Part(str(component), "component", component, None, before.of(component), after.of(component)))
    units = list(_units(before, after, by_index))
    return [part for part in (*found, *units, *_cells(units)) if part.level == "total" or part.costs]


def _units(before: Breakdown, after: Breakdown, by_index: bool) -> Iterator[Part]:
    """The units, then what is outside of all."""
    a, b = _by_unit(before), _by_unit(after)
    known = sorted({unit for unit in (*a, *b) if unit is not None})
    for unit in known:
        own = b.get(unit, []) if by_index else []
        yield Part(f"unit[{unit}]", "unit", None, unit, a.get(unit, []), own)
    if not by_index:
        for unit in known:
            yield Part(f"after.unit[{unit}]", "unit", None, unit, [], b.get(unit, []))
    yield Part("outside", "unit", None, None, a.get(None, []), b.get(None, []))


def _by_unit(side: Breakdown) -> dict[int | None, list[Cost]]:
    found: dict[int | None, list[Cost]] = {}
    for cost in side.costs:
        found.setdefault(cost.unit, []).append(cost)
    return found


def _cells(units: Iterable[Part]) -> Iterator[Part]:
    """The components of each unit."""
    for unit in units:
        for component in Component:
            sides = (unit.before, unit.after)
            before, after = ([cost for cost in side if cost.component is component] for side in sides)
            yield Part(f"{unit.scope}.{component}", "cell", component, unit.unit, before, after)
