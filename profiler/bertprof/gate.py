"""Gates: whether a change stays within its limits; `bertprof.limits` reads them.

Counts and memory are judged exactly. A time is judged by its evidence: it fails only where the whole interval is past
the limit, and passes where none of it is. An absolute limit on a time becomes a ratio by the time before, which is
taken as known. Failing is corrected for the number of times judged at once (Holm), apart for what only warns, so that
no warning keeps a gate from failing; passing is not, since what passes raises no false alarm. Rows that hold less than
1 % of the time are judged like the others, and may be too noisy to be.
"""

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import msgspec

from bertprof import formatting, sampling
from bertprof.comparison import MEMORY, SAMPLED, SHARE, SHORTEST_MS, Comparison, Part
from bertprof.components import Component
from bertprof.difference import Change, Gate, Mismatch, Outcome
from bertprof.errors import UsageError
from bertprof.evidence import FEWEST_PROCESSES, FEWEST_ROUNDS, Evidence, Processes, holm
from bertprof.limits import COMPONENT, UNITS, Kind, Spec
from bertprof.record import Breakdown
from bertprof.sampling import Estimate

FEWEST_SAMPLES = 10
"""Fewer repeats a side leave a time gate inconclusive, unless the user says otherwise."""

LEVEL = sampling.BEYOND
"""The probability with which a time that is at its limit may fail: that beyond one end of a 95 % interval."""


_OF_RUNS = (*SAMPLED, SHARE, MEMORY)
"""Metrics of what ran, not of what is counted."""


# Which rows a gate is about -------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A gate and the row that it judges; without one where units do not correspond."""

    spec: Spec
    part: Part | None
    change: Change | None

    @property
    def scope(self) -> str:
        return self.spec.scope if self.part is None else self.part.scope

    @property
    def target(self) -> tuple[str, str, str]:
        """What gates of it compete for."""
        return self.spec.kind, self.spec.metric, self.scope

    @property
    def wildcards(self) -> int:
        """How many `*` its scope has as written: the fewer, the more specific."""
        return self.spec.scope.count("*")

    @property
    def name(self) -> str:
        return f"{self.scope}.{self.spec.metric}"

    def gate(self, outcome: Outcome, reason: str, p_value: float | None = None) -> Gate:
        """What it says."""
        return Gate(
            kind=self.spec.kind,
            text=self.spec.text,
            origin=self.spec.origin,
            scope=self.scope,
            metric=self.spec.metric,
            outcome=outcome,
            change=self.change,
            p_value=p_value,
            reason=f"{self.name} {reason}",
        )


def _prevailing(specs: Sequence[Spec], compared: Comparison) -> list[_Row]:
    """Each gate with its rows.

    A gate given for this once replaces the project's of the same kind, metric and scope as written. Of those of one
    kind and metric on one row, all with fewest `*` count.
    """
    given = {(spec.kind, spec.metric, spec.scope) for spec in specs if not spec.of_project}
    rows = [
        row
        for spec in dict.fromkeys(specs)
        if not (spec.of_project and (spec.kind, spec.metric, spec.scope) in given)
        for row in _rows(spec, compared)
    ]
    fewest: dict[tuple[str, str, str], int] = {}
    for row in rows:
        fewest[row.target] = min(fewest.get(row.target, row.wildcards), row.wildcards)
    return [row for row in rows if row.wildcards == fewest[row.target]]


def _rows(spec: Spec, compared: Comparison) -> list[_Row]:
    """The rows of a gate.

    Raises:
        UsageError: there is none, or its metric was not measured.
    """
    apart = bool(compared.refused("units"))
    parts = compared.parts
    if spec.kind == "budget" and apart:
        parts = [part for part in parts if part.unit is None or part.scope.startswith("after.")]
    pattern = re.compile(re.escape(spec.scope).replace(r"\[\*\]", r"\[[0-9]+\]").replace(r"\*", f"(?:{COMPONENT})"))
    found = [part for part in parts if pattern.fullmatch(_named(part))]
    if not found:
        raise UsageError(f"{spec.where}: there is no {spec.scope}; there is {_there(spec, parts)}")
    changes = [_measured(spec, part, compared) for part in found]
    if apart and spec.kind != "budget" and spec.scope.startswith("unit["):
        return [_Row(spec, None, None)]
    rows = [_Row(spec, part, change) for part, change in zip(found, changes, strict=True)]
    if spec.kind == "require":
        rows = [
            row
            for row, part in zip(rows, found, strict=True)
            if row.change is None
            or (row.change.before, row.change.after) != (0, 0)
            or any(_inseparable(spec, part, compared))
        ]
        if not rows:
            raise UsageError(f"{spec.where}: {spec.scope}.{spec.metric} is 0 before and after, nothing can be gained")
    return rows


