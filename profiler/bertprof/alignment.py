"""Alignment: which costs of one breakdown stand beside which of another.

By component, and by unit where the units of both sides correspond: where they have as many, where a recipe dropped some
of the other side's model (then by their indices in it), or where the user says so. Otherwise every unit stands alone.
What only one side has is a part like any other.
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


def correspond(before: Breakdown, after: Breakdown) -> tuple[Sequence[int], Sequence[int]] | None:
    """Of each side, for each of its units, the number under which it stands beside one of the other.

    Where recipes dropped units of one and the same model, these are the indices that the units had in it, else their
    own; None: the sides do not have as many.
    """
    a, b = (side.kept_units or range(side.units) for side in (before, after))
    if _model(before) == _model(after):
        # A side that kept all its units is of the model that the other's indices are of, if it has as many.
        whole = [side.units for side in (before, after) if side.kept_units is None]
        if len(set(whole)) < 2 and all(index < units for index in (*a, *b) for units in whole):
            return a, b
    return (range(before.units), range(after.units)) if before.units == after.units else None


def _model(side: Breakdown) -> tuple[str, str]:
    return side.workload.model, side.workload.config_sha256


def parts(before: Breakdown, after: Breakdown, *, by_index: bool) -> list[Part]:
    """The parts of two breakdowns that either side has, in the order of display.

    Total, groups of several components, components, units and what is outside of all, and the components of each.

    Args:
        before: one side.
        after: the other.
        by_index: where units do not `correspond`, those of the same index do; otherwise none do.
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
    numbers = correspond(before, after)
    together = by_index or numbers is not None
    a, b = map(_by_unit, (before, after), numbers or (range(before.units), range(after.units)))
    known = sorted({unit for unit in (*a, *b) if unit is not None})
    for unit in known:
        own = b.get(unit, []) if together else []
        yield Part(f"unit[{unit}]", "unit", None, unit, a.get(unit, []), own)
    if not together:
        for unit in known:
            yield Part(f"after.unit[{unit}]", "unit", None, unit, [], b.get(unit, []))
    yield Part("outside", "unit", None, None, a.get(None, []), b.get(None, []))


def _by_unit(side: Breakdown, numbers: Sequence[int]) -> dict[int | None, list[Cost]]:
    """The costs of each unit, by its number; those outside of all by None."""
    found: dict[int | None, list[Cost]] = {}
    for cost in side.costs:
        found.setdefault(None if cost.unit is None else numbers[cost.unit], []).append(cost)
    return found


def _cells(units: Iterable[Part]) -> Iterator[Part]:
    """The components of each unit."""
    for unit in units:
        for component in Component:
            sides = (unit.before, unit.after)
            before, after = ([cost for cost in side if cost.component is component] for side in sides)
            yield Part(f"{unit.scope}.{component}", "cell", component, unit.unit, before, after)
