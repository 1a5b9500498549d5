"""The graph clock: what a forward takes on the device, without the gaps in which it waits for launches.

The forward is captured as a CUDA graph, with events at the boundaries of components inside it, and replayed. The host
then launches once and Python does not run, so that kernels follow each other as fast as the device goes on. Events
inside a graph are `torch.cuda.Event(external=True)`: they are captured as nodes of their own, each replay records them,
and their times can be read after it (cudaEventRecordExternal in CUDA's documentation). What they take is known: the
forward is captured without them as well, both are replayed in turn, and the difference is left out.

What is captured is the same every time and cannot wait for the device: a forward that reads a value on the host
(`.item()`, a mask that is searched for padding) has no graph. That is found out before anything is captured, since a
capture that fails leaves more behind than an error (`Cuda.capture`).
"""

import math
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bertprof import sampling
from bertprof.attribution import Key, Walker
from bertprof.components import COMPONENT_ORDER, Component
from bertprof.errors import DeviceError, shortened
from bertprof.measure.clocks import EventClock, Plan, Tape
from bertprof.measure.dispatch import deciding_as_it_runs
from bertprof.measure.launches import Watch
from bertprof.measure.timing import WARM_UP_ROUNDS, Marked, undisturbed, watched
from bertprof.observations import ClockPart, OtherClock
from bertprof.quantities import Samples

WARM_UP_REPLAYS = 5
"""Replays that are not kept: the first ones upload the graph and bring the device's clock up."""

REPLAYS = 30
"""Replays that are kept, the same number in every process, so that processes can be pooled."""

_TICK_NS = 100
"""Times are recorded to 0.1 µs."""


def by_graph(marked: Marked, cuda: "Cuda | None" = None) -> tuple[OtherClock, Mapping[Key, Samples]]:
    """The times of a forward that was captured as a CUDA graph.

    Args:
        marked: a model that stands ready on a CUDA device.
        cuda: what CUDA is asked through; for tests.

    Returns:
        the clock, and the milliseconds of each row in each replay. In every replay the rows sum to its total; the
        clock's total is the median of these.

    Raises:
        DeviceError: this torch records no events inside a graph, or the forward cannot be captured.
    """
    rows: dict[Key, Samples] = {}
    totals_ms: Samples = []
    for tape in replayed(marked, cuda or Cuda(next(marked.model.parameters()).device)):
        owned: dict[Key, int] = {}
        for owner, spent_ns in marked.attribute(tape).items():
            owned[owner.key] = owned.get(owner.key, 0) + spent_ns
        # Rounding the running sum, not each row, keeps the rounded rows' sum the rounded total.
        running = ticks = 0
        for key, spent_ns in owned.items():  # the same in every replay
            running += spent_ns
            reached = round(running / _TICK_NS)
            rows.setdefault(key, []).append(_ms(reached - ticks))
            ticks = reached
        totals_ms.append(_ms(ticks))
    return _clock(rows, totals_ms), rows


def _ms(ticks: int) -> float:
    return round(ticks * _TICK_NS / 1e6, 4)


def _clock(rows: Mapping[Key, Samples], totals_ms: Sequence[float]) -> OtherClock:
    total_ms, spent_ms = sampling.median(totals_ms), math.fsum(totals_ms)
    if not total_ms:
        raise DeviceError("nothing of the forward was captured: it runs on another stream than the current one")
    sums: dict[Component, float] = {}
    for (_, component), samples in rows.items():
        sums[component] = sums.get(component, 0.0) + math.fsum(samples)
    parts = [
        ClockPart(component=component, time_ms=round(sums[component] / spent_ms * total_ms, 6))
        for component in sorted(sums, key=COMPONENT_ORDER.__getitem__)
        if sums[component]
    ]
    return OtherClock(clock="graph", forwards=len(totals_ms), total_ms=total_ms, parts=parts)


# Capture and replay ---------------------------------------------------------------------------------------------------


