import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertprof import evidence
from bertprof.evidence import FURTHEST, Evidence, Processes, Rounds

POSITIVE = st.floats(1e-3, 1e6)
ROUNDS = st.integers(6, 40).flatmap(
    lambda n: st.tuples(st.lists(POSITIVE, min_size=n, max_size=n), st.lists(POSITIVE, min_size=n, max_size=n))
)
LIMITS = st.floats(0.01, 100)


def rounds(before: list[float], after: list[float]) -> Rounds:
    found = evidence.of_rounds(before, after)
    assert found is not None
    return found


def processes(before: list[float], after: list[float]) -> Processes:
    found = evidence.of_processes(before, after)
    assert found is not None
    return found


# Rounds ---------------------------------------------------------------------------------------------------------------


def test_rounds_give_the_median_of_their_ratios_with_the_interval_of_the_sign_test():
    # Ratios 1 to 10. P(Bin(10, ½) < 2) = 11/1024 = 1.07 % ≤ 2.5 %: ranks 2 and 9; the middle two are 5 and 6.
    found = rounds([2.0] * 10, [2.0 * i for i in (3, 1, 4, 10, 5, 9, 2, 6, 8, 7)])
    assert (found.samples, found.ratio, found.low, found.high) == (10, pytest.approx(math.sqrt(30)), 2, 9)
    # Ten of ten are above 0.5, and 2⁻¹⁰ is how probable that is where half are; nine are above 1: (1 + 10)/2¹⁰.
    assert found.p_above(0.5) == 1 / 1024
    assert found.p_above(1.0) == 11 / 1024
    assert found.p_above(10.0) == 1
    assert found.p_below(10.0) == 11 / 1024
    assert found.p_below(10.5) == 1 / 1024
    assert found.p_below(0.5) == 1


def test_pairs_cancel_the_drift_of_a_machine():
    drift = [1.02**i for i in range(30)]  # at the end 1.8 times as slow
    found = rounds(drift, [1.1 * x for x in drift])
    assert (found.ratio, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))


def test_an_outlier_does_not_move_the_interval():
    before, after = [1.0] * 20, [1.0 + i / 1000 for i in range(20)]
    far = [*after[:-1], 1e6]
    assert rounds(before, after).high == rounds(before, far).high
    assert rounds(before, after).ratio == rounds(before, far).ratio


@pytest.mark.parametrize("n", [1, 5])
def test_fewer_than_six_rounds_are_no_evidence(n: int):
    assert evidence.of_rounds([1.0] * n, [2.0] * n) is None
    assert evidence.of_rounds([], []) is None


def test_a_round_of_no_time_is_no_evidence():
    assert evidence.of_rounds([1.0] * 9 + [0.0], [1.0] * 10) is None
    assert evidence.of_rounds([1.0] * 10, [1.0] * 9 + [0.0]) is None


def test_rounds_are_paired():
    with pytest.raises(ValueError, match="zip"):
        evidence.of_rounds([1.0] * 10, [1.0] * 11)


def test_ratios_beyond_all_measure_are_held_in():
    found = rounds([1e-300] * 6, [1e300] * 6)
    assert (found.low, found.ratio, found.high) == (FURTHEST, FURTHEST, FURTHEST)
    found = rounds([1e300] * 6, [5e-324] * 6)
    assert found.ratio == 1 / FURTHEST


@given(ROUNDS, LIMITS)
def test_rounds_read_backwards_say_the_same(sides: tuple[list[float], list[float]], limit: float):
    there, back = rounds(*sides), rounds(*reversed(sides))
    assert back.ratio == pytest.approx(1 / there.ratio, rel=1e-12)
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low), rel=1e-12)
    if min(abs(ratio / limit - 1) for ratio in there.ratios) > 1e-9:
        assert back.p_below(1 / limit) == there.p_above(limit)
        assert back.p_above(1 / limit) == there.p_below(limit)


@given(ROUNDS)
def test_the_interval_of_rounds_is_that_of_their_test(sides: tuple[list[float], list[float]]):
    found = rounds(*sides)
    assert found.low <= found.ratio <= found.high
    # Just inside of either end the test does not reject at 2.5 %, just outside it does.
    assert found.p_above(found.low) > 0.025 >= found.p_above(math.nextafter(found.low, 0))
    assert found.p_below(found.high) > 0.025 >= found.p_below(math.nextafter(found.high, math.inf))