def _named(part: Part) -> str:
    """The scope as a gate names it: units of one side alone are counted like others."""
    return part.scope.removeprefix("after.")


def _there(spec: Spec, parts: Sequence[Part]) -> str:
    """What a gate like this could be about."""
    unit = spec.scope.partition(".")[0]
    inside = unit.startswith("unit[")
    if not inside and unit != "outside":
        return ", ".join(part.scope for part in parts if part.level in ("total", "group", "component"))
    units = {part.unit for part in parts if part.unit is not None}
    if inside and not units:
        return "no encoder unit"
    if inside and unit != "unit[*]" and int(unit[5:-1]) not in units:
        return f"unit[0] to unit[{max(units)}]"
    if not inside and all(part.scope != "outside" for part in parts):
        return "nothing outside of units"
    cells = {part.component for part in parts if part.level == "cell" and (part.unit is not None) == inside}
    return ", ".join(f"{unit}.{component}" for component in Component if component in cells)


def _measured(spec: Spec, part: Part, compared: Comparison) -> Change:
    """What a gate's metric is on a row."""
    change = compared.change(part, spec.metric)
    sides = ("after",) if spec.kind == "budget" else ("before", "after")
    lacking = [side for side in sides if change is None or getattr(change, side) is None]
    if change is None or lacking:
        hint = "; measure it without --no-time" if spec.metric in ("time", SHARE) else ""
        raise UsageError(f"{spec.where}: {spec.metric} was not measured {' and '.join(lacking)}{hint}")
    return change


# What a gate says -----------------------------------------------------------------------------------------------------


class _Test(NamedTuple):
    """A time to be judged together with all others."""

    row: _Row
    found: Evidence
    limit: float


_FAMILIES: Sequence[tuple[Kind, ...]] = (("fail-on", "require"), ("warn-on",))
"""Kinds whose times are corrected for one another; a budget is no test."""


def check(specs: Sequence[Spec], compared: Comparison, *, min_samples: int = FEWEST_SAMPLES) -> list[Gate]:
    """What gates say of two breakdowns: one answer for each row that a gate is about.

    A budget on a time is judged by the interval of `after` itself, which holds within its own run: another process may
    differ by more. It compares nothing, so that no mismatch of the sides touches it. Where a row is on one side only
    there is no ratio either, and the time itself decides.

    Args:
        specs: the gates, those of the project and those given for this once.
        compared: the two sides.
        min_samples: with fewer repeats a side a time is inconclusive.

    Raises:
        UsageError: a gate is about nothing: neither side has its scope, or its metric was not measured.
    """
    judged = dict(enumerate(_judged(row, compared, min_samples) for row in _prevailing(specs, compared)))
    gates = {i: one for i, one in judged.items() if isinstance(one, Gate)}
    for family in _FAMILIES:
        tests = {i: one for i, one in judged.items() if isinstance(one, _Test) and one.row.spec.kind in family}
        adjusted = holm([test.found.p_above(test.limit) for test in tests.values()])
        gates |= {i: _tested(test, p, len(tests)) for (i, test), p in zip(tests.items(), adjusted, strict=True)}
    return [_marked(gates[i], compared) for i in judged]


def _marked(gate: Gate, compared: Comparison) -> Gate:
    """A gate; it says where the times of one side are those of its float model, which the user let through."""
    let = any(m.key == "kernel" and m.allowed for m in compared.mismatches)
    if not let or gate.kind == "budget" or gate.outcome == "not comparable" or gate.metric not in _OF_RUNS:
        return gate
    return msgspec.structs.replace(gate, reason=f"{gate.reason} (dequantised)")


