"""What spoils a measurement: other load, clocks that change, throttling, swapping, first runs, drift.

Two sources. A `Watch` reads the system's counters just before sampling and just after it, never inside; what the system
does not tell raises no caveat. The series itself tells whether its first rounds were slower than the rest, and whether
it drifted. Chance alone must not alarm: each test on a series is made at a level of a few per mille, supposes no
distribution, and is widened where neighbouring rounds are alike.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

import torch

from bertprof import steadiness
from bertprof.measure import host
from bertprof.observations import GpuState
from bertprof.record import Caveat
from bertprof.steadiness import FirstRounds, Trend

CODES = (
    *("warming-up", "drift", "other-load", "stolen-time", "throttled-quota", "thermal-throttling", "swapping"),
    *("clock-changed", "gpu-throttled", "gpu-warmed", "gpu-shared", "unsteady-time"),
)
"""The codes of all caveats that are about the machine, not about the model; the last is made in recording.py."""

OTHER_LOAD_FROM = 0.05
"""Share of the cores that other programs use beyond what this process leaves free, from which on they spoil. Measured
on 2 cores with a small BERT: up to 0.1 the median stayed within its quiet spread (5.0 to 5.4 ms), at 0.11 it was 1.8
times as long and at 0.5 up to 60 times, since threads that wait for one another lose all when one of them is late.
With 1 thread, which leaves one core free, 0.5 did nothing and 0.6 cost up to 30 %."""

STOLEN_FROM = 0.02
"""Share of the wanted CPU time that the hypervisor gave to others: what comparisons call no change."""

THROTTLED_FROM = 0.05
"""Share of the quota's periods in which the process was stopped. In rarer ones few rounds are struck, which a median
does not see."""

SWAPPED_PAGES_PER_S = 100
"""Pages that come from or go to swap. One takes 0.1 ms on an SSD, so that 100 a second are 1 % of the time."""

CLOCK_CHANGE_FROM = 0.05
"""Relative change of a clock. Clocks always move; that one spoiled is said only where the times followed it."""

GPU_THROTTLED_FROM = 0.02
"""Share of the time in which the GPU held its clocks back: as STOLEN_FROM."""

WARMED_FROM_C = 10
"""Degrees by which a GPU warmed. Any does from idle; that it spoiled is said only where forwards became slower too."""

GPU_WARM_UP_S = 0.5
"""A GPU is kept busy so long before its state is read and sampling begins: from idle its clocks take some 100 ms to
rise. That is a choice, not measured here."""

DRIFT_FROM = 0.04
"""Relative change from the first to the last third of the rounds: a steady slope of 10 % makes 6.7 %."""

_MOST_CLOCKS = 8
"""CPUs whose clock is read: some kernels take 10 ms for each that idles."""

_TICK_S = 0.01
"""The unit of /proc/stat (USER_HZ)."""

_BUSY = (0, 1, 2, 5, 6)
_STOLEN = 7
"""The columns of /proc/stat: user, nice, system, irq and softirq are work (guest is in user), then steal (proc(5))."""

_POWER, _THERMAL = 0, 1
"""NVML_PERF_POLICY_POWER and …_THERMAL of nvml.h."""

_HELD_BACK = {
    "hw_thermal_slowdown": "heat",
    "sw_thermal_slowdown": "heat",
    "hw_power_brake_slowdown": "power",
    "sw_power_cap": "power",
    "hw_slowdown": "heat or power",
}
"""What spoils among what may hold a clock back, the most telling first: hw_slowdown is set with any of the hardware's.
That a GPU idles, or has a clock that its user set, is none of it."""

# The machine ----------------------------------------------------------------------------------------------------------


class GpuReading(NamedTuple):
    """A GPU at one moment.

    Attributes:
        state: power, clocks, temperature, and what holds the clocks back.
        held_ns: for how long they were held back since the driver started, by reason.
        others: processes beside this one.
    """

    state: GpuState
    held_ns: dict[str, int]
    others: int | None

    @property
    def held_by(self) -> str | None:
        """What spoils and holds the clocks back now."""
        reasons = self.state.throttle_reasons or []
        return next((text for reason, text in _HELD_BACK.items() if reason in reasons), None)


class Reading(NamedTuple):
    """The machine's counters at one moment, of the CPUs that this process may use. None: the system does not tell.

    Attributes:
        wall_s: a clock.
        own_s: CPU time of this process, all threads.
        cores: how many CPUs the system tells of.
        busy_s: CPU time of all processes on them.
        stolen_s: CPU time that a hypervisor gave to others.
        periods: those of the quota so far, and in how many the process was stopped, by control group.
        heat: how often each CPU or package slowed down for heat.
        clock_mhz: the fastest CPU's clock.
        swapped_pages: pages from and to swap.
        gpu: the GPU's state.
    """

    wall_s: float
    own_s: float
    cores: int
    busy_s: float
    stolen_s: float
    periods: dict[Path, tuple[int, int]]
    heat: dict[Path, int]
    clock_mhz: float | None
    swapped_pages: int | None
    gpu: GpuReading | None


class Watch:
    """Reads the machine's counters before and after.

    NVML is open from start to stop, so that a GPU's state is read while it still is what the work made it. Used as a
    context, it is closed on leaving, whatever was raised in between.

    Attributes:
        before, after: what was read.
        threads: how many CPU threads this process works with: torch's, or the one that launches kernels.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        root: Path = host.ROOT,
        wall: Callable[[], float] = time.monotonic,
        own: Callable[[], float] = time.process_time,
    ) -> None:
        """
        Args:
            device: where the forwards run.
            root: the folder in which the system's files are; for tests, as are
            wall: seconds of a clock, and
            own: seconds of CPU time of this process.
        """
        self._device = device
        self._root = root
        self._wall = wall
        self._own = own
        self._opened = ExitStack()
        self._gpu: host.Nvml | None = None
        self.threads = 1
        self.before: Reading | None = None
        self.after: Reading | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._close()

    def start(self, forwards: Sequence[Callable[[], object]] = ()) -> None:
        """Reads the counters; call it just before sampling, with the threads in force that will be used.

        Args:
            forwards: what a GPU is kept busy with for GPU_WARM_UP_S before, since its clocks rise from idle anyway.
        """
        self.threads = torch.get_num_threads() if self._device.type == "cpu" else 1
        self.after = None
        self._close()
        if self._device.type == "cuda":
            self._gpu = self._opened.enter_context(host.nvml(self._device))
        if self._gpu is not None and forwards:
            begun = self._wall()
            while self._wall() - begun < GPU_WARM_UP_S:
                for forward in forwards:
                    forward()
        self.before = self.read()

    def stop(self) -> None:
        """Reads them again."""
        self.after = self.read()
        self._close()

    def _close(self) -> None:
        self._opened.close()
        self._gpu = None

    @property
    def gpu(self) -> tuple[GpuState | None, GpuState | None]:
        """The GPU's state before and after; None where there is no GPU, or it was not read."""
        before, after = (None if one is None or one.gpu is None else one.gpu.state for one in (self.before, self.after))
        return before, after

    def read(self) -> Reading:
        """The counters as they are; those of a GPU between start and stop only."""
        gpu = None if self._gpu is None else gpu_reading(self._gpu)  # first: the files may take 0.1 s, and it idles
        folders = [host.cpu_folder(cpu, self._root) for cpu in host.cpus()]
        names = ("core_throttle_count", "package_throttle_count")
        heat = {folder / "thermal_throttle" / name: 0 for folder in folders for name in names}
        clocks = [host.number(folder / "cpufreq/scaling_cur_freq") for folder in folders[:_MOST_CLOCKS]]
        swap = host.table(self._root / "proc/vmstat")
        cores, busy_s, stolen_s = _cpu_time(self._root)
        return Reading(
            wall_s=self._wall(),
            own_s=self._own(),
            cores=cores,
            busy_s=busy_s,
            stolen_s=stolen_s,
            periods=_periods(self._root),
            heat={path: count for path in heat if (count := host.number(path)) is not None},
            clock_mhz=max((clock / 1e3 for clock in clocks if clock), default=None),
            swapped_pages=swap["pswpin"] + swap["pswpout"] if {"pswpin", "pswpout"} <= swap.keys() else None,
            gpu=gpu,
        )


