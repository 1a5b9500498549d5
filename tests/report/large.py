"""The largest documents that a page has to carry: BERT-large, counted by the real code, with invented times.

Its times are plausible and seeded, not measured: so much of each component's FLOPs and bytes a second, with noise. All
samples are rounded to 0.1 µs, as those of records are.
"""

import functools
import random

import bertprof
from bertprof import record
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Diff
from bertprof.observations import Bandwidth, Peaks
from bertprof.record import Breakdown, Cost
from bertprof.sampling import median

MODEL = "bert-large-uncased"
PRUNED = f"{MODEL}+heads=8+ffn=2048"
REPEATS = 100
FLOPS_PER_MS, BYTES_PER_MS, OPERATOR_MS, SLOWER_SOFTMAX = 1.4e8, 1.3e7, 0.004, 2.4
YARDSTICK = (Component.ATTENTION_LINEAR_IN, Component.SOFTMAX_ATTENTION, Component.FFN, Component.ADD_NORM)


def large_breakdown() -> Breakdown:
    """BERT-large with 24 units, 100 repeats, modules, a roofline; a copy of its own for each caller."""
    return record.decode(_encoded(MODEL), "BERT-large")


def large_diff() -> Diff:
    """BERT-large against itself with half of the heads and of the FFN, 100 rounds in turn."""
    return Comparison(large_breakdown(), record.decode(_encoded(PRUNED), "BERT-large, pruned")).diff()


@functools.cache
def _encoded(model: str) -> bytes:
    return record.encode(_timed(bertprof.breakdown(model, time=False, device="cpu")))


def _timed(counted: Breakdown) -> Breakdown:
    """A record with invented times; `run` is the same for all, as if they were measured in turn."""
    chance = random.Random(counted.name)
    pace = [chance.lognormvariate(0, 0.02) for _ in range(REPEATS)]
    for cost in counted.costs:
        took = _least_ms(cost)
        cost.time_ms = [round(took * now * chance.lognormvariate(0, 0.05), 4) for now in pace]
    for module in counted.modules or ():
        of_unit = [c for c in counted.costs if (c.unit, c.component) == (module.unit, module.component)]
        if module.calls and module.macs and of_unit:
            part = module.flops / max(1, of_unit[0].flops)
            module.time_ms = round(part * median(of_unit[0].time_ms or [0.0]), 6)
    counted.instrumented_ms = [round(sum(c.time_ms[i] for c in counted.costs if c.time_ms), 4) for i in range(REPEATS)]
    counted.end_to_end_ms = [round(whole / chance.uniform(1.0, 1.02), 4) for whole in counted.instrumented_ms]
    counted.end_to_end_p95_ms = round(1.05 * median(counted.end_to_end_ms), 4)
    counted.yardstick_ms = {c: [round(0.4 * now, 4) for now in pace] for c in YARDSTICK}
    counted.peaks = Peaks(
        dtype="float32",
        threads=2,
        flops_per_s=1.8e11,
        bandwidths=[Bandwidth(working_set_bytes=10**n, bytes_per_s=(9 - n) * 3e10) for n in range(5, 9)],
        launch_ns=900.0,
        measured="2026-11-22T00:00:00+00:00",
    )
    counted.created, counted.run = "2026-11-22T00:00:00+00:00", "turn and turn about"
    counted.command = f"bertprof breakdown {counted.workload.model} --threads 2"
    workload, host = counted.workload, counted.host
    workload.clock, workload.marks, workload.threads, workload.weights = "host", "hooks", 2, "random"
    host.cpu, host.cores, host.memory_bytes, host.os, host.clocks = "Example CPU", 2, 16 * 10**9, "Linux", None
    return counted


def _least_ms(cost: Cost) -> float:
    """What a component might take: its arithmetic or its traffic, and launching its operators."""
    slower = SLOWER_SOFTMAX if cost.component is Component.SOFTMAX_ATTENTION else 1.0
    calls = sum(operator.calls for operator in cost.operators.values())
    return slower * max(cost.flops / FLOPS_PER_MS, (cost.bytes_moved or 0) / BYTES_PER_MS) + OPERATOR_MS * calls
