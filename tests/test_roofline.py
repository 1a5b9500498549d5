"""The roofline of a device that does 100 GFLOP/s, moves 40 to 10 GB/s, and needs 1 µs for an operator."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertprof import roofline
from bertprof.components import Component
from bertprof.observations import Bandwidth, Peaks
from bertprof.record import Breakdown, Caveat, Cost, Operator
from handmade import breakdowns, cost, made

MB = 1_000_000
GB = 1_000_000_000


def peaks(**fields: Any) -> Peaks:
    """The device's; between 1 and 100 MB each factor of 10 costs 15 GB/s."""
    points = [(1 * MB, 40), (100 * MB, 10)]
    given: dict[str, Any] = {
        "dtype": "float32",
        "threads": 1,
        "flops_per_s": 100.0 * GB,
        "bandwidths": [Bandwidth(working_set_bytes=size, bytes_per_s=float(speed * GB)) for size, speed in points],
        "launch_ns": 1000.0,
        "measured": "2026-11-23T12:00:00+00:00",
        **fields,
    }
    return Peaks(**given)


def calls(number: int) -> dict[str, Operator]:
    return {"aten::x": Operator(calls=number, macs=0)}


def work(component: Component, unit: int | None, flops: int, moved: int | None, ms: float, **fields: Any) -> Cost:
    """A row of one operator, unless it is told otherwise."""
    return cost(component, unit, [ms], flops=flops, bytes_moved=moved, **{"operators": calls(1), **fields})


def record(*costs: Cost, **fields: Any) -> Breakdown:
    return made(*costs, **{"peaks": peaks(), **fields})


def line(*costs: Cost, **fields: Any) -> roofline.Roofline:
    found = roofline.of(record(*costs, **fields), costs)
    assert found is not None
    return found


def test_arithmetic_bounds_what_has_much_of_it():
    # 200 MFLOP take 2 ms at 100 GFLOP/s, 1 MB takes 0.025 ms at 40 GB/s; 8 ms were measured.
    found = line(work(Component.FFN, 0, 200 * MB, 1 * MB, 8.0))
    assert (found.compute_ms, found.memory_ms, found.launch_ms) == (2.0, 0.025, 0.001)
    assert (found.attainable_ms, found.share, found.bound) == (2.0, 0.25, "compute")
    assert found.intensity == 200
    assert found.flops_per_s == 25 * GB  # 200 MFLOP in 8 ms
    assert found.bytes_per_s == pytest.approx(0.125 * GB)


def test_traffic_bounds_what_moves_much():
    # 1 MFLOP takes 0.01 ms, 1 MB 0.025 ms; 0.1 ms were measured.
    found = line(work(Component.ADD_NORM, 0, 1 * MB, 1 * MB, 0.1))
    assert (found.compute_ms, found.memory_ms) == (0.01, 0.025)
    assert (found.attainable_ms, found.share, found.bound) == (0.025, 0.25, "memory")
    assert found.intensity == 1


def test_the_ridge_parts_them():
    # 100 GFLOP/s over 40 GB/s: at 2.5 FLOP/byte both take the same.
    bounds = [line(work(Component.FFN, 0, flops, 1 * MB, 1.0)).bound for flops in (2_499_999, 2_500_000, 2_500_001)]
    assert bounds == ["memory", "compute", "compute"]


def test_many_small_operators_are_bound_by_being_launched():
    # 30 operators of 1 µs are 0.030 ms, above the 0.025 ms of 1 MB; 25 are not.
    many = work(Component.ADD_NORM, 0, 1 * MB, 1 * MB, 0.1, operators=calls(30))
    assert (line(many).launch_ms, line(many).bound) == (pytest.approx(0.03), "launch")
    assert line(many).share == pytest.approx(0.25)  # of the roofline, which knows no launches
    few = work(Component.ADD_NORM, 0, 1 * MB, 1 * MB, 0.1, operators=calls(25))
    assert line(few).bound == "memory"


@pytest.mark.parametrize(
    ("size", "speed"),
    [
        (1, 40.0),  # below the first
        (1 * MB, 40.0),
        (10 * MB, 25.0),  # half the way from 1 to 100 MB
        (31_622_777, 17.5),  # 10^1.5 MB: three quarters
        (100 * MB, 10.0),
        (10**15, 10.0),  # beyond the last
    ],
)
def test_bandwidth_between_the_measured(size: float, speed: float):
    assert roofline.bandwidth(peaks(), size) == pytest.approx(speed * GB)


