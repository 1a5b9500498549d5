"""Whether this machine is ready to measure: what `bertprof doctor` finds, with advice.

First what the system tells, then what only measuring tells: the noise floor. One small BERT is compared with itself,
within one process and between processes, so that a user knows which changes can be seen here before looking for one.
"""

import itertools
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from bertprof import configuration, formatting, processes, sampling, sides
from bertprof.attribution import Region
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.evidence import FEWEST_PROCESSES
from bertprof.measure import host, noise, profiler, subject, timing
from bertprof.measure.clocks import Clock, clock_for
from bertprof.measure.inputs import Inputs
from bertprof.measurement import Plan, Progress, silent
from bertprof.pooling import MOST_PROCESSES
from bertprof.readiness import Check, Verdict, between, within
from bertprof.record import Breakdown

MODEL = "google/bert_uncased_L-4_H-256_A-4"
"""BERT-mini: some ms a forward, so that many rounds fit into a second; at 1 × 128, with random weights."""

COARSE_NS = 1000
"""A clock that steps by more, or takes longer to read, blurs components that take some µs."""

SLOW_MARK_US = 10.0
"""BERT-base has 246 crossings: at this price 2.5 ms of a forward of 50 to 100."""

FREE_BYTES = 2 * 10**9
"""BERT-large in float32 is 1.34 GB of weights, and what is built and loaded comes on top."""

_CROSSED = 100
_MARK_ROUNDS = 30
_LOAD_S = 1.0
_BUSY_TICKS = 5  # of 100 in a second
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of linux/sched.h
_FAST_CLOCKS = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter")
"""Clock sources of Linux that are read without entering the kernel."""


def examine(
    device: torch.device,
    *,
    threads: int | None = None,
    processes: int = 3,
    min_time_s: float = 2.0,
    progress: Progress = silent,
    root: Path = host.ROOT,
) -> list[Check]:
    """Everything that is looked at, in the order of display.

    Args:
        device: where models will be measured.
        threads: torch's threads within operators; None leaves them as they are.
        processes: how many fresh processes show the noise between processes, at least 3; 0 leaves that out.
        min_time_s: seconds of sampling for each of the two noise floors, in each process.
        progress: is told what is being looked at and how far that is, 0 to 1.
        root: the folder in which the system's files are; for tests.

    Raises:
        UsageError: `processes` is none of these.
        BertprofError: the small model cannot be measured here.
    """
    if processes and not FEWEST_PROCESSES <= processes <= MOST_PROCESSES:
        allowed = f"from {FEWEST_PROCESSES} to {MOST_PROCESSES}, or 0 to leave the noise between processes out"
        raise UsageError(f"processes is {processes}; it must be {allowed}")
    with timing.threads(threads) as number:
        steps: dict[str, Callable[[], Sequence[Check]]] = {
            "versions": lambda: [versions()],
            "timer": lambda: [timer(root), marks(device)],
            "CPU": lambda: [cpu_clock(root), cores(number, device, root), memory(root)],
            "other load": lambda: [other_load(number if device.type == "cpu" else 1, root)],
            "GPU": lambda: gpu(device),
            "noise within a process": lambda: [within(*_twice(device, min_time_s))],
        }
        if processes:
            steps["noise between processes"] = lambda: [
                between(_in_processes(device, threads, processes, min_time_s, progress))
            ]
        found: list[Check] = []
        for i, (name, look) in enumerate(steps.items()):
            progress(name, i / len(steps))
            found += look()
        return found


# What the system tells ------------------------------------------------------------------------------------------------


def versions() -> Check:
    """Python and the libraries, against what this package says that it needs."""
    found = {"Python": ".".join(map(str, sys.version_info[:3]))}
    found |= {name: host.version(name) for name in ("torch", "transformers", "fvcore")}
    old = [f"{name} ≥ {least}" for name, least in _needed().items() if _numbers(found[name]) < _numbers(least)]
    return Check(
        name="versions",
        value=", ".join(f"{name} {version}" for name, version in found.items()),
        verdict="warn" if old else "ok",
        advice=f"not supported: install {', '.join(old)}" if old else None,
    )


