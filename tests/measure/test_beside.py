"""What is found out beside counts and times: whatever of it fails takes nothing else with it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import bertprof
from bertprof.components import Component
from bertprof.errors import OutputError, UsageError
from bertprof.measure import beside, graphs, memory, peaks
from bertprof.measure.power import energy
from bertprof.measure.tracing import session
from bertprof.observations import Bandwidth, ClockPart, OtherClock, Peaks
from bertprof.record import Breakdown
from conftest import codes_of, tiny

IDS = torch.ones(1, 8, dtype=torch.long)


def profiled(**further: Any) -> Breakdown:
    return bertprof.profile(tiny("bert"), IDS, min_time_s=0, threads=1, **further)


def peaks_of(flops_per_s: float, bytes_per_s: float, launch_ns: float) -> Peaks:
    return Peaks(
        dtype="float32",
        threads=1,
        flops_per_s=flops_per_s,
        bandwidths=[Bandwidth(working_set_bytes=size, bytes_per_s=bytes_per_s) for size in peaks.WORKING_SETS],
        launch_ns=launch_ns,
        measured="2026-11-23T00:00:00+00:00",
    )


def raising(*args: Any, **options: Any) -> Any:
    raise RuntimeError("planted:\n nothing works")


def test_without_more_said_a_record_has_peaks_and_memory():
    found = profiled()
    assert found.peaks is not None
    assert (found.peaks.dtype, found.peaks.threads) == ("float32", 1)
    assert found.activation_peak_bytes is not None
    assert (found.clocks, found.fits, found.energy) == (None, None, None)


def test_a_model_that_is_compared_is_asked_nothing_more():
    diff = bertprof.compare(tiny("bert"), tiny("bert"), IDS, min_time_s=0, threads=1)
    assert "roof" not in diff.text()


@pytest.mark.parametrize(
    ("room", "function", "further", "code", "text"),
    [
        (memory, "resident_peak", {}, "no-memory", "memory was not measured: planted: nothing works"),
        (peaks, "of", {"peaks": True}, "no-peaks", "so there is no roofline: planted: nothing works"),
        (
            session,
            "record",
            {"trace": "t.trace.json"},
            "no-trace",
            "t.trace.json was not written: planted: nothing works",
        ),
    ],
)
def test_what_fails_becomes_a_caveat(
    room: Any, function: str, further: Any, code: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(room, function, raising)
    found = profiled(**further)
    assert codes_of(found) == [code]
    (caveat,) = (c for c in found.caveats if c.code == code)
    assert caveat.text.endswith(text)
    assert found.timed
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_fails_is_unavailable_and_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(session, "record", raising)
    found = profiled(cross_check=True)
    assert found.clocks == [OtherClock(clock="profiler", unavailable="planted: nothing works")]
    assert "profiler clock unavailable: planted: nothing works" in found.text()
    assert codes_of(found) == []


def test_clocks_of_a_gpu_are_none_of_a_cpu():
    found = profiled(clocks="graph,kernels,events", energy=True)
    assert found.clocks is not None
    assert [clock.clock for clock in found.clocks] == ["graph", "kernels"]
    for clock in found.clocks:
        assert clock.unavailable is not None
        assert "--cross-check" in clock.unavailable
    assert codes_of(found) == ["no-events"]
    assert found.energy is not None
    assert found.energy.unavailable is not None
    assert all(cost.energy_mj is None and cost.device_time_ms is None for cost in found.costs)


class OnTheGpu:
    """A subject that says that it is on a GPU, for what is decided before anything runs there."""

    device = torch.device("cuda", 0)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is asked of the rooms, which answer by hand."""
    asked: list[str] = []

    def by_graph(marked: Any, cuda: Any) -> Any:
        asked.append("graph")
        part = ClockPart(component=Component.FFN, time_ms=2.0)
        return OtherClock(clock="graph", forwards=1, total_ms=2.0, parts=[part]), {(0, Component.FFN): [2.0]}

    def by_kernels(self: Any) -> OtherClock:
        asked.append("kernels")
        return OtherClock(clock="kernels", unavailable="no CUPTI")

    def of(marked: Any, device: Any, device_ms: Any) -> Any:
        asked.append(f"energy by {dict(device_ms)}")
        return None, {}

    monkeypatch.setattr(graphs, "Cuda", lambda device: None)
    monkeypatch.setattr(graphs, "by_graph", by_graph)
    monkeypatch.setattr(session.Profiled, "__init__", lambda self, marked: None)
    monkeypatch.setattr(session.Profiled, "by_kernels", by_kernels)
    monkeypatch.setattr(energy, "of", of)
    return asked