def _cpu_time(root: Path) -> tuple[int, float, float]:
    """How many of the usable CPUs the system tells of, the CPU time worked on them, and stolen, in seconds."""
    wanted = {f"cpu{cpu}" for cpu in host.cpus()}
    rows = [line.split() for line in host.contents(root / "proc/stat").splitlines()]
    ticks = [[int(field) for field in row[1:]] for row in rows if row and row[0] in wanted and len(row) > _STOLEN + 1]
    busy = sum(row[i] for row in ticks for i in _BUSY)
    return len(ticks), _TICK_S * busy, _TICK_S * sum(row[_STOLEN] for row in ticks)


def _periods(root: Path) -> dict[Path, tuple[int, int]]:
    counters = {folder: host.table(folder / "cpu.stat") for folder in host.cgroups("cpu", root)}
    keys = {"nr_periods", "nr_throttled"}
    return {f: (stat["nr_periods"], stat["nr_throttled"]) for f, stat in counters.items() if keys <= stat.keys()}


def gpu_reading(gpu: host.Nvml) -> GpuReading:
    """The state of a GPU on which this process has work."""
    state = host.gpu_state(gpu)  # first: the counts can wait
    held = {"power": gpu.ask("ViolationStatus", _POWER), "heat": gpu.ask("ViolationStatus", _THERMAL)}
    processes = gpu.ask("ComputeRunningProcesses")
    return GpuReading(
        state=state,
        held_ns={reason: status.violationTime for reason, status in held.items() if status is not None},
        # This process is one of them, though in a container not by the number that it knows itself by.
        others=None if processes is None else max(0, len(processes) - 1),
    )