def _judged(row: _Row, compared: Comparison, min_samples: int) -> Gate | _Test:
    """What can be said of a row without the others."""
    spec, part, change = row
    refused = _refused(spec, compared)
    if refused or part is None or change is None:
        return row.gate("not comparable", _incomparable(refused))
    limit, after = spec.limit, change.after or 0
    before = 0 if spec.kind == "budget" else change.before or 0
    ceiling = limit.factor * Fraction(before) + limit.offset
    identical = compared.times == "identical" and before == after
    mixed = [] if _certain(row, identical) else _inseparable(spec, part, compared)
    if any(mixed):
        return row.gate("inconclusive", _not_apart(mixed))
    if spec.metric not in (*SAMPLED, SHARE) or after == 0 or ceiling <= 0 or identical:
        return row.gate("passed" if after <= ceiling else "failed", _exactly(spec, before, after, after <= ceiling))
    budget = spec.kind == "budget"
    if compared.times == "too few processes" and not budget:
        a, b = compared.before.processes, compared.after.processes
        return row.gate("inconclusive", _TOO_FEW_PROCESSES.format(before=a, after=b, needed=FEWEST_PROCESSES))
    sides = {"after": compared.after} if budget else {"before": compared.before, "after": compared.after}
    repeats = {name: _repeats(side, spec.metric) for name, side in sides.items()}
    needed = min_samples if compared.times == "processes" and not budget else max(min_samples, FEWEST_ROUNDS)
    if min(repeats.values()) < needed:
        has = " and ".join(f"{count} {name}" for name, count in repeats.items())
        return row.gate("inconclusive", f"cannot be judged by {has}: it takes {needed} repeats; {_LONGER}")
    if before == 0:
        return _alone(row, _own(compared.after, part, spec.metric), ceiling)
    found = compared.evidence(part, spec.metric)
    if found is None:
        return row.gate("inconclusive", _TOO_SHORT)
    # The time before may be next to nothing, which floats bear.
    return _Test(row, found, float(limit.factor) + float(limit.offset) / before)


def _inseparable(spec: Spec, part: Part, compared: Comparison) -> list[frozenset[Component]]:
    """Of each side that a gate reads the components whose times stand together, where the part has some of them only.

    A 0 is then no time that was not taken, but one that stands elsewhere.
    """
    if spec.metric not in (*SAMPLED, SHARE):
        return []
    before, after = compared.inseparable(part)
    return [after] if spec.kind == "budget" else [before, after]


def _certain(row: _Row, identical: bool) -> bool:
    """Whether a change is certain although the time of the part is not known: nothing changed, or the part is gone."""
    spec, part, change = row
    if spec.kind == "budget" or part is None or change is None or (spec.kind == "require" and not change.before):
        return False
    # A part that is gone takes nothing; how many ms that gained is not known.
    return identical or (not part.after and spec.limit.offset >= 0)


def _not_apart(mixed: Sequence[frozenset[Component]]) -> str:
    """Why times that stand together say nothing of one of them."""
    both = frozenset().union(*mixed)
    together = ", ".join(component for component in Component if component in both)
    return f"cannot be judged: the times of {together} stand together; gate all of them at once, as total or unit[*]"


_TOO_SHORT = f"cannot be judged: it is shorter than {1000 * SHORTEST_MS:g} µs, or took no time in some repeat"
_LONGER = "measure longer (--min-time)"
_MORE_PROCESSES = "measure in more processes (--processes)"
_TOO_FEW_PROCESSES = (
    "cannot be judged by {before} before and {after} after, it takes {needed} processes a side: "
    "measure with --processes 5, or give both as models so that they are measured together"
)


def _tested(test: _Test, p_value: float, tests: int) -> Gate:
    """What evidence says of a limit, given how improbable it is within it among all tests."""
    row, found, limit = test
    outcome: Outcome = "inconclusive"
    if found.high <= limit:
        outcome = "passed"
    elif found.low > limit and p_value <= LEVEL:
        outcome = "failed"
    wanted = row.spec.limit
    said = [formatting.change(ratio) for ratio in (found.ratio, found.low, found.high)]
    if wanted.text.endswith("x"):
        said = [f"{1 / ratio:.2f}x" for ratio in (found.ratio, found.high, found.low)]
    against = f"{wanted.text} ({formatting.change(limit)})" if wanted.offset else wanted.text
    verb = _VERBS[row.spec.kind]["failed" if found.low > limit else outcome]
    reason = f"{said[0]} [{said[1]}, {said[2]}] {verb} {against}"
    if row.spec.metric == SHARE and row.change is not None:
        reason = f"{_said(row.change.before or 0, SHARE)} → {_said(row.change.after or 0, SHARE)} of the time, {reason}"
    if outcome == "inconclusive":
        if found.low > limit:
            reason += f", which may be chance where {tests} rows are tested (p = {p_value:.3g}, not below {LEVEL:g})"
        reason += f"; {_MORE_PROCESSES if isinstance(found, Processes) else _LONGER}"
    return row.gate(outcome, reason, p_value)


