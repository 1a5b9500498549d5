"""Steadiness: whether a series of times is of one state of the machine, or begins slower, or drifts. Pure Python."""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from bertprof import sampling

WARMING_FROM = 0.05
"""How much slower the first rounds are than the rest; less is lost in the spread of usual machines."""

FEWEST_ROUNDS = 10
"""Fewer rounds tell no trend from chance."""

_WARMING_LEVEL = 0.002
TREND_LEVEL = 0.003
"""Probabilities of a false alarm on a series of independent rounds; together below 1 %."""

_NORMAL = NormalDist()


class FirstRounds(NamedTuple):
    """How many rounds are looked at as the first ones, and how much slower they surely were than the rest, or 0."""

    rounds: int
    slower: float


class Trend(NamedTuple):
    """The relative change from the median of the first third to that of the last, and the p-value of a trend."""

    change: float
    p: float


def first_rounds(series: Sequence[float]) -> FirstRounds:
    """Whether the first tenth of a series was slower than the rest beyond what chance gives.

    By the rank-sum test (Mann and Whitney 1947, normal approximation). And each other tenth must have been faster by as
    much as matters: bursts that come and go are no warming up, nor is a slope.
    """
    n, k = len(series), max(4, len(series) // 10)
    if n < max(FEWEST_ROUNDS, 2 * k):
        return FirstRounds(k, 0.0)
    first, rest = series[:k], series[k:]
    above = sum((a > b) + 0.5 * (a == b) for a in first for b in rest)
    spread = math.sqrt(k * (n - k) * (n + 1) / 12 * _inflation(series))
    p = 1 - _NORMAL.cdf((above - k * (n - k) / 2 - 0.5) / spread)
    level = sampling.median(first)
    others = [sampling.median(rest[i : i + k]) for i in range(0, n - 2 * k + 1, k)]
    if p >= _WARMING_LEVEL or level < (1 + WARMING_FROM) * max(others):
        return FirstRounds(k, 0.0)
    return FirstRounds(k, level / sampling.median(rest) - 1)


def trend(series: Sequence[float]) -> Trend:
    """The trend or shift of a series, and whether chance could give it, by the test of Mann (1945) and Kendall.

    It counts the pairs of rounds of which the later is slower, so that outliers weigh no more than others. The variance
    of that count is widened for rounds that are like their neighbours (Yue and Wang 2004).
    """
    n = len(series)
    if n < FEWEST_ROUNDS:
        return Trend(0.0, 1.0)
    third = n // 3
    change = sampling.median(series[-third:]) / sampling.median(series[:third]) - 1
    rises = sum((b > a) - (b < a) for a, b in itertools.combinations(series, 2))
    spread = math.sqrt(n * (n - 1) * (2 * n + 5) / 18 * _inflation(series))
    p = 2 * (1 - _NORMAL.cdf(max(0, abs(rises) - 1) / spread))
    return Trend(change, p if change * rises > 0 else 1.0)


def levels(series: Sequence[float]) -> list[float]:
    """A series as the medians of at most MOST_SAMPLES consecutive blocks."""
    return [sampling.median(series[block.start : block.stop]) for block in sampling.blocks(len(series))]


def _inflation(series: Sequence[float]) -> float:
    """How many times wider a sum's variance is than of independent rounds: (1 + r)/(1 − r), r being the correlation of
    neighbours' ranks (of a first-order process; Bayley and Hammersley 1946), trends and shifts taken out before."""
    n = len(series)
    residuals = []
    for i, x in enumerate(series):
        reach = min(max(2, n // 6), i, n - 1 - i)
        residuals.append(x - sampling.median(series[i - reach : i + reach + 1]))
    ordered = sorted(residuals)
    # Twice the distance of the middle of its ties from the middle of all.
    ranks = [bisect_left(ordered, x) + bisect_right(ordered, x) - n for x in residuals]
    square = sum(rank * rank for rank in ranks)
    r = sum(a * b for a, b in itertools.pairwise(ranks)) / square if square else 0.0
    r = min(max(0.0, r), 0.9)
    return (1 + r) / (1 - r)