class Inside(EventClock):
    """The clock whose marks are captured: it never waits, and tells its tape after each replay (`read`)."""

    name = "graph"

    def __init__(self, cuda: "Cuda") -> None:
        """
        Args:
            cuda: what makes events.
        """
        super().__init__(cuda.device, new_event=cuda.new_event, stream=lambda device: cuda.stream())

    def start(self) -> None:
        """Begins a tape."""
        self.begin()

    def stop(self) -> Tape:
        """Ends the tape, of which nothing has run yet."""
        self.end()
        return Tape([], [0])


def replayed(marked: Marked, cuda: "Cuda", replays: int = REPLAYS) -> list[Tape]:
    """Captures a forward with marks and one without, and replays them in turn.

    Returns:
        the forward with marks in each replay. `own_ns` is what its marks took: by how much its median is longer than
        that of the forward without, spread evenly over its intervals as far as they go.

    Raises:
        DeviceError: see `by_graph`.
    """
    clocks = (Inside(cuda), Inside(cuda))
    graphs: list[Any] = []
    tapes: tuple[list[Tape], list[Tape]] = ([], [])
    with undisturbed(), deciding_as_it_runs(), cuda.aside():
        for _ in range(WARM_UP_ROUNDS):
            _forward(marked)
        _check_it_never_waits(marked, cuda)
        clocks[0].prepare(_plan(marked, watched(marked)))
        clocks[1].prepare(Plan())
        cuda.make_room()
        pool = cuda.pool()
        try:
            for regions, clock in zip((marked.regions, {}), clocks, strict=True):
                subject = replace(marked, regions=regions, clock=clock, style="wrappers")
                graphs.append(_captured(subject, cuda, pool))
            for i in range(WARM_UP_REPLAYS + replays):
                for graph, clock, kept in zip(graphs, clocks, tapes, strict=True):
                    cuda.synchronize()
                    graph.replay()
                    cuda.synchronize()
                    if i >= WARM_UP_REPLAYS:
                        kept.append(clock.read())
        finally:
            cuda.release(graphs)
    with_marks, without = (sampling.median([tape.total_ns for tape in kept]) for kept in tapes)
    each_ns = max(0.0, with_marks - without) / clocks[0].intervals
    return [tape.less(each_ns) for tape in tapes[0]]


def _forward(marked: Marked) -> None:
    args, kwargs = marked.inputs.fresh()
    marked.model(*args, **kwargs)


def _check_it_never_waits(marked: Marked, cuda: "Cuda") -> None:
    """Refuses a forward that waits for the device, as far as torch notices."""
    try:
        with cuda.strictly():
            _forward(marked)
    except Exception as error:  # whatever it is, it did not happen in the forwards before
        text = f"the forward waits for the device{_place(error)}, which no CUDA graph can do: {shortened(error)}"
        raise DeviceError(text) from None


def _place(error: BaseException) -> str:
    """Where an error was raised: the innermost line of code that is neither torch's nor ours."""
    ours = (Path(torch.__file__).parent, Path(__file__).parent)
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        path = Path(frame.f_code.co_filename)
        if not any(folder in path.parents for folder in ours):
            return f" at {path.name}:{line}"
    return ""


def _plan(marked: Marked, watch: Watch) -> Plan:
    """The marks that need an event where only rows are told apart: one between launches of different rows."""
    walker = Walker(marked.regions)
    keys = [(walker.owner.unit, walker.owner.component)]
    for code in watch.codes:
        walker.cross(marked.crossings[code])
        keys.append((walker.owner.unit, walker.owner.component))
    shared = [True] * len(watch.codes)
    following = keys[-1]  # the row of the next launch, or of the end
    for i in reversed(range(len(shared))):
        if watch.launched[i + 1]:
            following = keys[i + 1]
        if watch.launched[i]:
            shared[i] = keys[i] == following
    return Plan(watch.codes, shared)


def _captured(subject: Marked, cuda: "Cuda", pool: Any) -> Any:
    try:
        with subject.marks(), cuda.capture(pool) as graph:
            subject.run()
    except Exception as error:
        text = f"the forward cannot be captured as a CUDA graph{_place(error)}: {shortened(error)}"
        raise DeviceError(text) from None
    return graph


