"""What is claimed about speed, measured: `make bench`, on a quiet machine. The figures go to reports/benchmarks.md.

Ratios are taken in one run, pair by pair. Start-up times are the fastest of several starts, since what is in the way of
a start (another process, a cold disk) only ever adds.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

import bertprof
from bertprof import catalog, sampling
from bertprof.components import Component
from bertprof.measure import build, timing
from bertprof.record import Breakdown
from conftest import Note

pytestmark = pytest.mark.bench

PAIRS = 400
STARTS = 7


@pytest.fixture(scope="module")
def bert_base() -> Breakdown:
    """BERT-base at 1 × 128, bare and instrumented in PAIRS pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "FEWEST_ROUNDS", PAIRS)
        patch.setattr(sampling, "MOST_SAMPLES", PAIRS)  # every pair stays in the record
        return bertprof.breakdown("bert-base-uncased", device="cpu", min_time_s=0)


def test_marks_cost_at_most_one_percent(bert_base: Breakdown, note: Note):
    overhead = bert_base.overhead
    assert overhead is not None
    assert bert_base.instrumented_ms is not None
    assert len(bert_base.instrumented_ms) == PAIRS
    note(
        f"instrumented / bare forward, BERT-base 1 × 128, median of {PAIRS} pairs, {bert_base.workload.marks}",
        "≤ 1.01",
        f"{overhead.value:.4f} [{overhead.low:.4f}, {overhead.high:.4f}]",
    )
    assert overhead.value <= 1.01


def test_parts_and_whole_of_bert_base(bert_base: Breakdown, note: Note):
    residual = bert_base.residual
    ffn = bert_base.time_share(bert_base.of(Component.FFN))
    attention = bert_base.time_share(bert_base.of(Component.SOFTMAX_ATTENTION))
    assert residual is not None
    assert ffn is not None
    assert attention is not None
    theory = sum(c.flops for c in bert_base.of(Component.SOFTMAX_ATTENTION)) / bert_base.total("flops")
    note("sum of the components against the bare forward", "within 3 %", f"{100 * residual:+.2f} %")
    note("FFN's share of the time", "> 50 %", f"{100 * ffn.value:.1f} % [{100 * ffn.low:.1f}, {100 * ffn.high:.1f}]")
    note(
        "softmax attention's share of the time against its share of FLOPs",
        "above",
        f"{100 * attention.value:.1f} % [{100 * attention.low:.1f}, {100 * attention.high:.1f}] against "
        f"{100 * theory:.1f} %",
    )
    assert abs(residual) <= 0.03
    assert ffn.low > 0.5
    assert attention.low > theory


def test_hooks_and_wrappers(note: Note):
    """Why short forwards are marked by wrappers: the two styles on the same small model, interleaved with bare runs."""
    entry = catalog.find("bert_uncased_L-12_H-256_A-4")
    assert entry is not None
    config = transformers.AutoConfig.for_model(entry.family, **entry.config)
    model = build.with_random_weights(config, None, "sdpa", torch.float32)
    found = {}
    for style, threshold in (("wrappers", float("inf")), ("hooks", 0.0)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(timing, "HOOKS_FROM_MS", threshold)
            patch.setattr(timing, "FEWEST_ROUNDS", PAIRS)
            breakdown = bertprof.profile(model, torch.ones(1, 128, dtype=torch.long), min_time_s=0)
        assert breakdown.workload.marks == style
        assert breakdown.overhead is not None
        found[style] = breakdown.overhead
        overhead = breakdown.overhead
        note(
            f"the same, BERT 12 × 256, {style}", "–", f"{overhead.value:.4f} [{overhead.low:.4f}, {overhead.high:.4f}]"
        )
    assert found["wrappers"].value < found["hooks"].value


def test_fast_random_weights(note: Note):
    entry = catalog.find("bert-base-uncased")
    assert entry is not None
    config = transformers.AutoConfig.for_model(entry.family, **entry.config)

    def seconds(make: Callable[[], object]) -> float:
        begun = time.perf_counter()
        make()
        return time.perf_counter() - begun

    fast = min(seconds(lambda: build.with_random_weights(config, None, "sdpa", torch.float32)) for _ in range(3))
    with torch.random.fork_rng():
        usual = min(seconds(lambda: transformers.AutoModel.from_config(config)) for _ in range(3))
    note(
        "building BERT-base with random weights against transformers' own initialisation",
        "< 0.5",
        f"{fast / usual:.2f}",
    )
    assert fast < 0.5 * usual


def start(*arguments: str) -> float:
    """The fastest of several starts, in seconds."""

    def once() -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        return time.perf_counter() - begun

    return min(once() for _ in range(STARTS))


def test_starts(note: Note, tmp_path: Path):
    record = Path(__file__).parents[1] / "data" / "bert-base-uncased.json"
    command = ("-m", "bertprof")
    help_s = start(*command, "--help")
    report_s = start(*command, "report", str(record), "-o", str(tmp_path / "b.md"))
    imports_s = start("-c", "import torch; from transformers import BertModel")
    counted_s = start(*command, "breakdown", "bert-base-uncased", "--no-time")
    note("`bertprof --help`", "< 0.4 s", f"{help_s:.2f} s")
    note("`bertprof report b.json -o b.md`", "< 0.6 s", f"{report_s:.2f} s")
    note(
        "`bertprof breakdown bert-base-uncased --no-time` beyond `import torch, transformers.BertModel`",
        "≤ 1 s",
        f"{counted_s:.2f} s against {imports_s:.2f} s: {counted_s - imports_s:+.2f} s",
    )
    largest_s = start(*command, "breakdown", "turing-nlg-17b", "--no-time", "--seq-length", "1024")
    note(
        "`bertprof breakdown turing-nlg-17b --no-time --seq-length 1024` beyond the same imports",
        "≤ 10 s",
        f"{largest_s - imports_s:+.2f} s",
    )
    begun = time.perf_counter()
    unknown = subprocess.run([sys.executable, *command, "breakdown", "bert-base-uncasd"], capture_output=True)
    unknown_s = time.perf_counter() - begun
    note("an unknown name is answered", "< 5 s", f"{unknown_s:.2f} s")
    assert unknown.returncode == 2
    assert unknown_s < 5
    assert help_s < 0.4
    assert report_s < 0.6
    assert counted_s - imports_s <= 1
    assert largest_s - imports_s <= 10