def _needed() -> dict[str, str]:
    """The least versions by this package's own metadata; none where it is not installed."""
    try:
        about = metadata.metadata("bertprof")
    except metadata.PackageNotFoundError:
        return {}
    needed = {"Python": ", ".join(about.get_all("Requires-Python") or [])}
    for requirement in about.get_all("Requires-Dist") or []:
        name = re.match(r"[\w-]+", requirement)
        if name is not None and name[0] in ("torch", "transformers", "fvcore") and "extra ==" not in requirement:
            needed[name[0]] = requirement
    least = {name: re.search(r">=\s*([\d.]+)", text) for name, text in needed.items()}
    return {name: match[1] for name, match in least.items() if match is not None}


def _numbers(version: str) -> tuple[int, ...]:
    """2.13.0+cpu → (2, 13, 0); nothing for an unknown one, which is then no older than another."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else (sys.maxsize,)


def timer(root: Path = host.ROOT, now: Callable[[], int] = time.perf_counter_ns) -> Check:
    """The smallest step of the clock, and what reading it costs."""
    readings = [now() for _ in range(10_000)]
    step_ns = min((b - a for a, b in itertools.pairwise(readings) if b > a), default=math.inf)
    call_ns = (readings[-1] - readings[0]) / (len(readings) - 1)
    source = host.contents(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    coarse = max(step_ns, call_ns) > COARSE_NS
    advice = None
    if coarse:
        slow = (
            f": the kernel reads {source}; boot with clocksource=tsc" if source and source not in _FAST_CLOCKS else ""
        )
        advice = f"components that take some µs cannot be told apart{slow}"
    return Check(
        name="timer",
        value=f"steps of {step_ns:,.0f} ns, {call_ns:,.0f} ns a reading",
        verdict="warn" if coarse else "ok",
        advice=advice,
        figures={"step_ns": step_ns, "call_ns": call_ns} if math.isfinite(step_ns) else {"call_ns": call_ns},
    )


def marks(device: torch.device, clock: Clock | None = None) -> Check:
    """What crossing a marked boundary costs: modules that do nothing, with marks and without, in turn."""
    model = nn.Sequential(*(nn.Identity() for _ in range(_CROSSED))).eval()
    regions = {"": Region(Component.OTHER), **{str(i): Region(Component.FFN) for i in range(_CROSSED)}}
    marked = timing.Marked(model, Inputs(args=(torch.zeros(1, device=device),)), regions, clock or clock_for(device))
    cost_us: dict[timing.MarkStyle, float] = {}
    for style in ("wrappers", "hooks"):
        marked.settle(style)
        differences = []
        for _ in range(_MARK_ROUNDS):
            bare = marked.run().total_ns
            with marked.marks():
                tape = marked.run()
            differences.append((tape.total_ns - bare) / len(tape.codes))
        cost_us[style] = max(0.0, sampling.median(differences[_MARK_ROUNDS // 3 :])) / 1e3
    slow = cost_us["wrappers"] > SLOW_MARK_US
    return Check(
        name="cost of a mark",
        value=f"{cost_us['wrappers']:.2f} µs by wrappers, {cost_us['hooks']:.2f} µs by hooks",
        verdict="warn" if slow else "ok",
        advice="marks would show in short forwards: is a debugger or a tracer attached?" if slow else None,
        figures={"wrappers_us": cost_us["wrappers"], "hooks_us": cost_us["hooks"]},
    )


def cpu_clock(root: Path = host.ROOT) -> Check:
    """The governor and turbo of the usable CPUs."""
    folders = [host.cpu_folder(cpu, root) / "cpufreq" for cpu in host.cpus()]
    governors = sorted({text for folder in folders if (text := host.contents(folder / "scaling_governor"))})
    system = root / "sys/devices/system/cpu"
    no_turbo, boost = host.number(system / "intel_pstate/no_turbo"), host.number(system / "cpufreq/boost")
    turbo = None if no_turbo is None and boost is None else no_turbo == 0 or boost == 1
    if not governors and turbo is None:
        return Check(name="CPU clock", value="not visible, as in most containers and virtual machines", verdict="info")
    parts = [f"governor {', '.join(governors)}"] if governors else []
    parts += [] if turbo is None else [f"turbo {'on' if turbo else 'off'}"]
    clocks = [clock for folder in folders if (clock := host.number(folder / "scaling_cur_freq"))]
    if clocks:
        parts.append(f"{min(clocks) / 1e3:,.0f} to {max(clocks) / 1e3:,.0f} MHz now")
    verdict: Verdict = "ok"
    advice = None
    if governors not in ([], ["performance"]):
        verdict, advice = "warn", "the clock follows the load: sudo cpupower frequency-set -g performance"
    elif turbo:
        verdict = "info"
        advice = "turbo depends on heat and on what else runs; without it times are longer and steadier: " + (
            "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
            if no_turbo is not None
            else "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"
        )
    figures = {} if turbo is None else {"turbo": float(turbo)}
    if clocks:
        figures |= {"lowest_mhz": min(clocks) / 1e3, "highest_mhz": max(clocks) / 1e3}
    return Check(name="CPU clock", value=", ".join(parts), verdict=verdict, advice=advice, figures=figures)


def cores(threads: int, device: torch.device, root: Path = host.ROOT) -> Check:
    """torch's threads against the cores that they have."""
    physical, usable, quota = host.physical_cores(root), host.cpus(), host.quota_cores(root)
    value = f"{threads} on {len(physical)} cores"
    if len(usable) > len(physical):
        value += f" ({len(usable)} hyperthreads)"
    if quota is not None:
        value += f", of which a quota grants {quota:.3g}"
    figures: dict[str, float] = {"threads": threads, "cores": len(physical), "hyperthreads": len(usable)}
    figures |= {} if quota is None else {"quota_cores": quota}
    advice = None
    if device.type == "cpu" and quota is not None and threads > quota:
        advice = f"threads beyond the quota are stopped in turns: --threads {max(1, int(quota))}"
    elif device.type == "cpu" and threads > len(physical):
        one_each = ",".join(str(core[0]) for core in physical)
        advice = f"threads share cores: --threads {len(physical)}, held apart by `taskset -c {one_each} bertprof ...`"
    return Check(
        name="threads", value=value, verdict="ok" if advice is None else "warn", advice=advice, figures=figures
    )


