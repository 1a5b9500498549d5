"""What `bertprof doctor` finds, as typed data, and what records tell of the noise floor.

`bertprof.measure.readiness` looks and measures. Reading this imports no torch.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, stdev
from typing import Literal

import msgspec

from bertprof import evidence, sampling
from bertprof.comparison import MARGIN
from bertprof.components import Component
from bertprof.record import Breakdown

GATE = 0.05
"""The gate by which noise is judged: a threshold that users set."""

MOST_PROCESSES = 20
"""More processes a side are more than anyone waits for."""

Verdict = Literal["ok", "warn", "info"]
"""Fine; spoils measurements, and the advice says what to do; worth knowing, or cannot be seen."""


class Check(msgspec.Struct, kw_only=True):
    """One thing that was looked at. `figures` are what `value` says in words, with their units in their names."""

    name: str
    value: str
    verdict: Verdict
    advice: str | None = None
    figures: dict[str, float] = {}


def within(one: Breakdown, other: Breakdown) -> Check:
    """Two equal models that were interleaved: from which change on the comparison would say slower or faster.

    That is the margin within which no change counts, and the width of the interval beyond it: with half the width,
    every second such change would be missed.
    """
    totals = evidence.of_rounds(one.end_to_end_ms or [], other.end_to_end_ms or [])
    ffn = evidence.of_rounds(_ffn(one), _ffn(other))
    parts: list[str] = []
    figures: dict[str, float] = {}
    seen, apart = 0.0, False
    for name, found in (("total", totals), ("ffn", ffn)):
        if found is not None:
            half = (found.high - found.low) / 2
            seen = max(seen, MARGIN + 2 * half)
            parts.append(f"{name} {found.ratio:.3f} ± {half:.3f}")
            figures |= {f"{name}_ratio": found.ratio, f"{name}_half_width": half}
            apart |= found.low > 1 + MARGIN or found.high < 1 - MARGIN
    advice = None
    if apart:
        advice = "two equal models are not equally fast here: look at the warnings above, and run this again"
    elif seen > GATE:
        advice = "sample longer (--min-time 10s), or until it is known (diff --until 1%)"
    return Check(
        name="noise within a process",
        value=f"the same model twice: {', '.join(parts)}; changes from {100 * seen:.1f} % on are seen",
        verdict="ok" if advice is None else "warn",
        advice=advice,
        figures={**figures, "seen_from": seen},
    )


def _ffn(one: Breakdown) -> list[float]:
    return sampling.sums(cost.time_ms for cost in one.of(Component.FFN) if cost.time_ms is not None)


def between(pooled: Breakdown) -> Check:
    """How far fresh processes differ, as they are and divided by the yardstick, and how many a gate needs.

    The number is for the largest spread that so few processes leave possible, since their own is a rough guess of it.
    """
    name, number = "noise between processes", pooled.processes
    if number < evidence.FEWEST_PROCESSES:
        value = f"{number} process{'es' if number > 1 else ''} cannot tell, it takes {evidence.FEWEST_PROCESSES}"
        return Check(name=name, value=value, verdict="info", figures={"processes": float(number)})
    times = pooled.end_to_end_ms or []
    spread = _spread(times, number)
    value = f"medians of {number} processes differ by {100 * spread:.1f} % (standard deviation)"
    figures = {"processes": float(number), "spread": spread}
    if pooled.yardstick_ms:
        yardstick = sampling.sums(pooled.yardstick_ms.values())
        spread = _spread([a / b for a, b in zip(times, yardstick, strict=True)], number)
        value += f", by {100 * spread:.1f} % against the yardstick"
        figures["yardstick_spread"] = spread
    largest = largest_spread(spread, number)
    needed = processes_needed(largest)
    figures["largest_spread"] = largest
    value += f", which may be up to {100 * largest:.1f} %; a gate of {100 * GATE:.0f} % on records "
    if needed is not None:
        figures["processes_needed"] = float(needed)
        return Check(
            name=name, value=f"{value}needs about {needed} a side (--processes {needed})", verdict="ok", figures=figures
        )
    if processes_needed(spread) is None:
        value += f"needs more than {MOST_PROCESSES} a side"
        advice = "compare models instead of records: diff MODEL MODEL runs both in turn"
        return Check(name=name, value=value, verdict="warn", advice=advice, figures=figures)
    value += f"may need more than {MOST_PROCESSES} a side"
    advice = f"{number} processes are few to tell by: look at more (doctor --processes {2 * number})"
    return Check(name=name, value=value, verdict="info", advice=advice, figures=figures)


def _spread(times: Sequence[float], number: int) -> float:
    """The standard deviation of the logarithm of the processes' medians."""
    return stdev(math.log(sampling.median(process)) for process in sampling.parts(times, number))


def largest_spread(spread: float, number: int) -> float:
    """The one-sided 90 % upper limit of a standard deviation that so many figures, at least 3, gave.

    s·√(ν / χ²), of the 10 % quantile of χ² with ν = number − 1 degrees of freedom by Wilson and Hilferty (1931, PNAS
    17, p. 684): ν·(1 − 2/(9ν) + z·√(2/(9ν)))³. The limit is 3.5 % too high at 2 degrees, 0.2 % at 4.
    """
    freedom = number - 1
    ninth = 2 / (9 * freedom)
    return spread / math.sqrt((1 - ninth + NormalDist().inv_cdf(0.1) * math.sqrt(ninth)) ** 3)


def processes_needed(spread: float, gate: float = GATE) -> int | None:
    """How many processes a side let what did not change pass a gate, 39 times of 40; None above MOST_PROCESSES.

    Passing needs the upper end of Student's interval below the gate: its half-width and 1.96 standard errors, taken as
    a second half-width, must fit below it.
    """
    for number in range(evidence.FEWEST_PROCESSES, MOST_PROCESSES + 1):
        half = sampling.student_quantile(0.975, 2 * number - 2) * spread * math.sqrt(2 / number)
        if 2 * half <= math.log1p(gate):
            return number
    return None
