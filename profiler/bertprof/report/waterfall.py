"""Waterfall: the way of one metric from before to after, component by component, before it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isclose

from bertprof.difference import Change, Diff, Row
from bertprof.report import changes

METRICS: tuple[str, ...] = (*changes.MEASURED, "bytes", "parameters", "macs", "flops")
"""Of what there is one, in the order of display."""

CUT_FROM = 0.75
"""Where no level falls below that part of the highest, an axis from zero on would hide the steps; our choice."""

MACHINE = "the machine itself"
"""What the yardstick says that the machine was slower or faster beside AFTER."""


@dataclass(frozen=True)
class Step:
    """What one component, or the machine, adds.

    Attributes:
        row: the component's; None of the machine.
        change: what the diff says of it; None of the machine.
        start: the sum of all before it.
        end: the same with it.
    """

    row: Row | None
    change: Change | None
    start: float
    end: float

    @property
    def label(self) -> str:
        """What to call it."""
        return MACHINE if self.row is None else changes.label(self.row)


@dataclass(frozen=True)
class Waterfall:
    """The steps of one metric; from `before` they lead to `after`.

    `note` says of what both are, where the total of the diff is of something else, and what its steps are.
    """

    metric: str
    before: float
    after: float
    steps: Sequence[Step]
    note: str = ""

    @property
    def title(self) -> str:
        """What both ends are."""
        return "Time of the forward with marks" if self.metric == "time" else changes.title(self.metric)

    @property
    def ends(self) -> str:
        """Both ends with their unit, before → after."""
        seen = dict.fromkeys(changes.figure(value, self.metric) for value in (self.before, self.after))
        return changes.with_unit(" → ".join(seen), self.metric)

    @property
    def axis(self) -> tuple[float, float]:
        """From where to where its axis runs. It starts at zero, unless steps would be too short to be seen from there:
        where no level falls below `CUT_FROM` of the highest.
        """
        levels = [self.before, self.after, *(step.end for step in self.steps)]
        least, most = min(levels), max(levels)
        if most > least > CUT_FROM * most:
            return least - 0.25 * (most - least), most
        return min(0, least), most


def waterfall(diff: Diff, metric: str) -> Waterfall | None:
    """The waterfall of a metric, without the components that have none of it on either side.

    Both ends are the sums of the components. Of times that is the forward with marks: its median times each
    component's share, so that the rows add up (see `bertprof.difference.Row`); the total of the diff is that of the
    bare forward. Where the machine's own change was taken out of a time, it is a step of its own, and the components'
    are after / yardstick ratio - before, as in `bertprof.difference.Change.share_of_change`.

    Returns:
        None where the metric is not known of both sides, is the same in every row, or cannot be compared.
    """
    total = diff.row("total").metrics.get(metric)
    rows = [row for row in changes.table(diff, "component") if metric in row.metrics]
    found = [(row, row.metrics[metric]) for row in rows]
    if total is None or total.verdict == "n/a" or all(change.before == change.after for _, change in found):
        return None
    machine = diff.yardstick_ratio if metric == "time" else None
    if any(change.change is None for _, change in found) or not 1e-6 < (machine or 1) < 1e6:
        return None
    before = start = _sum([change.before or 0 for _, change in found])
    after = _sum([change.after or 0 for _, change in found])
    steps: list[Step] = []
    moves: list[float] = []
    for row, change in found:
        if change.before or change.after:
            moves += [(change.after or 0) / machine if machine else change.after or 0, -(change.before or 0)]
            steps.append(Step(row, change, start, before + _sum(moves)))
            start = steps[-1].end
    if metric != "time" and not (_near(before, total.before) and _near(after, total.after)):
        return None  # no comparison makes such a file
    if machine and machine != 1:
        steps.append(Step(None, None, start, after))
    return Waterfall(metric, before, after, steps, _note(metric, total))


def _note(metric: str, total: Change) -> str:
    if metric not in changes.MEASURED:
        return ""
    text = "Steps are differences as measured; whether one is more than chance, its verdict says."
    if metric != "time":
        return text
    bare = f"{changes.with_unit(changes.figures(total, metric), metric)} ({changes.brief(total, metric)})"
    return f"Of the forward with marks, to which the components add up; the bare forward took {bare}. {text}"


def _near(value: float, other: float | None) -> bool:
    return other is not None and isclose(value, other, rel_tol=1e-6)


def _sum(values: Sequence[float]) -> float:
    """Counts add up as whole numbers, all else without loss."""
    return sum(values) if all(isinstance(value, int) for value in values) else fsum(values)
