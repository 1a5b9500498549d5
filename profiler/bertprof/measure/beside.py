"""Beside: what is found out of a model after its times were sampled, each only where it was asked for.

What fails here takes nothing from the record but itself: it is said to be unavailable, and why.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from bertprof import roofline
from bertprof.attribution import Key
from bertprof.errors import DeviceError, OutputError, shortened
from bertprof.files import write_whole
from bertprof.measure import graphs, memory, peaks
from bertprof.measure.power import energy
from bertprof.measure.subject import Subject
from bertprof.measure.timing import Marked
from bertprof.measure.tracing.session import Profiled
from bertprof.observations import Beside, Energy, OtherClock, Peaks
from bertprof.quantities import Samples
from bertprof.record import Breakdown, Caveat


@dataclass
class Found:
    """What was found. Rows are by unit and component, in ms, bytes and mJ; `cached` peaks are of an earlier run."""

    clocks: list[OtherClock] = field(default_factory=list)
    device_ms: Mapping[Key, Samples] = field(default_factory=dict)
    peaks: Peaks | None = None
    cached: bool = False
    resident_peak_bytes: int | None = None
    allocated_bytes: Mapping[Key, int] = field(default_factory=dict)
    energy: Energy | None = None
    energy_mj: Mapping[Key, Samples] = field(default_factory=dict)
    caveats: list[Caveat] = field(default_factory=list)


def find(subject: Subject, marked: Marked, threads: int, asked: Beside, progress: Callable[[str], None]) -> Found:
    """Finds out what is asked of a model that stands ready.

    Args:
        subject: the model.
        marked: the same, open, with the style of marks that its times were taken with.
        threads: torch's threads in force.
        asked: what to find out.
        progress: is told what is being done.

    Raises:
        OutputError: the trace cannot be written.
    """
    found = Found()
    device = subject.device
    profiled = Profiled(marked)  # one session tells all that is asked of it
    if asked.memory:
        progress("memory")
        with _said_of(found.caveats, "no-memory", "memory was not measured"):
            if device.type == "cuda":
                found.allocated_bytes = memory.allocated_peaks(marked, device)
            else:
                found.resident_peak_bytes = memory.resident_peak(marked)
    if "events" in asked.clocks and device.type != "cuda":
        found.caveats.append(Caveat(code="no-events", text=f"events clock unavailable: {_NOT_HERE}"))
    # What comes behind a session of the profiler runs slower: CUPTI stays attached (pytorch/pytorch#144455).
    if "graph" in asked.clocks:
        progress("graph clock")
        found.clocks.append(_told("graph", partial(_graph, found, marked, device)))
    if asked.peaks is not None:
        progress("peaks")
        with _said_of(found.caveats, "no-peaks", "the device's peaks were not measured, so there is no roofline"):
            dtype = subject.workload.dtype
            known = peaks.cached(device, dtype, threads) if asked.peaks == "cached" else None
            found.peaks = known or peaks.of(device, dtype, threads, again=True)
            found.cached = known is not None
    if asked.energy:
        progress("energy")
        found.energy, found.energy_mj = energy.of(marked, device, found.device_ms)
    if "kernels" in asked.clocks:
        progress("kernels clock")
        found.clocks.append(_told("kernels", partial(_kernels, device, profiled)))
    if asked.cross_check:
        progress("cross-check")
        found.clocks.append(_told("profiler", partial(_cross_check, device, profiled)))
    if asked.trace is not None:
        progress("trace")
        with _said_of(found.caveats, "no-trace", f"{Path(asked.trace).name} was not written"):
            write_whole(Path(asked.trace), profiled.chrome_trace())
    return found


def better_peaks(record: Breakdown, found: Found, device: torch.device, threads: int, asked: Beside) -> None:
    """Measures once more where a component is above the roof of cached peaks: the machine was busier when it got them.

    Not behind a session of the profiler on a GPU, which is slower then. Of peaks of this very run all is known already.

    Args:
        record: the record, whose peaks are replaced by those that are the better of both.
        found: what was found out for it.
        device: what it was measured on.
        threads: torch's threads in force.
        asked: what was to be found out.
    """
    profiled = device.type == "cuda" and (asked.trace is not None or "kernels" in asked.clocks)
    if record.peaks is None or not found.cached or profiled or not roofline.above_roof(record):
        return
    text = "a component is above its roof, and the device's peaks could not be measured again"
    with _said_of(record.caveats, "old-peaks", text):
        record.peaks = peaks.better(device, threads, record.peaks)


@contextmanager
def _said_of(caveats: list[Caveat], code: str, what: str) -> Iterator[None]:
    """Whatever goes wrong while this is open becomes a caveat; what cannot be written is the user's to know at once."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        caveats.append(Caveat(code=code, text=f"{what}: {shortened(error)}"))


_NOT_HERE = "it is a clock of CUDA devices; on a CPU, --cross-check times the forward a second time"


def _graph(found: Found, marked: Marked, device: torch.device) -> OtherClock:
    if device.type != "cuda":
        raise DeviceError(_NOT_HERE)
    told, found.device_ms = graphs.by_graph(marked, graphs.Cuda(device))
    return told


def _kernels(device: torch.device, profiled: Profiled) -> OtherClock:
    if device.type != "cuda":
        raise DeviceError(_NOT_HERE)
    return profiled.by_kernels()


def _cross_check(device: torch.device, profiled: Profiled) -> OtherClock:
    if device.type == "cuda":
        raise DeviceError("it is a clock of the CPU; on a GPU, --clock graph,kernels time the forward otherwise")
    return profiled.by_profiler()


def _told(clock: str, read: Callable[[], OtherClock]) -> OtherClock:
    """What a clock tells, or why it tells nothing."""
    try:
        return read()
    except Exception as error:
        return OtherClock(clock=clock, unavailable=shortened(error))  # type: ignore[arg-type]
