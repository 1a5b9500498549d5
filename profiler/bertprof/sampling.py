"""Statistics of repeated times: what may be said from samples, and how sure.

Pure Python, since reading a record must not wait for numpy. All intervals are two-sided at 95 %.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

MOST_SAMPLES = 100
"""Samples kept of a series in a record. The interval of a median shrinks with √n; 100 give it within a few per mille
on a quiet machine, and a record of BERT-large with 150 rows stays near 100 kB."""

FEWEST_OF_P95 = 20
"""Of fewer samples the largest one would be the 95th percentile."""

BEYOND = 0.025
"""The probability beyond each end of an interval."""

_NORMAL = NormalDist()
_Z = _NORMAL.inv_cdf(1 - BEYOND)


class Estimate(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    def scaled(self, factor: float) -> "Estimate":
        """The estimate of `factor` times the figure; `factor` ≥ 0."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def median(samples: Sequence[float]) -> float:
    """The middle sample, or the mean of the middle two.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_estimate(samples: Sequence[float]) -> Estimate:
    """The median with the interval between two order statistics, which supposes no distribution.

    Of fewer than FEWEST_OF_MEDIAN samples the interval is the range, which is too narrow for 95 %.
    """
    ordered = sorted(samples)
    k = rank_of_interval(len(ordered))
    return Estimate(median(ordered), ordered[k - 1], ordered[-k])


FEWEST_OF_MEDIAN = 6
"""Of 5 samples all are on one side of the median with probability 2 · 2⁻⁵ = 6 %, of 6 with 3 %."""

_MOST_COUNTED = 1000
"""From more samples on, the rank by the normal distribution is the exact one or next to it."""


def rank_of_interval(n: int) -> int:
    """The interval of the median of n samples goes from the k-th smallest to the k-th largest; this is k.

    It is that of the sign test: the largest k with P(Binomial(n, ½) < k) ≤ 2.5 %, and 1 where there is none (Conover,
    Practical Nonparametric Statistics, section 3.2).
    """
    if n > _MOST_COUNTED:
        return math.floor(n / 2 - _Z / 2 * math.sqrt(n))
    return _counted_rank(n)


@cache
def _counted_rank(n: int) -> int:
    reached = (k for k, outcomes in enumerate(_heads(n)) if 40 * outcomes > 1 << n)  # 2.5 %, in whole numbers
    return max(1, next(reached, 1))


def at_most(few: int, n: int) -> float:
    """P(Binomial(n, ½) ≤ few), exactly; 0 ≤ few ≤ n."""
    outcomes = next(itertools.islice(_heads(n), few, None))
    return outcomes / (1 << n)


def _heads(n: int) -> Iterator[int]:
    """How many of the 2ⁿ outcomes of n tosses have at most 0, 1, ... n heads."""
    outcomes = term = 1
    for i in range(n + 1):
        yield outcomes
        term = term * (n - i) // (i + 1)
        outcomes += term


def quantile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` of all do not exceed (Hyndman and Fan 1996, definition 1).

    Raises:
        ValueError: there are no samples, or `share` is not above 0 and at most 1.
    """
    if not samples or not 0 < share <= 1:
        raise ValueError("a quantile needs samples, and a share above 0 and at most 1")
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def share_estimate(part: Sequence[float], whole: Sequence[float]) -> Estimate:
    """The share of `part` in `whole`, both summed over the repeats.

    The interval is that of the ratio estimator by linearisation (Cochran, Sampling Techniques, 3rd ed., section 6.4):
    the standard error of r = Σx/Σy is √(Σ(x − r·y)² / (n(n − 1))) / ȳ, with Student's t, since repeats may be few. A
    share is more certain than a time: what slows a whole forward down slows its parts too.

    Raises:
        ValueError: the two are of different length, empty, or the whole is zero.
    """
    n = len(whole)
    total = math.fsum(whole)
    if n != len(part) or n == 0 or total <= 0:
        raise ValueError("a share needs as many samples of the part as of the whole, and a whole above zero")
    ratio = math.fsum(part) / total
    if n == 1:
        return Estimate(ratio, ratio, ratio)
    squares = math.fsum((x - ratio * y) ** 2 for x, y in zip(part, whole, strict=True))
    half = student_quantile(1 - BEYOND, n - 1) * math.sqrt(squares / (n * (n - 1))) / (total / n)
    return Estimate(ratio, max(0.0, ratio - half), ratio + half)


def student_cdf(t: float, freedom: float) -> float:
    """P(T ≤ t) of Student's t, by Wallace's normal approximation (1959, Annals of Mathematical Statistics 30, p. 1124).

    z = (8ν + 1)/(8ν + 3) · √(ν·ln(1 + t²/ν)). It errs by less than 0.002 from 2 degrees of freedom on, and in the tails
    to the safe side: it calls them more probable than they are.
    """
    z = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return _NORMAL.cdf(math.copysign(z, t))


def student_quantile(probability: float, freedom: float) -> float:
    """The t with P(T ≤ t) = `probability`: `student_cdf` solved for t, so that intervals and tests agree.

    That for 97.5 % is 4 % too wide at 2 degrees of freedom, 0.5 % at 4, 0.05 % at 10.
    """
    z = _NORMAL.inv_cdf(probability) * (8 * freedom + 3) / (8 * freedom + 1)
    return math.copysign(math.sqrt(freedom * math.expm1(z * z / freedom)), z)


def product_estimate(share: Estimate, whole: Estimate) -> Estimate:
    """The part's own figure: its share times the whole, relative errors added in quadrature."""
    value = share.value * whole.value
    if share.value <= 0 or whole.value <= 0:
        return Estimate(value, value, share.high * whole.high)
    relative = math.hypot(share.half_width / share.value, whole.half_width / whole.value)
    return Estimate(value, max(0.0, value * (1 - relative)), value * (1 + relative))


def sums(series: Iterable[Sequence[float]]) -> list[float]:
    """Several series of the same repeats together: the sum of each repeat."""
    return [math.fsum(samples) for samples in zip(*series, strict=True)]


def parts(samples: Sequence[float], number: int) -> list[Sequence[float]]:
    """A series as so many equal parts, one after another, as the processes of a record stand."""
    each = len(samples) // number
    return [samples[i * each : (i + 1) * each] for i in range(number)]


def blocks(count: int, most: int = MOST_SAMPLES) -> list[range]:
    """Cuts `count` consecutive repeats into at most `most` consecutive blocks of nearly equal size."""
    number = min(count, most)
    edges = [round(i * count / number) for i in range(number + 1)] if number else [0]
    return [range(a, b) for a, b in itertools.pairwise(edges)]