def memory(root: Path = host.ROOT) -> Check:
    """The memory that is free, within what a container may have."""
    free, whole = host.available_bytes(root), host.memory_bytes()
    if free is None:
        return Check(name="memory", value="free memory is not visible", verdict="info")
    short = free < FREE_BYTES
    figures: dict[str, float] = {"free_bytes": free}
    figures |= {} if whole is None else {"memory_bytes": whole}
    return Check(
        name="memory",
        value=f"{formatting.size(free)} free" + ("" if whole is None else f" of {formatting.size(whole)}"),
        verdict="warn" if short else "ok",
        advice="large models will not fit: end other programs or raise the container's limit" if short else None,
        figures=figures,
    )


def other_load(
    threads: int,
    root: Path = host.ROOT,
    sleep: Callable[[float], None] = time.sleep,
    watch: noise.Watch | None = None,
) -> Check:
    """What other programs do while this one sleeps, and which of them do most."""
    watch = watch or noise.Watch(torch.device("cpu"), root=root)
    before, processes_before = watch.read(), _cpu_ticks(root)
    sleep(_LOAD_S)
    after, processes_after = watch.read(), _cpu_ticks(root)
    share = noise.other_share(before, after)
    if share is None:
        return Check(name="other load", value="not visible", verdict="info")
    spoils = noise.spoils(share, threads, after.cores)
    advice = None
    if spoils:
        passed = {key: ticks - processes_before.get(key, 0) for key, ticks in processes_after.items()}
        busy = sorted((key for key in passed if passed[key] >= _BUSY_TICKS), key=lambda key: -passed[key])[:3]
        named = ", ".join(f"{name} (process {pid})" for pid, name in busy)
        advice = f"stop {named}" if named else "stop what else runs; no program of it is visible from here"
    return Check(
        name="other load",
        value=f"{100 * share:.0f} % of {after.cores} cores",
        verdict="warn" if spoils else "ok",
        advice=advice,
        figures={"share": share},
    )


