"""Comparing: two Breakdowns, aligned by component and unit, exact on counts and honest on times.

Counts are compared exactly. Times are compared by `bertprof.evidence`, in the way in which they were taken:

- records of one run (`run` the same in both) were interleaved round by round, and are paired by round, or, from three
  processes on, by process;
- others are compared across processes, each component divided in the same round by the same component of the
  yardstick, the small BERT layer that every round runs beside the model. With fewer than three processes a side
  nothing can be said, and nothing is.

Both beside conditions that differ (`bertprof.conditions`) say nothing of what depends on these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import fsum

import bertprof
from bertprof import alignment, conditions, evidence, sampling
from bertprof.alignment import Part
from bertprof.components import Component
from bertprof.conditions import MISMATCHES, mismatches
from bertprof.difference import Accuracy, Change, Diff, Level, Mismatch, Row, Times, Verdict
from bertprof.evidence import Evidence
from bertprof.record import Breakdown, Caveat, Cost, added, now
from bertprof.summary import accuracy, side_of

__all__ = ["COUNTS", "MARGIN", "MEMORY", "METRICS", "MISMATCHES", "SAMPLED", "SHARE", "Comparison", "Part"]
__all__ += ["accuracy", "mismatches"]

MARGIN = 0.02
"""A change of a time within ±2 % counts as none: where a program's code lies in memory alone moves it by as much
(Mytkowicz et al. 2009, Producing Wrong Data Without Doing Anything Obviously Wrong)."""

_UPPER = 1 + MARGIN

SHORTEST_MS = 0.005
"""Nothing is said of times that are shorter on both sides: a tick of 0.1 µs is 2 % of that, and marks cost some."""

_TICK_MS = 1e-4
"""Times are recorded to 0.1 µs; what is shorter was written by no measurement, and nothing is divided by it."""

COUNTS: Mapping[str, str] = {
    "parameters": "parameters",
    "nonzero_parameters": "nonzero_parameters",
    "bytes": "parameter_bytes",
    "macs": "macs",
    "useful_macs": "useful_macs",
    "flops": "flops",
    "bytes_moved": "bytes_moved",
    "activation_bytes": "activation_bytes",
}
"""Metric → field of Cost: exact, and sums over rows."""

STORED = ("parameters", "nonzero_parameters", "bytes")
"""Counts of the model itself, whatever work it is given."""

SAMPLED: Mapping[str, str] = {"time": "time_ms", "device_time": "device_time_ms", "energy": "energy_mj"}
"""Metric → field of Cost: sampled, and sums over rows."""

SHARE = "share(time)"
MEMORY = "memory"

METRICS: tuple[str, ...] = (*COUNTS, *SAMPLED, MEMORY, SHARE)
"""The metrics that gates know."""


@dataclass
class Comparison:
    """Two breakdowns, aligned.

    Attributes:
        before: one side.
        after: the other.
        allowed: keys of mismatches that the user lets through.
        mismatches: in what the sides differ so that figures cannot be compared.
        parts: the aligned scopes, in the order of display: total, groups, components, units, cells.
        times: how times are compared; see `Diff`.

    Raises:
        UsageError: a key of `allowed` is none of MISMATCHES.
    """

    before: Breakdown
    after: Breakdown
    allowed: Sequence[str] = ()
    mismatches: list[Mismatch] = field(init=False)
    parts: list[Part] = field(init=False)
    times: Times | None = field(init=False)

    def __post_init__(self) -> None:
        self.mismatches = mismatches(self.before, self.after, self.allowed)
        self.parts = alignment.parts(self.before, self.after, by_index=not self.refused("units"))
        self.times = self._how()
        self._entangled = conditions.entangled(self.before), conditions.entangled(self.after)
        self._evidence: dict[tuple[str, str], Evidence | None] = {}
        self._chances: dict[tuple[Level, str], Mapping[str, float]] = {}
        self._changes: dict[tuple[str, str], Change | None] = {}
        self._wholes: dict[str, list[float | None]] = {}

    def refused(self, *affects: str) -> list[Mismatch]:
        """The mismatches of these kinds that were not let through."""
        return [m for m in self.mismatches if m.affects in affects and not m.allowed]

    def part(self, scope: str) -> Part | None:
        """The part of a scope; None where neither side has it."""
        return next((part for part in self.parts if part.scope == scope), None)

    def _how(self) -> Times | None:
        if not (self.before.timed and self.after.timed):
            return None
        if self.refused("counts", "times"):
            return "not comparable"
        if _measured(self.before) == _measured(self.after):
            return "identical"
        if min(self.before.processes, self.after.processes) >= evidence.FEWEST_PROCESSES:
            return "processes"
        return "rounds" if self._paired else "too few processes"

    @property
    def _paired(self) -> bool:
        """Whether both sides ran in the same rounds of the same processes."""
        a, b = self.before, self.after
        return a.run is not None and _layout(a) == _layout(b)

    def inseparable(self, part: Part) -> tuple[frozenset[Component], frozenset[Component]]:
        """Of each side the components whose times it cannot tell apart, where the part has some of them, but not all.

        What the part takes there is not known: some of it stands elsewhere, or that of others stands in it.
        """
        before, after = self._entangled
        return _cut(part.before, before), _cut(part.after, after)

    # Evidence --------------------------------------------------------------------------------------------------------

    def evidence(self, part: Part, metric: str) -> Evidence | None:
        """How sure a change of a sampled metric or of a share is; None where nothing can be said."""
        key = (part.scope, metric)
        if key not in self._evidence:
            self._evidence[key] = self._found(part, metric)
        return self._evidence[key]

    def _found(self, part: Part, metric: str) -> Evidence | None:
        before, after = (_samples(side, part.level, costs, metric) for side, costs in self._sides(part))
        if before is None or after is None or not self._comparable(part, metric):
            return None
        if self.times == "identical":
            return evidence.of_identical(len(before))
        if metric != "energy" and self._too_short(part, SAMPLED.get(metric, "time_ms")):
            return None
        if self.times == "rounds":
            return evidence.of_rounds(before, after) if len(before) == len(after) else None
        if self.times != "processes":
            return None
        processes = self.before.processes, self.after.processes
        a, b = map(sampling.parts, (before, after), processes)
        if self._paired:
            return evidence.of_paired_processes(a, b) if len(before) == len(after) else None
        yardsticks = self._yardsticks(part.costs) if metric == "time" else None
        if yardsticks is None:
            return evidence.of_processes(*([sampling.median(one) for one in side] for side in (a, b)))
        return evidence.of_processes(*map(_divided, (a, b), map(sampling.parts, yardsticks, processes)))

    def _too_short(self, part: Part, name: str) -> bool:
        times = (_summed(side, costs, name) for side, costs in self._sides(part))
        return all(sampling.median(samples) < SHORTEST_MS for samples in times if samples is not None)

    def _sides(self, part: Part) -> tuple[tuple[Breakdown, Sequence[Cost]], tuple[Breakdown, Sequence[Cost]]]:
        return (self.before, part.before), (self.after, part.after)

    def _yardsticks(self, costs: Sequence[Cost]) -> tuple[list[float], list[float]] | None:
        """The yardstick of each side in each round: of the components of these costs where it has all, else the whole.

        None where the sides have no yardstick in common.
        """
        a, b = self.before.yardstick_ms or {}, self.after.yardstick_ms or {}
        known = a.keys() & b.keys()
        if not known:
            return None
        wanted = {cost.component for cost in costs}
        chosen = sorted(wanted if wanted and wanted <= known else known)
        first, second = (sampling.sums(y[c] for c in chosen) for y in (a, b))
        return first, second

    @cached_property
    def yardstick_ratio(self) -> float | None:
        """The yardstick beside `after` / beside `before`; None where the sides ran together or without a yardstick."""
        if self.times not in ("processes", "too few processes") or self._paired:
            return None
        yardsticks = self._yardsticks(())
        if yardsticks is None:
            return None
        before, after = map(sampling.median, yardsticks)
        return _quotient(after, before) or None

    # Changes ---------------------------------------------------------------------------------------------------------

    def change(self, part: Part, metric: str) -> Change | None:
        """One metric of one part; None where neither side knows it, or where it is not told of such parts."""
        key = (part.scope, metric)
        if key not in self._changes:
            self._changes[key] = self._changed(part, metric)
        return self._changes[key]

    def _changed(self, part: Part, metric: str) -> Change | None:
        if (metric == MEMORY and part.level != "total") or (metric == SHARE and part.level == "total"):
            return None
        before, after = (_figure(side, part.level, costs, metric) for side, costs in self._sides(part))
        if before is None and after is None:
            return None
        if before is None or after is None:
            return Change(before=before, after=after, change=None, ratio=None, verdict="n/a")
        change = Change(
            before=before,
            after=after,
            change=after - before,
            ratio=_quotient(after, before),
            share_of_change=self._share_of_change(part, metric, before, after),
            verdict="n/a",
        )
        if not part.before or not part.after:
            change.verdict = "removed" if part.before else "new" if part.after else "same"
        elif not self._comparable(part, metric):
            pass
        elif metric in COUNTS or metric == MEMORY:
            change.verdict = "same" if before == after else "larger" if after > before else "smaller"
        elif before == after and (self.times == "identical" or before == 0):
            change.verdict = "same"
        else:
            found = self.evidence(part, metric)
            change.verdict = "inconclusive" if found is None else self._verdict(part, metric, found)
            if found is not None:
                change.ratio, change.low, change.high = found.ratio, found.low, found.high
        return change

    def _verdict(self, part: Part, metric: str, found: Evidence) -> Verdict:
        """By the interval: beyond the margin, inside it, or neither. Beyond it counts where it is no chance hit."""
        time = metric in ("time", "device_time")
        if min(found.low, 1 / found.high) >= 1 / _UPPER:
            return "same"
        if max(found.low, 1 / found.high) <= _UPPER or self._chance(part.level, metric)[part.scope] > sampling.BEYOND:
            return "inconclusive"
        if found.low > _UPPER:
            return "slower" if time else "larger"
        return "faster" if time else "smaller"

    def _chance(self, level: Level, metric: str) -> Mapping[str, float]:
        """Of each row of a level: how probable it is that any of them is as far beyond the margin by chance (Holm).

        A table of a hundred cells, of which none changed, would else show some that did.
        """
        if (level, metric) not in self._chances:
            found = {part.scope: self.evidence(part, metric) for part in self.parts if part.level == level}
            known = {scope: one for scope, one in found.items() if one is not None}
            p_values = [min(one.p_above(_UPPER), one.p_below(1 / _UPPER)) for one in known.values()]
            self._chances[level, metric] = dict(zip(known, evidence.holm(p_values), strict=True))
        return self._chances[level, metric]

    def _comparable(self, part: Part, metric: str) -> bool:
        """Whether a metric of a part is of the same conditions on both sides."""
        if metric in STORED:
            return True
        if metric in COUNTS:
            return not self.refused("counts")
        if self.refused("counts", "times"):
            return False
        before, after = self._entangled
        return metric == MEMORY or before == after or not any(self.inseparable(part))

    def _share_of_change(self, part: Part, metric: str, before: float, after: float) -> float | None:
        """This part's share of the change of all rows together; None where that counts as none."""
        if metric not in (*COUNTS, *SAMPLED):
            return None
        if metric not in self._wholes:
            sides = (self.before, self.after)
            self._wholes[metric] = [_figure(side, "component", side.costs, metric) for side in sides]
        whole = self._wholes[metric]
        if whole[0] is None or whole[1] is None:
            return None
        # What the machine itself did is no change of a row.
        machine = self.yardstick_ratio if metric == "time" else None
        a, b = whole[0], whole[1] / (machine or 1)
        if a == b or (metric in SAMPLED and 1 / _UPPER <= (_quotient(b, a) or 0) <= _UPPER):
            return None
        return 1.0 if part.level == "total" else (after / (machine or 1) - before) / (b - a)

    def diff(self, accuracy: Accuracy | None = None, caveats: Sequence[Caveat] = ()) -> Diff:
        """The document."""
        return Diff(
            bertprof_version=bertprof.__version__,
            created=now(),
            before=side_of(self.before),
            after=side_of(self.after),
            times=self.times,
            yardstick_ratio=self.yardstick_ratio,
            margin=MARGIN,
            rows=[self._row(part) for part in self.parts],
            accuracy=accuracy,
            mismatches=self.mismatches,
            caveats=[*conditions.caveats(self.before, self.after, self.mismatches), *self._caveats(), *caveats],
        )

    def _row(self, part: Part) -> Row:
        changes = {metric: self.change(part, metric) for metric in METRICS}
        return Row(
            scope=part.scope,
            level=part.level,
            component=part.component,
            unit=part.unit,
            metrics={metric: change for metric, change in changes.items() if change is not None},
        )

    def _caveats(self) -> list[Caveat]:
        if self.times != "processes" or self._paired or self._yardsticks(()) is not None:
            return []
        text = "the sides ran apart, and not both with a yardstick: a change of the machine passes for one of the model"
        return [Caveat(code="no-yardstick", text=text)]


