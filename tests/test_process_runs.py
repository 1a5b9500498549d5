"""The rules for records of different times, on real runs of one model over half an hour, some beside a busy program.

`tests/benchmarks/process_runs.py` made the runs. Sides of five are drawn from them over and over, as a CI job has them.
"""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bertprof import gate, limits
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Diff
from bertprof.record import Breakdown
from handmade import cost, made

FOUND = json.loads((Path(__file__).parent / "data" / "process-runs.json").read_text())
BASE = [run for run in FOUND["runs"] if run["kind"] == "base"]
LARGER = [run for run in FOUND["runs"] if run["kind"] == "ffn30"]
DRAWS = 300


class Said(NamedTuple):
    """What gates of 5 % say of the total and of every component above 5 % of it."""

    failed: frozenset[str]
    inconclusive: frozenset[str]
    diff: Diff


def side(runs: list[dict[str, Any]], planted: float = 0.0) -> Breakdown:
    """Several runs as one record; with `planted`, their FFN takes that share longer."""
    costs: dict[str, list[float]] = {component: [] for component in runs[0]["costs"]}
    bare: list[float] = []
    yardstick: dict[str, list[float]] = {component: [] for component in runs[0]["yardstick_ms"]}
    for run in runs:
        more = [planted * time_ms for time_ms in run["costs"]["ffn"]]
        for component, samples in run["costs"].items():
            added = more if component == "ffn" else [0.0] * len(more)
            costs[component] += [a + b for a, b in zip(samples, added, strict=True)]
        bare += [a + b for a, b in zip(run["end_to_end_ms"], more, strict=True)]
        for component, samples in run["yardstick_ms"].items():
            yardstick[component] += samples
    return made(
        *(cost(Component(component), time_ms=samples, flops=1) for component, samples in costs.items()),
        end_to_end_ms=bare,
        yardstick_ms={Component(component): samples for component, samples in yardstick.items()},
        processes=len(runs),
    )


def gated() -> list[str]:
    """The total and every component above 5 % of it."""
    whole = side(BASE)
    shares = {c.component: whole.time_share([c]) for c in whole.costs}
    return ["total", *(str(c) for c, share in shares.items() if share is not None and share.value > 0.05)]


GATED = gated()


def said(before: Breakdown, after: Breakdown) -> Said:
    compared = Comparison(before, after)
    specs = [limits.parse("fail-on", f"{scope}.time:+5%") for scope in GATED]
    gates = gate.check(specs, compared)
    outcomes = {
        outcome: frozenset(g.scope for g in gates if g.outcome == outcome) for outcome in ("failed", "inconclusive")
    }
    return Said(outcomes["failed"], outcomes["inconclusive"], compared.diff())


def rates(planted: float, each: int = 5, larger: bool = False, draws: int = DRAWS) -> Counter[str]:
    """How often something fails or is inconclusive, in draws of two sides that have no run in common."""
    order = random.Random(0)
    found: Counter[str] = Counter()
    for _ in range(draws):
        runs = order.sample(BASE, 2 * each)
        before, after = runs[:each], order.sample(LARGER, each) if larger else runs[each:]
        one = said(side(before), side(after, planted))
        found["failed"] += bool(one.failed)
        found["total failed"] += "total" in one.failed
        found["ffn failed"] += "ffn" in one.failed
        found["other failed"] += bool(one.failed - {"ffn", "total"})
        found["inconclusive"] += bool(one.inconclusive)
        found["ffn slower"] += one.diff.row("ffn").metrics["time"].verdict == "slower"
    return found


def test_the_runs_are_many_over_long_and_some_are_loaded():
    started = [run["started"] for run in FOUND["runs"]]
    assert len(BASE) >= 60
    assert len(LARGER) >= 10
    assert max(started) - min(started) >= 30 * 60
    assert 5 <= sum(run["loaded"] for run in BASE) <= len(BASE) / 2
    assert {"total", "ffn", "softmax-attention", "attention-linear-in"} <= set(GATED)


def test_no_change_fails_in_at_most_one_of_a_hundred():
    assert rates(0.0)["failed"] <= 0.01 * DRAWS


def test_thirty_percent_more_are_found():
    found = rates(0.30)
    assert found["ffn failed"] >= 0.95 * DRAWS
    assert found["other failed"] <= 0.01 * DRAWS


def test_an_ffn_that_is_really_larger_is_found():
    assert rates(0.0, larger=True)["ffn failed"] >= 0.95 * DRAWS


def test_one_process_a_side_is_inconclusive_with_the_way_out():
    order = random.Random(0)
    for _ in range(20):
        before, after = order.sample(BASE, 2)
        compared = Comparison(side([before]), side([after], 1.0))
        (found,) = gate.check([limits.parse("fail-on", "time:+5%")], compared)
        assert found.outcome == "inconclusive"
        assert "--processes 5" in found.reason
        assert compared.diff().row("ffn").metrics["time"].verdict == "inconclusive"


@pytest.mark.parametrize("each", [3, 4])
def test_fewer_processes_are_less_sure_but_no_less_right(each: int):
    assert rates(0.0, each=each)["failed"] <= 0.01 * DRAWS
