"""The Chrome trace, parsed back: its slices are the times that were recorded, and nothing of the machine is in it."""

import json
from collections import Counter
from typing import Any

import pytest
from traced import HOST, SEVEN, kernel, launch, operator, ranges, recorded

from bertprof.attribution import Crossing, Region
from bertprof.components import Component
from bertprof.errors import DeviceError
from bertprof.measure.tracing.events import Event, Recorded, forwards
from bertprof.measure.tracing.tracks import chrome

SIDE = (0, 20)


def parsed(told: Recorded, *, on_gpu: bool = False) -> list[dict[str, Any]]:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    document = json.loads(chrome(told, on_gpu=on_gpu).decode("ascii"), parse_constant=no_constant)
    assert document["displayTimeUnit"] == "ms"
    lines: list[dict[str, Any]] = document["traceEvents"]
    return lines


def named(lines: list[dict[str, Any]]) -> dict[tuple[int, int], tuple[str, str]]:
    """(process, track) → the names of both."""
    processes = {line["pid"]: line["args"]["name"] for line in lines if line["name"] == "process_name"}
    return {
        (line["pid"], line["tid"]): (processes[line["pid"]], line["args"]["name"])
        for line in lines
        if line["name"] == "thread_name"
    }


def slices(lines: list[dict[str, Any]], process: str) -> list[tuple[str, str, int, int, dict[str, Any]]]:
    """The slices of a process: track, name, start and length in ns, args."""
    found = []
    for line in lines:
        if line["ph"] == "X":
            of, track = named(lines)[line["pid"], line["tid"]]
            if of == process:
                found.append((track, line["name"], round(1000 * line["ts"]), round(1000 * line["dur"]), line["args"]))
    return found


OPERATORS = [
    operator(130, 200, "aten::linear", external=1, args={"Ev Idx": 4, "Call stack": "/home/someone/secret.py"}),
    operator(131, 199, "aten::addmm", external=2),
    operator(200, 240, "aten::linear", external=3),
    operator(500, 600, "aten::gelu", external=4),
]


def test_a_slice_for_each_range_on_the_track_of_its_component():
    lines = parsed(recorded(ranges(100, SEVEN), OPERATORS))
    found = slices(lines, "bertprof components")
    assert [(track, name, start, lasting) for track, name, start, lasting, _ in found] == [
        ("other", "other", 0, 10),
        ("other", "unit[0].other", 10, 20),
        ("softmax-attention", "unit[0].softmax-attention", 30, 300),
        ("other", "unit[0].other", 330, 40),
        ("ffn", "unit[0].ffn", 370, 5000),
        ("other", "unit[0].other", 5370, 60),
        ("other", "other", 5430, 7),
    ]
    assert found[0][4] == {"component": "other", "module": "(model)", "operators": {}}
    assert found[2][4] == {
        "unit": 0,
        "component": "softmax-attention",
        "module": "layer.attention",
        "operators": {"aten::linear": 2},
    }


def test_tracks_stand_in_the_order_of_components():
    lines = parsed(recorded(ranges(100, SEVEN)))
    assert [name for (process, _), (_, name) in named(lines).items() if process == 1] == [
        "softmax-attention",
        "ffn",
        "other",
    ]
    order = [(line["tid"], line["args"]["sort_index"]) for line in lines if line["name"] == "thread_sort_index"]
    assert all(number == index for number, index in order)


def test_ranges_that_take_no_time_leave_no_slice():
    lines = parsed(recorded(ranges(100, [0, 0, 5, 0, 0, 0, 1])))
    assert [name for _, name, *_ in slices(lines, "bertprof components")] == ["unit[0].softmax-attention", "other"]


def test_torch_s_own_events_keep_their_names_and_times_and_lose_what_is_not_needed():
    around = [operator(0, 20, "before"), operator(6000, 6001, "after")]
    elsewhere = operator(150, 160, "elsewhere", place=(HOST[0], 9))
    mine = Event("user_annotation", "mine", 105, 5000, HOST)
    lines = parsed(recorded(ranges(100, SEVEN), OPERATORS, around, [elsewhere, mine]))
    found = slices(lines, "torch")
    assert Counter((track, name, start, lasting) for track, name, start, lasting, _ in found) == Counter(
        {
            ("forward", "mine", 5, 4895): 1,
            ("forward", "aten::linear", 30, 70): 1,
            ("forward", "aten::addmm", 31, 68): 1,
            ("forward", "aten::linear", 100, 40): 1,
            ("forward", "aten::gelu", 400, 100): 1,
            ("thread 2", "elsewhere", 50, 10): 1,
        }
    )
    assert {key for *_, args in found for key in args} <= {"External id"}
    text = json.dumps(lines)
    assert not [word for word in ("secret", "home", "4711", "4712", "Ev Idx") if word in text]


