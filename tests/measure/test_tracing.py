"""Sessions of torch.profiler: real ones on the CPU, and those of a GPU with kernels that a fake adds."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from traced import STREAM, chrome_json, kernel

from bertprof.attribution import split_intervals
from bertprof.components import Component
from bertprof.errors import DeviceError, UsageError
from bertprof.measure.anatomy import regions_of
from bertprof.measure.clocks import HostClock
from bertprof.measure.inputs import Inputs
from bertprof.measure.timing import Marked
from bertprof.measure.tracing import events as trace_events
from bertprof.measure.tracing import session as tracing
from bertprof.measure.tracing.events import OPERATOR, RANGE, Event
from bertprof.measure.tracing.session import (
    FEWEST_FORWARDS,
    MOST_FORWARDS,
    SACRIFICED_KERNELS,
    WARM_UP_FORWARDS,
    Profiled,
    Ranges,
    profiled,
    record,
)
from conftest import tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
STYLES = ("hooks", "wrappers")


def marked(model: nn.Module, style: Any = "wrappers") -> Marked:
    inputs = Inputs(kwargs={"input_ids": torch.ones(1, 8, dtype=torch.long)})
    return Marked(model, inputs, regions_of(model), HostClock(), style)


# Ranges ---------------------------------------------------------------------------------------------------------------


class Noted:
    """A range that notes when it is entered and left."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name.removeprefix(RANGE), log

    def __enter__(self) -> None:
        self.log.append(f"+{self.name}")

    def __exit__(self, *error: object) -> None:
        self.log.append(f"-{self.name}")


def test_each_mark_ends_a_range_and_begins_the_next_and_ranges_are_used_again():
    log: list[str] = []
    made: list[str] = []

    def new(name: str) -> Noted:
        made.append(name.removeprefix(RANGE))
        return Noted(name, log)

    clock = Ranges(new)
    for _ in range(2):
        clock.start()
        clock.mark(4)
        clock.mark(5)
        tape = clock.stop()
        assert (tape.codes, tape.intervals_ns) == ([4, 5], [0, 0, 0])
    assert log == 2 * ["+-1", "--1", "+4", "-4", "+5", "-5"]
    assert made == ["-1", "4", "5"]


@pytest.mark.parametrize("new", [tracing._new_range, torch.profiler.record_function], ids=["fast", "documented"])
def test_both_kinds_of_range_are_read_back(new: Callable[[str], Any]):
    clock = Ranges(new)

    def run() -> None:
        for code in (7, 8):
            clock.start()
            torch.ones(2)
            clock.mark(code)
            clock.stop()

    forwards = trace_events.forwards(trace_events.read(profiled(CPU, run)))
    assert [forward.codes for forward in forwards] == [[7], [8]]
    assert all(forward.intervals_ns[0] > 0 for forward in forwards)


# A session on the CPU -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("family", ["bert", "albert", "squeezebert"])  # the last calls its units past their hooks
def test_the_profiler_times_the_same_intervals(family: str, style: Any, untouched: Callable[[nn.Module], nn.Module]):
    subject = marked(untouched(tiny(family)))
    subject.settle(style)
    told = record(subject, CPU, 3)
    assert len(told.forwards) == 3
    with subject.marks():
        codes = subject.run().codes
    for forward, owners in zip(told.forwards, told.owners, strict=True):
        assert forward.codes == codes
        crossings = [subject.crossings[code] for code in codes]
        sums: dict[object, int] = {}
        for owner, interval_ns in zip(owners, forward.intervals_ns, strict=True):
            sums[owner] = sums.get(owner, 0) + interval_ns
        assert sums == split_intervals(crossings, forward.intervals_ns, subject.regions)


def test_every_operator_is_in_a_range():
    told = record(marked(tiny("bert")), CPU, 2)
    (first, last) = told.forwards
    spanned = [e for e in told.events if first.start_ns <= e.start_ns < last.end_ns and e.kind == OPERATOR]
    owned = [e for forward in told.forwards for e in told.within(forward) if e.kind == OPERATOR]
    assert owned == spanned
    names = [[operator.name for operator in told.operators(forward)] for forward in told.forwards]
    assert names[0] == names[1]
    assert names[0].count("aten::linear") == 3 * 6 + 1
    assert names[0].count("aten::scaled_dot_product_attention") == 3