_GROWTH: Mapping[Outcome, str] = {
    "passed": "is not above",
    "failed": "is above",
    "inconclusive": "may be above or below",
}
_VERBS: Mapping[Kind, Mapping[Outcome, str]] = {
    "fail-on": _GROWTH,
    "warn-on": _GROWTH,
    "require": {"passed": "reaches", "failed": "is short of", "inconclusive": "may reach or miss"},
    "budget": {
        "passed": "is within the budget of",
        "failed": "is above the budget of",
        "inconclusive": "may be above or below the budget of",
    },
}


def _alone(row: _Row, own: Estimate, ceiling: Fraction) -> Gate:
    """What a time of the side after says by itself."""
    outcome: Outcome = "passed" if own.high <= ceiling else "failed" if own.low > ceiling else "inconclusive"
    metric = row.spec.metric
    if metric == SHARE:
        own = own.scaled(100)
    reason = formatting.interval(own, "%" if metric == SHARE else next(iter(UNITS[metric])))
    reason += f" {_VERBS[row.spec.kind][outcome]} {row.spec.limit.text}"
    return row.gate(outcome, reason if outcome != "inconclusive" else f"{reason}; {_LONGER}")


def _own(side: Breakdown, part: Part, metric: str) -> Estimate:
    """A time, share or energy of the side after, with its interval within the run."""
    if metric == SHARE:
        found = side.time_share(part.after)
    elif metric == "time":
        found = side.end_to_end_time_ms if part.level == "total" else side.time_of(part.after)
    else:
        rows = (samples for cost in part.after if (samples := getattr(cost, SAMPLED[metric])) is not None)
        found = sampling.median_estimate(sampling.sums(rows))
    assert found is not None
    return found


def _repeats(side: Breakdown, metric: str) -> int:
    """How many repeats a side holds of a metric, over all its processes."""
    field = SAMPLED.get(metric, "time_ms")
    return next((len(samples) for cost in side.costs if (samples := getattr(cost, field)) is not None), 0)


def _exactly(spec: Spec, before: float, after: float, passed: bool) -> str:
    """A figure against its limit."""
    now, limit = _said(after, spec.metric), spec.limit.text
    if spec.kind == "budget":
        return f"{now} {_VERBS['budget']['passed' if passed else 'failed']} {limit}"
    change = after - before
    than = f"{_said(abs(change), spec.metric)} {'more' if change > 0 else 'less'} than {_said(before, spec.metric)}"
    if before and spec.limit.text.endswith("%"):
        than += f" ({formatting.change(after / before)})"
    return f"{now} is {than if change else 'as before'}, {limit} {'asked' if spec.kind == 'require' else 'allowed'}"


def _said(value: float, metric: str) -> str:
    if metric in SAMPLED:
        return f"{value:,.4g} mJ" if metric == "energy" else formatting.duration(value)
    if metric == SHARE:
        return f"{formatting.percent(value)} %"
    return f"{formatting.exact(int(value))} {next(iter(UNITS[metric]))}".rstrip()


# What cannot be compared ----------------------------------------------------------------------------------------------


def _refused(spec: Spec, compared: Comparison) -> list[Mismatch]:
    """The mismatches that keep a gate from saying anything."""
    if spec.kind == "budget":
        return []
    affects = []
    if spec.metric not in ("parameters", "nonzero_parameters", "bytes"):
        affects.append("counts")
    if spec.metric in _OF_RUNS:
        affects.append("times")
    if spec.scope.startswith("unit["):
        affects.append("units")
    return compared.refused(*affects)


def _incomparable(refused: Sequence[Mismatch]) -> str:
    differ = ", ".join(formatting.plain(f"{m.key} is {m.before} before and {m.after} after") for m in refused)
    allow = " ".join(f"--allow-mismatch {m.key}" for m in refused)
    return f"cannot be compared: {differ}; {allow} compares all the same"
