"""From boundary crossings to owners: the one rule by which work, measured or counted, lands in a component.

A model is a tree of modules. A `Region` says what a module's *own* work is: what runs inside it and inside none of the
regions below it. A bound method of a module may have a region too, under the path `module.method()`, where one module
does the work of several components in methods of its own (XLNet). A `Walker` is fed the crossings (a module is entered,
a module is left) in the order in which they happen and answers, between any two of them, who owns what runs now. The
clock feeds it the crossings that it timed; a traced graph and a dispatched forward feed it those between operators. All
therefore agree on where an operator belongs.

This file is pure: it knows neither torch nor clocks.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bertprof.components import Component


@dataclass(frozen=True, slots=True)
class Region:
    """What a module's own work is.

    Attributes:
        component: the component of the module's own work; None: that of the region around it.
        unit: each call of the module is an encoder unit. Units are numbered by call, from 0, so that one module
            called twelve times (ALBERT) makes twelve units.
        after: the component of the module's own work once the child with that relative path has returned. ALBERT's
            attention module computes softmax attention before its output projection and the residual sum behind it.
        parameters: the component of parameters that the module itself holds, by name, where it is not the module's.
        split: the counts of operators that use a parameter belong to that parameter's component, wherever the module
            calls them. Time cannot be split so and stays with the module: `nn.MultiheadAttention` does all of its
            linears in one function and never calls its `out_proj`.
        joins: each call of the module belongs to the unit that was begun last: an FFN that stands beside its attention
            and not in one module with it.
    """

    component: Component | None = None
    unit: bool = False
    after: Mapping[str, Component] = field(default_factory=dict)
    parameters: Mapping[str, Component] = field(default_factory=dict)
    split: bool = False
    joins: bool = False


Key = tuple[int | None, Component]
"""A row of a record: the unit and the component."""


class Owner(NamedTuple):
    """To whom a stretch of work belongs."""

    unit: int | None
    component: Component
    path: str

    @property
    def key(self) -> Key:
        """The row that it belongs to."""
        return self.unit, self.component


class Crossing(NamedTuple):
    """A module's boundary is crossed."""

    path: str
    entering: bool


class _Frame(NamedTuple):
    owner: Owner
    region: Region


_NO_REGION = Region()


class Walker:
    """Follows the crossings of one forward and knows the owner of whatever runs at the moment.

    Attributes:
        calls: how often each path was entered.
        units: the units in which each path was entered.
    """

    def __init__(self, regions: Mapping[str, Region]) -> None:
        """
        Args:
            regions: module path → region. A path without one belongs to the nearest region around it.
        """
        self._regions = regions
        self._frames: list[_Frame] = [_Frame(Owner(None, Component.OTHER, ""), _NO_REGION)]
        self._next_unit = 0
        self.calls: Counter[str] = Counter()
        self.units: dict[str, set[int | None]] = {}

    @property
    def owner(self) -> Owner:
        """The owner of what runs between the last crossing and the next."""
        return self._frames[-1].owner

    def owner_of(self, parameters: Iterable[str]) -> Owner:
        """The owner of an operator that uses these parameters (their names): `owner`, unless the region is split."""
        owner, region = self._frames[-1]
        if region.split:
            for name in parameters:
                component = component_of_parameter(name, self._regions)
                if component is not owner.component:
                    return Owner(owner.unit, component, name.rpartition(".")[0])
        return owner

    def enter(self, path: str) -> None:
        """The module at `path` is called."""
        around = self._frames[-1].owner
        region = self._regions.get(path, _NO_REGION)
        unit = around.unit
        if region.unit:
            unit = self._next_unit
            self._next_unit += 1
        elif region.joins and self._next_unit:
            unit = self._next_unit - 1
        component = around.component if region.component is None else region.component
        self._frames.append(_Frame(Owner(unit, component, path), region))
        self.calls[path] += 1
        self.units.setdefault(path, set()).add(unit)

    def leave(self, path: str) -> None:
        """The call of the module at `path` has returned.

        Raises:
            ValueError: that module has not been entered.
        """
        if not any(frame.owner.path == path for frame in self._frames[1:]):
            raise ValueError(f"module {path!r} is left without having been entered")
        while self._frames.pop().owner.path != path:
            pass
        owner, region = self._frames[-1]
        component = region.after.get(_relative(path, owner.path))
        if component is not None:
            self._frames[-1] = _Frame(owner._replace(component=component), region)

    def cross(self, crossing: Crossing) -> None:
        """Enters or leaves."""
        if crossing.entering:
            self.enter(crossing.path)
        else:
            self.leave(crossing.path)


