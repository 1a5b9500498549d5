"""The panel of clocks, from records by hand whose arithmetic stands beside them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import handmade
from bertprof.components import Component
from bertprof.observations import ClockPart, OtherClock
from bertprof.record import Breakdown
from bertprof.report import clocks, terminal
from bertprof.report.panels import Panel

FFN, SOFTMAX, OTHER = Component.FFN, Component.SOFTMAX_ATTENTION, Component.OTHER
ON_GPU = {"device": "cuda:0", "clock": "events"}

GRAPH = OtherClock(
    clock="graph",
    forwards=30,
    total_ms=2.0,
    parts=[ClockPart(component=SOFTMAX, time_ms=0.5), ClockPart(component=FFN, time_ms=1.5)],
)
KERNELS = OtherClock(
    clock="kernels",
    forwards=10,
    total_ms=2.5,
    parts=[
        ClockPart(component=SOFTMAX, time_ms=0.5, busy_ms=0.5, idle_ms=0.75, launches=12),
        ClockPart(component=FFN, time_ms=1.75, busy_ms=1.75, idle_ms=0.125, launches=1036),
    ],
    unattributed_ms=0.25,
)
PROFILER = OtherClock(
    clock="profiler",
    forwards=10,
    total_ms=9.0,
    parts=[
        ClockPart(component=SOFTMAX, time_ms=1.8, busy_ms=1.5, launches=24),
        ClockPart(component=FFN, time_ms=7.2, busy_ms=7.0, launches=36),
    ],
)


def record(*others: OtherClock, workload: dict[str, Any] = ON_GPU, **fields: Any) -> Breakdown:
    """8 ms: 1 of softmax attention, 6 of the FFN of two units, 1 of what is left."""
    return handmade.made(
        handmade.cost(SOFTMAX, 0, [1.0] * 6),
        handmade.cost(FFN, 0, [2.0] * 6),
        handmade.cost(FFN, 1, [4.0] * 6),
        handmade.cost(OTHER, None, [1.0] * 6),
        workload=workload,
        clocks=list(others) or None,
        **fields,
    )


def panel_of(*others: OtherClock, **fields: Any) -> Panel:
    found = clocks.panel(record(*others, **fields))
    assert found is not None
    assert all(len(row) == len(found.headers) for row in found.rows)
    assert len(found.total) in (0, len(found.headers))
    return found


def test_a_record_of_one_clock_has_no_panel():
    assert clocks.panel(record()) is None


def test_the_graph_beside_the_events():
    panel = panel_of(GRAPH)
    assert panel.headers == ("component", "events", "%", "graph", "%")
    assert panel.rows == [
        ("softmax-attention", "1.000", "12.5", "0.500", "25.0"),
        ("ffn", "6.000", "75.0", "1.500", "75.0"),
        ("other", "1.000", "12.5", "0.000", "0.0"),  # nothing ran there, but gaps were
    ]
    assert panel.total == ("total", "8.000", "100", "2.000", "100")
    assert panel.notes == [
        "graph: the forward as a CUDA graph, without gaps between launches; median of 30",
        # 1 - 2 / 8
        "the device waited for launches in 75 % of the time: 1 - graph / end to end (2.00 ms of 8.00 ms)",
    ]


def test_the_bare_forward_is_what_the_graph_is_held_against():
    panel = panel_of(GRAPH, end_to_end_ms=[4.0] * 6)
    assert panel.notes[1].startswith("the device waited for launches in 50 % of the time")


def test_a_graph_that_takes_longer_than_the_forward_is_no_wait():
    panel = panel_of(GRAPH, end_to_end_ms=[1.9] * 6)
    assert panel.notes[1].startswith("the device waited for launches in 0 % of the time")


def test_kernels_are_busy_or_idle_and_some_are_nobodys():
    panel = panel_of(KERNELS)
    assert panel.headers == ("component", "events", "%", "busy", "idle", "%", "launches")
    assert panel.rows == [
        ("softmax-attention", "1.000", "12.5", "0.500", "0.750", "20.0", "12"),
        ("ffn", "6.000", "75.0", "1.750", "0.125", "70.0", "1,036"),
        ("other", "1.000", "12.5", "0.000", "0.000", "0.0", "0"),
        ("unattributed", "–", "–", "0.250", "–", "10.0", "–"),
    ]
    assert panel.total == ("total", "8.000", "100", "2.500", "0.875", "100", "1,048")
    assert panel.notes == [
        "busy, idle: the device as torch.profiler saw it in 10 forwards, which it slows down; % is of busy, and no "
        "latency",
        "10.0 % of the kernels' time could be given to no component",
    ]


@pytest.mark.parametrize(
    ("softmax_ms", "verdict"),
    # By the graph 25 %: of 2.5 ms, 0.575 are 23 % and 0.5 are 20 %.
    [
        (0.575, "graph and kernels agree within 2 points of share: -2.0 at most (softmax-attention)"),
        (0.57, "graph and kernels do not agree within 2 points of share: -2.2 at most (softmax-attention)"),
        (0.5, "graph and kernels do not agree within 2 points of share: -5.0 at most (softmax-attention)"),
    ],
)
def test_graph_and_kernels_are_held_against_each_other(softmax_ms: float, verdict: str):
    parts = [
        ClockPart(component=SOFTMAX, time_ms=softmax_ms, busy_ms=softmax_ms, idle_ms=0.0, launches=1),
        ClockPart(component=FFN, time_ms=1.9, busy_ms=1.9, idle_ms=0.0, launches=1),
    ]
    rest = 2.5 - 1.9 - softmax_ms
    kernels = OtherClock(clock="kernels", forwards=5, total_ms=2.5, parts=parts, unattributed_ms=rest)
    assert panel_of(GRAPH, kernels).notes[-1] == verdict


def test_the_second_clock_of_a_cpu_is_held_against_the_first():
    panel = panel_of(PROFILER, workload={})
    assert panel.headers == ("component", "host", "%", "profiler", "%", "points")
    # 1.8 / 9 = 20 % against 12.5 %; 7.2 / 9 = 80 % against 75 %; nothing against 12.5 %
    assert panel.rows == [
        ("softmax-attention", "1.000", "12.5", "1.800", "20.0", "+7.5"),
        ("ffn", "6.000", "75.0", "7.200", "80.0", "+5.0"),
        ("other", "1.000", "12.5", "0.000", "0.0", "-12.5"),
    ]
    assert panel.total == ("total", "8.000", "100", "9.000", "100", "")
    assert panel.notes == ["host and profiler do not agree within 2 points of share: -12.5 at most (other)"]
    component, points = clocks.largest_difference(record(PROFILER, workload={}), PROFILER)
    assert component is OTHER
    assert points == pytest.approx(-12.5)


def test_a_difference_that_rounds_to_nothing_has_no_sign():
    parts = [ClockPart(component=c, time_ms=ms) for c, ms in ((SOFTMAX, 0.9997), (FFN, 6.0002), (OTHER, 1.0001))]
    panel = panel_of(OtherClock(clock="profiler", forwards=5, total_ms=8.0, parts=parts), workload={})
    assert [row[-1] for row in panel.rows] == ["0.0", "0.0", "0.0"]
    assert panel.notes == ["host and profiler agree within 2 points of share: 0.0 at most (softmax-attention)"]


def test_each_clock_that_tells_nothing_says_why_in_one_line():
    graph = OtherClock(clock="graph", unavailable="the forward waits\nfor the device \x1b[31m")
    kernels = OtherClock(clock="kernels", unavailable="no CUPTI")
    lines = ["graph clock unavailable: the forward waits for the device �[31m", "kernels clock unavailable: no CUPTI"]
    assert panel_of(graph, kernels) == Panel("Other clocks", (), (), lines)
    panel = panel_of(GRAPH, kernels)
    assert panel.headers == ("component", "events", "%", "graph", "%")
    assert panel.notes[-1] == lines[1]


def test_times_have_as_many_decimals_as_tell_parts_apart():
    for scale, first in ((1, "1.000"), (2, "2.00"), (20, "20.0")):
        slow = OtherClock(clock="graph", forwards=30, total_ms=1.0, parts=[ClockPart(component=FFN, time_ms=1.0)])
        costs = [handmade.cost(SOFTMAX, 0, [1.0 * scale]), handmade.cost(FFN, 0, [7.0 * scale])]
        panel = clocks.panel(handmade.made(*costs, workload=ON_GPU, clocks=[slow]))
        assert panel is not None
        assert panel.rows[0][1] == first


@pytest.mark.parametrize("others", [(GRAPH,), (KERNELS,), (GRAPH, KERNELS), (PROFILER,)])
def test_it_fits_a_terminal_of_80_columns_unfolded(others: tuple[OtherClock, ...]):
    # The longest name of a component.
    widest = handmade.cost(Component.ATTENTION_LINEAR_OUT, 0, [1.0] * 6)
    found = record(*others)
    found.costs.append(widest)
    text = terminal.render(found, width=80)
    rows = text[text.index("The same forward") :].splitlines()
    assert max(map(len, rows)) <= 80
    panel = clocks.panel(found)
    assert panel is not None
    for row in panel.rows:
        # Every row on a line of its own, no cell cut or folded.
        assert any(line.split() == [word for cell in row for word in cell.split()] for line in rows)


@given(
    st.lists(st.tuples(st.sampled_from(Component), st.floats(0, 1e6)), min_size=1, unique_by=lambda each: each[0]),
    st.sampled_from(["graph", "kernels", "profiler"]),
    st.booleans(),
)
def test_any_clock_of_any_components_is_shown(parts: list[tuple[Component, float]], name: Any, timed: bool):
    total = sum(ms for _, ms in parts)
    clock = OtherClock(
        clock=name, forwards=1, total_ms=total, parts=[ClockPart(component=c, time_ms=ms) for c, ms in parts]
    )
    costs = [handmade.cost(FFN, 0, [1.0] if timed else None, parameters=1)]
    panel = clocks.panel(handmade.made(*costs, workload=ON_GPU if timed else {}, clocks=[clock]))
    assert panel is not None
    shown = {row[0] for row in panel.rows}
    assert shown == {str(c) for c, ms in parts if ms} | ({"ffn"} if timed else set())
    assert all(len(row) == len(panel.headers) for row in (*panel.rows, panel.total))
