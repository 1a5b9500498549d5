"""Evidence that something became faster or slower: the ratio of two times, its 95 % interval, and how sure it is.

Two ways to have it, by how the times were taken:

- *Rounds*: both sides were run in the same rounds, interleaved. What disturbs a round disturbs both, so each round
  gives one ratio, and the evidence is the median of these with the interval of the sign test (Conover, Practical
  Nonparametric Statistics, section 3.4): exact for any distribution, deaf to how far an outlier is out, and the same
  read backwards. The ratio of the two medians, of which one would think first, is blurred by the drift of a machine
  that the pairs cancel.
- *Processes*: the sides were run apart, several processes each. What changes from process to process does not average
  out within one, so each process gives one number, the median of its rounds, divided by the yardstick's where there is
  one. The evidence is Welch's t on their logarithms (Welch 1947; Satterthwaite's degrees of freedom), or Student's on
  the ratios where each process ran both sides.

All is pure Python: comparing two records must not wait for numpy.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Protocol

from bertprof import sampling

FEWEST_ROUNDS = sampling.FEWEST_OF_MEDIAN
"""Fewer rounds have no interval at 95 %, and so are no evidence."""

COUNTS_FROM = 0.05
"""Components that take less than this share of both forwards hardly move the whole: their precision does not matter."""

FEWEST_PROCESSES = 3
"""Fewer processes a side say nothing about how far processes differ."""

FURTHEST = 1e30
"""A ratio beyond this, or below its inverse, is given as this."""


class Evidence(Protocol):
    """A ratio after / before, with its 95 % interval."""

    @property
    def samples(self) -> int:
        """How many independent figures a side it rests on: rounds or processes."""
        ...

    @property
    def ratio(self) -> float:
        """The best single figure."""
        ...

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        ...

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        ...

    def p_above(self, limit: float) -> float:
        """The one-sided p-value of "the ratio is at most `limit`": small where it is surely above."""
        ...

    def p_below(self, limit: float) -> float:
        """The one-sided p-value of "the ratio is at least `limit`": small where it is surely below."""
        ...


@dataclass(frozen=True)
class Rounds:
    """Of interleaved rounds: one ratio a round, ascending."""

    ratios: Sequence[float]

    @property
    def samples(self) -> int:
        """The number of rounds."""
        return len(self.ratios)

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return _middle(self.ratios)

    @property
    def low(self) -> float:
        """The lower end of the sign test's interval."""
        return self.ratios[sampling.rank_of_interval(len(self.ratios)) - 1]

    @property
    def high(self) -> float:
        """The upper end of the sign test's interval."""
        return self.ratios[-sampling.rank_of_interval(len(self.ratios))]

    def p_above(self, limit: float) -> float:
        """The sign test: how probable so few rounds at or below `limit` are if half of all are."""
        return sampling.at_most(bisect_right(self.ratios, limit), len(self.ratios))

    def p_below(self, limit: float) -> float:
        """The same for rounds at or above `limit`."""
        return sampling.at_most(len(self.ratios) - bisect_left(self.ratios, limit), len(self.ratios))


@dataclass(frozen=True)
class Processes:
    """Of processes: the mean difference of logarithms, its standard error and degrees of freedom."""

    samples: int
    difference: float
    error: float
    freedom: float

    @property
    def ratio(self) -> float:
        """The geometric mean over processes."""
        return _exp(self.difference)

    @property
    def low(self) -> float:
        """The lower end of Student's interval."""
        return _exp(self.difference - self._half)

    @property
    def high(self) -> float:
        """The upper end of Student's interval."""
        return _exp(self.difference + self._half)

    @property
    def _half(self) -> float:
        return sampling.student_quantile(1 - sampling.BEYOND, self.freedom) * self.error

    def p_above(self, limit: float) -> float:
        """The t-test against `limit`."""
        return self._p(self.difference - math.log(limit)) if limit > 0 else 0.0

    def p_below(self, limit: float) -> float:
        """The t-test against `limit`, the other way."""
        return self._p(math.log(limit) - self.difference) if limit > 0 else 1.0

    def _p(self, distance: float) -> float:
        """P(T ≥ distance / error)."""
        if self.error == 0:
            return 0.0 if distance > 0 else 1.0
        return sampling.student_cdf(-distance / self.error, self.freedom)


def of_rounds(before: Sequence[float], after: Sequence[float]) -> Rounds | None:
    """Evidence of interleaved rounds, paired by index.

    Returns:
        None where there are fewer than FEWEST_ROUNDS, or a side has a round of no time.

    Raises:
        ValueError: the sides are of different length.
    """
    ratios = _ratios(before, after)
    return None if ratios is None or len(ratios) < FEWEST_ROUNDS else Rounds(ratios)


def of_processes(before: Sequence[float], after: Sequence[float]) -> Processes | None:
    """Evidence of processes that ran one side each: a figure a process.

    Returns:
        None where a side has fewer than FEWEST_PROCESSES, or a process of no time.
    """
    sides = [_logs(before), _logs(after)]
    if None in sides:
        return None
    a, b = (side for side in sides if side is not None)
    parts = [variance(side) / len(side) for side in (a, b)]
    whole = sum(parts)
    freedom = float(len(a) + len(b) - 2)
    if whole > 0:
        freedom = 1 / sum((part / whole) ** 2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True))
    return Processes(min(len(a), len(b)), fmean(b) - fmean(a), math.sqrt(whole), freedom)


def of_paired_processes(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> Processes | None:
    """Evidence of processes that each ran both sides interleaved: the rounds of each.

    Returns:
        None where there are fewer than FEWEST_PROCESSES, or a side has a round of no time.

    Raises:
        ValueError: the sides have not as many processes, or one of them not as many rounds.
    """
    found = [_ratios(a, b) for a, b in zip(before, after, strict=True)]
    logs = _logs([_middle(ratios) for ratios in found if ratios])
    if logs is None or len(logs) < len(found):
        return None
    return Processes(len(logs), fmean(logs), math.sqrt(variance(logs) / len(logs)), float(len(logs) - 1))


def of_identical(samples: int) -> Processes:
    """Evidence of figures that are the very same: nothing changed, for certain."""
    return Processes(samples, 0.0, 0.0, 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of several tests, so that the level is that of rejecting any of them wrongly (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    reached = 0.0
    for rank, i in enumerate(order):
        reached = max(reached, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = reached
    return adjusted


def _ratios(before: Sequence[float], after: Sequence[float]) -> list[float] | None:
    """The ratio of each round, ascending; None where a round of either side took no time."""
    ratios = []
    for a, b in zip(before, after, strict=True):
        if a <= 0 or b <= 0:
            return None
        ratios.append(min(max(b / a, 1 / FURTHEST), FURTHEST))
    return sorted(ratios)


def _middle(ratios: Sequence[float]) -> float:
    """The median of ascending ratios. Of two middle ones their geometric mean: it is the same read backwards."""
    low, high = ratios[(len(ratios) - 1) // 2], ratios[len(ratios) // 2]
    return min(max(math.sqrt(low * high), low), high)


def _logs(figures: Sequence[float]) -> list[float] | None:
    if len(figures) < FEWEST_PROCESSES or min(figures) <= 0:
        return None
    return [math.log(figure) for figure in figures]


def _exp(logarithm: float) -> float:
    furthest = math.log(FURTHEST)
    return math.exp(min(max(logarithm, -furthest), furthest))
