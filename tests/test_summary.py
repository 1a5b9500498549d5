import math

import pytest

from bertprof.comparison import accuracy
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.summary import side_of
from handmade import cost, made


def sized(parameter_bytes: int) -> Breakdown:
    return made(cost(Component.FFN, 0, parameter_bytes=parameter_bytes), cost(Component.HEAD, parameter_bytes=0))


@pytest.mark.parametrize(
    ("size", "lost_to", "ratio"),
    [
        # Table 2 of Ganesh et al. 2020: model size in % of BERT-base's, accuracy on MNLI (84.6 before), ΔMS/ΔA.
        (11.5, 81.7, 30.52),  # (100 − 11.5)/(84.6 − 81.7) = 88.5/2.9
        (30.9, 81.4, 21.59),  # 69.1/3.2
        (11.7, 78.6, 14.72),  # 88.3/6
        (4.4, 72.6, 7.97),  # 95.6/12; the table cuts it off to 7.96
        (23.2, 84.3, 256.0),  # 76.8/0.3
        (13.3, 82.5, 41.29),  # 86.7/2.1; the table cuts it off to 41.28
        (100.0, 82.6, 0.0),
        (1.6, 71.0, 7.24),  # 98.4/13.6; the table cuts it off to 7.23
    ],
)
def test_the_ratio_is_that_of_the_surveys_table_2(size: float, lost_to: float, ratio: float):
    found = accuracy(sized(1000), sized(round(10 * size)), (84.6, lost_to), "MNLI")
    assert (found.metric, found.before, found.after) == ("MNLI", 84.6, lost_to)
    assert found.size_drop == pytest.approx(100 - size)
    assert found.size_drop_per_accuracy_drop == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize("after", [84.6, 84.600000000000009, 90.0])
def test_where_no_accuracy_is_lost_there_is_no_ratio(after: float):
    found = accuracy(sized(400), sized(100), (84.6, after), None)
    assert found.size_drop == 75
    assert found.size_drop_per_accuracy_drop is None


def test_a_model_of_no_bytes_saves_none():
    assert accuracy(sized(0), sized(9), (80.0, 70.0), None).size_drop == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e7, 101.0, -1.0])
def test_an_accuracy_has_to_be_a_number_of_points(value: float):
    with pytest.raises(
        UsageError, match=r"--accuracy .*: give the accuracy of each side in points from 0 to 100, as 84\.6"
    ):
        accuracy(sized(1), sized(1), (84.6, value), None)
    with pytest.raises(UsageError, match="--accuracy"):
        accuracy(sized(1), sized(1), (value, 84.6), None)


def test_a_side_says_what_it_is_and_how_long_its_forward_takes():
    samples = [float(i) for i in range(1, 21)]
    side = side_of(
        made(cost(Component.FFN, 4, samples), workload={"batch_size": 2, "sequence_length": 50}, processes=4, label="x")
    )
    assert (side.name, side.units, side.processes, side.samples) == ("x", 5, 4, 20)
    assert side.latency is not None
    # P(Bin(20, ½) < 6) = 2.07 %: ranks 6 and 15. 19 of 20 samples do not exceed the 95th percentile.
    assert (side.latency.median_ms, side.latency.low_ms, side.latency.high_ms) == (10.5, 6, 15)
    assert side.latency.p95_ms == 19
    assert side.latency.tokens_per_second == pytest.approx(1000 * 100 / 10.5)


def test_of_few_samples_there_is_no_95th_percentile_and_of_unknown_length_no_throughput():
    side = side_of(made(cost(Component.FFN, 0, [1.0] * 19), workload={"sequence_length": None}))
    assert side.latency is not None
    assert (side.latency.p95_ms, side.latency.tokens_per_second) == (None, None)
    untimed = side_of(made(cost(Component.FFN, 0)))
    assert (untimed.latency, untimed.samples) == (None, None)


def test_shares_are_no_points():
    one = made(cost(Component.FFN, 0, parameter_bytes=4))
    with pytest.raises(UsageError, match=r"--accuracy 0\.846 0\.817: these are shares; give points, as 84\.6"):
        accuracy(one, one, (0.846, 0.817), None)


def test_a_model_that_grew_saved_nothing_for_what_it_lost():
    small, large = (made(cost(Component.FFN, 0, parameter_bytes=size)) for size in (4, 8))
    found = accuracy(small, large, (84.6, 81.6), None)
    assert (found.size_drop, found.size_drop_per_accuracy_drop) == (-100.0, None)