def test_on_a_gpu_each_clock_is_asked_and_energy_has_its_times(told: list[str]):
    wanted = beside.Beside(clocks=("events", "kernels", "graph"), cross_check=True, energy=True)
    steps: list[str] = []
    found = beside.find(OnTheGpu(), None, 1, wanted, steps.append)  # type: ignore[arg-type]
    # The profiler last: what runs behind its session is slower.
    assert told == ["graph", f"energy by { {(0, Component.FFN): [2.0]} }", "kernels"]
    assert [clock.unavailable for clock in found.clocks[:2]] == [None, "no CUPTI"]
    assert "it is a clock of the CPU" in (found.clocks[2].unavailable or "")
    assert steps == ["graph clock", "energy", "kernels clock", "cross-check"]


def test_a_trace_is_written_whole_and_parses(tmp_path: Path):
    found = profiled(trace=tmp_path / "run.trace.json", cross_check=True)
    content = json.loads((tmp_path / "run.trace.json").read_text())
    tracks = {e["args"]["name"] for e in content["traceEvents"] if e.get("name") == "thread_name"}
    assert {"ffn", "softmax-attention"} <= tracks
    assert found.clocks is not None
    assert found.clocks[0].unavailable is None


def test_a_trace_that_cannot_be_written_is_told_at_once(tmp_path: Path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError):
        profiled(trace=tmp_path / "taken" / "run.trace.json")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Peaks]:
    """A cache that is empty, and what is measured: each time the next of these, and after them nothing works."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    coming: list[Peaks] = []

    def measured(bench: Any, dtype: str, threads: int | None) -> Peaks:
        return coming.pop(0) if coming else raising()

    monkeypatch.setattr(peaks, "_cpu_bench", lambda dtype: None)
    monkeypatch.setattr(peaks, "measured", measured)
    return coming


# A roof of one FLOP a second is below everything. Bandwidth and launches are better than those of what comes later.
LOW = peaks_of(1.0, bytes_per_s=1e15, launch_ns=1.0)
HIGH = peaks_of(1e15, bytes_per_s=1e14, launch_ns=2.0)
BEST = peaks_of(1e15, bytes_per_s=1e15, launch_ns=1.0)


def test_peaks_of_a_busy_machine_are_measured_again_and_the_better_are_kept(cache: list[Peaks]):
    cache += [LOW, HIGH]
    assert profiled().peaks == LOW  # of this very run: they are not measured twice
    found = profiled()
    assert (found.peaks, codes_of(found)) == (BEST, [])
    assert cache == []
    assert profiled().peaks == BEST
    # Only who asks for it has them replaced.
    cache += [LOW, HIGH]
    assert profiled(peaks=True).peaks == LOW
    assert profiled().peaks == BEST


def test_where_they_cannot_be_measured_again_the_old_ones_stay(cache: list[Peaks]):
    cache += [LOW]
    profiled()
    found = profiled()
    assert found.peaks == LOW
    (caveat,) = (caveat for caveat in found.caveats if caveat.code == "old-peaks")
    assert caveat.text == (
        "a component is above its roof, and the device's peaks could not be measured again: planted: nothing works"
    )
    assert found.timed


@pytest.mark.parametrize(
    ("device", "asked", "again"),
    [
        ("cuda:0", {"clocks": ("events", "graph")}, True),
        ("cuda:0", {"clocks": ("events", "kernels")}, False),
        ("cuda:0", {"trace": "t.trace.json"}, False),
        ("cpu", {"trace": "t.trace.json", "cross_check": True}, True),
    ],
)
def test_behind_a_session_of_the_profiler_a_gpu_is_slower(
    device: str, asked: Any, again: bool, cache: list[Peaks], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(peaks, "better", lambda device, threads, known: HIGH)
    cache += [LOW]
    found = profiled()
    how = (torch.device(device), 1, beside.Beside(peaks="cached", **asked))
    beside.better_peaks(found, beside.Found(peaks=LOW, cached=True), *how)
    assert found.peaks == (HIGH if again else LOW)


def test_a_limit_of_memory_needs_no_times():
    found = bertprof.profile(tiny("bert"), IDS, time=False, memory_limit="1GB", training=True)
    assert found.memory_limit_bytes == 10**9
    assert {fit.mode for fit in found.fits or ()} == {"inference", "training"}
    assert found.peaks is None


def test_training_without_a_limit_is_refused():
    with pytest.raises(UsageError, match="--memory-limit"):
        profiled(training=True)
