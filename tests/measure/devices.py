"""A CUDA device that does as it is told: streams, events, graphs and what torch keeps of them, without a GPU.

The host has a clock of its own and moves on only when it launches, records or waits. Work is queued on a stream and
done in its order; an event is reached when all that was queued before it is done. Everything that a real device
refuses is refused here: an event read before it was reached, a host that waits while its stream is captured, a capture
on the default stream, an event inside a graph that is not external.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from bertprof.measure.clocks import EventClock

DEVICE = torch.device("cuda:0")


class FakeDevice:
    """The device, and the host in front of it.

    Attributes:
        event_ms: what an event takes on its stream; `graph_event_ms`: one that is replayed.
        record_ms: for how long recording an event holds the host up.
        before_replay: is called with each graph that is replayed.
        mends: torch puts allocator and generator back itself where a capture fails, as newer ones do.
    """

    def __init__(self) -> None:
        self.host_ms = 0.0
        self.event_ms = self.graph_event_ms = self.record_ms = 0.0
        self.events_made = 0
        self.synchronisations = 0
        self.log: list[str] = []
        self.default = FakeStream(self)
        self.current = self.default
        self.capturing: FakeGraph | None = None
        self.graphs: list[FakeGraph] = []
        self.sync_mode = 0
        # What torch keeps: the pools of which it believes that a capture fills them, and how many graphs use a pool.
        self.filling: list[int] = []
        self.uses: dict[int, int] = {}
        self.generator_captures = False
        self.mends = False
        self.before_replay: Callable[[FakeGraph], None] = lambda graph: None
        self.api = FakeCuda(self)
        self.internals = FakeInternals(self)

    @property
    def streams(self) -> "list[FakeStream]":
        return [self.default, *self.api.made]

    def launch(self, kernel_ms: float, launch_ms: float = 0.01) -> None:
        """A kernel on the current stream."""
        self.host_ms += launch_ms
        if self.capturing is not None:
            self.capturing.nodes.append(kernel_ms)
        else:
            self.current.queue(kernel_ms)
        self.log.append("kernel")

    def wait(self) -> None:
        """What `.item()` does."""
        if self.sync_mode == 2:
            raise RuntimeError("called a synchronizing CUDA operation")
        self.break_capture()
        self.host_ms = max(self.host_ms, self.current.busy_until_ms)

    def break_capture(self) -> None:
        """Something that cannot be captured, torch's debug mode notwithstanding: `torch.cuda.synchronize()`."""
        if self.capturing is not None:
            self.capturing.is_invalid = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def synchronize(self, device: torch.device) -> None:
        assert device == DEVICE
        self.break_capture()
        self.synchronisations += 1
        self.host_ms = max(self.host_ms, *(stream.busy_until_ms for stream in self.streams))
        self.log.append("synchronize")

    def event(self) -> "FakeEvent":
        self.events_made += 1
        return FakeEvent(self)

    def clock(self) -> EventClock:
        return EventClock(
            DEVICE,
            new_event=self.event,
            synchronize=self.synchronize,
            stream=lambda device: self.current,
            occupy=lambda stream, cycles: self.launch(cycles / 1e6),
        )


class FakeStream:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.busy_until_ms = 0.0

    def queue(self, work_ms: float) -> float:
        """When that work is done."""
        self.busy_until_ms = max(self.busy_until_ms, self.device.host_ms) + work_ms
        return self.busy_until_ms

    def wait_stream(self, other: "FakeStream") -> None:
        assert self.device.capturing is None
        self.busy_until_ms = max(self.busy_until_ms, other.busy_until_ms)


