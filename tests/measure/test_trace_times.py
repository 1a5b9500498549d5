"""Times from fake sessions: every figure has its arithmetic beside it, and whatever is not to be trusted is refused."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traced import HOST, kernel, launch, operator, ranges, recorded

from bertprof.components import Component
from bertprof.errors import DeviceError
from bertprof.measure.tracing.events import Event
from bertprof.measure.tracing.times import NO_KERNELS, SKEW_NS, by_kernels, by_ranges
from bertprof.observations import ClockPart, OtherClock

ATTENTION, FFN, OTHER = Component.SOFTMAX_ATTENTION, Component.FFN, Component.OTHER

MS = 1_000_000
HUNDRED = [1 * MS, 2 * MS, 30 * MS, 4 * MS, 50 * MS, 6 * MS, 7 * MS]
"""One forward of 100 ms: attention from 3 to 33 ms, the FFN from 37 to 87 ms, the rest of no component: 20 ms."""


def part(clock: OtherClock, component: Component) -> ClockPart:
    return next(part for part in clock.parts if part.component is component)


def sums(clock: OtherClock) -> float:
    return sum(part.time_ms for part in clock.parts) + (clock.unattributed_ms or 0.0)


def scaled(events: Sequence[Event], shift_ms: float) -> list[Event]:
    shift = round(shift_ms * MS)
    return [event._replace(start_ns=event.start_ns + shift, end_ns=event.end_ns + shift) for event in events]


def ms(event: Event) -> Event:
    """An event whose times were given in ms."""
    return event._replace(start_ns=round(event.start_ns * MS), end_ns=round(event.end_ns * MS))


# By ranges, on a CPU --------------------------------------------------------------------------------------------------


def test_ranges_give_time_and_operators_what_of_it_was_busy():
    operators = [
        ms(operator(4, 14, "aten::linear")),
        ms(operator(5, 13, "aten::addmm")),  # called by the linear: it is in its time, and no launch of the model's
        ms(operator(20, 30, "aten::softmax")),
        ms(operator(40, 80, "aten::gelu")),
        ms(operator(95, 96, "aten::add")),
    ]
    clock = by_ranges(recorded(ranges(0, HUNDRED), operators))
    assert (clock.clock, clock.forwards, clock.total_ms, clock.unattributed_ms) == ("profiler", 1, 100.0, None)
    assert [(p.component, p.time_ms, p.busy_ms, p.idle_ms, p.launches) for p in clock.parts] == [
        (ATTENTION, 30.0, 20.0, None, 2),
        (FFN, 50.0, 40.0, None, 1),
        (OTHER, 20.0, 1.0, None, 1),
    ]


def test_an_operator_across_a_boundary_is_cut_there():
    clock = by_ranges(recorded(ranges(0, HUNDRED), [ms(operator(31, 41))]))
    # 31 to 33 in attention, 33 to 37 between, 37 to 41 in the FFN
    assert [(p.busy_ms, p.launches) for p in clock.parts] == [(2.0, 1), (4.0, 0), (4.0, 0)]


def test_parts_are_shares_of_all_forwards_of_the_median_one():
    double = [2 * interval for interval in HUNDRED]
    triple = [1 * MS, 2 * MS, 130 * MS, 4 * MS, 50 * MS, 6 * MS, 7 * MS]
    clock = by_ranges(recorded(ranges(0, HUNDRED), ranges(1000 * MS, double), ranges(2000 * MS, triple)))
    assert (clock.forwards, clock.total_ms) == (3, 200.0)  # the median of 100, 200 and 200
    assert part(clock, ATTENTION).time_ms == pytest.approx(200 * (30 + 60 + 130) / 500)
    assert part(clock, FFN).time_ms == pytest.approx(200 * (50 + 100 + 50) / 500)
    assert sums(clock) == pytest.approx(200)


@given(st.lists(st.lists(st.integers(0, 10**9), min_size=7, max_size=7).filter(any), min_size=1, max_size=4))
def test_parts_sum_to_the_whole(forwards: list[list[int]]):
    starts = [10**11 * number for number in range(len(forwards))]
    clock = by_ranges(recorded(*(ranges(start, each) for start, each in zip(starts, forwards, strict=True))))
    assert sums(clock) == pytest.approx(clock.total_ms, abs=1e-5)


def test_a_warm_up_is_not_read():
    clock = by_ranges(recorded(ranges(0, [9 * MS] * 7), ranges(1000 * MS, HUNDRED), warm_up=1))
    assert (clock.forwards, clock.total_ms) == (1, 100.0)


def test_forwards_that_take_no_time_are_refused():
    with pytest.raises(DeviceError, match="took no time"):
        by_ranges(recorded(ranges(0, [0] * 7)))


# By kernels -----------------------------------------------------------------------------------------------------------


def forward(*events: Event, at_ms: float = 0) -> list[Event]:
    """A forward with its launches and kernels, whose times are given in ms since it began."""
    return scaled([*ranges(0, HUNDRED), *(ms(event) for event in events)], at_ms)


def pair(launched_ms: float, start_ms: float, end_ms: float, number: int, **other: Any) -> tuple[Event, Event]:
    """A launch and its kernel, in ms."""
    call = launch(launched_ms, number)._replace(end_ns=launched_ms + 0.01)  # type: ignore[arg-type]
    return call, kernel(start_ms, end_ms, number, **other)  # type: ignore[arg-type]


def test_kernels_belong_to_the_range_that_launched_them_and_gaps_to_what_came_before():
    clock = by_kernels(
        recorded(
            forward(
                *pair(5, 6, 16, 1),  # attention, 10 ms
                *pair(10, 16, 40, 2),  # attention, 24 ms: still running as the FFN is launched
                *pair(38, 40, 60, 3),  # FFN, 20 ms, and behind it a gap of 15 ms
                *pair(74, 75, 80, 4),  # FFN, 5 ms, and behind it a gap of 10 ms
                *pair(89, 90, 91, 5),  # the unit's own, 1 ms
            )
        )
    )
    assert (clock.clock, clock.forwards, clock.total_ms, clock.unattributed_ms) == ("kernels", 1, 60.0, 0.0)
    assert [(p.component, p.time_ms, p.busy_ms, p.idle_ms, p.launches) for p in clock.parts] == [
        (ATTENTION, 34.0, 34.0, 0.0, 2),
        (FFN, 25.0, 25.0, 25.0, 2),
        (OTHER, 1.0, 1.0, 0.0, 1),
    ]


def test_several_streams_count_once_where_they_overlap():
    side = (0, 20)
    clock = by_kernels(recorded(forward(*pair(5, 10, 30, 1), *pair(6, 20, 45, 2, place=side), *pair(38, 40, 55, 3))))
    # attention from 10 to 45 is 35 and not 45; the FFN beside it from 40 to 55: from 40 to 45 both count
    assert [(p.time_ms, p.idle_ms) for p in clock.parts] == [(35.0, 0.0), (15.0, 0.0)]
    assert clock.total_ms == 50.0


def test_what_runs_within_another_adds_nothing():
    side = (0, 20)
    clock = by_kernels(
        recorded(forward(*pair(5, 10, 40, 1), *pair(6, 15, 20, 2, place=side), *pair(7, 30, 45, 3, place=side)))
    )
    assert [(p.time_ms, p.idle_ms, p.launches) for p in clock.parts] == [(35.0, 0.0, 3)]  # from 10 to 45


def test_what_ends_out_of_order_holds_the_gap_behind_it():
    side = (0, 20)
    clock = by_kernels(
        recorded(
            forward(
                *pair(5, 10, 60, 1, place=side),  # attention's is launched first and ends last
                *pair(38, 40, 50, 2),
                *pair(70, 75, 80, 3),  # a gap of 15 ms behind attention's
            )
        )
    )
    assert (part(clock, ATTENTION).idle_ms, part(clock, FFN).idle_ms) == (15.0, 0.0)


def test_copies_and_fills_count_as_kernels():
    copy = kernel(10, 12, 1, "Memcpy HtoD", kind="gpu_memcpy")
    fill = kernel(12, 13, 2, "Memset", kind="gpu_memset")
    calls = launch(5, 1, "cudaMemcpyAsync"), launch(6, 2, "cudaMemsetAsync")
    clock = by_kernels(recorded(forward(copy, fill, *calls)))
    assert (part(clock, ATTENTION).time_ms, part(clock, ATTENTION).launches) == (3.0, 2)


def test_what_was_launched_by_nobody_is_unattributed():
    orphan = kernel(50, 55, 0, "orphan")
    elsewhere = launch(45, 2, place=(HOST[0], 99))
    clock = by_kernels(recorded(forward(*pair(5, 10, 30, 1), orphan, elsewhere, kernel(60, 62, 2))))
    assert clock.unattributed_ms == 7.0
    assert [(p.component, p.time_ms, p.idle_ms) for p in clock.parts] == [(ATTENTION, 20.0, 20.0)]
    assert sums(clock) == clock.total_ms == 27.0


def test_where_the_launch_was_not_recorded_the_operator_tells():
    made = operator(39, 41, "aten::linear", external=8)
    clock = by_kernels(recorded(forward(*pair(5, 10, 30, 1), made, kernel(60, 64, 5, external=8))))
    assert part(clock, FFN).time_ms == 4.0
    assert clock.unattributed_ms == 0.0


def test_a_kernel_launched_right_in_a_range_is_the_range_s():
    range_of_ffn = ranges(0, HUNDRED)[4].external
    clock = by_kernels(recorded(forward(kernel(60, 64, 0, external=range_of_ffn))))
    assert [(p.component, p.time_ms) for p in clock.parts] == [(FFN, 4.0)]


def test_kernels_of_the_warm_up_and_between_forwards_are_left_out():
    between = [ms(event) for event in pair(150, 151, 160, 90)]
    sacrificed = [ms(event) for event in pair(1, 2, 3, 91)]
    told = recorded(
        scaled(sacrificed, -1000),
        forward(*pair(5, 10, 99, 1), at_ms=-500),
        forward(*pair(5, 10, 30, 2)),
        between,
        forward(*pair(5, 10, 30, 3), at_ms=500),
        warm_up=1,
    )
    clock = by_kernels(told)
    assert (clock.forwards, clock.total_ms) == (2, 20.0)


def test_shares_are_of_all_forwards_and_the_whole_is_the_median():
    told = recorded(
        forward(*pair(5, 10, 20, 1), *pair(38, 40, 70, 2)),
        forward(*pair(5, 10, 30, 3), *pair(38, 40, 80, 4), at_ms=500),
        forward(*pair(5, 10, 30, 5), *pair(38, 40, 60, 6), at_ms=1000),
    )
    clock = by_kernels(told)
    assert clock.total_ms == 40.0  # of 40, 60 and 40
    assert part(clock, ATTENTION).time_ms == pytest.approx(40 * 50 / 140, abs=1e-6)
    assert part(clock, ATTENTION).idle_ms == pytest.approx(40 * (20 + 10 + 10) / 140, abs=1e-6)
    assert (part(clock, ATTENTION).launches, part(clock, FFN).launches) == (1, 1)


# What is not to be trusted --------------------------------------------------------------------------------------------


def refused(*events: list[Event]) -> str:
    with pytest.raises(DeviceError) as error:
        by_kernels(recorded(*events))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_no_kernels_at_all():
    assert refused(forward(launch(5, 1))) == NO_KERNELS


def test_kernels_of_the_warm_up_alone():
    early = scaled([ms(event) for event in pair(1, 2, 3, 1)], -100)
    assert refused(early, forward()) == "the forward launches no kernel"


def test_kernels_that_are_all_launched_elsewhere():
    call, ran = pair(5, 10, 30, 1)
    assert "none can be attributed" in refused(forward(call._replace(place=(HOST[0], 99)), ran))


def test_a_lost_kernel():
    lost = launch(6, 2, "cudaLaunchKernelExC")
    assert "CUPTI lost 1 of the 2 kernels" in refused(forward(*pair(5, 10, 30, 1), lost))


@pytest.mark.parametrize("name", ["cuLaunchKernel", "cuLaunchKernelEx", "cudaLaunchCooperativeKernel"])
def test_a_lost_kernel_of_any_launch(name: str):
    lost = launch(6, 2, name, kind="cuda_driver")
    assert "CUPTI lost 1" in refused(forward(*pair(5, 10, 30, 1), lost))


@pytest.mark.parametrize("name", ["cudaMemcpyAsync", "cudaDeviceSynchronize", "cudaEventRecord", "cudaLaunchHostFunc"])
def test_calls_that_need_no_kernel(name: str):
    assert by_kernels(recorded(forward(*pair(5, 10, 30, 1), launch(6, 2, name)))).total_ms == 20.0


@pytest.mark.parametrize("kernel_of", [1, 2])
def test_the_driver_s_launch_within_the_runtime_s_is_the_same(kernel_of: int):
    outer = launch(5, 1)._replace(end_ns=6)
    inner = launch(5, 2, "cuLaunchKernelEx", kind="cuda_driver")._replace(end_ns=6)
    assert by_kernels(recorded(forward(outer, inner, kernel(10, 30, kernel_of)))).total_ms == 20.0


def test_a_kernel_before_its_launch():
    assert "gemm starts 2.0 ms before its launch" in refused(forward(*pair(12, 10, 30, 1)))


def test_clocks_that_are_a_little_apart():
    skew_ms = SKEW_NS / MS
    clock = by_kernels(recorded(forward(*pair(10, 10 - skew_ms, 30, 1))))
    assert part(clock, ATTENTION).time_ms == pytest.approx(20 + skew_ms)
    assert "before its launch" in refused(forward(*pair(10, 10 - 1.01 * skew_ms, 30, 1)))


def test_other_kernels_in_a_later_forward():
    first, second = forward(*pair(5, 10, 30, 1)), forward(*pair(5, 10, 30, 2, name="splitk"), at_ms=500)
    assert "launched 1 times at one place of the first forward, 0 times in forward 2" in refused(first, second)


def test_more_of_the_same_kernels_in_a_later_forward():
    twice = forward(*pair(5, 10, 30, 2), *pair(6, 30, 40, 3), at_ms=500)
    assert "gemm is launched 1 times at one place of the first forward, 2 times" in refused(
        forward(*pair(5, 10, 30, 1)), twice
    )


def test_the_same_kernels_elsewhere_in_a_later_forward():
    first, second = forward(*pair(5, 10, 30, 1)), forward(*pair(38, 40, 60, 2), at_ms=500)
    assert "different kernels" in refused(first, second)


def test_a_long_name_does_not_make_a_long_line():
    template = "void at::native::elementwise<" + "x" * 500
    assert len(refused(forward(*pair(12, 10, 30, 1, name=template)))) < 150


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10), st.integers(0, 6)), min_size=1, max_size=20))
def test_on_one_stream_busy_and_idle_are_the_whole_span(kernels: list[tuple[int, int, int]]):
    """Each kernel: the gap before it, its length, and in which interval it was launched."""
    bounds = [0, 1, 3, 33, 37, 87, 93]
    events: list[Event] = []
    reached = 100
    for number, (gap, length, interval) in enumerate(kernels, start=1):
        events += [launch(bounds[interval], number), kernel(reached + gap, reached + gap + length, number)]
        reached += gap + length
    clock = by_kernels(recorded(forward(*events)))
    busy, idle = sum(p.busy_ms or 0 for p in clock.parts), sum(p.idle_ms or 0 for p in clock.parts)
    assert busy == pytest.approx(sum(length for _, length, _ in kernels), abs=1e-4)
    assert idle == pytest.approx(sum(gap for gap, _, _ in kernels[1:]), abs=1e-4)
    assert clock.total_ms == pytest.approx(busy, abs=1e-4)
    assert sum(p.launches or 0 for p in clock.parts) == len(kernels)