class Cuda:
    """What a capture asks of CUDA.

    Attributes:
        device: a CUDA device with its index.
    """

    def __init__(self, device: torch.device, api: Any = torch.cuda, internals: Any = torch._C) -> None:
        """
        Args:
            device: a CUDA device with its index.
            api: torch.cuda; a fake one in tests.
            internals: torch._C.
        """
        self.device = device
        self._api = api
        self._internals = internals

    def new_event(self) -> Any:
        """An event that a graph records at each replay.

        Raises:
            DeviceError: this torch has none.
        """
        try:
            return self._api.Event(enable_timing=True, external=True)
        except TypeError:
            text = f"torch {torch.__version__} records no events inside a CUDA graph (Event without external=)"
            raise DeviceError(text) from None

    def stream(self) -> Any:
        """The current stream."""
        return self._api.current_stream(self.device)

    def synchronize(self) -> None:
        """Waits until the device is idle."""
        self._api.synchronize(self.device)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """While open, another stream than the default one is current, on which alone can be captured."""
        before, side = self.stream(), self._api.Stream(self.device)
        side.wait_stream(before)
        try:
            with self._api.stream(side):
                yield
        finally:
            before.wait_stream(side)

    @contextmanager
    def strictly(self) -> Iterator[None]:
        """While open, an operator that waits for the device raises.

        The mode is one of the whole process: other threads that wait for a device in the meantime raise as well.
        """
        before = self._api.get_sync_debug_mode()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says, once, that the mode is a prototype
                self._api.set_sync_debug_mode("error")
            yield
        finally:
            self._api.set_sync_debug_mode(before)

    def pool(self) -> Any:
        """A pool of memory for graphs that never run at a time."""
        return self._api.graph_pool_handle()

    def make_room(self) -> None:
        """Gives back memory that is held in reserve: a capture cannot take it, and cannot have it freed."""
        self.synchronize()
        self._api.empty_cache()

    def release(self, graphs: list[Any]) -> None:
        """Frees graphs and their memory."""
        for graph in graphs:
            graph.reset()
        with suppress(RuntimeError):
            self.make_room()

    @contextmanager
    def capture(self, pool: Any) -> Iterator[Any]:
        """Captures what is launched meanwhile on the current stream; yields the graph.

        What other threads do with CUDA in the meantime neither fails nor disturbs ("thread_local"). Where the capture
        fails, all is put back as it was before, which torch does not do of itself: its allocator goes on as if the
        capture did, and any later `empty_cache()` fails (until pytorch/pytorch#180395); its generator of random numbers
        does the same, and whatever is random fails, dropout in training for one (until pytorch/pytorch#176752).
        """
        graph = self._api.CUDAGraph()
        try:
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                yield graph
            except BaseException:
                with suppress(RuntimeError):  # it would only say that something failed before
                    graph.capture_end()
                raise
            graph.capture_end()
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they hold tensors of the pool
            with suppress(RuntimeError):
                graph.reset()
            self._clean_up(pool)
            raise

    def _clean_up(self, pool: Any) -> None:
        """Puts back what a capture that failed left behind. What goes wrong meanwhile would hide why it failed."""
        try:
            self._internals._cuda_endAllocateToPool(self.device.index, pool)
        except (RuntimeError, AttributeError):
            # Torch has ended it itself. Whether it has released the pool too (since pytorch/pytorch#190348) it does not
            # tell; one that is released twice is broken, one that is not keeps its memory until the process ends.
            pass
        else:
            with suppress(RuntimeError, AttributeError):
                self._internals._cuda_releasePool(self.device.index, pool)
        # The generator leaves off capturing at the end of a capture that succeeds: one of a single event.
        with suppress(RuntimeError, DeviceError):
            event, graph = self.new_event(), self._api.CUDAGraph()
            event.record(self.stream())
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                event.record(self.stream())
            finally:
                graph.capture_end()
            graph.reset()
        with suppress(RuntimeError):
            self.make_room()