def test_bandwidth_of_one_point():
    one = peaks(bandwidths=[Bandwidth(working_set_bytes=5, bytes_per_s=7.0)])
    assert [roofline.bandwidth(one, size) for size in (1, 5, 9)] == [7.0] * 3


def test_the_working_set_of_activations_is_that_of_an_operator():
    # 30 MB by 3 operators: 10 MB each, at 25 GB/s.
    three = work(Component.ADD_NORM, 0, 0, 30 * MB, 2.0, operators=calls(3))
    assert line(three).memory_ms == pytest.approx(1.2)
    # Of what has no operator with arithmetic it is all that is moved: 100 MB at 10 GB/s.
    none = work(Component.OTHER, 0, 0, 100 * MB, 20.0, operators={})
    assert line(none).memory_ms == pytest.approx(10.0)


def test_the_working_set_of_weights_is_all_weights():
    # 100 MB of weights in two rows are read at 10 GB/s: 50 MB take 5 ms; 1 MB of activations at 40 GB/s 0.025 ms.
    rows = [work(Component.FFN, unit, 0, 51 * MB, 10.0, parameter_bytes=50 * MB) for unit in (0, 1)]
    assert roofline.of(record(*rows), rows[:1]).memory_ms == pytest.approx(5.025)  # type: ignore[union-attr]
    # A table of embeddings is looked up in, not read, and is none of them: 10 MB of weights are then all, at 25 GB/s.
    table = work(Component.EMBEDDING, None, 0, 1 * MB, 1.0, parameter_bytes=500 * MB)
    linear = work(Component.FFN, 0, 0, 10 * MB, 1.0, parameter_bytes=10 * MB)
    breakdown = record(table, linear)
    assert roofline.of(breakdown, [table]).memory_ms == pytest.approx(0.025)  # type: ignore[union-attr]
    assert roofline.of(breakdown, [linear]).memory_ms == pytest.approx(0.4)  # type: ignore[union-attr]


def test_weights_that_units_share_are_read_by_each():
    # As ALBERT's: 10 MB stand outside the units, and each of two reads them at 25 GB/s (0.4 ms), and 1 MB at 40 GB/s.
    shared = cost(Component.FFN, None, [0.0], parameter_bytes=10 * MB, bytes_moved=0)
    units = [work(Component.FFN, unit, 0, 11 * MB, 1.0) for unit in (0, 1)]
    breakdown = record(shared, *units)
    assert roofline.of(breakdown, units[:1]).memory_ms == pytest.approx(0.425)  # type: ignore[union-attr]
    assert roofline.of(breakdown, breakdown.costs).memory_ms == pytest.approx(0.85)  # type: ignore[union-attr]


def test_what_moves_fewer_bytes_than_it_holds_reads_no_more_than_that():
    # A head that nothing runs through holds 100 MB and reads 1 MB of them, at the speed of all: 10 GB/s.
    assert line(work(Component.HEAD, None, 0, 1 * MB, 1.0, parameter_bytes=100 * MB)).memory_ms == pytest.approx(0.1)


def test_units_add_up_each_below_its_own_roof():
    # One is bound by 2 ms of arithmetic, the other by 2.5 ms of traffic: 100 MB by 100 operators.
    rows = (
        work(Component.FFN, 0, 200 * MB, 1 * MB, 6.0),
        work(Component.FFN, 1, 1 * MB, 100 * MB, 3.0, operators=calls(100)),
    )
    found = line(*rows)
    assert found.compute_ms == pytest.approx(2.01)
    assert found.memory_ms == pytest.approx(2.525)
    assert found.attainable_ms == pytest.approx(4.5)
    assert found.share == pytest.approx(0.5)
    assert found.bound == "memory"
    assert found.flops == 201 * MB


def test_what_computes_and_moves_nothing_has_no_roof():
    found = line(work(Component.OTHER, None, 0, 0, 1.0, operators={}))
    assert (found.share, found.bound, found.intensity, found.flops_per_s, found.bytes_per_s) == (None,) * 5
    # That its operators are launched can be said all the same.
    assert line(work(Component.OTHER, None, 0, 0, 1.0)).bound == "launch"