def test_only_the_last_forward_is_shown():
    told = recorded(ranges(100, [9] * 7), ranges(9000, SEVEN))
    assert sum(lasting for *_, lasting, _ in slices(parsed(told), "bertprof components")) == sum(SEVEN)


def test_nanoseconds_survive():
    odd = [1, 7, 1_234_567_891, 3, 98_765_432_109, 13, 1]
    found = slices(parsed(recorded(ranges(1_790_857_026_000_000_001, odd))), "bertprof components")
    assert [lasting for *_, lasting, _ in found] == odd
    assert found[-1][2] == sum(odd[:-1])


# On a GPU -------------------------------------------------------------------------------------------------------------


def gpu(*more: Event) -> Recorded:
    told = [
        operator(130, 140, "aten::matmul", external=1),
        launch(135, 11),
        kernel(150, 600, 11, "gemm", external=1, args={"grid": [1, 2, 3], "context": 5, "stream": 7}),
    ]
    return recorded(ranges(100, SEVEN), told, more)


def test_kernels_stand_by_component_and_by_stream_with_an_arrow_from_their_launch():
    lines = parsed(gpu(), on_gpu=True)
    assert slices(lines, "bertprof kernels by component") == [
        (
            "softmax-attention",
            "gemm",
            50,
            450,
            {"unit": 0, "component": "softmax-attention", "module": "layer.attention", "operator": "aten::matmul"},
        )
    ]
    (on_stream,) = slices(lines, "GPU 0")
    assert on_stream == ("stream 7", "gemm", 50, 450, {"grid": [1, 2, 3], "stream": 7})
    begin, end = (next(line for line in lines if line["ph"] == phase) for phase in "sf")
    assert begin["id"] == end["id"] == 11
    assert (begin["ts"], end["ts"], end["bp"]) == (0.035, 0.05, "e")
    assert (named(lines)[begin["pid"], begin["tid"]], named(lines)[end["pid"], end["tid"]]) == (
        ("torch", "forward"),
        ("GPU 0", "stream 7"),
    )


def test_each_stream_has_its_own_track_so_that_no_two_slices_of_one_overlap():
    beside = [launch(136, 12), kernel(160, 700, 12, "softmax", place=SIDE)]
    orphan = kernel(800, 810, 0, "orphan")
    lines = parsed(gpu(*beside, orphan), on_gpu=True)
    assert [(track, name) for track, name, *_ in slices(lines, "bertprof kernels by component")] == [
        ("softmax-attention, GPU 0 stream 7", "gemm"),
        ("softmax-attention, GPU 0 stream 20", "softmax"),
        ("unattributed, GPU 0 stream 7", "orphan"),
    ]
    assert [name for (process, _), (_, name) in named(lines).items() if process == 2] == [
        "softmax-attention, GPU 0 stream 7",
        "softmax-attention, GPU 0 stream 20",
        "unattributed, GPU 0 stream 7",
    ]


def test_a_trace_without_its_kernels_is_refused():
    with pytest.raises(DeviceError, match="CUPTI gives no kernels"):
        chrome(recorded(ranges(100, SEVEN), [launch(135, 11)]), on_gpu=True)


def test_tracks_of_a_cpu_hold_no_kernels():
    assert {process for process, _ in named(parsed(recorded(ranges(100, SEVEN), OPERATORS))).values()} == {
        "bertprof components",
        "torch",
    }


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ['a "quote"', "back\\slash", "new\nline", "\x00", "</script>", "é", "\ud800"])
def test_any_name_makes_json(name: str):
    regions = {name: Region(Component.FFN)}
    events = [*ranges(100, [1, 2, 3], [0, 1]), operator(101, 102, name)]
    (forward,) = forwards(events)
    owners = forward.owners([Crossing(name, True), Crossing(name, False)], regions)
    told = Recorded(sorted(events, key=lambda e: (e.start_ns, -e.end_ns)), [forward], [owners])
    found = slices(parsed(told), "bertprof components")
    shown = name.replace("\ud800", "?")
    assert found[1][4] == {"component": "ffn", "module": shown, "operators": {shown: 1}}