def held_back(before: GpuReading, after: GpuReading, passed_s: float) -> dict[str, float | None]:
    """What held a GPU's clocks back so much that it spoils, the longest first, and its share of the time in between.

    Where the driver counts no time, what holds them back at the end, and no share.
    """
    held = {r: (ns - before.held_ns.get(r, ns)) / 1e9 / passed_s for r, ns in after.held_ns.items() if passed_s > 0}
    if not held:
        return {} if after.held_by is None else {after.held_by: None}
    return {r: held[r] for r in sorted(held, key=lambda r: -held[r]) if held[r] >= GPU_THROTTLED_FROM}


def other_share(before: Reading, after: Reading) -> float | None:
    """The share of the cores that other programs used in between; None where the system does not tell.

    Less than one tick a core is not told from none.
    """
    passed_s = (after.wall_s - before.wall_s) * after.cores
    if passed_s <= 0:
        return None
    others_s = after.busy_s - before.busy_s - (after.own_s - before.own_s) - _TICK_S * after.cores
    return min(max(0.0, others_s / passed_s), 1.0)


def spoils(others: float, threads: int, cores: int) -> bool:
    """Whether other programs that use that share of the cores spoil what runs in `threads` threads."""
    return others - max(0.0, 1 - threads / cores) >= OTHER_LOAD_FROM


def stolen_share(before: Reading, after: Reading) -> float:
    """The share of the CPU time that was wanted in between and that a hypervisor gave to others."""
    stolen_s, busy_s = after.stolen_s - before.stolen_s, after.busy_s - before.busy_s
    return stolen_s / (stolen_s + busy_s) if stolen_s > 0 else 0.0


# Caveats --------------------------------------------------------------------------------------------------------------


def caveats(bare_ms: Sequence[float], watch: Watch) -> list[Caveat]:
    """What a reader must know of the noise in a measurement.

    Args:
        bare_ms: the bare forward of each round, in the order in which they ran.
        watch: started just before sampling and stopped just after it.
    """
    levels = steadiness.levels(bare_ms)
    first = steadiness.first_rounds(levels)
    rest = levels[first.rounds :] if first.slower else levels
    found = steadiness.trend(rest)
    drift = found if found.p < steadiness.TREND_LEVEL else Trend(0.0, 1.0)
    return [*_of_machine(watch, drift), *_of_series(len(bare_ms) / max(1, len(levels)), first, drift)]


def _of_series(rounds_a_level: float, first: FirstRounds, drift: Trend) -> Iterator[Caveat]:
    if first.slower:
        text = (
            f"the first {round(first.rounds * rounds_a_level)} rounds were {100 * first.slower:.0f} % slower than the "
            "rest: the machine or the model was still warming up; a longer --min-time makes them count less"
        )
        yield Caveat(code="warming-up", text=text, value=first.slower)
    if abs(drift.change) >= DRIFT_FROM:
        text = (
            f"forwards became {100 * abs(drift.change):.0f} % {'slower' if drift.change > 0 else 'faster'} from the "
            "first third of the rounds to the last: the machine was not in one state; let it settle and measure again"
        )
        yield Caveat(code="drift", text=text, value=abs(drift.change))


def _of_machine(watch: Watch, drift: Trend) -> Iterator[Caveat]:
    before, after = watch.before, watch.after
    if before is None or after is None:
        return
    yield from _load(before, after, watch.threads)
    yield from _throttling(before, after)
    if before.clock_mhz and after.clock_mhz:
        yield from _clock("CPU", before.clock_mhz, after.clock_mhz, drift, "sudo cpupower frequency-set -g performance")
    if before.gpu is not None and after.gpu is not None:
        yield from _of_gpu(before.gpu, after.gpu, after.wall_s - before.wall_s, drift)


