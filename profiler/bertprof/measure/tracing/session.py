"""torch.profiler as a clock: the `profiler` cross-check on a CPU, the `kernels` clock of a CUDA device, and the trace.

The marks at the boundaries begin and end ranges of the profiler, so that it times exactly the intervals that the other
clocks time, in the same forward; they are attributed by the same rule.

All is read from one session. On a CUDA device a process should have no second one: of each, kernels at the beginning
are lost, one more each time (pytorch/pytorch#192021), or all, where CUPTI is being torn down behind the session before
(pytorch/kineto#1554). So kernels that nobody counts run first, and the clock checks that the others are all there.
"""

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from bertprof.errors import DeviceError, UsageError
from bertprof.measure.clocks import Tape
from bertprof.measure.timing import Marked, undisturbed
from bertprof.measure.tracing import events as trace_events
from bertprof.measure.tracing import times, tracks
from bertprof.measure.tracing.events import BEGIN, RANGE, Recorded
from bertprof.observations import OtherClock

FEWEST_FORWARDS = 5
MOST_FORWARDS = 30
RECORDED_S = 2.0
"""As many forwards are recorded as take this long, but no fewer and no more than those: a forward of BERT-base leaves
1800 events, which take memory and time to read."""

WARM_UP_FORWARDS = 2
"""Forwards at the beginning of a session that are not read: its buffers are allocated as they fill."""

SACRIFICED_KERNELS = 64
"""Kernels at the beginning of a session that are not read; more than sessions that a process is likely to have."""

_new_range: Callable[[str], Any] = getattr(torch._C._profiler, "_RecordFunctionFast", torch.profiler.record_function)
"""Makes a range of the profiler. The first, which torch's compiler uses, was measured to cost 0.4 µs in a session where
the documented one costs 4.7; it is private, and so may be missing."""


class Ranges:
    """A clock whose marks end one range of the profiler and begin the next. The session knows the times, not it."""

    name = "profiler"

    def __init__(self, new_range: Callable[[str], Any] = _new_range) -> None:
        """
        Args:
            new_range: makes a context that the profiler records under that name, each time that it is entered.
        """
        self._new_range = new_range
        self._ranges: dict[int, Any] = {}
        self._open: Any = None
        self._codes: list[int] = []

    def start(self) -> None:
        """Begins a forward."""
        self._codes = []
        self._enter(BEGIN)

    def mark(self, code: int) -> None:
        """Ends a range and begins the next."""
        self._open.__exit__(None, None, None)
        self._codes.append(code)
        self._enter(code)

    def stop(self) -> Tape:
        """Ends the forward. Its tape tells the marks, and no time."""
        self._open.__exit__(None, None, None)
        return Tape(self._codes, [0] * (len(self._codes) + 1))

    def _enter(self, code: int) -> None:
        entered = self._ranges.get(code)
        if entered is None:
            entered = self._ranges[code] = self._new_range(f"{RANGE}{code}")
        self._open = entered
        entered.__enter__()


class Profiled:
    """A model of which one session tells everything; it is run when something is asked first."""

    def __init__(self, marked: Marked) -> None:
        """
        Args:
            marked: the model, on a CPU or a CUDA device, with the style of marks that its times were taken with.
        """
        self._marked = marked
        self._device = _device_of(marked)
        self._recorded: Recorded | None = None
        self._error: Exception | None = None

    def by_profiler(self) -> OtherClock:
        """The cross-check on a CPU: the forward by torch.profiler's clock.

        Raises:
            UsageError: a session of the user's is open.
            DeviceError: the profiler told less than was run.
        """
        return times.by_ranges(self._record(MOST_FORWARDS))

    def by_kernels(self) -> OtherClock:
        """The kernels clock of a CUDA device; see `times.by_kernels`.

        Raises:
            UsageError: a session of the user's is open.
            DeviceError: there are no kernels, or they are not to be trusted.
        """
        return times.by_kernels(self._record(MOST_FORWARDS))

    def chrome_trace(self) -> bytes:
        """The Chrome trace of one forward, components as tracks; see `bertprof.measure.tracing.tracks`.

        Raises:
            UsageError: a session of the user's is open.
            DeviceError: the profiler told less than was run.
        """
        return tracks.chrome(self._record(1), on_gpu=self._device.type == "cuda")

    def _record(self, most: int) -> Recorded:
        if self._error is not None:
            raise self._error  # and not a second session
        if self._recorded is None:
            try:
                self._recorded = record(self._marked, self._device, most)
            except Exception as error:
                self._error = error
                raise
        return self._recorded


