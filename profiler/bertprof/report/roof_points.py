"""The points of the roofline, before they are drawn: each component against what the device can do at most."""

from dataclasses import dataclass

from bertprof import roofline
from bertprof.components import Component
from bertprof.record import Breakdown
from bertprof.roofline import Roofline

WHOLE = "all together"


@dataclass(frozen=True)
class Point:
    """Where a component stands: FLOP per byte and FLOP/s, and the FLOP/s that its roof allows."""

    name: str
    intensity: float
    reached: float
    allowed: float
    line: Roofline


def points(breakdown: Breakdown) -> tuple[list[Point], list[str]]:
    """The components that have a point, all together first; and the names of those that have none, but cost time.

    There is no point of anything where the record has no times, no peaks, or peaks of something else.
    """
    found, without = [], []
    named = [(WHOLE, breakdown.costs), *((str(c), breakdown.of(c)) for c in Component)]
    for name, costs in named:
        line = roofline.of(breakdown, costs)
        if line is not None and line.intensity and line.flops_per_s and line.share:
            found.append(Point(name, line.intensity, line.flops_per_s, line.flops_per_s / line.share, line))
        elif name != WHOLE and costs and (time := breakdown.time_share(costs)) is not None and time.value > 0:
            without.append(name)
    return found, without