def caveats_of_precision(diff: Diff, until: float | None) -> list[Caveat]:
    """A caveat where changes are known less precisely than was asked for; `until` is a share, 0.02 for ± 2 %."""
    worst: tuple[float, str] = (0.0, "")
    for row in diff.rows:
        change, share = row.metrics.get("time"), row.metrics.get(SHARE)
        counts = share is not None and max(share.before or 0, share.after or 0) >= evidence.COUNTS_FROM
        if row.level != "total" and not (row.level == "component" and counts):
            continue
        if change is not None and change.ratio and change.low is not None and change.high is not None:
            worst = max(worst, ((change.high - change.low) / 2 / change.ratio, row.scope))
    if until is None or worst[0] <= until:
        return []
    way = "sample longer (--max-time) or on a quieter machine (see `bertprof doctor`)"
    if diff.times == "processes":
        way = "each process was sampled until then, and they differ: measure in more of them (--processes)"
    text = (
        f"the change of {worst[1]} is known to ± {100 * worst[0]:.2g} %, not to the ± {100 * until:.2g} % that was "
        f"asked for; {way}"
    )
    return [Caveat(code="precision-not-reached", text=text, value=worst[0])]


# Figures --------------------------------------------------------------------------------------------------------------


def _cut(costs: Sequence[Cost], entangled: frozenset[Component]) -> frozenset[Component]:
    """Entangled components, where these costs are of some of them without being of all."""
    own = entangled & {cost.component for cost in costs}
    return entangled if own and own != entangled else frozenset()


