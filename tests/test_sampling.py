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


@given(st.integers(1, 300))
def test_the_rank_is_the_largest_that_the_sign_test_grants(n: int):
    k = sampling.rank_of_interval(n)
    below = [sum(math.comb(n, i) for i in range(k)) / 2**n for k in (k, k + 1)]  # P(Bin(n, ½) < k), < k + 1
    assert below[0] <= 0.025 or k == 1
    assert below[1] > 0.025
    assert (below[0] <= 0.025) == (n >= sampling.FEWEST_OF_MEDIAN)


def test_the_rank_of_many_is_that_of_the_normal_distribution():
    for n in (900, 1000, 1001, 5000):
        assert sampling.rank_of_interval(n) == pytest.approx(n / 2 - 0.98 * math.sqrt(n), abs=1)


def test_tosses_of_a_coin():
    # 1, 4, 6, 4, 1 of 16
    assert [sampling.at_most(few, 4) for few in range(5)] == [1 / 16, 5 / 16, 11 / 16, 15 / 16, 1]
    assert sampling.at_most(500, 1001) == 0.5
    assert sampling.at_most(5000, 10_001) == 0.5
    assert sampling.at_most(0, 1000) == 2**-1000
    assert sampling.at_most(0, 5000) == 0  # far below the least float


def test_a_quantile_is_a_sample_that_so_many_do_not_exceed():
    samples = [float(i) for i in range(20, 0, -1)]
    assert [sampling.quantile(samples, share) for share in (0.01, 0.05, 0.051, 0.5, 0.95, 1.0)] == [1, 1, 2, 10, 19, 20]
    assert sampling.quantile([3.0], 0.95) == 3


@given(st.lists(POSITIVE, min_size=1, max_size=50), st.floats(0.001, 1))
def test_so_many_samples_do_not_exceed_a_quantile_and_of_smaller_ones_too_few(samples: list[float], share: float):
    found = sampling.quantile(samples, share)
    assert sum(sample <= found for sample in samples) >= share * len(samples) - 1e-9
    assert sum(sample < found for sample in samples) < share * len(samples)


@pytest.mark.parametrize(("samples", "share"), [([], 0.5), ([1.0], 0.0), ([1.0], 1.1), ([1.0], math.nan)])
def test_a_quantile_of_nothing_is_an_error(samples: list[float], share: float):
    with pytest.raises(ValueError, match="quantile"):
        sampling.quantile(samples, share)


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


# Quantiles of Student's t for 97.5 %, 99 % and 99.5 % (Abramowitz and Stegun, table 26.10), and how much wider at most.
TABLE = {
    2: (4.303, 6.965, 9.925, 0.13),
    3: (3.182, 4.541, 5.841, 0.04),
    4: (2.776, 3.747, 4.604, 0.016),
    8: (2.306, 2.896, 3.355, 0.003),
    20: (2.086, 2.528, 2.845, 0.0005),
    120: (1.980, 2.358, 2.617, 0.0005),
}


@pytest.mark.parametrize("freedom", TABLE)
def test_students_t_is_that_of_the_tables_or_a_little_wider(freedom: int):
    *quantiles, wider = TABLE[freedom]
    for probability, quantile in zip((0.975, 0.99, 0.995), quantiles, strict=True):
        found = sampling.student_quantile(probability, freedom)
        assert quantile - 0.0005 <= found <= quantile * (1 + wider) + 0.0005  # half a unit of the table's last place
        assert sampling.student_cdf(quantile, freedom) == pytest.approx(probability, abs=0.002)


def test_students_t_has_a_closed_form_with_2_degrees_of_freedom():
    # P(T ≤ t) = 1/2 + t / (2·√(2 + t²))
    for t in (-30.0, -3.0, -0.5, 0.0, 0.1, 1.0, 4.0, 100.0):
        assert sampling.student_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=0.002)


@given(st.floats(1e-9, 1 - 1e-9), st.floats(1, 1e6))
def test_students_quantile_is_its_distribution_backwards_and_both_are_symmetric(probability: float, freedom: float):
    t = sampling.student_quantile(probability, freedom)
    assert sampling.student_cdf(t, freedom) == pytest.approx(probability, rel=1e-6)
    assert sampling.student_cdf(-t, freedom) == pytest.approx(1 - probability, rel=1e-6)


def test_students_t_with_many_degrees_of_freedom_is_normal():
    assert sampling.student_quantile(0.975, 1e9) == pytest.approx(1.959964, abs=1e-6)


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
