"""Clocks: the ways to time what happens between boundary marks.

A clock is started, marked and stopped; it then tells the nanoseconds before the first mark, between each two, and after
the last. A mark is the cheapest thing that the device allows and never waits for it.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch


class Tape(NamedTuple):
    """What a clock recorded of one forward.

    Attributes:
        codes: the marks in order, each as the number that it was made with.
        intervals_ns: one more than marks: before the first, between each two, after the last. Their sum is the whole.
    """

    codes: list[int]
    intervals_ns: list[int]

    @property
    def total_ns(self) -> int:
        """The whole, from start to stop."""
        return sum(self.intervals_ns)


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


def _cuda_event() -> Any:
    return torch.cuda.Event(enable_timing=True)


class EventClock:
    """`events`: what runs on a CUDA device as the user runs it, gaps between launches included.

    Each mark records an event from a pool made in advance on the stream on which the forward runs; the only
    synchronisations are before the first event and after the last.
    """

    name = "events"

    def __init__(
        self,
        device: torch.device,
        *,
        new_event: Callable[[], Any] = _cuda_event,
        synchronize: Callable[[torch.device], None] = torch.cuda.synchronize,
        stream: Callable[[torch.device], Any] = torch.cuda.current_stream,
    ) -> None:
        """
        Args:
            device: a CUDA device.
            new_event: makes an event with `record(stream)` and `elapsed_time(later) -> milliseconds`.
            synchronize: waits until the device is idle.
            stream: the stream on which the forward will run.
        """
        self._device = device
        self._new_event = new_event
        self._synchronize = synchronize
        self._stream_of = stream
        self._stream: Any = None
        self._pool: list[Any] = []
        self._codes: list[int] = []

    def reserve(self, marks: int) -> None:
        """Makes the events for that many marks now and not inside a forward.

        CUDA creates an event when it is first recorded, so each is recorded once.
        """
        stream = self._stream_of(self._device)
        while len(self._pool) < marks + 2:
            self._pool.append(self._new_event())
            self._pool[-1].record(stream)

    def start(self) -> None:
        """Begins a tape on an idle device."""
        self._codes = []
        self._stream = self._stream_of(self._device)
        self.reserve(0)
        self._synchronize(self._device)
        self._pool[0].record(self._stream)

    def mark(self, code: int) -> None:
        """Records an event; does not wait for it."""
        codes = self._codes
        codes.append(code)
        index = len(codes)
        if index == len(self._pool):
            self._pool.append(self._new_event())
        self._pool[index].record(self._stream)

    def stop(self) -> Tape:
        """Ends the tape and waits for the device."""
        used = len(self._codes) + 2
        if used > len(self._pool):
            self._pool.append(self._new_event())
        events = self._pool[:used]
        events[-1].record(self._stream)
        self._synchronize(self._device)
        # From the first event to each, so that rounding of single readings does not add up. Events on one stream
        # complete in order; a reading may still step back by its resolution of 0.5 µs, which counts as no time.
        elapsed = [0, *(round(events[0].elapsed_time(event) * 1e6) for event in events[1:])]
        for i in range(1, used):
            elapsed[i] = max(elapsed[i], elapsed[i - 1])
        return Tape(self._codes, [b - a for a, b in itertools.pairwise(elapsed)])


def clock_for(device: torch.device) -> Clock:
    """The clock that times a device as its user runs it."""
    return EventClock(device) if device.type == "cuda" else HostClock()