def _figure(side: Breakdown, level: str, costs: Sequence[Cost], metric: str) -> float | None:
    """The figure that a report shows: a count, or a time that adds up over rows."""
    if metric in COUNTS:
        return added(getattr(cost, COUNTS[metric]) for cost in costs)
    if metric == MEMORY:
        return side.peak_memory_bytes
    if metric == "time" and level == "total":
        return None if side.end_to_end_time_ms is None else side.end_to_end_time_ms.value
    own, whole = (_summed(side, rows, SAMPLED.get(metric, "time_ms")) for rows in (costs, side.costs))
    if own is None or whole is None:
        return None
    share = fsum(own) / (fsum(whole) or 1)
    return share if metric == SHARE else share * sampling.median(whole)


def _samples(side: Breakdown, level: str, costs: Sequence[Cost], metric: str) -> list[float] | None:
    """One figure a repeat: of the total's time, the bare forward; of a share, that of the same repeat."""
    if metric == "time" and level == "total":
        return side.end_to_end_ms
    own = _summed(side, costs, SAMPLED.get(metric, "time_ms"))
    if own is None or metric != SHARE:
        return own
    return [x / whole for x, whole in zip(own, side.instrumented_ms or (), strict=True)]


def _summed(side: Breakdown, costs: Sequence[Cost], name: str) -> list[float] | None:
    """The samples of a field of several costs together; None where one of them, or the record, does not have it."""
    if name == "time_ms" and costs is side.costs and side.instrumented_ms is not None:
        return side.instrumented_ms
    first = getattr(side.costs[0], name) if side.costs else None
    rows = [getattr(cost, name) for cost in costs]
    if first is None or None in rows:
        return None
    return sampling.sums([[0.0] * len(first), *rows])


