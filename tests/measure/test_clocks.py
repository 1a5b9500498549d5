"""The clocks, driven by fakes: a clock that tells what it is told, and a device that completes when it is told."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from devices import FakeDevice
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bertprof.attribution import Crossing, Region
from bertprof.components import Component
from bertprof.measure import timing
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import EventClock, HostClock, Plan, Tape, clock_for
from bertprof.measure.dispatch import Operation, follow
from bertprof.measure.inputs import Inputs
from bertprof.measure.launches import Watch
from bertprof.measure.timing import Goal, Marked
from bertprof.sampling import median
from conftest import FAMILIES, tiny


def test_host_clock_tells_the_time_between_marks():
    times = iter([100, 107, 107, 150])
    clock = HostClock(now=lambda: next(times))
    clock.start()
    clock.mark(4)
    clock.mark(5)
    tape = clock.stop()
    assert tape == Tape([4, 5], [7, 0, 43], 0)
    assert tape.total_ns == 50


def test_each_start_begins_afresh():
    times = iter(range(0, 1000, 10))
    clock = HostClock(now=lambda: next(times))
    clock.start()
    clock.mark(1)
    first = clock.stop()
    clock.start()
    second = clock.stop()
    assert (first.codes, second.codes) == ([1], [])
    assert first.intervals_ns == [10, 10]


@given(st.lists(st.integers(0, 10**7), min_size=1), st.floats(0, 10**6))
def test_what_is_left_out_and_what_is_left_are_the_whole(intervals: list[int], each_ns: float):
    tape = Tape([0] * (len(intervals) - 1), intervals)
    less = tape.less(each_ns)
    assert less.total_ns + less.own_ns == tape.total_ns
    for before, after in zip(intervals, less.intervals_ns, strict=True):
        assert after == max(0, before - round(each_ns))
    assert less.less(0) == less


# Events ---------------------------------------------------------------------------------------------------------------


def test_event_clock_gives_kernels_and_gaps_to_the_interval_that_launched_them():
    device = FakeDevice()
    clock = device.clock()
    clock.reserve(2)
    clock.start()
    device.launch(1.0, launch_ms=0.0)
    clock.mark(0)
    device.launch(2.0, launch_ms=5.0)  # the device runs dry and waits 4 ms for the launch
    clock.mark(1)
    device.launch(0.5, launch_ms=0.0)
    tape = clock.stop()
    assert tape.codes == [0, 1]
    assert tape.intervals_ns == [1_000_000, 6_000_000, 500_000]
    assert tape.total_ns == 7_500_000


def test_event_clock_never_waits_inside_the_forward_and_makes_no_event_there():
    device = FakeDevice()
    clock = device.clock()
    clock.reserve(3)
    made = device.events_made
    for _ in range(2):
        clock.start()
        begun = len(device.log)
        for code in range(3):
            device.launch(1.0)
            clock.mark(code)
        inside = device.log[begun:]
        clock.stop()
        assert "synchronize" not in inside
    assert device.events_made == made == 5
    # before the first event and after the last, for each of two forwards
    assert device.synchronisations == 4


def test_event_clock_makes_more_events_when_a_forward_has_more_marks_than_reserved():
    device = FakeDevice()
    clock = device.clock()
    clock.start()
    for code in range(5):
        device.launch(1.0, launch_ms=0.0)
        clock.mark(code)
    tape = clock.stop()
    assert tape.intervals_ns == [1_000_000] * 5 + [0]


def test_readings_that_step_back_count_as_no_time():
    device = FakeDevice()
    clock = device.clock()
    clock.start()
    clock.mark(0)
    clock.mark(1)
    clock.end()
    for event, at_ms in zip(clock._pool, (0.0, 0.002, 0.0015, 0.01), strict=True):
        event.at_ms = at_ms
    device.host_ms = 0.01
    tape = clock.read()
    assert tape.intervals_ns == [2000, 0, 8000]
    assert tape.total_ns == 10_000


# What an event takes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record_ms", [0.0, 0.001, 0.004])
def test_what_an_event_takes_is_found_however_slowly_the_host_records(record_ms: float):
    device = FakeDevice()
    device.event_ms, device.record_ms = 0.0015, record_ms
    clock = device.clock()
    clock.calibrate()
    assert clock.event_ns == pytest.approx(1500)


def test_a_host_that_is_slower_than_the_kernel_gets_a_longer_one():
    device = FakeDevice()
    # 201 events in 40 ms: longer than the first kernel's 20 ms, within the second's 200 ms.
    device.event_ms, device.record_ms = 0.0015, 0.2
    clock = device.clock()
    clock.calibrate()
    assert clock.event_ns == pytest.approx(1500)


def test_where_the_host_never_gets_ahead_nothing_is_left_out():
    device = FakeDevice()
    device.event_ms, device.record_ms = 0.0015, 2.0
    clock = device.clock()
    clock.event_ns = 5.0
    clock.calibrate()
    assert clock.event_ns == 0


def test_a_tape_is_what_the_events_tell():
    device = FakeDevice()
    clock = device.clock()
    device.event_ms = 0.002
    clock.calibrate()
    clock.start()
    for code, kernel_ms in enumerate((1.0, 0.5, 0.0)):
        device.launch(kernel_ms, launch_ms=0.0)
        clock.mark(code)
    assert clock.stop() == Tape([0, 1, 2], [1_002_000, 502_000, 2_000, 2_000], 0)


def seen(device: FakeDevice, bare_ns: list[int], tapes: list[list[int]]) -> timing.Series:
    """What was sampled, without the events: of marks around one module of the FFN."""
    subject = Marked(Routed(False), Inputs(()), {"first": Region(Component.FFN)}, device.clock())
    assert isinstance(subject.clock, EventClock)
    subject.clock.calibrate()
    raw = timing.Series("wrappers")
    for bare, intervals in zip(bare_ns, tapes, strict=True):
        tape = Tape([0, 1], intervals)
        raw.add(Tape([], [bare]), tape, subject.attribute(tape))
        raw.tapes.append(tape)
    return timing.less_events(subject, raw)


@pytest.mark.parametrize(
    ("bare_ns", "intervals", "left"),
    [
        # The marks made it longer by 6 µs and more: 2 µs go from each of three intervals.
        (90_000, [10_000, 80_000, 9_000], [8_000, 78_000, 7_000]),
        # By 3 µs: 1 µs each, and not 2.
        (96_000, [10_000, 80_000, 9_000], [9_000, 79_000, 8_000]),
        # By nothing, as where the stream waits for launches; or it happened to be shorter.
        (99_000, [10_000, 80_000, 9_000], [10_000, 80_000, 9_000]),
        (120_000, [10_000, 80_000, 9_000], [10_000, 80_000, 9_000]),
        # Two intervals have a time, since two marks share an event: 3 µs are 1.5 each.
        (86_000, [0, 80_000, 9_000], [0, 78_500, 7_500]),
        # One is shorter than what an event takes.
        (70_000, [500, 80_000, 9_000], [0, 78_000, 7_000]),
        (0, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_what_events_take_is_left_out_as_far_as_it_was_seen(bare_ns: int, intervals: list[int], left: list[int]):
    device = FakeDevice()
    device.event_ms = 0.002
    series = seen(device, [bare_ns] * 3, [intervals] * 3)
    assert series.bare_ns == [bare_ns] * 3
    assert series.by_component() == {Component.FFN: [left[1]] * 3, Component.OTHER: [left[0] + left[2]] * 3}
    assert series.totals_ns == [sum(left)] * 3


SPENT_NS = st.integers(0, 50_000)


@given(
    st.lists(st.tuples(SPENT_NS, st.tuples(SPENT_NS, SPENT_NS, SPENT_NS)), min_size=1, max_size=15),
    st.floats(0, 0.02),
)
def test_what_is_left_out_never_makes_the_rows_sum_to_less_than_the_bare_forward(
    rounds: list[tuple[int, tuple[int, int, int]]], event_ms: float
):
    device = FakeDevice()
    device.event_ms = event_ms
    bare_ns, tapes = [bare for bare, _ in rounds], [list(intervals) for _, intervals in rounds]
    series = seen(device, bare_ns, tapes)
    with_events, without, bare = median([sum(tape) for tape in tapes]), median(series.totals_ns), median(bare_ns)
    assert min(with_events, bare) <= without <= with_events
    for i, total in enumerate(series.totals_ns):
        assert sum(samples[i] for samples in series.owned_ns.values()) == total
        assert sum(tapes[i]) - total <= 3 * (device.event_ms * 1e6 + 0.51)  # whole ns


def test_the_series_of_another_clock_is_as_it_was_sampled():
    raw = timing.Series("hooks", [5], [7])
    assert timing.less_events(Marked(Routed(False), Inputs(()), {}, HostClock()), raw) is raw
    assert raw == timing.Series("hooks", [5], [7])


# Marks that share an event --------------------------------------------------------------------------------------------


def shared(*, codes: tuple[int, ...], order: tuple[int, ...], event_ms: float = 0.0) -> tuple[Tape, int]:
    """A forward of 1 ms before every second mark, planned as `codes`, crossed in `order`; and its events."""
    device = FakeDevice()
    device.event_ms = event_ms
    clock = device.clock()
    clock.prepare(Plan(codes, [i % 2 == 1 for i in range(len(codes))]))
    if event_ms:
        clock.calibrate()
    clock.start()
    begun = len(device.log)
    for i, code in enumerate(order):
        if i % 2 == 0:
            device.launch(1.0, launch_ms=0.0)
        clock.mark(code)
    device.launch(1.0, launch_ms=0.0)
    tape = clock.stop()
    return tape, device.log[begun:].count("record")


def test_marks_between_which_nothing_is_launched_share_an_event():
    tape, events = shared(codes=(7, 8, 9, 10), order=(7, 8, 9, 10))
    assert tape == Tape([7, 8, 9, 10], [1_000_000, 0, 1_000_000, 0, 1_000_000], 0)
    assert events == 3  # two marks and the stop


def test_a_shared_event_costs_once():
    tape, _ = shared(codes=(7, 8, 9, 10), order=(7, 8, 9, 10), event_ms=0.003)
    assert tape == Tape([7, 8, 9, 10], [1_003_000, 0, 1_003_000, 0, 1_003_000], 0)


@pytest.mark.parametrize("order", [(7, 9, 8, 10), (7, 8, 10, 9), (8, 7, 9, 10), (7, 8, 9, 10, 11, 12)])
def test_a_forward_in_another_order_than_planned_shares_nothing_from_there_on(order: tuple[int, ...]):
    codes = (7, 8, 9, 10)
    tape, events = shared(codes=codes, order=order)
    same = next((i for i, code in enumerate(order) if i >= 4 or code != codes[i]), len(order))
    assert tape.codes == list(order)
    assert tape.intervals_ns == [1_000_000 * (i % 2 == 0) for i in range(len(order) + 1)]
    assert events == len(order) - sum(i % 2 == 1 for i in range(same)) + 1


def test_after_a_forward_out_of_order_the_next_one_is_as_planned():
    device = FakeDevice()
    clock = device.clock()
    clock.prepare(Plan((1, 2), (False, True)))
    for order, events in (((2, 1), 4), ((1, 2), 3)):
        clock.start()
        for code in order:
            clock.mark(code)
        clock.stop()
        assert device.log[::-1].index("synchronize", 1) - 1 == events
        device.log.append("synchronize")


def test_a_first_mark_may_share_the_start():
    device = FakeDevice()
    clock = device.clock()
    clock.prepare(Plan((3,), (True,)))
    clock.start()
    device.launch(1.0, launch_ms=0.0)  # seen too late: the plan says that there is none
    clock.mark(3)
    assert clock.stop().intervals_ns == [0, 1_000_000]


# Launches -------------------------------------------------------------------------------------------------------------

X, Y = torch.ones(2, 3), torch.ones(2, 3)
NO_LAUNCH = {
    "view": lambda: X.view(3, 2),
    "transpose": lambda: X.transpose(0, 1)[None].expand(4, 3, 2),
    "chunk": lambda: X.chunk(2, dim=0),
    "contiguous of what is": lambda: X.contiguous(),
    "reshape of what is": lambda: X.reshape(-1),
    "the same type": lambda: X.to(torch.float32),
    "dropout that is off": lambda: nn.functional.dropout(X, 0.1, training=False),
    "detach": lambda: X.detach(),
    "shape": lambda: X.shape[0] + X.numel(),
    "nothing": lambda: None,
}
LAUNCH = {
    "sum": lambda: X + X,
    "in place": lambda: Y.add_(0),
    "reshape that copies": lambda: X.transpose(0, 1).reshape(-1),
    "contiguous of what is not": lambda: X.transpose(0, 1).contiguous(),
    "another type": lambda: X.to(torch.float16),
    "linear": lambda: nn.functional.linear(X, X),
    "reading a value": lambda: X[0, 0].item(),
    "room for an extension's result": lambda: torch.empty_like(X),
    "into what is there": lambda: torch.add(X, 0, out=Y),
    "sparse": lambda: X.to_sparse_csr(),
}


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize(("what", "launches"), [*((w, False) for w in NO_LAUNCH), *((w, True) for w in LAUNCH)])
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_what_counts_as_a_launch(what: str, launches: bool, inference: bool):
    watch = Watch()
    with torch.inference_mode(inference), watch:
        watch.start()
        X + 1
        watch.mark(0)
        {**NO_LAUNCH, **LAUNCH}[what]()
        watch.mark(1)
        tape = watch.stop()
    assert watch.launched == [True, launches, False]
    assert tape == Tape([0, 1], [0, 0, 0])


class Routed(nn.Module):
    """Two linears; the second has something to do before it, `extra`."""

    def __init__(self, extra: bool) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.extra = extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.first(x).view(1, 4)
        return self.second(y * 2 if self.extra else y)  # type: ignore[no-any-return]


ROUTES = {"first": Region(Component.FFN), "second": Region(Component.HEAD)}


@pytest.mark.parametrize("extra", [False, True])
def test_a_watched_forward_tells_between_which_marks_something_is_launched(extra: bool):
    subject = Marked(Routed(extra), Inputs((torch.ones(1, 4),)), ROUTES, HostClock())
    with torch.inference_mode():
        watch = timing.watched(subject)
    assert [subject.crossings[code].path for code in watch.codes] == ["first", "first", "second", "second"]
    assert watch.launched == [False, True, extra, True, False]


def test_what_cannot_be_watched_may_launch_anywhere(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object) -> None:
        raise NotImplementedError("no rule for this mode")

    monkeypatch.setattr(Watch, "__torch_dispatch__", refuse)
    subject = Marked(Routed(False), Inputs((torch.ones(1, 4),)), ROUTES, HostClock())
    with torch.inference_mode():
        watch = timing.watched(subject)
    assert len(watch.codes) == 4
    assert watch.launched == [True] * 5


class Written:
    """Another way to find out: the operators that bertprof counts, and which of them make something."""

    def __init__(self, marked: Iterable[str]) -> None:
        self.marked = set(marked)
        self.crossings: list[Crossing] = []
        self.launched = [False]

    def cross(self, path: str, entering: bool) -> None:
        if path in self.marked:
            self.crossings.append(Crossing(path, entering))
            self.launched.append(False)

    def enter(self, path: str) -> None:
        self.cross(path, True)

    def leave(self, path: str) -> None:
        self.cross(path, False)

    def operate(self, operation: Operation) -> None:
        self.launched[-1] |= bool(operation.written_bytes) or operation.writes


@pytest.mark.parametrize("family", FAMILIES)
def test_no_mark_shares_an_event_across_an_operator_that_makes_something(family: str):
    model, inputs = tiny(family), Inputs((torch.ones(1, 8, dtype=torch.long),))
    subject = Marked(model, inputs, regions_of(model), HostClock())
    with torch.inference_mode():
        watch = timing.watched(subject)
    paths = {crossing.path for crossing in subject.crossings}
    written = Written(paths)
    follow(model, inputs, written, [path for path in paths if path.endswith("()")])
    assert [subject.crossings[code] for code in watch.codes] == written.crossings
    assert all(watch.launched[i] for i, made in enumerate(written.launched) if made)


def test_the_marks_of_a_unit_share_their_events():
    model = tiny("bert")
    subject = Marked(model, Inputs((torch.ones(1, 8, dtype=torch.long),)), regions_of(model), HostClock())
    with torch.inference_mode():
        watch = timing.watched(subject)
    # 20 marks a unit around nine stretches of work: query, key, value, attention, its output, sum and norm, two linears
    # of the FFN, sum and norm. Three units, and outside of them the tables, their norm and the pooler.
    assert len(watch.codes) == 3 * 20 + 6
    assert sum(watch.launched) == 3 * 9 + 3


def launching_one_a_unit(device: FakeDevice, launch_ms: float) -> Marked:
    """A BERT of three units, of which each launches one kernel of 0.5 ms in its FFN."""
    model = tiny("bert")
    for i in range(3):
        linear = model.encoder.layer[i].output.dense
        forward = linear.forward

        def launching(hidden: torch.Tensor, forward: Any = forward) -> Any:
            device.launch(0.5, launch_ms=launch_ms)
            return forward(hidden)

        linear.forward = launching
    return Marked(model, Inputs((torch.ones(1, 8, dtype=torch.long),)), regions_of(model), device.clock())


def test_where_the_stream_is_busy_a_forward_with_marks_takes_what_the_bare_one_does():
    device = FakeDevice()
    device.event_ms = 0.002
    subject = launching_one_a_unit(device, launch_ms=0.0)
    (series,), _ = timing.sample([subject], Goal(0))
    # Three kernels and the event at the end; with marks 31 of them, which are 60 µs longer: 1935 ns of each go.
    assert set(series.bare_ns) == {1_502_000}
    assert set(series.totals_ns) == {1_562_000 - 31 * 1935}
    # The FFN of a unit has two of these intervals, one for each linear; 65 ns are left of the event that ends it.
    assert set(series.by_component()[Component.FFN]) == {3 * (500_000 + 2 * 65)}
    with subject.marks(), torch.inference_mode():
        assert subject.run().total_ns == 1_562_000


def test_where_the_stream_waits_for_launches_nothing_is_left_out_of_it():
    """Each kernel is launched 1 ms behind the one before it; events are done by then, and the host records at once."""
    device = FakeDevice()
    subject = launching_one_a_unit(device, launch_ms=1.0)
    clock = subject.clock
    assert isinstance(clock, EventClock)
    calibrate = clock.calibrate

    def as_on_a_busy_stream() -> None:
        device.event_ms = 0.002
        calibrate()
        device.event_ms = 0.0

    clock.calibrate = as_on_a_busy_stream  # type: ignore[method-assign]
    (series,), _ = timing.sample([subject], Goal(0))
    assert clock.event_ns == pytest.approx(2000)
    # Three launches of 1 ms, and the last kernel.
    assert set(series.bare_ns) == set(series.totals_ns) == {3_500_000}
    assert set(series.by_component()[Component.FFN]) == {3_500_000}


@pytest.mark.parametrize(("device", "name"), [("cpu", "host"), ("cuda:0", "events")])
def test_the_clock_of_a_device(device: str, name: str):
    assert clock_for(torch.device(device)).name == name