def test_without_time_nothing_is_reached():
    rows = (work(Component.FFN, 0, 1, 1, 0.0), work(Component.HEAD, None, 0, 0, 1.0))
    found = roofline.of(record(*rows), rows[:1])
    assert found is not None
    assert (found.share, found.flops_per_s, found.bytes_per_s) == (None, None, None)


# Beside the graph clock -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events_ms", "bound"),
    [(4.0, "compute"), (4.99, "compute"), (5.0, "launch"), (9.0, "launch")],  # 1.25 × 4 ms
)
def test_beside_a_graph_clock_launches_are_seen(events_ms: float, bound: str):
    # 200 MFLOP take 2 ms, the device works 4 ms. 5,000 operators of 1 µs say nothing of a graph, which launches none.
    row = work(Component.FFN, 0, 200 * MB, 1 * MB, events_ms, operators=calls(5000), device_time_ms=[4.0])
    found = line(row, peaks=peaks(threads=None))
    assert (found.by_graph, found.time_ms, found.share, found.bound) == (True, 4.0, 0.5, bound)


def test_rows_by_the_graph_clock_add_up():
    # Of three forwards of 3, 9 and 6 ms the row takes 1, 4 and 1: a third of all, of the median 6 ms.
    rows = (
        cost(Component.FFN, 0, [10.0] * 3, bytes_moved=1, device_time_ms=[1.0, 4.0, 1.0]),
        cost(Component.HEAD, None, [10.0] * 3, bytes_moved=1, device_time_ms=[2.0, 5.0, 5.0]),
    )
    breakdown = record(*rows)
    times = [roofline.of(breakdown, part).time_ms for part in (rows[:1], rows[1:], rows)]  # type: ignore[union-attr]
    assert times == pytest.approx([2.0, 4.0, 6.0])


# Where there is none --------------------------------------------------------------------------------------------------

FFN = work(Component.FFN, 0, 100, 100, 1.0)
NO_KERNEL = Caveat(code="no-kernel", text="t")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workload": {"backend": "fbgemm"}}, "the model is run by fbgemm"),
        ({"caveats": [NO_KERNEL]}, "dequantised"),
        ({"peaks": peaks(dtype="bfloat16")}, "the peaks are those of bfloat16, the model computes in float32"),
        ({"peaks": peaks(threads=4)}, "the peaks are those of 4 threads, the times of 1"),
    ],
)
def test_where_peaks_are_of_other_work_there_is_none(fields: dict[str, Any], said: str):
    breakdown = record(FFN, **fields)
    reason = roofline.missing(breakdown)
    assert reason is not None
    assert said in reason
    assert reason.startswith("no roofline: ")
    assert roofline.of(breakdown, breakdown.costs) is None
    assert roofline.explanation(breakdown, Component.FFN) is None
    assert roofline.cause(breakdown, Component.FFN) is None
    assert roofline.above_roof(breakdown) == {}


def test_without_peaks_or_times_there_is_none_and_nothing_to_say():
    for breakdown in (record(FFN, peaks=None), record(cost(Component.FFN, 0, flops=1, bytes_moved=1))):
        assert roofline.of(breakdown, breakdown.costs) is None
        assert roofline.missing(breakdown) is None


def test_bytes_that_are_not_known_are_not_zero():
    rows = (FFN, work(Component.FFN, 1, 100, None, 1.0))
    breakdown = record(*rows)
    assert roofline.of(breakdown, rows) is None
    assert roofline.of(breakdown, rows[:1]) is not None


def test_a_time_that_stands_with_others_has_no_roof_but_together_with_them():
    # One function does the work of both, and its time stands in softmax attention.
    rows = (
        work(Component.ATTENTION_LINEAR_IN, 0, 100, 100, 0.0, macs=50),
        work(Component.SOFTMAX_ATTENTION, 0, 100, 100, 2.0, macs=50),
        FFN,
    )
    breakdown = record(*rows, caveats=[Caveat(code="time-not-split", text="t", component=Component.SOFTMAX_ATTENTION)])
    assert [roofline.of(breakdown, [row]) is None for row in rows] == [True, True, False]
    assert roofline.of(breakdown, rows[1:]) is None
    assert roofline.of(breakdown, rows[:2]) is not None
    assert roofline.of(breakdown, rows) is not None


# What is said of it ---------------------------------------------------------------------------------------------------

