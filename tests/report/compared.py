"""Diffs for the tests of reports: by hand, of the real record, the largest one, and one that means harm."""

import functools
from pathlib import Path

import bertprof
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Accuracy, Change, Diff, Gate, Mismatch
from bertprof.record import Breakdown, Caveat, Checkpoint, Cost
from handmade import cost, made

REAL = Path(__file__).parents[1] / "data" / "bert-base-uncased.json"
HOSTILE = "<img src=x onerror=alert(1)>|```$x$\n# [a](b) @somebody\x1b[31m</script></details>"
ROUNDS = 20


def timed(before: dict[Component, float], after: dict[Component, float]) -> tuple[Breakdown, Breakdown]:
    """Two records that were interleaved in 20 rounds, of rows that take these times in ms in each."""
    first, second = (
        made(
            *(cost(component, 0, [time] * ROUNDS, parameters=1) for component, time in side.items()),
            run="r",
            peak_memory_bytes=None,
        )
        for side in (before, after)
    )
    return first, second


def real() -> Breakdown:
    return bertprof.load(REAL)


def distilled() -> Breakdown:
    """DistilBERT from the record of BERT: 6 units, no segment table (2 × 768), no pooler, no times."""
    student = untimed(real())
    student.workload.model = "distilbert-base-uncased"
    student.modules = None
    student.costs = [c for c in student.costs if c.component is not Component.HEAD and (c.unit is None or c.unit < 6)]
    (embedding,) = student.of(Component.EMBEDDING)
    embedding.parameters -= 1536
    embedding.parameter_bytes -= 4 * 1536
    return student


def untimed(breakdown: Breakdown) -> Breakdown:
    breakdown.instrumented_ms = breakdown.end_to_end_ms = breakdown.workload.clock = None
    for each in breakdown.costs:
        each.time_ms = None
    return breakdown


def gate(outcome: str, kind: str = "fail-on", scope: str = "ffn", metric: str = "time", **fields: str) -> Gate:
    texts = {
        "text": f"{scope}.{metric}:+5%",
        "origin": "command line",
        "reason": f"{scope}.{metric} +9 % is above +5 %",
    }
    return Gate(kind=kind, scope=scope, metric=metric, outcome=outcome, change=None, **{**texts, **fields})  # type: ignore[arg-type]


def slower() -> Diff:
    """The real record against itself with an FFN of 1.1 times the time."""
    after = real()
    for each in after.costs:
        if each.component is Component.FFN and each.time_ms is not None:
            each.time_ms = [1.1 * sample for sample in each.time_ms]
    after.instrumented_ms = [
        sum(samples) for samples in zip(*(c.time_ms for c in after.costs if c.time_ms is not None), strict=True)
    ]
    before = real()
    assert before.instrumented_ms is not None
    assert before.end_to_end_ms is not None
    after.end_to_end_ms = [
        bare * b / a
        for bare, a, b in zip(before.end_to_end_ms, before.instrumented_ms, after.instrumented_ms, strict=True)
    ]
    before.run = after.run = "r"
    after.label = "patched"
    return Comparison(before, after).diff()


@functools.cache
def largest() -> Diff:
    """96 units of all components, everything changed, known and gated. Not to be changed."""

    def side(scale: int) -> Breakdown:
        return made(
            *(
                Cost(
                    unit=unit,
                    component=component,
                    parameters=scale * 123_456_789,
                    nonzero_parameters=scale * 123_456_788,
                    parameter_bytes=scale * 234_567_891,
                    macs=scale * 345_678_912_345,
                    useful_macs=scale * 345_678_912_344,
                    flops=scale * 456_789_123_456,
                    bytes_moved=scale * 567_891_234,
                    activation_bytes=scale * 678_912_345,
                    time_ms=[scale * 1.2345] * 6,
                    device_time_ms=[scale * 1.1] * 6,
                    energy_mj=[scale * 2.2] * 6,
                )
                for unit in (None, *range(96))
                for component in Component
            ),
            run="r",
            peak_memory_bytes=scale * 10**9,
        )

    diff = Comparison(side(2), side(1)).diff()
    diff.gates = [
        gate(outcome, scope=f"unit[{unit}].{component}")
        for outcome in ("passed", "failed")
        for unit in range(96)
        for component in Component
    ]
    return diff


def hostile() -> Diff:
    """A diff in which every text that can be given means harm."""
    diff = slower()
    for side in (diff.before, diff.after):
        side.name = side.created = side.bertprof_version = HOSTILE
        w, h = side.workload, side.host
        w.model = w.config_sha256 = w.task = w.dtype = w.attention = w.backend = w.device = HOSTILE
        w.recipes = [HOSTILE] * 50
        h.cpu = h.os = h.gpu = h.driver = h.python = h.torch = h.transformers = h.fvcore = HOSTILE
        h.clocks = {HOSTILE: 1}
        side.checkpoint = Checkpoint(format=HOSTILE, files=1, file_bytes=1, load_time_ms=None)
        side.caveats = [Caveat(code="x", text=f"{HOSTILE}{i}") for i in range(200)]
    diff.after.workload.dtype = f"{HOSTILE}2"
    diff.caveats = [Caveat(code="x", text=HOSTILE * 100)]
    diff.mismatches = [Mismatch(key=HOSTILE, before=HOSTILE, after=HOSTILE, affects="times", allowed=False)]
    diff.command = f"bertprof diff {HOSTILE}"
    diff.accuracy = Accuracy(metric=HOSTILE, before=1, after=2, size_drop=0, size_drop_per_accuracy_drop=None)
    nothing = Change(before=None, after=None, change=None, ratio=None, verdict="n/a")
    for row in diff.rows:
        if row.scope != "total":
            row.scope += HOSTILE
        row.metrics[HOSTILE] = nothing
    diff.gates = [
        gate(outcome, scope=HOSTILE, metric=HOSTILE, text=HOSTILE, origin=HOSTILE, reason=HOSTILE)
        for outcome in ("passed", "failed", "inconclusive", "not comparable")
        for _ in range(100)
    ]
    return diff