def split_intervals(
    crossings: Iterable[Crossing], intervals: Iterable[int], regions: Mapping[str, Region]
) -> dict[Owner, int]:
    """Gives each interval between two boundaries to its owner.

    Args:
        crossings: n boundary crossings in order.
        intervals: n + 1 amounts (here nanoseconds): before the first crossing, between each two, after the last.
        regions: module path → region.

    Returns:
        owner → sum of its intervals. The values sum to the sum of the intervals exactly.

    Raises:
        ValueError: there is not exactly one interval more than there are crossings.
    """
    walker = Walker(regions)
    amounts = iter(intervals)
    totals: Counter[Owner] = Counter()
    try:
        totals[walker.owner] += next(amounts)
        for crossing in crossings:
            walker.cross(crossing)
            totals[walker.owner] += next(amounts)
    except StopIteration:
        raise ValueError("fewer intervals than boundary crossings + 1") from None
    if next(amounts, None) is not None:
        raise ValueError("more intervals than boundary crossings + 1")
    return dict(totals)


def boundaries(regions: Mapping[str, Region]) -> list[str]:
    """The paths whose boundaries must be marked for `regions` to be told apart; the fewest that do.

    A module needs no mark when crossing its boundary changes neither component nor unit: a LayerNorm inside a module
    whose own work is add-norm already. Where the work around a module changes during the call (`after`, methods),
    every region in it is marked.
    """
    changing = {path.rpartition(".")[0] for path in regions if path.endswith("()")}
    changing |= {path for path, region in regions.items() if region.after}
    needed: dict[str, None] = {}  # a set that keeps its order
    for path, region in regions.items():
        around, _ = _region_around(path, regions)
        outside = Component.OTHER if path == "" else _component_of(around, regions)
        changes = region.component is not None and (around in changing or region.component != outside)
        if region.unit or region.joins or region.after or changes:
            needed[path] = None
        module = module_of(path)
        needed |= dict.fromkeys(f"{module}.{child}" if module else child for child in region.after)
    return [path for path in regions if path in needed] + [path for path in needed if path not in regions]


def module_of(path: str) -> str:
    """The module of a path: itself, or that whose bound method it names."""
    return path.rpartition(".")[0] if path.endswith("()") else path


def _relative(path: str, around: str) -> str:
    """A path as seen from the module around it, or from the module whose method is around it."""
    around = module_of(around)
    return path.removeprefix(f"{around}.") if around else path


def _region_around(path: str, regions: Mapping[str, Region]) -> tuple[str, Region]:
    while path:
        path = path.rpartition(".")[0]
        if path in regions:
            return path, regions[path]
    return "", _NO_REGION


def _component_of(path: str, regions: Mapping[str, Region]) -> Component:
    region = regions.get(path, _NO_REGION)
    while region.component is None and path:
        path, region = _region_around(path, regions)
    return region.component or Component.OTHER


def region_of(path: str, regions: Mapping[str, Region]) -> tuple[str, Component]:
    """The nearest region at or above a module: its path, and its component for what stands still (parameters)."""
    if path not in regions:
        path, _ = _region_around(path, regions)
    return path, _component_of(path, regions)


def component_of_parameter(name: str, regions: Mapping[str, Region]) -> Component:
    """The component of a parameter, by its full name."""
    path, _, leaf = name.rpartition(".")
    region = regions.get(path, _NO_REGION)
    return region.parameters[leaf] if leaf in region.parameters else region_of(path, regions)[1]