ATTENTION = work(Component.SOFTMAX_ATTENTION, 0, 10 * MB, 10 * MB, 4.0, operators=calls(10))
LINEAR = work(Component.FFN, 0, 390 * MB, 1 * MB, 6.0)


def test_the_explanation():
    # 10 of 400 MFLOP and 4 of 10 ms; 10 MB by 10 operators take 0.25 ms at 40 GB/s, a 16th of 4 ms.
    breakdown = record(ATTENTION, LINEAR)
    assert roofline.explanation(breakdown, Component.SOFTMAX_ATTENTION) == (
        "softmax-attention: 2.5 % of FLOPs, 40.0 % of time: 1.00 FLOP/byte, "
        "far below its roof, which is that of memory (6.2 % of it)"
    )
    assert roofline.explanation(breakdown, Component.FFN) == (
        "ffn: 97.5 % of FLOPs, 60.0 % of time: 390 FLOP/byte, compute-bound (65.0 % of its roof)"
    )
    assert roofline.explanation(breakdown, Component.HEAD) is None


def test_the_cause_is_a_lower_roof_or_to_be_further_below_it():
    # 10 MFLOP in 4 ms are 2.5 GFLOP/s, of the 40 that 1 FLOP/byte allows: 6.25 %. All: 400 MFLOP in 10 ms are 40
    # GFLOP/s; at their roofs they take 0.25 and 3.9 ms, which is 96.4 GFLOP/s: 41.5 %. 2.41 · 6.64 is 16.
    breakdown = record(ATTENTION, LINEAR)
    assert roofline.cause(breakdown, Component.SOFTMAX_ATTENTION) == (
        "memory-bound, at 1.00 FLOP/byte: 2.50 of the 40.0 GFLOP/s that its roof allows, the whole model 40.0 of 96.4; "
        "its roof is 2.41 × lower and it is 6.64 × further below its roof"
    )
    # 65 of 100 GFLOP/s: what is faster than the whole has no such cause.
    assert roofline.cause(breakdown, Component.FFN) == (
        "compute-bound, at 390 FLOP/byte: 65.0 of the 100 GFLOP/s that its roof allows, the whole model 40.0 of 96.4"
    )
    assert roofline.cause(breakdown, Component.HEAD) is None


@pytest.mark.parametrize(("ms", "above"), [(1.0, {}), (0.96, {}), (0.94, {Component.FFN: 1 / 0.94})])
def test_what_is_above_its_roof_is_told(ms: float, above: dict[Component, float]):
    # 100 MFLOP take 1 ms at most: up to 5 % may be chance.
    found = roofline.above_roof(record(work(Component.FFN, 0, 100 * MB, 1 * MB, ms)))
    assert found == pytest.approx(above)


@given(breakdowns(), st.data())
def test_of_any_record_what_is_allowed_is_no_less_than_each_part_and_adds_up(breakdown: Breakdown, data: st.DataObject):
    # Nothing that would leave rows without a roof.
    if breakdown.peaks is None:
        breakdown.peaks = peaks()
    breakdown.peaks.dtype, breakdown.peaks.threads = "float32", None
    for each in breakdown.costs:
        each.bytes_moved = each.bytes_moved or 0
    breakdown.caveats = []
    found = roofline.of(breakdown, breakdown.costs)
    parts = [roofline.of(breakdown, [each]) for each in breakdown.costs]
    if not breakdown.timed:
        assert found is None
        assert parts == [None] * len(parts)
        return
    assert found is not None
    for one in (found, *parts):
        assert one is not None
        assert one.attainable_ms >= max(one.compute_ms, one.memory_ms) * (1 - 1e-9)
        assert one.attainable_ms <= (one.compute_ms + one.memory_ms) * (1 + 1e-9)
        assert (one.share is None) == (one.time_ms == 0 or one.attainable_ms == 0)
        if one.bound in ("compute", "memory"):
            assert one.attainable_ms > 0
    for field in ("flops", "bytes_moved", "compute_ms", "memory_ms", "launch_ms", "attainable_ms", "time_ms"):
        assert getattr(found, field) == pytest.approx(sum(getattr(part, field) for part in parts), rel=1e-6)
    component = data.draw(st.sampled_from(Component))
    said = roofline.explanation(breakdown, component)
    own = roofline.of(breakdown, breakdown.of(component))
    assert (said is None) == (own is None or own.share is None)