def test_the_cross_check_tells_every_component(untouched: Callable[[nn.Module], nn.Module]):
    clock = tracing.Profiled(marked(untouched(tiny("bert")))).by_profiler()
    assert (clock.clock, clock.unavailable) == ("profiler", None)
    assert FEWEST_FORWARDS <= clock.forwards <= MOST_FORWARDS
    assert clock.total_ms is not None
    assert sum(part.time_ms for part in clock.parts) == pytest.approx(clock.total_ms, abs=1e-5)
    launches = {part.component: part.launches for part in clock.parts}
    assert launches[Component.ATTENTION_LINEAR_IN] == 3 * 3
    assert launches[Component.ATTENTION_LINEAR_OUT] == 3
    for part in clock.parts:
        assert part.busy_ms is not None
        assert part.busy_ms <= part.time_ms + 1e-5
        assert part.idle_ms is None


def test_one_session_serves_the_clock_and_the_trace(monkeypatch: pytest.MonkeyPatch):
    sessions = []
    monkeypatch.setattr(tracing, "record", lambda *args: sessions.append(args) or record(*args))
    told = Profiled(marked(tiny("bert")))
    assert sessions == []
    told.by_profiler()
    told.chrome_trace()
    assert len(sessions) == 1


def test_the_trace_is_that_of_one_forward():
    told = Profiled(marked(tiny("bert")))
    document = json.loads(told.chrome_trace())
    assert told._recorded is not None
    (forward,), (owners,) = told._recorded.forwards, told._recorded.owners
    sums: dict[str, int] = {}
    for owner, interval_ns in zip(owners, forward.intervals_ns, strict=True):
        sums[owner.component] = sums.get(owner.component, 0) + interval_ns
    shown: dict[str, int] = {}
    for line in document["traceEvents"]:
        if line.get("cat") == "component":
            component = line["args"]["component"]
            shown[component] = shown.get(component, 0) + round(1000 * line["dur"])
    assert shown == sums
    text = json.dumps(document)
    assert os.path.expanduser("~") not in text
    assert str(Path.cwd()) not in text
    assert str(os.getpid()) not in [str(line["pid"]) for line in document["traceEvents"]]


def test_two_traces_of_a_model_have_the_same_slices():
    subject = marked(tiny("bert"))

    def structure() -> list[tuple[Any, ...]]:
        lines = json.loads(tracing.Profiled(subject).chrome_trace())["traceEvents"]
        return [(line["ph"], line["name"], line["pid"], line["tid"]) for line in lines]

    assert structure() == structure()


def test_the_model_is_left_without_a_hook_when_its_forward_fails(untouched: Callable[[nn.Module], nn.Module]):
    subject = marked(untouched(tiny("bert")))
    calls = []

    def failing(device: torch.device, run: Callable[[], None]) -> bytes:
        calls.append(device)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        record(subject, CPU, 3, session=failing)
    assert calls == [CPU]


def test_ranges_that_the_profiler_lost_are_refused():
    def losing(device: torch.device, run: Callable[[], None]) -> bytes:
        return chrome_json(trace_events.read(profiled(device, run))[:-40])

    with pytest.raises(DeviceError, match="lost some of the ranges"):
        record(marked(tiny("bert")), CPU, 2, session=losing)


@pytest.mark.parametrize(("forward_s", "forwards"), [(0.001, 30), (0.1, 20), (0.25, 8), (1.0, 5), (60.0, 5), (0.0, 30)])
def test_as_many_forwards_as_two_seconds_take(forward_s: float, forwards: int):
    times = iter([0, round(forward_s * 1e9)])
    subject = marked(tiny("bert"))
    subject.clock = HostClock(now=lambda: next(times))
    ran = []

    def counting(device: torch.device, run: Callable[[], None]) -> bytes:
        def noted(*args: Any) -> None:
            ran.append(args)

        handle = subject.model.register_forward_pre_hook(noted)
        run()
        handle.remove()
        return chrome_json([])

    with pytest.raises(DeviceError):
        record(subject, CPU, MOST_FORWARDS, session=counting)
    assert len(ran) == WARM_UP_FORWARDS + forwards


# What is around a session ---------------------------------------------------------------------------------------------


def test_a_session_of_the_user_s_is_left_alone():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as users:
        with pytest.raises(UsageError, match=r"^a profiler of yours is running, and torch has one at a time: .*$"):
            tracing.Profiled(marked(tiny("bert"))).by_profiler()
        torch.ones(3)
    assert "aten::ones" in {event.name for event in users.events()}


def test_a_torch_that_cannot_profile_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.profiler, "supported_activities", lambda: {torch.profiler.ProfilerActivity.CPU})
    with pytest.raises(DeviceError, match="has no CUPTI"):
        profiled(CUDA, lambda: None)


