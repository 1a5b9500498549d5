"""How sure `bertprof diff` is of two models measured together: `make bench`, some minutes, on whatever machine."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pytest
import torch
import transformers

import bertprof
from bertprof import catalog
from bertprof.components import Component
from bertprof.measure import build
from conftest import Note

pytestmark = pytest.mark.bench

MODEL = "bert_uncased_L-4_H-256_A-4"
RUNS = 100
UNTIL = 0.02
IDS = torch.ones(1, 128, dtype=torch.long)


def model(planted: float = 0.0) -> torch.nn.Module:
    """A small BERT, whose FFN takes that share longer than it does."""
    entry = catalog.find(MODEL)
    assert entry is not None
    config = transformers.AutoConfig.for_model(entry.family, **entry.config)
    made: Any = build.with_random_weights(config, None, "sdpa", torch.float32)
    if planted:
        for layer in made.encoder.layer:
            for module in (layer.intermediate, layer.output.dense):
                module.forward = slowed(module.forward, planted)
    return made


def slowed(forward: Callable[..., Any], planted: float) -> Callable[..., Any]:
    """The same forward, and then waiting for a share of the time that it took."""

    def costly(*args: Any) -> Any:
        started = perf_counter_ns()
        output = forward(*args)
        now = perf_counter_ns()
        until = now + planted * (now - started)
        while perf_counter_ns() < until:
            pass
        return output

    return costly


def scopes() -> list[str]:
    """The total and every component above 5 % of it."""
    breakdown = bertprof.profile(model(), IDS, threads=1)
    shares = {c: breakdown.time_share(breakdown.of(c)) for c in Component if breakdown.of(c)}
    return ["total", *(str(c) for c, share in shares.items() if share is not None and share.value > 0.05)]


def trial(before: torch.nn.Module, after: torch.nn.Module, gated: list[str]) -> bertprof.Diff:
    """One diff of two models with a gate of 5 % on each scope."""
    return bertprof.compare(
        before,
        after,
        IDS,
        threads=1,  # as for the saved runs: see process_runs.THREADS
        min_time_s=0.5,
        until=UNTIL,
        max_time_s=20,
        fail_on=[f"{scope}.time:+5%" for scope in gated],
    )


def trials(planted: float, gated: list[str], runs: int) -> tuple[Counter[str], list[float]]:
    """What is said in so many diffs, and how long each took."""
    said: Counter[str] = Counter()
    took = []
    before, after = model(), model(planted)
    for _ in range(runs):
        begun = time.perf_counter()
        diff = trial(before, after, gated)
        took.append(time.perf_counter() - begun)
        failed = [gate.scope for gate in diff.gates if gate.outcome == "failed"]
        said["failed"] += bool(failed)
        said["ffn failed"] += "ffn" in failed
        said["other failed"] += bool(set(failed) - {"ffn", "total"})
        said["inconclusive"] += any(gate.outcome == "inconclusive" for gate in diff.gates)
        said["ffn slower"] += diff.row("ffn").metrics["time"].verdict == "slower"
        said["total inconclusive"] += diff.row("total").metrics["time"].verdict == "inconclusive"
        said["total same"] += diff.row("total").metrics["time"].verdict == "same"
    return said, took


def test_interleaved(note: Note):
    gated = scopes()
    what = f"small BERT 4 × 256, 1 thread, interleaved until ± {100 * UNTIL:g} %, 5 % gates on {', '.join(gated)}"
    same, took = trials(0.0, gated, RUNS)
    note(f"A/A, {RUNS} runs, {what}: runs that fail", "≤ 1", str(same["failed"]))
    note("the same: runs with an inconclusive gate", "≤ 10", str(same["inconclusive"]))
    note(
        "the same: verdict on the total (margin 2 %)",
        "–",
        f"same {same['total same']}, inconclusive {same['total inconclusive']}",
    )
    note("the same: time of a run", "–", f"{sorted(took)[len(took) // 2]:.1f} s")
    ten, _ = trials(0.10, gated, RUNS)
    note(f"+10 % planted in ffn, {RUNS} runs: runs whose ffn gate fails", "≥ 95", str(ten["ffn failed"]))
    note("the same: runs in which another component fails", "–", str(ten["other failed"]))
    five, _ = trials(0.05, gated, RUNS)
    note(f"+5 % planted in ffn, {RUNS} runs: ffn is called slower", "≥ 80", str(five["ffn slower"]))
    assert same["failed"] <= 1
    assert same["inconclusive"] <= 10
    assert ten["ffn failed"] >= 95
    assert five["ffn slower"] >= 80


def test_reading_records_is_fast(note: Note, tmp_path: Path):
    record = bertprof.load(Path(__file__).parents[1] / "data" / "bert-base-uncased.json")
    record.save(tmp_path / "a.json")
    record.costs[0].parameters += 1
    record.modules = None
    record.save(tmp_path / "b.json")
    command = [sys.executable, "-m", "bertprof", "diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    took = []
    for _ in range(7):
        begun = time.perf_counter()
        subprocess.run([*command, "--warn-on", "parameters:+0"], check=True, capture_output=True)
        took.append(time.perf_counter() - begun)
    note("`bertprof diff a.json b.json` with a gate on a count", "< 0.6 s", f"{min(took):.2f} s")
    assert min(took) < 0.6


def test_saved_records(note: Note):
    """What gates say of saved records, by drawing sides from real runs; see test_process_runs.py."""
    from test_process_runs import BASE, DRAWS, FOUND, GATED, LARGER, rates

    note(
        f"records of {len(BASE)} processes of {FOUND['model']}, {FOUND['threads']} thread, over 30 minutes, "
        f"{sum(run['loaded'] for run in BASE)} beside a busy program; {DRAWS} draws of five a side, 5 % gates on "
        f"{', '.join(GATED)}: draws that fail without a change",
        "≤ 1 %",
        f"{100 * rates(0.0)['failed'] / DRAWS:.1f} %",
    )
    for planted, bar in ((0.05, "–"), (0.10, "–"), (0.30, "≥ 95 %")):
        found = rates(planted)
        note(
            f"the same, +{100 * planted:.0f} % planted in ffn: its gate fails; ffn is called slower",
            bar,
            f"{100 * found['ffn failed'] / DRAWS:.0f} %; {100 * found['ffn slower'] / DRAWS:.0f} %",
        )
    found = rates(0.0, larger=True)
    note(
        f"the same against {len(LARGER)} runs whose FFN is 29.7 % larger: its gate fails",
        "≥ 95 %",
        f"{100 * found['ffn failed'] / DRAWS:.0f} %",
    )
