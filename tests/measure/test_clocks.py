"""The clocks, driven by fakes: a clock that tells what it is told, and a device that completes when it is told."""

import pytest
import torch

from bertprof.measure.clocks import EventClock, HostClock, clock_for


def test_host_clock_tells_the_time_between_marks():
    times = iter([100, 107, 107, 150])
    clock = HostClock(now=lambda: next(times))
    clock.start()
    clock.mark(4)
    clock.mark(5)
    tape = clock.stop()
    assert tape.codes == [4, 5]
    assert tape.intervals_ns == [7, 0, 43]
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


class FakeDevice:
    """A CUDA device with one stream. Kernels are queued by the host and take their time one after another; an event is
    reached when all that was queued before it is done. The host only moves on when told."""

    def __init__(self) -> None:
        self.host_ms = 0.0
        self.busy_until_ms = 0.0
        self.events_made = 0
        self.synchronisations = 0
        self.log: list[str] = []

    def launch(self, kernel_ms: float, launch_ms: float = 0.01) -> None:
        self.host_ms += launch_ms
        self.busy_until_ms = max(self.busy_until_ms, self.host_ms) + kernel_ms
        self.log.append("kernel")

    def synchronize(self, device: torch.device) -> None:
        self.synchronisations += 1
        self.host_ms = max(self.host_ms, self.busy_until_ms)
        self.log.append("synchronize")

    def event(self) -> "FakeEvent":
        self.events_made += 1
        return FakeEvent(self)

    def clock(self) -> EventClock:
        return EventClock(
            torch.device("cuda:0"), new_event=self.event, synchronize=self.synchronize, stream=lambda device: "stream"
        )


class FakeEvent:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.at_ms: float | None = None

    def record(self, stream: str) -> None:
        assert stream == "stream"
        self.at_ms = max(self.device.busy_until_ms, self.device.host_ms)
        self.device.log.append("record")

    def elapsed_time(self, later: "FakeEvent") -> float:
        assert self.at_ms is not None
        assert later.at_ms is not None
        assert self.device.log[-1] == "synchronize", "read before the device was done"
        return later.at_ms - self.at_ms


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
    clock._pool[1].at_ms = 0.002
    clock._pool[2].at_ms = 0.0015
    device.host_ms = 0.01
    tape = clock.stop()
    assert tape.intervals_ns == [2000, 0, 8000]
    assert tape.total_ns == 10_000


@pytest.mark.parametrize(("device", "name"), [("cpu", "host"), ("cuda:0", "events")])
def test_the_clock_of_a_device(device: str, name: str):
    assert clock_for(torch.device(device)).name == name
