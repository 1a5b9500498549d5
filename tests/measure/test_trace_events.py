"""Reading a trace: to the nanosecond, with whatever names it holds, and cut into the intervals between marks."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traced import ATTENTION, CODES, CROSSINGS, END, FFN, HOST, REGIONS, SEVEN, chrome_json, operator, ranges, recorded

from bertprof.attribution import Crossing, Walker, split_intervals
from bertprof.components import Component
from bertprof.errors import DeviceError
from bertprof.measure.anatomy import regions_of
from bertprof.measure.tracing.events import Event, forwards, read
from conftest import tiny_twin


def test_times_are_read_to_the_nanosecond():
    # 16 digits of microseconds and nanoseconds, as torch writes them, are more than a float holds.
    events = [Event("cpu_op", "a", 1, 2, HOST), Event("cpu_op", "b", 4, 9, HOST)]
    base_ns = 9_007_199_254_740_993_000
    assert [(e.start_ns - base_ns, e.end_ns - base_ns) for e in read(chrome_json(events, base_ns))] == [(1, 2), (4, 9)]


def test_what_is_written_is_read_by_start_the_longest_first():
    inner, outer = operator(5, 6, "inner", external=2), operator(5, 9, "outer", external=1)
    later = Event("kernel", "gemm", 7, 8, (0, 7), external=1, correlation=3)
    found = read(chrome_json([later, inner, outer]))
    assert [event.name for event in found] == ["outer", "inner", "gemm"]
    assert found[2][:7] == later[:7]


def test_whatever_is_no_slice_or_of_no_kind_that_is_known_is_left_out():
    others = [
        {"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "python"}},
        {"ph": "i", "cat": "cpu_instant_event", "name": "[memory]", "pid": 1, "tid": 1, "ts": 1},
        {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler", "pid": "Spans", "tid": "x", "ts": 1, "dur": 2},
        {"ph": "X", "cat": "gpu_user_annotation", "name": "mine", "pid": 0, "tid": 7, "ts": 1, "dur": 2},
        {"ph": "X", "cat": "overhead", "name": "CUPTI", "pid": -1, "tid": 0, "ts": 1, "dur": 2},
    ]
    assert read(json.dumps({"traceEvents": others}).encode()) == []


@pytest.mark.parametrize("name", ['a "quote"', "back\\slash", "new\nline", "\x01", "</script>", "ÿ\ud800"])
def test_any_name_is_read(name: str):
    assert [event.name for event in read(chrome_json([operator(1, 2, name)]))] == [name]


def test_raw_control_characters_and_broken_utf8_are_read():
    raw = (
        b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "a\n\x01\xff", "pid": 1, "tid": 1, "ts": 1, "dur": 2}]}'
    )
    assert read(raw)[0].name == "a\n\x01\ufffd"


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"traceEvents": [1]}', b'{"traceEvents": [{"ph": "X", "cat": "kernel", "name": "a"}]}', b"{"],
)
def test_what_is_no_trace_is_refused_in_one_line(content: bytes):
    with pytest.raises(DeviceError, match=r"^the trace that torch.profiler wrote cannot be read: .*$"):
        read(content)


def test_a_forward_is_cut_at_the_marks():
    (forward,) = forwards(ranges(100, SEVEN))
    assert forward.codes == CODES
    assert forward.intervals_ns == SEVEN
    assert (forward.start_ns, forward.end_ns, forward.place) == (100, 5537, HOST)
    moments = [(100, 0), (109, 0), (110, 1), (130, ATTENTION), (429, ATTENTION), (430, 3), (470, FFN), (5536, END)]
    assert [forward.interval_at(moment) for moment, _ in moments] == [interval for _, interval in moments]
    assert forward.interval_at(5537) == END  # what ends with the forward is in it


def test_the_gap_behind_a_range_belongs_to_it():
    first, second = ranges(0, [10, 20], [0])
    late = second._replace(start_ns=13)  # three nanoseconds to leave one range and enter the next
    assert forwards([first, late])[0].intervals_ns == [13, 17]


def test_ranges_that_take_no_time_stay_in_order():
    assert forwards(reversed(ranges(5, [3, 0, 0, 4], [7, 8, 9])))[0].codes == [7, 8, 9]


def test_several_forwards_and_what_is_around_them():
    events = [operator(0, 4), *ranges(10, SEVEN), operator(6000, 6001), *ranges(7000, SEVEN)]
    assert [forward.start_ns for forward in forwards(events)] == [10, 7000]
    assert forwards([operator(0, 4)]) == []


def test_only_what_the_forward_calls_itself_is_an_operator():
    outer, inner = operator(40, 100, "outer"), operator(40, 60, "inner")
    behind, before, after = operator(100, 120, "behind"), operator(0, 4, "before"), operator(6000, 6001, "after")
    annotation = Event("user_annotation", "mine", 35, 5000, HOST)
    elsewhere = operator(300, 310, "elsewhere", place=(4711, 9))
    told = recorded(ranges(5, SEVEN), [outer, inner, behind, before, after, annotation, elsewhere])
    assert [event.name for event in told.operators(told.forwards[0])] == ["outer", "behind"]


@given(st.lists(st.integers(0, 10**9), min_size=7, max_size=7))
def test_intervals_have_the_owners_of_the_other_clocks(intervals: list[int]):
    told = recorded(ranges(0, intervals))
    sums: dict[object, int] = {}
    for owner, interval_ns in zip(told.owners[0], told.forwards[0].intervals_ns, strict=True):
        sums[owner] = sums.get(owner, 0) + interval_ns
    assert sums == split_intervals([CROSSINGS[code] for code in CODES], intervals, REGIONS)
    assert sum(sums.values()) == sum(intervals)


def test_the_residual_of_albert_is_its_own():
    # Within one module the owner changes behind its dense layer: the walk tells, not the module.
    regions = regions_of(tiny_twin("albert"))
    path = next(path for path in regions if path.endswith("attention"))
    crossings = [Crossing(path, True), Crossing(f"{path}.dense", True), Crossing(f"{path}.dense", False)]
    (forward,) = forwards(ranges(0, [1, 2, 3, 4], [0, 1, 2]))
    walker = Walker(regions)
    assert forward.owners(crossings, regions)[0] == walker.owner
    assert [owner.component for owner in forward.owners(crossings, regions)[1:]] == [
        Component.SOFTMAX_ATTENTION,
        Component.ATTENTION_LINEAR_OUT,
        Component.ADD_NORM,
    ]