def test_a_thousand_rounds():
    found = rounds([1.0] * 1000, [1.0 + i / 1e6 for i in range(1000)])
    assert found.low < 1.0005 < found.high
    assert found.p_above(0.9) == 2.0**-1000
    # 470 rounds are below; by the normal distribution P(Bin(1000, ½) ≤ 470) = Φ(−29.5/√250) = Φ(−1.866) = 3.1 %.
    assert found.p_above(1 + 469.5e-6) == pytest.approx(0.031, abs=0.0005)


# Processes ------------------------------------------------------------------------------------------------------------


def test_processes_give_welchs_t_on_logarithms():
    # Logarithms 0, 1, 2 and 4, 6, 8: means 1 and 6, variances 1 and 4, so error √(1/3 + 4/3) = √(5/3) and
    # (5/3)² / ((1/3)²/2 + (4/3)²/2) = (25/9) / (17/18) = 50/17 degrees of freedom (Welch 1947).
    found = processes([math.exp(x) for x in (0, 1, 2)], [math.exp(x) for x in (4, 6, 8)])
    assert found.samples == 3
    assert (found.difference, found.error, found.freedom) == pytest.approx((5, math.sqrt(5 / 3), 50 / 17))
    assert found.ratio == pytest.approx(math.exp(5))
    # t = 5 / √(5/3) = 3.873. By the tables (Abramowitz and Stegun, 26.10) it is 3.182 and 4.541 at 2.5 % and 1 % of 3
    # degrees of freedom, 2.920 and 4.303 at 5 % and 2.5 % of 2.
    assert 0.01 < found.p_above(1.0) < 0.03
    assert found.p_below(1.0) == pytest.approx(1 - found.p_above(1.0))
    # t at 97.5 % is 3.182 for 3 degrees of freedom, 4.303 for 2: the interval is 5 ± 3.2 to 3.5 times the error.
    assert 3.182 < (math.log(found.high) - 5) / found.error < 3.4
    assert math.log(found.high) - 5 == pytest.approx(5 - math.log(found.low))


def test_of_equal_sides_welchs_t_is_students():
    found = processes([1.0, 2.0, 4.0, 8.0], [3.0, 6.0, 12.0, 24.0])
    assert found.freedom == pytest.approx(6)  # 2 · (4 − 1)
    assert found.ratio == pytest.approx(3)


def test_paired_processes_give_students_t_on_their_ratios():
    # Ratios e⁰, e¹, e²: mean 1, variance 1, error √(1/3), 2 degrees of freedom. Each process has three rounds.
    ratios = [math.exp(x) for x in (0, 1, 2)]
    before = [[1.0, 5.0, 2.0]] * 3
    after = [[r, 5.0 * r, 2.0 * r] for r in ratios]
    found = evidence.of_paired_processes(before, after)
    assert found is not None
    assert (found.samples, found.freedom) == (3, 2)
    assert (found.difference, found.error) == pytest.approx((1, math.sqrt(1 / 3)))


def test_what_differs_between_processes_does_not_average_out_by_more_rounds():
    few = evidence.of_paired_processes([[1.0]] * 4, [[1.0], [1.1], [1.2], [1.3]])
    many = evidence.of_paired_processes([[1.0] * 99] * 4, [[1.0] * 99, [1.1] * 99, [1.2] * 99, [1.3] * 99])
    assert few == many


@pytest.mark.parametrize(
    ("before", "after"),
    [([1.0, 1.0], [1.0, 1.0]), ([1.0] * 5, [1.0] * 2), ([1.0, 1.0, 0.0], [1.0] * 3), ([1.0] * 3, [0.0] * 3)],
)
def test_too_few_processes_or_one_of_no_time_are_no_evidence(before: list[float], after: list[float]):
    assert evidence.of_processes(before, after) is None
    if len(before) == len(after):
        assert evidence.of_paired_processes([[x] for x in before], [[x] for x in after]) is None


def test_processes_that_agree_exactly_are_certain():
    found = processes([1.0] * 3, [1.5] * 3)
    assert (found.low, found.ratio, found.high) == pytest.approx((1.5, 1.5, 1.5))
    assert (found.p_above(1.4), found.p_above(1.6), found.p_below(1.4), found.p_below(1.6)) == (0, 1, 1, 0)


