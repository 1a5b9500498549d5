"""Which compressed models are faster on a CPU, and that the advice says why: `make bench`, some minutes."""

import functools

import pytest

import bertprof
from bertprof.difference import Change
from bertprof.report.advice import why
from conftest import Note

pytestmark = pytest.mark.bench

MODEL = "bert-base-uncased"
UNTIL = 0.02
AT_MOST_S = 240.0


@functools.cache
def compared(after: str) -> bertprof.Diff:
    """BERT-base and another at 1 × 128 on one thread of the CPU, interleaved."""
    return bertprof.compare(MODEL, after, device="cpu", threads=1, min_time_s=5, until=UNTIL, max_time_s=AT_MOST_S)


def noted(note: Note, after: str, bar: str) -> tuple[Change, str]:
    """The change of the latency, and what the advice says; both are written down."""
    diff = compared(after)
    change, said = diff.row("total").metrics["time"], why(diff)
    assert change.ratio is not None
    assert change.low is not None
    assert change.high is not None
    speed, least, most = 1 / change.ratio, 1 / change.high, 1 / change.low
    size = diff.row("total").metrics["bytes"]
    assert size.ratio is not None
    note(
        f"{after} against {MODEL} in float32, 1 × 128, CPU, 1 thread, interleaved: speed-up ({change.verdict}); "
        f"bytes as stored",
        bar,
        f"{speed:.3f} [{least:.3f}, {most:.3f}]; {size.ratio:.3f}",
    )
    assert said is not None, "the latency is inconclusive: measure on a quieter machine"
    note(f"what the advice says of {after}", "says why", said.replace("|", "/"))
    return change, said


def test_int8_is_faster_by_other_kernels(note: Note):
    change, said = noted(note, f"{MODEL}+int8", "> 1")
    assert change.verdict == "faster"
    assert change.high is not None
    assert change.high < 1
    assert said.startswith("the same MACs by other kernels, int8")


def test_zeros_are_no_faster(note: Note):
    change, said = noted(note, f"{MODEL}+sparsity=0.6", "not faster")
    assert change.verdict in ("same", "slower")
    assert "the same MACs; the new zeros (60 % of " in said
    assert "are multiplied as any number, by the same kernels" in said


def test_zeros_that_are_skipped_are_faster_at_95_percent(note: Note):
    change, said = noted(note, f"{MODEL}+sparsity=0.95,storage=csr,execute=csr", "> 1")
    assert change.verdict == "faster"
    assert change.high is not None
    assert change.high < 1
    assert said.startswith("MACs -92.4 %, time -")
    assert "by other kernels, CSR by " in said


def test_zeros_that_are_skipped_are_slower_at_60_percent(note: Note):
    change, said = noted(note, f"{MODEL}+sparsity=0.6,storage=csr,execute=csr", "< 1")
    assert change.verdict == "slower"
    assert said.startswith("MACs -58.4 %, time +")


def test_shared_weights_are_no_faster(note: Note):
    change, said = noted(note, "albert-base-v2", "not faster")
    assert change.low is not None
    assert change.low >= 1 / 1.02  # not faster; whether the same or slower is within a hair of the margin
    assert "stand once for 12 units, and each unit multiplies by them as before" in said
