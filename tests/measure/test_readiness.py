import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from bertprof import evidence
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.measure import host, noise, readiness
from bertprof.measure.clocks import HostClock
from bertprof.readiness import GATE, Check, between, largest_spread, processes_needed, within
from bertprof.record import Breakdown, Cost, Host, Workload

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file of a fake system of two CPUs below `tmp_path`."""
    monkeypatch.setattr(host, "cpus", lambda: [0, 1])

    def written(path: str, text: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return written


# Versions -------------------------------------------------------------------------------------------------------------


def test_what_is_installed_here_is_supported():
    found = readiness.versions()
    assert found.verdict == "ok"
    assert f"torch {torch.__version__}" in found.value


@pytest.fixture
def needed(monkeypatch: pytest.MonkeyPatch) -> None:
    about = Message()
    about["Requires-Python"] = ">=3.11"
    for requirement in ("torch>=2.8", "torchao>=99; extra == 'x'", "fvcore>=99; extra == 'x'", "transformers >= 5.0"):
        about["Requires-Dist"] = requirement
    monkeypatch.setattr(metadata, "metadata", lambda name: about)


@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize(
    ("torch_version", "transformers_version", "advice"),
    [
        ("2.8.0a0+git12", "5.0.0", None),
        ("2.13.0+cpu", "10.1", None),
        ("2.7.1", "5.0.0", "not supported: install torch ≥ 2.8"),
        ("2.7.1+cu128", "4.57.1", "not supported: install torch ≥ 2.8, transformers ≥ 5.0"),
        ("unknown", "unknown", None),
    ],
)
def test_versions(torch_version: str, transformers_version: str, advice: str | None, monkeypatch: pytest.MonkeyPatch):
    versions = {"torch": torch_version, "transformers": transformers_version, "fvcore": "0.1.5.post20221221"}
    monkeypatch.setattr(host, "version", versions.__getitem__)
    found = readiness.versions()
    assert (found.verdict, found.advice) == ("ok" if advice is None else "warn", advice)


@pytest.mark.usefixtures("needed")
def test_an_old_python(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert readiness.versions().advice == "not supported: install Python ≥ 3.11"


def test_a_package_that_is_not_installed_says_nothing_of_versions(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Message:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    assert readiness.versions().verdict == "ok"


# Timer and marks ------------------------------------------------------------------------------------------------------


def test_a_fine_timer(tmp_path: Path):
    found = readiness.timer(tmp_path, now=itertools.count(5, 40).__next__)
    assert (found.value, found.verdict) == ("steps of 40 ns, 40 ns a reading", "ok")
    assert found.figures == {"step_ns": 40, "call_ns": 40.0}


def test_a_coarse_timer(write: Write, tmp_path: Path):
    readings = itertools.count()

    def now() -> int:  # steps of 15.625 ms, as old Windows, each of them after 100 readings
        return next(readings) // 100 * 15_625_000

    found = readiness.timer(tmp_path, now)
    # From the first of 10,000 readings to the last are 99 steps.
    assert found.figures == {"step_ns": 15_625_000, "call_ns": pytest.approx(99 * 15_625_000 / 9_999)}
    assert (found.verdict, found.advice) == ("warn", "components that take some µs cannot be told apart")


def test_a_slow_clock_source_is_named(write: Write, tmp_path: Path):
    write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n")
    found = readiness.timer(tmp_path, now=itertools.count(0, 1200).__next__)
    assert found.advice == (
        "components that take some µs cannot be told apart: the kernel reads hpet; boot with clocksource=tsc"
    )
    assert readiness.timer(tmp_path, now=itertools.count(0, 40).__next__).advice is None


def test_a_clock_that_stands_still_is_told(tmp_path: Path):
    found = readiness.timer(tmp_path, now=lambda: 7)
    assert found.verdict == "warn"
    assert found.figures == {"call_ns": 0.0}
    msgspec.json.encode(found)


@pytest.mark.parametrize(("step_ns", "verdict"), [(1000, "ok"), (10_001, "warn")])
def test_the_cost_of_a_mark(step_ns: int, verdict: str):
    # Of a clock that steps at each reading, a bare forward takes 1 step, one with 200 marks 201.
    found = readiness.marks(CPU, HostClock(itertools.count(0, step_ns).__next__))
    assert found.figures == {"wrappers_us": step_ns / 1e3, "hooks_us": step_ns / 1e3}
    assert found.verdict == verdict


def test_marks_cost_something_here():
    assert readiness.marks(CPU).figures["hooks_us"] > 0


# The CPU --------------------------------------------------------------------------------------------------------------

CPUFREQ = "sys/devices/system/cpu/cpu{}/cpufreq/{}"


def test_a_clock_that_is_not_visible(tmp_path: Path):
    found = readiness.cpu_clock(tmp_path)
    assert (found.verdict, found.advice, found.figures) == ("info", None, {})


def test_a_governor_that_follows_the_load(write: Write, tmp_path: Path):
    write(CPUFREQ.format(0, "scaling_governor"), "performance\n")
    write(CPUFREQ.format(1, "scaling_governor"), "powersave\n")
    write(CPUFREQ.format(0, "scaling_cur_freq"), "800000\n")
    write(CPUFREQ.format(1, "scaling_cur_freq"), "3100000\n")
    found = readiness.cpu_clock(tmp_path)
    assert found.value == "governor performance, powersave, 800 to 3,100 MHz now"
    assert found.verdict == "warn"
    assert "sudo cpupower frequency-set -g performance" in (found.advice or "")
    assert found.figures == {"lowest_mhz": 800, "highest_mhz": 3100}


@pytest.mark.parametrize(
    ("path", "text", "value", "advice"),
    [
        ("intel_pstate/no_turbo", "0\n", "turbo on", "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"),
        ("intel_pstate/no_turbo", "1\n", "turbo off", None),
        ("cpufreq/boost", "1\n", "turbo on", "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"),
        ("cpufreq/boost", "0\n", "turbo off", None),
    ],
)
def test_turbo(path: str, text: str, value: str, advice: str | None, write: Write, tmp_path: Path):
    write(f"sys/devices/system/cpu/{path}", text)
    for cpu in range(2):
        write(CPUFREQ.format(cpu, "scaling_governor"), "performance\n")
    found = readiness.cpu_clock(tmp_path)
    assert (found.value, found.verdict) == (f"governor performance, {value}", "ok" if advice is None else "info")
    assert (found.advice or "").endswith(advice or "")
    assert found.figures == {"turbo": float(value == "turbo on")}


def test_as_many_threads_as_cores(write: Write, tmp_path: Path):
    found = readiness.cores(2, CPU, tmp_path)
    assert (found.value, found.verdict, found.advice) == ("2 on 2 cores", "ok", None)
    assert found.figures == {"threads": 2, "cores": 2, "hyperthreads": 2}


def test_threads_that_share_cores(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "cpus", lambda: [0, 1, 2, 3])
    for cpu in range(4):
        write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 2},{cpu % 2 + 2}\n")
    found = readiness.cores(4, CPU, tmp_path)
    assert (found.value, found.verdict) == ("4 on 2 cores (4 hyperthreads)", "warn")
    assert found.advice == "threads share cores: --threads 2, held apart by `taskset -c 0,1 bertprof ...`"
    assert readiness.cores(2, CPU, tmp_path).verdict == "ok"
    assert readiness.cores(4, CUDA, tmp_path).verdict == "ok"


def test_more_threads_than_a_quota_grants(write: Write, tmp_path: Path):
    write("proc/self/cgroup", "0::/\n")
    write("sys/fs/cgroup/cpu.max", "150000 100000\n")
    found = readiness.cores(2, CPU, tmp_path)
    assert (found.value, found.verdict) == ("2 on 2 cores, of which a quota grants 1.5", "warn")
    assert found.advice == "threads beyond the quota are stopped in turns: --threads 1"
    assert found.figures["quota_cores"] == 1.5
    assert readiness.cores(1, CPU, tmp_path).verdict == "ok"


@pytest.mark.parametrize(("free", "verdict"), [(3 * 10**9, "ok"), (10**9, "warn"), (None, "info")])
def test_memory(free: int | None, verdict: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(host, "available_bytes", lambda root: free)
    monkeypatch.setattr(host, "memory_bytes", lambda: 8 * 10**9)
    found = readiness.memory()
    assert found.verdict == verdict
    assert (found.advice is None) == (verdict != "warn")
    if free is not None:
        assert found.value == f"{free / 1e9:.3f} GB free of 8.000 GB"
        assert found.figures == {"free_bytes": free, "memory_bytes": 8 * 10**9}


# Other load -----------------------------------------------------------------------------------------------------------


def loaded(write: Write, root: Path, *, threads: int, ticks: dict[str, int]) -> Check:
    """What is found where programs, by name, use so many ticks of 10 ms on CPU 0 within one second."""
    wall_s = [0.0]

    def running(done: dict[str, int]) -> None:
        total = sum(done.values())
        write("proc/stat", f"cpu  {total}\ncpu0 {total} 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n")
        for i, (name, used) in enumerate(done.items()):
            flags = 0x208040 if name.startswith("kworker") else 0x400000
            write(f"proc/{100 + i}/stat", f"{100 + i} ({name}) S 1 1 0 0 -1 {flags} 0 0 0 0 {used} 0 5 5 20 0 1 0\n")

    def sleep(duration_s: float) -> None:
        wall_s[0] += duration_s
        running(ticks)

    running(dict.fromkeys(ticks, 0))
    watch = noise.Watch(CPU, root=root, wall=lambda: wall_s[0], own=lambda: 0.0)
    return readiness.other_load(threads, root, sleep, watch)


def test_a_machine_at_rest(write: Write, tmp_path: Path):
    found = loaded(write, tmp_path, threads=2, ticks={"sshd": 8})
    # 8 ticks less one a core = 60 ms of 2 s.
    assert (found.value, found.verdict, found.advice) == ("3 % of 2 cores", "ok", None)
    assert found.figures == {"share": pytest.approx(0.03)}


def test_who_spoils_is_named(write: Write, tmp_path: Path):
    ticks = {"a (b) c": 50, "make": 20, "sshd": 1, "cc1": 22, "kworker/1:1": 30}
    found = loaded(write, tmp_path, threads=2, ticks=ticks)
    assert (found.verdict, found.figures) == ("warn", {"share": pytest.approx((1.23 - 0.02) / 2)})
    assert found.advice == "stop a (b) c (process 100), cc1 (process 103), make (process 101)"
    assert loaded(write, tmp_path, threads=1, ticks=ticks | {"a (b) c": 10}).verdict == "ok"  # there is a core for them


def test_load_of_which_no_program_is_visible(write: Write, tmp_path: Path):
    found = loaded(write, tmp_path, threads=2, ticks={f"task {i}": 4 for i in range(20)})
    assert found.advice == "stop what else runs; no program of it is visible from here"


def test_load_that_is_not_visible(tmp_path: Path):
    found = readiness.other_load(2, tmp_path, sleep=lambda duration_s: None)
    assert (found.value, found.verdict) == ("not visible", "info")


# The GPU --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("available", "value"),
    [(False, "torch finds no CUDA GPU"), (True, "there is one, which is not looked at: --device cuda")],
)
def test_no_gpu(available: bool, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    (found,) = readiness.gpu(CPU)
    assert (found.name, found.value, found.verdict) == ("GPU", value, "info")


QUIET_GPU: dict[str, Any] = {
    "ClockInfo": 1980,
    "MaxClockInfo": 1980,
    "PersistenceMode": 1,
    "MigMode": [0, 0],
    "CurrentClocksEventReasons": 1,
    "Temperature": 34,
    "ComputeRunningProcesses": ["this one"],
}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Check]]:
    """The checks of a GPU of which NVML answers so, by name."""

    def found(**answers: Any) -> dict[str, Check]:
        known = {**QUIET_GPU, **answers}

        @contextmanager
        def nvml(device: torch.device) -> Iterator[Any]:
            yield SimpleNamespace(ask=lambda what, *args: known.get(what), driver=known.get("driver", "580.1"))

        properties = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 10**9)
        monkeypatch.setattr(host, "nvml", nvml)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
        monkeypatch.setattr(torch, "zeros", lambda *size, device: None)
        return {check.name: check for check in readiness.gpu(CUDA)}

    return found


def test_a_gpu_at_rest(gpu: Callable[..., dict[str, Check]]):
    found = gpu()
    assert {name: check.verdict for name, check in found.items()} == {"GPU": "ok", "GPU clock": "ok"}
    assert found["GPU"].value == "NVIDIA H100, 80.00 GB, driver 580.1, persistence on"
    assert found["GPU clock"].value == "1,980 MHz of 1,980, 34 °C"
    assert found["GPU clock"].figures == {"sm_mhz": 1980, "highest_mhz": 1980, "celsius": 34, "other_processes": 0}


def test_what_is_wrong_with_a_gpu(gpu: Callable[..., dict[str, Check]]):
    found = gpu(PersistenceMode=0, MigMode=[1, 1], CurrentClocksEventReasons=0x40, ComputeRunningProcesses=[1, 2, 3])
    assert {name: check.verdict for name, check in found.items()} == dict.fromkeys(
        ("GPU", "GPU clock", "GPU processes"), "warn"
    )
    assert found["GPU"].value.endswith("persistence off, partitioned (MIG)")
    assert "sudo nvidia-smi -pm 1" in (found["GPU"].advice or "")
    assert found["GPU clock"].value.endswith("held back for heat")
    assert found["GPU processes"].value == "2 beside this one"


def test_a_gpu_of_which_nvml_tells_nothing(gpu: Callable[..., dict[str, Check]]):
    found = gpu(**dict.fromkeys(QUIET_GPU), driver=None)
    assert [(check.value, check.verdict) for check in found.values()] == [
        ("NVIDIA H100, 80.00 GB", "ok"),
        ("not visible", "info"),
    ]


# The noise floor ------------------------------------------------------------------------------------------------------


def record_of(total_ms: list[float], ffn_ms: list[float], **fields: Any) -> Breakdown:
    """A record of two rows of FFN that share its time, in 1 : 3."""
    rows = [
        Cost(unit=i, component=Component.FFN, parameters=0, parameter_bytes=0, macs=0, flops=0, time_ms=samples)
        for i, samples in enumerate(([x / 4 for x in ffn_ms], [3 * x / 4 for x in ffn_ms]))
    ]
    return Breakdown(
        bertprof_version="0",
        created="",
        workload=Workload(
            model="m", config_sha256="", batch_size=1, sequence_length=1, dtype="", attention="", device="cpu"
        ),
        host=Host(cpu="", cores=2, os="", python="", torch="", transformers="", fvcore=""),
        costs=rows,
        end_to_end_ms=total_ms,
        instrumented_ms=ffn_ms,
        **fields,
    )


def test_a_floor_below_the_gate():
    # Ratios 0.991 … 1.009 in steps of 0.001, 19 of them: ranks 5 and 15 (sign test), 0.995 and 1.005.
    ratios = [1 + 0.001 * (i - 9) for i in range(19)]
    one = record_of([10.0] * 19, [4.0] * 19)
    found = within(one, record_of([10 * r for r in ratios], [4.0] * 19))
    assert found.figures == pytest.approx(
        {
            "total_ratio": 1.0,
            "total_half_width": 0.005,
            "ffn_ratio": 1.0,
            "ffn_half_width": 0.0,
            "seen_from": 0.03,  # the margin of 2 %, and twice the half-width
        }
    )
    assert found.value == (
        "the same model twice: total 1.000 ± 0.005, ffn 1.000 ± 0.000; changes from 3.0 % on are seen"
    )
    assert (found.verdict, found.advice) == ("ok", None)


def test_a_floor_above_the_gate():
    ratios = [1 + 0.004 * (i - 9) for i in range(19)]
    one = record_of([10.0] * 19, [4.0] * 19)
    found = within(one, record_of([10.0] * 19, [4 * r for r in ratios]))
    assert found.figures["seen_from"] == pytest.approx(0.06)
    assert (found.verdict, found.advice) == (
        "warn",
        "sample longer (--min-time 10s), or until it is known (diff --until 1%)",
    )


@pytest.mark.parametrize("factor", [0.97, 1.03])
def test_equal_models_that_differ(factor: float):
    one = record_of([10.0] * 19, [4.0] * 19)
    found = within(one, record_of([10.0] * 19, [4.0 * factor] * 19))
    assert found.verdict == "warn"
    assert (found.advice or "").startswith("two equal models are not equally fast here")


def test_the_yardstick_takes_out_what_processes_differ_by():
    # Three processes, of which one ran e^0.2 times as long, yardstick and all.
    factors = [1.0] * 4 + [math.exp(0.2)] * 4 + [1.0] * 4
    times = [10.0 * f for f in factors]
    sticks = {Component.FFN: [0.6 * f for f in factors], Component.ADD_NORM: [0.4 * f for f in factors]}
    found = between(record_of(times, times, processes=3, yardstick_ms=sticks))
    assert found.figures == {
        "processes": 3.0,
        "spread": pytest.approx(0.2 / math.sqrt(3)),  # of 0, 0.2, 0: squares 2/3 · 0.04, of 2
        "yardstick_spread": pytest.approx(0.0, abs=1e-12),
        "largest_spread": pytest.approx(0.0, abs=1e-12),
        "processes_needed": 3.0,
    }
    assert found.value == (
        "medians of 3 processes differ by 11.5 % (standard deviation), by 0.0 % against the yardstick, "
        "which may be up to 0.0 %; a gate of 5 % on records needs about 3 a side (--processes 3)"
    )
    assert found.verdict == "ok"


def test_processes_that_differ_too_much():
    times = [10.0, 11.0, 13.0]
    found = between(record_of(times, times, processes=3))
    assert found.value.endswith("; a gate of 5 % on records needs more than 20 a side")
    assert (found.verdict, found.advice) == (
        "warn",
        "compare models instead of records: diff MODEL MODEL runs both in turn",
    )
    assert "processes_needed" not in found.figures


def test_few_processes_do_not_tell_that_few_are_enough():
    # Logarithms -0.01, 0, 0.01: a spread of 1 %, by which 3 a side were enough. With 2 degrees it may be 3.19 %.
    times = [10 * math.exp(x) for x in (-0.01, 0.0, 0.01)]
    found = between(record_of(times, times, processes=3))
    assert processes_needed(0.01) == 3
    assert found.figures["spread"] == pytest.approx(0.01)
    assert found.figures["largest_spread"] == pytest.approx(0.0319, abs=1e-4)
    assert found.figures["processes_needed"] == processes_needed(0.0319) == 15
    assert found.value == (
        "medians of 3 processes differ by 1.0 % (standard deviation), which may be up to 3.2 %; "
        "a gate of 5 % on records needs about 15 a side (--processes 15)"
    )


def test_where_too_few_tell_more_are_asked_for():
    # 2 % might do with 7 a side; with 2 degrees of freedom it may be 6.4 %, which does not with 20.
    times = [10 * math.exp(x) for x in (-0.02, 0.0, 0.02)]
    found = between(record_of(times, times, processes=3))
    assert found.value.endswith("up to 6.4 %; a gate of 5 % on records may need more than 20 a side")
    assert (found.verdict, found.advice) == (
        "info",
        "3 processes are few to tell by: look at more (doctor --processes 6)",
    )
    assert "processes_needed" not in found.figures


@pytest.mark.parametrize(("number", "has"), [(1, "1 process"), (2, "2 processes")])
def test_one_or_two_processes_tell_nothing(number: int, has: str):
    found = between(record_of([10.0, 10.0], [10.0, 10.0], processes=number))
    assert (found.value, found.verdict) == (f"{has} cannot tell, it takes 3", "info")
    assert found.figures == {"processes": number}


@pytest.mark.parametrize(
    ("number", "chi_square", "error"), [(3, 0.2107, 0.04), (5, 1.0636, 0.003), (11, 4.8652, 0.001), (31, 20.599, 0.001)]
)
def test_the_limit_of_a_spread(number: int, chi_square: float, error: float):
    """Against the 10 % quantiles of tables of χ²; that of 2 degrees is -2 · ln 0.9."""
    assert largest_spread(1.0, number) == pytest.approx(math.sqrt((number - 1) / chi_square), rel=error)


@pytest.mark.parametrize(
    ("spread", "number"),
    [
        (0.0, 3),
        # Student's t for 10 and 12 degrees is 2.228 and 2.179: 2 · 2.228 · 0.02 · √(2/6) = 0.0515 is above
        # ln 1.05 = 0.0488, 2 · 2.179 · 0.02 · √(2/7) = 0.0466 below.
        (0.02, 7),
        (0.2, None),
    ],
)
def test_the_processes_that_a_gate_needs(spread: float, number: int | None):
    assert processes_needed(spread) == number


def test_as_many_processes_pass_what_did_not_change():
    """1,000 pairs of what did not change, measured in as many processes as are said to be needed: 97.5 % pass."""
    generator, spread = random.Random(3), 0.03
    number = processes_needed(spread)
    assert number is not None
    passed = 0
    for _ in range(1000):
        sides = [[math.exp(generator.gauss(0, spread)) for _ in range(number)] for _ in range(2)]
        passed += evidence.of_processes(*sides).high <= 1 + GATE
    assert passed >= 960  # 975 less 3 standard deviations of 4.9


# All together ---------------------------------------------------------------------------------------------------------


def test_all_is_looked_at_in_order_and_told(monkeypatch: pytest.MonkeyPatch):
    flat = record_of([10.0] * 12, [4.0] * 12, processes=3)
    asked: list[Any] = []
    monkeypatch.setattr(readiness, "_twice", lambda device, min_time_s: [flat, flat])
    monkeypatch.setattr(readiness, "_in_processes", lambda *args: asked.append(args[:4]) or flat)
    monkeypatch.setattr(readiness, "other_load", lambda threads, root: Check(name="load", value="", verdict="ok"))
    told: list[tuple[str, float]] = []
    found = readiness.examine(
        CPU, threads=1, processes=4, min_time_s=0.5, progress=lambda step, done: told.append((step, done))
    )
    assert [check.name for check in found] == [
        *("versions", "timer", "cost of a mark", "CPU clock", "threads", "memory", "load", "GPU"),
        *("noise within a process", "noise between processes"),
    ]
    assert found[4].figures["threads"] == 1
    assert asked == [(CPU, 1, 4, 0.5)]
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[0] == ("versions", 0.0)
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Check]) == found
    assert len(readiness.examine(CPU, processes=0)) == 9


@pytest.mark.parametrize("number", [-1, 1, 2, 101])
def test_a_number_of_processes_that_tells_nothing_is_refused(number: int):
    with pytest.raises(UsageError) as error:
        readiness.examine(CPU, processes=number)
    assert str(error.value) == (
        f"processes is {number}; it must be from 3 to 100, or 0 to leave the noise between processes out"
    )


def test_the_small_model_beside_itself():
    one, other = readiness._twice(CPU, 0.0)
    assert one.run == other.run
    assert one.run is not None
    found = within(one, other)
    assert found.figures["total_ratio"] > 0
    assert found.figures["ffn_half_width"] >= 0


@pytest.mark.slow
def test_the_small_model_in_processes():
    pooled = readiness._in_processes(CPU, 1, 3, 0.0, lambda step, done: None)
    assert pooled.processes == 3
    assert between(pooled).figures["spread"] >= 0