def test_identical_samples_are_certain():
    found = evidence.of_identical(7)
    assert (found.samples, found.low, found.ratio, found.high) == (7, 1, 1, 1)
    assert (found.p_above(1.0), found.p_below(1.0), found.p_above(0.99), found.p_below(1.01)) == (1, 1, 0, 0)


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_no_ratio_is_below_nothing(limit: float):
    for found in (processes([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), rounds([1.0] * 6, [1.0] * 6)):
        assert found.p_above(limit) < 0.02
        assert found.p_below(limit) == 1


def test_an_interval_beyond_all_measure_is_held_in():
    found = processes([1e-300, 1.0, 1e300], [1e300, 1.0, 1e-300])
    assert (found.low, found.high) == pytest.approx((1 / FURTHEST, FURTHEST))


PROCESSES = st.lists(POSITIVE, min_size=3, max_size=8)


@given(PROCESSES, PROCESSES, LIMITS)
def test_processes_read_backwards_say_the_same(before: list[float], after: list[float], limit: float):
    there, back = processes(before, after), processes(after, before)
    assert there.low <= there.ratio <= there.high
    assert back.ratio == pytest.approx(1 / there.ratio, rel=1e-9)
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low), rel=1e-9)
    assert min(len(before), len(after)) - 1 <= there.freedom * (1 + 1e-9)
    assert there.freedom <= (len(before) + len(after) - 2) * (1 + 1e-9)
    if there.error > 0:
        assert back.p_below(1 / limit) == pytest.approx(there.p_above(limit), abs=1e-9)
        # Interval and test agree.
        if there.high < FURTHEST and there.low > 1 / FURTHEST:
            assert there.p_above(there.low) == pytest.approx(0.025, abs=1e-6)
            assert there.p_below(there.high) == pytest.approx(0.025, abs=1e-6)


# How often it is right ------------------------------------------------------------------------------------------------


def noisy_rounds(generator: random.Random, ratio: float, n: int) -> Evidence:
    """A machine that drifts, with spikes in one round of ten: each side's time is its own noise on a common one."""
    machine = [generator.lognormvariate(0, 0.2) * (3 if generator.random() < 0.1 else 1) for _ in range(n)]
    before = [m * generator.lognormvariate(0, 0.05) for m in machine]
    return rounds(before, [ratio * m * generator.lognormvariate(0, 0.05) for m in machine])


def noisy_processes(generator: random.Random, ratio: float, n: int) -> Evidence:
    """Processes that differ by 3 %, the second side's by 6 %: what the yardstick leaves of 13 %, on one side twice."""
    before = [generator.lognormvariate(0, 0.03) for _ in range(n)]
    return processes(before, [ratio * generator.lognormvariate(0, 0.06) for _ in range(n)])


@pytest.mark.parametrize(
    ("make", "n"), [(noisy_rounds, 10), (noisy_rounds, 57), (noisy_processes, 3), (noisy_processes, 5)]
)
def test_the_interval_covers_as_often_as_it_says(make: Callable[..., Evidence], n: int):
    generator = random.Random(1)
    hits = 0
    for _ in range(4000):
        found = make(generator, 1.3, n)
        hits += found.low <= 1.3 <= found.high
    assert hits >= 3759  # 95 % of 4000, less 3 standard deviations of 13.8


@pytest.mark.parametrize(("make", "n"), [(noisy_rounds, 10), (noisy_rounds, 57), (noisy_processes, 5)])
def test_nothing_changed_hardly_ever_fails_a_gate_of_5_percent(make: Callable[..., Evidence], n: int):
    generator = random.Random(2)
    failed = sum(make(generator, 1.0, n).low > 1.05 for _ in range(1000))
    assert failed <= 10


def test_what_stands_at_its_limit_fails_no_more_often_than_the_level():
    generator = random.Random(3)
    for make in (noisy_rounds, noisy_processes):
        rejected = sum(make(generator, 1.05, 6).p_above(1.05) <= 0.025 for _ in range(1000))
        assert rejected <= 25 + 3 * math.sqrt(1000 * 0.025 * 0.975)


def test_a_tenth_more_is_caught():
    generator = random.Random(4)
    caught = sum(noisy_rounds(generator, 1.1, 100).low > 1.05 for _ in range(300))
    assert caught >= 0.95 * 300


# Several tests --------------------------------------------------------------------------------------------------------


def test_holm_adjusts_step_by_step():
    # Sorted 0.005, 0.01, 0.03, 0.04: times 4, 3, 2, 1 is 0.02, 0.03, 0.06, 0.04, which must not fall: 0.06.
    assert evidence.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert evidence.holm([0.5, 0.9]) == [1, 1]
    assert evidence.holm([0.02]) == [0.02]
    assert evidence.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=10))
def test_holm_lies_between_each_value_and_bonferronis(p_values: list[float]):
    adjusted = evidence.holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1, len(p_values) * p)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)
