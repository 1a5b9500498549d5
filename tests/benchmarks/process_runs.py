"""Runs of one small model in fresh processes over half an hour, some beside a busy program, saved for resampling.

    python tests/benchmarks/process_runs.py tests/data/process-runs.json

The rules by which records of different times are compared are tested on what this wrote (test_process_runs.py).
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import bertprof
from bertprof import pooling, sampling
from bertprof.formatting import plain
from bertprof.measure import host

MODEL = "bert_uncased_L-4_H-512_A-8"
PLANTED = "intermediate_size=2656"
"""29.7 % more than 2,048, and a multiple of 32 as that is."""

KINDS = ("base", "base", "base", "base", "ffn30")
"""One run in five has a larger FFN."""

LOADED = 0.25
"""The share of runs beside a program that keeps one core busy."""

THREADS = 1
"""One core of two is left to others: with two threads, whatever else runs makes each operator wait for its slower
thread, and forwards take up to 60 times as long."""

BUSY = "while True: sum(range(10_000))"


def run(kind: str, loaded: bool) -> dict[str, Any]:
    """One process; its repeats by component, twenty at most."""
    extra = ["--set", PLANTED] if kind == "ffn30" else []
    load = subprocess.Popen([sys.executable, "-c", BUSY]) if loaded else None
    started = time.time()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "b.json"
            command = [sys.executable, "-m", "bertprof", "breakdown", MODEL, "--device", "cpu", "--min-time", "1s"]
            command += ["--threads", str(THREADS), *extra, "-o", str(path)]
            subprocess.run(command, check=True, capture_output=True)
            breakdown = bertprof.load(path)
    finally:
        if load is not None:
            load.kill()
            load.wait()
    assert breakdown.end_to_end_ms is not None
    places = range(len(breakdown.end_to_end_ms))
    repeats = [block[len(block) // 2] for block in sampling.blocks(len(places), pooling.repeats_of_each(5))]
    components = sorted({cost.component for cost in breakdown.costs})
    sums = {
        str(c): [sum(samples) for samples in zip(*(cost.time_ms or [] for cost in breakdown.of(c)), strict=True)]
        for c in components
    }

    def kept(samples: Any) -> list[float]:
        return [round(samples[i], 4) for i in repeats]

    return {
        "kind": kind,
        "loaded": loaded,
        "started": round(started),
        "end_to_end_ms": kept(breakdown.end_to_end_ms),
        "costs": {component: kept(samples) for component, samples in sums.items()},
        "yardstick_ms": {str(c): kept(samples) for c, samples in (breakdown.yardstick_ms or {}).items()},
    }


def collect(out: Path, number: int, pause: Callable[[], None]) -> None:
    """That many runs, some of them loaded, and what ran them; written anew after each."""
    order = random.Random(0)
    machine = host.describe(torch.device("cpu"))
    about = {
        "model": MODEL,
        "threads": THREADS,
        "cpu": plain(machine.cpu),
        "cores": machine.cores,
        "torch": machine.torch,
    }
    runs: list[str] = []
    for i in range(number):
        runs.append(json.dumps(run(KINDS[i % len(KINDS)], order.random() < LOADED)))
        out.write_text(json.dumps(about)[:-1] + ', "runs": [\n' + ",\n".join(runs) + "\n]}\n")
        pause()


if __name__ == "__main__":
    collect(Path(sys.argv[1]), 75, lambda: time.sleep(15))