class FakeEvent:
    def __init__(self, device: FakeDevice, external: bool = False) -> None:
        self.device = device
        self.external = external
        self.at_ms: float | None = None

    def record(self, stream: FakeStream) -> None:
        assert stream is self.device.current
        self.device.host_ms += self.device.record_ms
        if self.device.capturing is not None:
            assert self.external, "it would only join streams, and could not be read"
            self.device.capturing.nodes.append(self)
        else:
            self.at_ms = stream.queue(self.device.event_ms)
        self.device.log.append("record")

    def query(self) -> bool:
        return self.at_ms is not None and self.at_ms <= self.device.host_ms

    def elapsed_time(self, later: "FakeEvent") -> float:
        assert self.query(), "read before it was reached"
        assert later.query(), "read before it was reached"
        assert self.at_ms is not None
        assert later.at_ms is not None
        return later.at_ms - self.at_ms


class FakeGraph:
    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.nodes: list[float | FakeEvent] = []
        self.is_invalid = self.is_whole = False
        self.pool = 0
        device.graphs.append(self)

    def capture_begin(self, pool: int | None = None, capture_error_mode: str = "global") -> None:
        device = self.device
        assert device.current is not device.default, "graphs are captured on another stream"
        assert capture_error_mode == "thread_local"
        self.pool = device.api.graph_pool_handle() if pool is None else pool
        assert self.pool not in device.filling
        device.filling.append(self.pool)
        device.uses[self.pool] = device.uses.get(self.pool, 0) + 1
        device.generator_captures = True
        device.capturing = self

    def capture_end(self) -> None:
        device = self.device
        assert device.capturing is self
        device.capturing = None
        if self.is_invalid and not device.mends:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        device.filling.remove(self.pool)
        device.generator_captures = False
        if self.is_invalid:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        if not self.nodes:
            warnings.warn("The CUDA Graph is empty", stacklevel=2)
        self.is_whole = True

    def replay(self) -> None:
        assert self.is_whole
        assert self.device.capturing is None
        self.device.before_replay(self)
        self.device.host_ms += 0.02
        stream = self.device.current
        for node in self.nodes:
            if isinstance(node, FakeEvent):
                node.at_ms = stream.queue(self.device.graph_event_ms)
            else:
                stream.queue(node)

    def reset(self) -> None:
        if self.is_whole or (self.device.mends and self.pool):
            self.device.uses[self.pool] -= 1
        self.is_whole, self.pool = False, 0


class FakeCuda:
    """torch.cuda, as far as a capture asks for it."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device
        self.made: list[FakeStream] = []
        self.pools = 0
        self.knows_external = True

    def Event(self, enable_timing: bool, **more: bool) -> FakeEvent:  # noqa: N802 (torch's name)
        assert enable_timing
        if more and not self.knows_external:
            raise TypeError("Event.__new__() got an unexpected keyword argument 'external'")
        return FakeEvent(self.device, **more)

    def Stream(self, device: torch.device) -> FakeStream:  # noqa: N802
        assert device == DEVICE
        self.made.append(FakeStream(self.device))
        return self.made[-1]

    def CUDAGraph(self) -> FakeGraph:  # noqa: N802
        return FakeGraph(self.device)

    @contextlib.contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        before, self.device.current = self.device.current, stream
        try:
            yield
        finally:
            self.device.current = before

    def current_stream(self, device: torch.device) -> FakeStream:
        assert device == DEVICE
        return self.device.current

    def synchronize(self, device: torch.device) -> None:
        self.device.synchronize(device)

    def graph_pool_handle(self) -> int:
        self.pools += 1
        return self.pools

    def empty_cache(self) -> None:
        if self.device.filling:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")

    def get_sync_debug_mode(self) -> int:
        return self.device.sync_mode

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self.device.sync_mode = {"error": 2}[mode] if isinstance(mode, str) else mode


class FakeInternals:
    """torch._C, as far as a capture that failed asks for it."""

    def __init__(self, device: FakeDevice) -> None:
        self.device = device

    def _cuda_endAllocateToPool(self, index: int, pool: Any) -> None:  # noqa: N802
        assert index == DEVICE.index
        if pool not in self.device.filling:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.device.filling.remove(pool)

    def _cuda_releasePool(self, index: int, pool: Any) -> None:  # noqa: N802
        assert index == DEVICE.index
        assert self.device.uses[pool] > 0, "released twice"
        self.device.uses[pool] -= 1
