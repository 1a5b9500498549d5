import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertprof import sampling
from bertprof.sampling import Estimate

POSITIVE = st.floats(1e-3, 1e6)


@given(st.lists(POSITIVE, min_size=1, max_size=300))
def test_median_and_interval(samples: list[float]):
    estimate = sampling.median_estimate(samples)
    assert estimate.value == pytest.approx(statistics.median(samples))
    assert min(samples) <= estimate.low <= estimate.value <= estimate.high <= max(samples)


def test_ranks_are_those_of_the_sign_test():
    # P(Bin(10, ½) < 2) = (1 + 10)/1024 = 1.07 % ≤ 2.5 % < P(Bin(10, ½) < 3) = 56/1024: ranks 2 and 9.
    assert sampling.median_estimate([float(i) for i in range(1, 11)]) == Estimate(5.5, 2.0, 9.0)
    # Five samples cannot give 95 %: the interval is the range.
    assert sampling.median_estimate([3.0, 1.0, 2.0, 5.0, 4.0]) == Estimate(3.0, 1.0, 5.0)
    # The tables (Conover, table A3) give ranks 40 and 61 for n = 100.
    assert sampling.median_estimate([float(i) for i in range(1, 101)]) == Estimate(50.5, 40.0, 61.0)


@pytest.mark.parametrize("n", [20, 150, 400])
def test_interval_covers_the_true_median_as_often_as_it_says(n: int):
    generator = random.Random(1)
    hits = 0
    for _ in range(1000):
        estimate = sampling.median_estimate([generator.lognormvariate(0, 1) for _ in range(n)])
        hits += estimate.low <= 1.0 <= estimate.high
    assert hits >= 935  # 95 % of 1000, less 2 standard deviations of 6.9


@pytest.mark.parametrize("n", [10, 20, 50])
def test_share_interval_covers_also_with_few_repeats(n: int):
    generator = random.Random(2)
    hits = 0
    for _ in range(4000):
        whole = [generator.gauss(100, 10) for _ in range(n)]
        part = [0.3 * w + generator.gauss(0, 1) for w in whole]
        estimate = sampling.share_estimate(part, whole)
        hits += estimate.low <= 0.3 <= estimate.high
    assert 3760 <= hits <= 3840  # 95 % of 4000 within 3 standard deviations of 13.8


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (9, 2.262), (19, 2.093), (99, 1.984)])
def test_students_t_is_that_of_the_tables(freedom: int, quantile: float):
    assert sampling._student(freedom) == pytest.approx(quantile, rel=0.011)


def test_share_of_a_constant_fraction_is_certain():
    estimate = sampling.share_estimate([1.0, 2.0, 3.0], [4.0, 8.0, 12.0])
    assert estimate == pytest.approx((0.25, 0.25, 0.25))


@pytest.mark.parametrize(("part", "whole"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [0.0])])
def test_share_of_nothing_is_an_error(part: list[float], whole: list[float]):
    with pytest.raises(ValueError, match="share"):
        sampling.share_estimate(part, whole)


def test_product_adds_relative_errors_in_quadrature():
    product = sampling.product_estimate(Estimate(0.5, 0.47, 0.53), Estimate(100.0, 92.0, 108.0))
    relative = math.hypot(0.03 / 0.5, 8 / 100)  # = 0.1
    assert product == pytest.approx((50.0, 50 * (1 - relative), 50 * (1 + relative)))
    assert sampling.product_estimate(Estimate(0.0, 0.0, 0.1), Estimate(100.0, 90.0, 110.0)) == (0.0, 0.0, 11.0)


@given(st.integers(0, 5000), st.integers(1, 200))
def test_blocks_cut_everything_once_and_evenly(count: int, most: int):
    blocks = sampling.blocks(count, most)
    assert [i for block in blocks for i in block] == list(range(count))
    assert len(blocks) == min(count, most)
    sizes = {len(block) for block in blocks}
    assert not sizes or max(sizes) - min(sizes) <= 1


def test_no_samples_no_median():
    with pytest.raises(ValueError, match="no samples"):
        sampling.median([])