def _load(before: Reading, after: Reading, threads: int) -> Iterator[Caveat]:
    others = other_share(before, after)
    cores = after.cores
    if others is not None and spoils(others, threads, cores):
        left = max(1, math.floor(cores * (1 - others)))
        spared = f", or leave them room with --threads {left}" if left < threads else ""
        text = (
            f"other programs used {100 * others:.0f} % of the {cores} cores, of which {threads} were wanted here; "
            f"stop them{spared}"
        )
        yield Caveat(code="other-load", text=text, value=others)
    stolen = stolen_share(before, after)
    if stolen >= STOLEN_FROM:
        text = (
            f"the hypervisor gave {100 * stolen:.0f} % of the CPU time to other virtual machines; measure on cores of "
            "your own, or compare with --processes 5 at another time"
        )
        yield Caveat(code="stolen-time", text=text, value=stolen)


def _throttling(before: Reading, after: Reading) -> Iterator[Caveat]:
    shares = [0.0]
    for folder, (periods, stopped) in after.periods.items():
        periods_before, stopped_before = before.periods.get(folder, (periods, stopped))
        if periods > periods_before:
            shares.append((stopped - stopped_before) / (periods - periods_before))
    if max(shares) >= THROTTLED_FROM:
        text = (
            f"the container's CPU quota stopped the process in {100 * max(shares):.0f} % of its periods; raise the "
            "quota, or take no more --threads than it grants cores"
        )
        yield Caveat(code="throttled-quota", text=text, value=max(shares))
    times = max((count - before.heat.get(path, count) for path, count in after.heat.items()), default=0)
    if times > 0:
        often = "once" if times == 1 else f"{times} times"
        text = f"the CPU slowed down for heat {often}; let it cool, or measure with fewer --threads"
        yield Caveat(code="thermal-throttling", text=text, value=float(times))
    if before.swapped_pages is not None and after.swapped_pages is not None:
        pages = after.swapped_pages - before.swapped_pages
        if pages > 0 and pages >= SWAPPED_PAGES_PER_S * (after.wall_s - before.wall_s):
            text = f"the system swapped {pages:,} pages of memory; free some, or reduce batch size or sequence length"
            yield Caveat(code="swapping", text=text, value=float(pages))


def _clock(name: str, before_mhz: float, after_mhz: float, drift: Trend, remedy: str) -> Iterator[Caveat]:
    """Clocks rise from idle and fall with work; that is said only where forwards took longer as the clock fell."""
    change = after_mhz / before_mhz - 1
    if abs(change) >= CLOCK_CHANGE_FROM and change * drift.change < 0:
        text = (
            f"the {name}'s clock went from {before_mhz:,.0f} to {after_mhz:,.0f} MHz while forwards became "
            f"{100 * abs(drift.change):.0f} % {'slower' if drift.change > 0 else 'faster'}; hold it with `{remedy}`"
        )
        yield Caveat(code="clock-changed", text=text, value=abs(change))


def _of_gpu(before: GpuReading, after: GpuReading, passed_s: float, drift: Trend) -> Iterator[Caveat]:
    then, now = before.state, after.state
    held = held_back(before, after, passed_s)
    if held:
        causes = " and ".join(
            f"for {reason} "
            + ("at the end of the sampling" if share is None else f"for {100 * min(share, 1):.0f} % of the time")
            for reason, share in held.items()
        )
        warm = "" if now.temperature_c is None else f", at {now.temperature_c} °C"
        cool = "let it cool, or " if any("heat" in reason for reason in held) else ""
        text = (
            f"the GPU held its clocks back {causes}{warm}; {cool}hold a clock that it can keep with "
            "`sudo nvidia-smi -lgc MHZ`"
        )
        yield Caveat(code="gpu-throttled", text=text, value=next(iter(held.values())))
    others = max(before.others or 0, after.others or 0)
    if others:
        text = (
            f"{others} other process{'es' if others > 1 else ''} had the GPU open; end them (`nvidia-smi` lists them)"
        )
        yield Caveat(code="gpu-shared", text=text, value=float(others))
    if then.sm_mhz and now.sm_mhz:
        yield from _clock("GPU", then.sm_mhz, now.sm_mhz, drift, "sudo nvidia-smi -lgc MHZ")
    if then.temperature_c is not None and now.temperature_c is not None:
        risen = now.temperature_c - then.temperature_c
        if risen >= WARMED_FROM_C and drift.change > 0:
            text = (
                f"the GPU went from {then.temperature_c} to {now.temperature_c} °C while forwards became "
                f"{100 * drift.change:.0f} % slower; measure once it is as warm as it gets, with a longer --min-time"
            )
            yield Caveat(code="gpu-warmed", text=text, value=float(risen))