def _cpu_ticks(root: Path) -> Mapping[tuple[int, str], int]:
    """CPU time of each program so far, by process and name: fields 14 and 15 of its stat (proc(5))."""
    found = {}
    for path in (root / "proc").glob("[0-9]*/stat"):
        head, _, tail = host.contents(path).rpartition(")")
        fields = tail.split()  # from the third on
        if len(fields) > 12 and not int(fields[6]) & _KERNEL_THREAD:
            found[int(path.parent.name), head.partition("(")[2]] = int(fields[11]) + int(fields[12])
    return found


# The GPU --------------------------------------------------------------------------------------------------------------


def gpu(device: torch.device) -> list[Check]:
    """The GPU's state; where the device is none, one line."""
    if device.type != "cuda":
        there = torch.cuda.is_available()
        value = "there is one, which is not looked at: --device cuda" if there else "torch finds no CUDA GPU"
        return [Check(name="GPU", value=value, verdict="info")]
    properties = torch.cuda.get_device_properties(device)
    torch.zeros(1, device=device)  # from now on this process is one of those that have the GPU open
    with host.nvml(device) as known:
        clock, highest = known.ask("ClockInfo", host.SM_CLOCK), known.ask("MaxClockInfo", host.SM_CLOCK)
        persistence, mig = known.ask("PersistenceMode"), known.ask("MigMode")
        driver, now = known.driver, noise.gpu_reading(known)
    parts = [f"{properties.name}, {formatting.size(properties.total_memory)}"]
    parts += [] if driver is None else [f"driver {driver}"]
    parts += [] if persistence is None else [f"persistence {'on' if persistence else 'off'}"]
    parts += ["partitioned (MIG)"] if mig is not None and mig[0] else []
    wakes = persistence == 0
    found = [
        Check(
            name="GPU",
            value=", ".join(parts),
            verdict="warn" if wakes else "ok",
            advice="the driver is unloaded between runs: sudo nvidia-smi -pm 1" if wakes else None,
            figures={"memory_bytes": properties.total_memory},
        )
    ]
    if clock is None:
        return [*found, Check(name="GPU clock", value="not visible", verdict="info")]
    value = f"{clock:,} MHz" + ("" if highest is None else f" of {highest:,}")
    celsius = now.state.temperature_c
    value += "" if celsius is None else f", {celsius} °C"
    figures = {"sm_mhz": clock, "highest_mhz": highest, "celsius": celsius, "other_processes": now.others}
    found.append(
        Check(
            name="GPU clock",
            value=value + ("" if now.held_by is None else f", held back for {now.held_by}"),
            verdict="ok" if now.held_by is None else "warn",
            advice=None if now.held_by is None else "let it cool, or hold a clock: sudo nvidia-smi -lgc MHZ",
            figures={name: float(figure) for name, figure in figures.items() if figure is not None},
        )
    )
    if now.others:
        advice = "end them: nvidia-smi lists them"
        found.append(Check(name="GPU processes", value=f"{now.others} beside this one", verdict="warn", advice=advice))
    return found


# The noise floor ------------------------------------------------------------------------------------------------------


def _twice(device: torch.device, min_time_s: float) -> list[Breakdown]:
    """The small model beside another one like it, interleaved."""
    request = subject.Request(1, 128, "float32", "sdpa", None, device, weights=False)
    subjects = [subject.from_configuration(configuration.resolve(MODEL), {}, request) for _ in range(2)]
    goal = timing.Goal(min_time_s, max_time_s=min_time_s)
    return profiler.measure(subjects, profiler.Options(goal=goal, most_samples=10**6))


def _in_processes(
    device: torch.device, threads: int | None, number: int, min_time_s: float, progress: Progress
) -> Breakdown:
    """The small model in fresh processes, pooled."""
    side: sides.Side = {**sides.DEFAULTS, "model": MODEL, "device": str(device), "weights": False}
    plan = Plan(threads=threads, min_time_s=min_time_s, max_time_s=min_time_s)
    return processes.measured([side], plan, number, progress)[0]
