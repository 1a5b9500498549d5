"""Beside: what is found out of a model after its times were sampled, each only where it was asked for.

What fails here takes nothing from the record but itself: it is said to be unavailable, and why.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

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
from bertprof.record import Caveat


@dataclass
class Found:
    """What was found. Rows are by unit and component, in ms, bytes and mJ."""

    clocks: list[OtherClock] = field(default_factory=list)
    device_ms: Mapping[Key, Samples] = field(default_factory=dict)
    peaks: Peaks | None = None
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
        with _said_of(found, "no-memory", "memory was not measured"):
            if device.type == "cuda":
                found.allocated_bytes = memory.allocated_peaks(marked, device)
            else:
                found.resident_peak_bytes = memory.resident_peak(marked)
    for clock in (name for name in asked.clocks if name != "events"):
        progress(f"{clock} clock")
        found.clocks.append(_told(clock, partial(_by_clock, clock, found, marked, device, profiled)))
    if asked.cross_check:
        progress("cross-check")
        found.clocks.append(_told("profiler", partial(_cross_check, device, profiled)))
    if asked.trace is not None:
        progress("trace")
        with _said_of(found, "no-trace", f"{Path(asked.trace).name} was not written"):
            write_whole(Path(asked.trace), profiled.chrome_trace())
    if asked.peaks is not None:
        progress("peaks")
        with _said_of(found, "no-peaks", "the device's peaks were not measured, so there is no roofline"):
            found.peaks = peaks.of(device, subject.workload.dtype, threads, again=asked.peaks == "again")
    if asked.energy:
        progress("energy")
        found.energy, found.energy_mj = energy.of(marked, device, found.device_ms)
    return found


@contextmanager
def _said_of(found: Found, code: str, what: str) -> Iterator[None]:
    """Whatever goes wrong while this is open becomes a caveat; what cannot be written is the user's to know at once."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        found.caveats.append(Caveat(code=code, text=f"{what}: {shortened(error)}"))


def _by_clock(clock: str, found: Found, marked: Marked, device: torch.device, profiled: Profiled) -> OtherClock:
    if device.type != "cuda":
        raise DeviceError("it is a clock of CUDA devices; on a CPU, --cross-check times the forward a second time")
    if clock == "kernels":
        return profiled.by_kernels()
    told, found.device_ms = graphs.by_graph(marked)
    return told


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