def _measured(side: Breakdown) -> object:
    """All that was sampled, to tell whether two records hold the same."""
    rows = {(cost.unit, cost.component): (cost.time_ms, cost.device_time_ms, cost.energy_mj) for cost in side.costs}
    return rows, side.instrumented_ms, side.end_to_end_ms, side.yardstick_ms, side.processes


def _layout(side: Breakdown) -> object:
    """Which rounds of which processes a record holds."""
    return side.run, side.processes, len(side.instrumented_ms or ())


def _divided(processes: Sequence[Sequence[float]], yardstick: Sequence[Sequence[float]]) -> list[float]:
    """Each process in lengths of its yardstick: the median of its rounds' quotients.

    Where the yardstick takes less than a tick in some round, the quotient of the medians; 0 where that one takes none.
    """
    found = []
    for own, lengths in zip(processes, yardstick, strict=True):
        if min(lengths) >= _TICK_MS:
            found.append(sampling.median([x / length for x, length in zip(own, lengths, strict=True)]))
        else:
            found.append(_quotient(sampling.median(own), sampling.median(lengths)) or 0.0)
    return found


def _quotient(part: float, whole: float) -> float | None:
    """Part / whole as far as a document holds it; None where there is no whole."""
    return min(part / whole, evidence.FURTHEST) if whole else None
