"""`bertprof breakdown` with what it finds out beside counts and times, as a user calls it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertprof
from bertprof.errors import UsageError
from bertprof.measure.tracing import session
from conftest import failed

SHORT = ("--device", "cpu", "--seq-length", 8, "--threads", 1, "--min-time", "0s")


def test_a_second_clock_and_a_trace(run: Any, folder: Callable[..., Path], tmp_path: Path):
    result = run("breakdown", folder(), *SHORT, "--cross-check", "-o", "b.json", "-o", "b.md", "-o", "run.trace.json")
    assert result.exit_code == 0, result.output
    assert "The same forward by each clock, in ms" in result.stdout
    assert "points" in result.stdout
    assert result.stderr.splitlines() == ["wrote b.json", "wrote b.md", "wrote run.trace.json"]
    assert json.loads((tmp_path / "run.trace.json").read_text())["traceEvents"]
    read = bertprof.load(tmp_path / "b.json")
    assert read.clocks is not None
    assert read.clocks[0].clock == "profiler"
    assert read.peaks is not None
    assert "### The same forward by each clock, in ms" in (tmp_path / "b.md").read_text()
    again = run("report", "b.json")
    assert again.stdout == result.stdout


def test_a_trace_that_fails_is_told_and_takes_nothing_else(
    run: Any, folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*args: Any, **options: Any) -> Any:
        raise RuntimeError("planted")

    monkeypatch.setattr(session, "record", fail)
    result = run("breakdown", folder(), *SHORT, "-o", "b.json", "-o", "run.trace.json")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == ["wrote b.json", "bertprof: run.trace.json was not written: planted"]
    assert "ffn" in result.stdout
    assert not (tmp_path / "run.trace.json").exists()


def test_which_batches_fit(run: Any, folder: Callable[..., Path]):
    arguments = ("breakdown", folder(), "--seq-length", 8, "--no-time", "--memory-limit", "2MB", "--training")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "What fits into 2.000 MB" in result.stdout
    for mode in ("inference: up to", "training: up to"):
        assert mode in result.stdout
    record = json.loads(run(*arguments, "--json").stdout)
    assert record["memory_limit_bytes"] == 2 * 10**6
    assert {fit["mode"] for fit in record["fits"]} == {"inference", "training"}


def test_without_a_roofline_there_is_none(run: Any, folder: Callable[..., Path]):
    plain, roofed = (run("breakdown", folder(), *SHORT, *more) for more in (("--no-roofline",), ("--peaks",)))
    assert "bound" not in plain.stdout
    assert "bound" in roofed.stdout
    assert "peaks of the device: " in roofed.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--clock", "sun"], ["--clock sun", "events, graph, kernels"]),
        (["--clock", ""], ["no such clock"]),
        (["--clock", "graph", "--no-time"], ["--clock runs the model"]),
        (["--training"], ["--memory-limit 32GB"]),
        (["--memory-limit", "32"], ["that is 32 B"]),
        (["--peaks", "--no-roofline"], ["--no-roofline excludes it"]),
        (["-o", "a.trace.json", "-o", "b.trace.json"], ["one trace"]),
        (["-o", "a.trace.json", "--processes", 2], ["--processes excludes it"]),
        (["-o", "b.json/a.trace.json"], ["cannot write"]),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    arguments: list[Any], parts: list[str], run: Any, folder: Callable[..., Path], tmp_path: Path
):
    (tmp_path / "b.json").write_text("")
    failed(run("breakdown", folder(), *arguments), *parts)


def test_a_trace_is_no_report(run: Any, folder: Callable[..., Path], tmp_path: Path):
    assert run("breakdown", folder(), "--seq-length", 8, "--no-time", "-o", "b.json").exit_code == 0
    failed(run("report", "b.json", "-o", "b.trace.json"), "b.trace.json", "bertprof breakdown MODEL")
    failed(run("survey", "figure2", "--no-time", "-o", "b.trace.json"), "bertprof breakdown MODEL")
    with pytest.raises(UsageError, match="bertprof breakdown MODEL"):
        bertprof.load(tmp_path / "b.json").save(tmp_path / "b.trace.json")
