"""Fresh processes, for real: small models, no network."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import bertprof
from bertprof import processes, session
from bertprof.errors import BertprofError, ConfigurationError, UsageError
from bertprof.measurement import Plan, silent
from bertprof.pairs import interleaved
from bertprof.sides import DEFAULTS
from conftest import TINY

QUICK: dict[str, Any] = {"device": "cpu", "sequence_length": 8, "min_time_s": 0.0, "threads": 1}


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", **TINY["bert"]}))
    return str(tmp_path)


@pytest.mark.slow
def test_the_repeats_of_each_process_stand_one_after_another(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
):
    # A module of the working directory does not shadow Python's own.
    shadow = tmp_path / "here"
    shadow.mkdir()
    (shadow / "statistics.py").write_text("raise ImportError('shadowed')")
    monkeypatch.chdir(shadow)
    told: list[tuple[str, float]] = []
    pooled = session.breakdown(model, processes=3, **QUICK, progress=lambda step, done: told.append((step, done)))
    assert told == [("process 1 of 3", 0), ("process 2 of 3", 1 / 3), ("process 3 of 3", 2 / 3)]
    assert pooled.processes == 3
    assert pooled.end_to_end_ms is not None
    assert len(pooled.end_to_end_ms) == 3 * 10  # ten rounds are the fewest
    alone = session.breakdown(model, **QUICK)
    assert [(c.unit, c.component, c.macs) for c in pooled.costs] == [(c.unit, c.component, c.macs) for c in alone.costs]
    assert pooled.yardstick_ms is not None


@pytest.mark.slow
def test_two_models_are_measured_together_in_each_process(model: str):
    told: list[str] = []
    before, after = interleaved(
        model,
        model,
        plan=Plan(min_time_s=0.0, threads=1),
        changes=((), ("set.intermediate_size=128",)),
        processes=3,
        device="cpu",
        sequence_length=8,
        progress=lambda step, done: told.append(step),
    )
    assert len(told) == 3
    assert before.processes == after.processes == 3
    assert before.run == after.run is not None
    diff = bertprof.diff(before, after)
    assert diff.times == "processes"
    # FFN: 2·32·64 weights become 2·32·128, and 64 biases 128, in three units
    change = diff.row("ffn").metrics["parameters"]
    assert change.change == 3 * (2 * 32 * 64 + 64)


@pytest.mark.slow
def test_what_a_process_raises_is_raised_here(model: str):
    with pytest.raises(UsageError, match="beyond the model's 40 positions"):
        session.breakdown(model, processes=2, **{**QUICK, "sequence_length": 41})


def test_what_can_be_checked_is_checked_before_any_process_starts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: pytest.fail("a process was started"))
    with pytest.raises(UsageError, match=r"padding is 2\.0"):
        session.breakdown("bert-base-uncased", processes=2, padding=2.0, **QUICK)
    with pytest.raises(UsageError, match="processes is 101; it must be from 1 to 100"):
        session.breakdown("bert-base-uncased", processes=101, **QUICK)


def answering(monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str = "") -> None:
    def run(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.parametrize(
    ("returncode", "stderr", "message"),
    [
        (-9, "", r"process 1 of 2 ended without an answer: killed by signal 9, which .* when memory runs out"),
        (-11, "", "killed by signal 11"),
        (1, "a\nlast words\n\n", "last words"),
        (3, "", "exit code 3"),
    ],
)
def test_a_process_that_dies(returncode: int, stderr: str, message: str, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, returncode, stderr)
    with pytest.raises(BertprofError, match=message):
        processes.measured([DEFAULTS], Plan(), 2, silent)


@pytest.mark.parametrize("returncode", [-2, 130])
def test_an_interrupt_is_one_here_as_well(returncode: int, monkeypatch: pytest.MonkeyPatch):
    answering(monkeypatch, returncode)
    with pytest.raises(KeyboardInterrupt):
        processes.measured([DEFAULTS], Plan(), 2, silent)


def test_the_child_answers_in_a_file(tmp_path: Path, model: str):
    request, answer = tmp_path / "asked", tmp_path / "answer"
    side = {**DEFAULTS, "model": model, "sequence_length": 8}
    request.write_text(json.dumps({"sides": [side], "plan": {"time": False, "beside": {}}, "path": sys.path}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        processes.main(str(request), str(answer), "-1")
        (found,) = json.loads(answer.read_text())["records"]
        assert found["schema"] == "bertprof.breakdown"
        (tmp_path / "config.json").write_text("{")
        processes.main(str(request), str(answer), "-1")
    assert json.loads(answer.read_text())["error"]["kind"] == ConfigurationError.__name__


@pytest.mark.slow
def test_a_child_ends_with_its_parent(tmp_path: Path, model: str):
    """However the parent ends: a child that goes on measuring would be the load on what comes next."""
    command = [sys.executable, "-m", "bertprof", "breakdown", model, "--device", "cpu", "--seq-length", "8"]
    parent = subprocess.Popen(
        [*command, "--processes", "2", "--min-time", "60s"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    children: list[str] = []
    for _ in range(600):
        found = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        if not found.exists():
            pytest.skip("this system does not tell of children")
        children = found.read_text().split()
        if children:
            break
        time.sleep(0.1)
    assert children
    time.sleep(1)  # long enough for the child to begin
    parent.terminate()
    parent.wait(timeout=60)
    for _ in range(600):
        if not any(Path(f"/proc/{child}").exists() for child in children):
            return
        time.sleep(0.1)
    pytest.fail("the child goes on")