def _device_of(marked: Marked) -> torch.device:
    tensors = (*marked.model.parameters(), *(tensor for _, tensor in marked.inputs.tensors()))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


# The session ----------------------------------------------------------------------------------------------------------

Session = Callable[[torch.device, Callable[[], None]], bytes]
"""Runs a function while a device is profiled and returns the Chrome trace."""


def profiled(device: torch.device, run: Callable[[], None]) -> bytes:
    """Runs a function in one session of torch.profiler and returns its Chrome trace.

    Raises:
        UsageError: a session is open already; torch has one at a time.
        DeviceError: this torch cannot profile that device.
    """
    if torch._C._autograd._profiler_enabled():
        raise UsageError("a profiler of yours is running, and torch has one at a time: leave its context first")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    if not torch.profiler.supported_activities().issuperset(activities):
        raise DeviceError("this build of torch has no CUPTI, and so no kernels: use one that is built with it")
    # One cycle has the same events either way; without acc_events, torch 2.10 warns that they would be cleared.
    with _quiet(), torch.profiler.profile(activities=activities, acc_events=True) as session:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        session.export_chrome_trace(str(path))
        return path.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """While open, kineto writes nothing to stderr, where torch 2.13 would note that a session begins and ends.

    It asks for its level once a process, as its first session begins: it keeps quiet afterwards, and cannot be silenced
    where the user had a session before. A level that the user has set stays. Its levels end at 5, those notes ("USDT").
    """
    if "KINETO_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["KINETO_LOG_LEVEL"] = "6"
    try:
        yield
    finally:
        del os.environ["KINETO_LOG_LEVEL"]


def _sacrifice(device: torch.device) -> None:
    tensor = torch.zeros(1, device=device)
    for _ in range(SACRIFICED_KERNELS):
        tensor.add_(1)


def record(
    marked: Marked,
    device: torch.device,
    most: int,
    *,
    session: Session = profiled,
    synchronize: Callable[[torch.device], None] = torch.cuda.synchronize,
    sacrifice: Callable[[torch.device], None] = _sacrifice,
) -> Recorded:
    """Runs forwards in a session.

    Args:
        marked: the model.
        device: where it is.
        most: forwards to keep at most.
        session: what profiles; a fake one makes times exact in tests.
        synchronize: waits until a CUDA device is idle.
        sacrifice: launches kernels that nobody counts.

    Raises:
        UsageError: a session of the user's is open.
        DeviceError: the profiler told of other forwards than were run.
    """
    on_gpu = device.type == "cuda"
    ranged = replace(marked, clock=Ranges())
    tapes: list[Tape] = []

    def wait() -> None:
        if on_gpu:
            synchronize(device)

    def run() -> None:
        if on_gpu:
            sacrifice(device)
        for _ in range(WARM_UP_FORWARDS + forwards):
            wait()
            tapes.append(ranged.run())
        wait()

    with undisturbed():
        forward_s = max(1e-6, marked.run().total_ns / 1e9)
        forwards = min(most, max(FEWEST_FORWARDS, math.ceil(RECORDED_S / forward_s)))
        ranged.settle(marked.style)
        with ranged.marks():
            events = trace_events.read(session(device, run))
    found = trace_events.forwards(events)
    if [forward.codes for forward in found] != [tape.codes for tape in tapes]:
        raise DeviceError("torch.profiler lost some of the ranges that it was given: run it again")
    kept = found[WARM_UP_FORWARDS:]
    owners = [forward.owners(ranged.crossings, marked.regions) for forward in kept]
    return Recorded(events, kept, owners)
