"""Clocks: the ways to time what happens between boundary marks.

A clock is started, marked and stopped; it then tells the nanoseconds before the first mark, between each two, and after
the last. A mark is the cheapest thing that the device allows and never waits for it.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from bertprof.sampling import median


class Tape(NamedTuple):
    """What a clock recorded of one forward.

    Attributes:
        codes: the marks in order, each as the number that it was made with.
        intervals_ns: one more than marks: before the first, between each two, after the last. Their sum is the whole.
        own_ns: what the marks themselves took, as far as it is known, and which was left out of the intervals (`less`).
    """

    codes: list[int]
    intervals_ns: list[int]
    own_ns: int = 0

    @property
    def total_ns(self) -> int:
        """The whole, from start to stop, without what was left out."""
        return sum(self.intervals_ns)

    def less(self, each_ns: float) -> "Tape":
        """Without what the end of each interval took, as far as the interval goes."""
        own = [min(interval, round(each_ns)) for interval in self.intervals_ns]
        intervals = [interval - mine for interval, mine in zip(self.intervals_ns, own, strict=True)]
        return Tape(self.codes, intervals, self.own_ns + sum(own))


class Clock(Protocol):
    """A way to time. `name` is what the record calls it."""

    name: str

    def start(self) -> None:
        """Begins a tape; the device is idle when it returns."""

    def mark(self, code: int) -> None:
        """Notes that boundary `code` is crossed now."""

    def stop(self) -> Tape:
        """Ends the tape; waits for the device."""
        ...


class HostClock:
    """`host`: what runs on the CPU, timed with `perf_counter_ns`."""

    name = "host"

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        """
        Args:
            now: nanoseconds since some fixed moment; a fake one makes attribution exact in tests.
        """
        self._now = now
        self._codes: list[int] = []
        self._times: list[int] = []

    def start(self) -> None:
        """Begins a tape."""
        self._codes = []
        self._times = [self._now()]

    def mark(self, code: int) -> None:
        """Notes the time of a crossing."""
        self._times.append(self._now())
        self._codes.append(code)

    def stop(self) -> Tape:
        """Ends the tape."""
        self._times.append(self._now())
        return Tape(self._codes, [b - a for a, b in itertools.pairwise(self._times)])


class Plan(NamedTuple):
    """In which order a forward crosses its marks, and which of them need no event of their own.

    Attributes:
        codes: the marks in order.
        shared: of each, whether it takes the time of the event before it: nothing is launched between the two.
    """

    codes: Sequence[int] = ()
    shared: Sequence[bool] = ()


def _cuda_event() -> Any:
    return torch.cuda.Event(enable_timing=True)


def _occupy(stream: Any, cycles: int) -> None:
    """Keeps a stream busy for so many cycles of the device."""
    with torch.cuda.stream(stream):
        torch.cuda._sleep(cycles)


class EventClock:
    """`events`: what runs on a CUDA device as the user runs it, gaps between launches included.

    Each mark records an event from a pool made in advance on the stream on which the forward runs; the only
    synchronisations are before the first event and after the last.

    A tape is what the events tell. Two things, both ours, keep what they cost out of the rows.

    *Marks share an event* where nothing is launched between them: leaving one linear and entering the next are one
    moment of the stream, and the interval between them is zero. What Python does between such marks shows in the gap
    before the next launch, and so belongs to who launches. A forward that crosses its marks in another order than
    planned gets an event for every mark from there on, so that no time lands elsewhere.

    *What an event takes on the stream* is measured (`calibrate`), for `timing.less_events` to leave it out as far as it
    was seen. Where the stream is behind the host, an event stands between two kernels and takes that long. Where the
    stream waits for launches, an event takes none of its time; what it costs there is the host's time for recording it,
    which was not calibrated, so that the correction is of the right order at best. An interval shorter than what is
    left out counts as none. Both matter where many intervals are short: do not read much into small shares of a
    launch-bound forward. The graph clock has neither trouble.
    """

    name = "events"

    def __init__(
        self,
        device: torch.device,
        *,
        new_event: Callable[[], Any] = _cuda_event,
        synchronize: Callable[[torch.device], None] = torch.cuda.synchronize,
        stream: Callable[[torch.device], Any] = torch.cuda.current_stream,
        occupy: Callable[[Any, int], None] = _occupy,
    ) -> None:
        """
        Args:
            device: a CUDA device.
            new_event: makes an event with `record(stream)`, `query()` (whether it was reached) and
                `elapsed_time(later) -> milliseconds`.
            synchronize: waits until the device is idle.
            stream: the stream on which the forward will run.
            occupy: keeps a stream busy for so many cycles of the device, without waiting.
        """
        self._device = device
        self._new_event = new_event
        self._synchronize = synchronize
        self._stream_of = stream
        self._occupy = occupy
        self._stream: Any = None
        self._pool: list[Any] = []
        self._plan = Plan()
        self._codes: list[int] = []
        self._at: list[int] = []  # for the start, each mark and the stop: which event tells its time
        self._used = 0
        self._in_step = False
        self.event_ns = 0.0

    def reserve(self, marks: int) -> None:
        """Makes the events for that many marks now and not inside a forward.

        CUDA creates an event when it is first recorded, so each is recorded once.
        """
        stream = self._stream_of(self._device)
        while len(self._pool) < marks + 2:
            self._pool.append(self._new_event())
            self._pool[-1].record(stream)

    def prepare(self, plan: Plan) -> None:
        """Takes up a plan and makes the events for it."""
        self._plan = plan
        self.reserve(len(plan.codes))

    def calibrate(self) -> None:
        """Finds out what one event takes on a busy stream: the time from each to the next of many in a row.

        They are recorded behind a kernel that is still running when the last of them is, so that the host is ahead and
        only the device's time passes between them. The median is that of blocks, each of which gives its mean, since a
        single reading resolves about 0.5 µs (CUDA's documentation of cudaEventElapsedTime). Where the host never gets
        ahead (CUDA_LAUNCH_BLOCKING=1) nothing is known: `event_ns` is 0.
        """
        self.reserve(_BLOCKS * _BLOCK - 1)
        events = self._pool[: _BLOCKS * _BLOCK + 1]
        stream = self._stream_of(self._device)
        self.event_ns = 0.0
        for cycles in _BUSY_CYCLES:
            self._synchronize(self._device)
            self._occupy(stream, cycles)
            for event in events:
                event.record(stream)
            is_ahead = not events[0].query()
            self._synchronize(self._device)
            if is_ahead:
                ends = events[::_BLOCK]
                self.event_ns = 1e6 * median([a.elapsed_time(b) for a, b in itertools.pairwise(ends)]) / _BLOCK
                return

    def start(self) -> None:
        """Begins a tape on an idle device."""
        self.reserve(0)
        self._synchronize(self._device)
        self.begin()

    def begin(self) -> None:
        """Begins a tape without waiting for the device."""
        self._codes, self._at, self._used, self._in_step = [], [], 0, True
        self._stream = self._stream_of(self._device)
        self._record()

    def mark(self, code: int) -> None:
        """Records an event where the mark needs one; does not wait for it."""
        position, plan = len(self._codes), self._plan
        self._codes.append(code)
        if self._in_step:
            self._in_step = position < len(plan.codes) and plan.codes[position] == code
            if self._in_step and plan.shared[position]:
                self._at.append(self._used - 1)
                return
        self._record()

    def end(self) -> None:
        """Ends the tape without waiting for the device."""
        self._record()

    def stop(self) -> Tape:
        """Ends the tape and waits for the device."""
        self.end()
        self._synchronize(self._device)
        return self.read()

    @property
    def intervals(self) -> int:
        """How many intervals of the tape have an end of their own: one less than events."""
        return self._used - 1

    def read(self) -> Tape:
        """The tape that was ended last; the device has to be done with it."""
        events = self._pool[: self._used]
        # From the first event to each, so that rounding of single readings does not add up. Events on one stream
        # complete in order; a reading may still step back by its resolution of 0.5 µs, which counts as no time.
        reached = [0, *(round(events[0].elapsed_time(event) * 1e6) for event in events[1:])]
        for i in range(1, len(reached)):
            reached[i] = max(reached[i], reached[i - 1])
        intervals_ns = [reached[after] - reached[before] for before, after in itertools.pairwise(self._at)]
        return Tape(self._codes, intervals_ns)

    def _record(self) -> None:
        if self._used == len(self._pool):
            self._pool.append(self._new_event())
        self._pool[self._used].record(self._stream)
        self._at.append(self._used)
        self._used += 1


_BLOCKS, _BLOCK = 10, 20
"""Blocks, and intervals between events in each, by which it is found out what an event takes: few enough for the host
to queue them all without waiting."""

_BUSY_CYCLES = (20_000_000, 200_000_000)
"""For how many cycles of the device its stream is kept busy meanwhile; the second where the first was not enough. At 1
to 2 GHz the first are 10 to 20 ms."""


def clock_for(device: torch.device) -> Clock:
    """The clock that times a device as its user runs it."""
    return EventClock(device) if device.type == "cuda" else HostClock()