@pytest.mark.parametrize("level", [None, "2"])
def test_the_level_of_kineto_is_the_user_s_afterwards(level: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    if level is not None:
        monkeypatch.setenv("KINETO_LOG_LEVEL", level)
    inside = []
    profiled(CPU, lambda: inside.append(os.environ.get("KINETO_LOG_LEVEL")))
    assert inside == [level or "6"]
    assert os.environ.get("KINETO_LOG_LEVEL") == level


@pytest.mark.slow  # a process of its own: kineto asks for its level once
def test_nothing_is_written_beside_the_results(folder: Callable[..., Path], tmp_path: Path):
    code = "import sys; from bertprof.__main__ import main; main()"
    options = ["--seq-length=8", "--no-roofline", "--cross-check", "--min-time=0", "-o", "r.json", "-o", "r.trace.json"]
    environment = {key: value for key, value in os.environ.items() if key != "KINETO_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-c", code, "breakdown", str(folder()), *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "USDT" not in done.stdout + done.stderr
    assert "profiler_start" not in done.stderr
    (clock,) = json.loads((tmp_path / "r.json").read_text())["clocks"]
    assert clock["clock"] == "profiler"
    assert clock["total_ms"] > 0
    assert json.loads((tmp_path / "r.trace.json").read_text())["traceEvents"]


# On a GPU, as far as a fake goes --------------------------------------------------------------------------------------


class FakeGpu:
    """A session on the CPU, to which a GPU is added: each operator of the model's launches one kernel, which runs when
    those before it are done."""

    def __init__(self, kernel_ns: int = 1000) -> None:
        self.kernel_ns = kernel_ns
        self.log: list[str] = []

    def session(self, device: torch.device, run: Callable[[], None]) -> bytes:
        assert device == CUDA
        events = trace_events.read(profiled(CPU, run))
        free_ns = 0
        added: list[Event] = []
        reached_ns = 0
        launched = [e for e in events if e.kind == OPERATOR and not e.is_range]
        for number, event in enumerate(launched, start=1):
            if event.start_ns < reached_ns:
                continue
            reached_ns = event.end_ns
            end_ns = event.start_ns + 1
            call = Event(
                "cuda_runtime", "cudaLaunchKernel", event.start_ns, end_ns, event.place, event.external, number
            )
            begin_ns = max(free_ns, event.end_ns)
            free_ns = begin_ns + self.kernel_ns
            added += [call, kernel(begin_ns, free_ns, number, f"kernel of {event.name}", external=event.external)]
        return chrome_json([*events, *added])

    def synchronize(self, device: torch.device) -> None:
        assert device == CUDA
        self.log.append("synchronize")

    def sacrifice(self, device: torch.device) -> None:
        assert device == CUDA
        self.log.append("sacrifice")

    def record(self, subject: Marked, most: int) -> trace_events.Recorded:
        return record(subject, CUDA, most, session=self.session, synchronize=self.synchronize, sacrifice=self.sacrifice)


def test_kernels_of_a_model_are_those_of_its_operators():
    gpu = FakeGpu()
    told = gpu.record(marked(tiny("bert")), 4)
    clock = tracing.times.by_kernels(told)
    assert clock.forwards == 4
    assert clock.unattributed_ms == 0
    by_component = tracing.times.by_ranges(told)
    assert {part.component: part.launches for part in clock.parts} == {
        part.component: part.launches for part in by_component.parts if part.launches
    }
    launches = sum(part.launches or 0 for part in clock.parts)
    assert clock.total_ms == pytest.approx(launches * gpu.kernel_ns / 1e6)
    for part in clock.parts:
        assert part.time_ms == pytest.approx((part.launches or 0) * gpu.kernel_ns / 1e6)


def test_kernels_are_sacrificed_first_and_the_device_is_idle_around_each_forward():
    gpu = FakeGpu()
    subject = marked(tiny("bert"))
    handle = subject.model.register_forward_pre_hook(lambda *args: gpu.log.append("forward"))
    gpu.record(subject, 2)
    handle.remove()
    begun = gpu.log.index("sacrifice")
    assert gpu.log[begun:] == ["sacrifice", *["synchronize", "forward"] * (WARM_UP_FORWARDS + 2), "synchronize"]
    assert SACRIFICED_KERNELS >= 50


def test_the_trace_of_a_gpu_has_a_track_of_kernels_for_each_component():
    told = FakeGpu().record(marked(tiny("bert")), 1)
    lines = json.loads(tracing.tracks.chrome(told, on_gpu=True))["traceEvents"]
    names = {(line["pid"], line["args"]["name"]) for line in lines if line["name"] == "thread_name"}
    assert {name for process, name in names if process == 2} <= {name for process, name in names if process == 1}
    kernels = [line for line in lines if line.get("cat") == "kernel"]
    assert len([line for line in kernels if line["pid"] == 2]) == len([line for line in kernels if line["pid"] > 3])
    assert {line["tid"] for line in kernels if line["pid"] > 3} == {STREAM[1]}
