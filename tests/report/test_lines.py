from pathlib import Path

import pytest

import bertprof
from bertprof.components import Component
from bertprof.observations import Bandwidth, GpuState
from bertprof.record import Caveat, Checkpoint
from bertprof.report import lines
from handmade import cost, made
from test_roofline import ATTENTION, LINEAR, peaks
from test_roofline import record as roofed

REAL = Path(__file__).parents[1] / "data" / "bert-base-uncased.json"


def test_the_answer_in_a_sentence():
    parts = {
        Component.FFN: ({"flops": 60}, [6.0]),
        Component.SOFTMAX_ATTENTION: ({"flops": 10}, [3.0]),
        Component.HEAD: ({"flops": 30}, [1.0]),
    }
    timed = made(*(cost(c, None, time, **counts) for c, (counts, time) in parts.items()))
    assert lines.headline(timed) == (
        "ffn takes 60 % of the time and does 60 % of the FLOPs; softmax-attention takes 3.0 × its share of FLOPs."
    )
    counted = made(*(cost(c, None, None, **counts) for c, (counts, _) in parts.items()))
    assert lines.headline(counted) == "ffn does 60 % of the FLOPs."
    assert lines.headline(made()) == "The record is empty."


def test_lines_beside_the_table():
    breakdown = bertprof.load(REAL)
    assert lines.workload_line(breakdown) == "1 × 128 tokens, float32, sdpa, cpu, 2 threads, random weights"
    assert "torch 2.13.0" in lines.host_line(breakdown)
    first, second = lines.notes(breakdown)
    assert first.startswith("end to end ")
    assert "tokens/s" in first
    assert second.startswith("marks (wrappers, host clock) cost ")
    assert lines.notes(made()) == []
    assert lines.workload_line(made()) == "1 × 8 tokens, float32, sdpa, counted, not timed"


def test_the_line_on_marks_that_are_events_says_what_is_left_out():
    breakdown = bertprof.load(REAL)
    assert "left out" not in lines.notes(breakdown)[1]
    breakdown.workload.clock = "events"
    text = lines.notes(breakdown)[1]
    assert text.startswith("marks (wrappers, events clock) cost ")
    assert "] beside what their events took, which is left out of the rows; sum of the rows against" in text


def test_recipes_and_kernels_where_they_are_not_the_usual():
    breakdown = bertprof.load(REAL)
    breakdown.workload.backend = "torch, int8 by onednn"
    assert lines.workload_line(breakdown).endswith("random weights, run by torch, int8 by onednn")
    breakdown.workload.recipes = ["heads=6", "int8"]
    assert lines.title(breakdown) == "bert-base-uncased+heads=6+int8"
    assert "heads" not in lines.workload_line(breakdown)
    breakdown.label = "small"
    assert lines.title(breakdown) == "small"
    assert lines.workload_line(breakdown).endswith("onednn, bert-base-uncased with recipes heads=6, int8")


def test_a_time_without_a_kernel_is_marked():
    breakdown = bertprof.load(REAL)
    assert "kernel" not in " ".join([lines.workload_line(breakdown), *lines.notes(breakdown)])
    breakdown.caveats.append(Caveat(code="no-kernel", text="x"))
    assert "no kernel: dequantised" in lines.workload_line(breakdown)
    assert "tokens/s, no kernel: dequantised: median of" in lines.notes(breakdown)[0]
    counted = made(caveats=[Caveat(code="no-kernel", text="x")])
    assert "kernel" not in lines.workload_line(counted)


def test_without_a_sequence_there_are_no_tokens():
    breakdown = bertprof.load(REAL)
    breakdown.workload.sequence_length = None
    assert lines.workload_line(breakdown) == "batch 1, float32, sdpa, cpu, 2 threads, random weights"
    assert "tokens" not in " ".join(lines.notes(breakdown))
    assert lines.notes(breakdown)[0].startswith("end to end 102.7 ms [101.9, 103.3]: median of 87")


@pytest.mark.parametrize(
    ("padding", "text"),
    [(0.3, ", 30 % padded,"), (0.005, ", 0.5 % padded,"), (1, ", 100 % padded,"), (0.0, ""), (None, "")],
)
def test_padding_is_named_where_there_is_some(padding: float | None, text: str):
    breakdown = made()
    breakdown.workload.padding = padding
    assert lines.workload_line(breakdown) == f"1 × 8 tokens{text or ','} float32, sdpa, counted, not timed"


def test_the_checkpoint_is_a_line_timed_or_not():
    breakdown = made()
    breakdown.checkpoint = Checkpoint(format="safetensors", files=1, file_bytes=90_868_376, load_time_ms=123.4)
    assert lines.notes(breakdown) == ["checkpoint: safetensors, 1 file, 90.87 MB on disk, loaded in 123 ms"]
    breakdown.checkpoint = Checkpoint(format="a\x1b[31m", files=3, file_bytes=0, load_time_ms=None)
    assert lines.notes(breakdown) == ["checkpoint: a�[31m, 3 files, 0 B on disk"]
    timed = bertprof.load(REAL)
    timed.checkpoint = breakdown.checkpoint
    assert len(lines.notes(timed)) == 3


PEAKS = (
    "peaks of the device: 100 GFLOP/s float32, 1 thread; 40.0 GB/s at 1 MB … 10.0 GB/s at 100 MB; 1.00 µs an operator; "
    "measured 2026-11-23"
)


def test_the_roofline_in_words():
    # Attention takes 40 % of the time for 2.5 % of the FLOPs; the FFN is the largest.
    breakdown = roofed(ATTENTION, LINEAR)
    assert lines.notes(breakdown)[2:] == [
        "softmax-attention: 2.5 % of FLOPs, 40.0 % of time: 1.00 FLOP/byte, "
        "far below its roof, which is that of memory (6.2 % of it)",
        "ffn: 97.5 % of FLOPs, 60.0 % of time: 390 FLOP/byte, compute-bound (65.0 % of its roof)",
        PEAKS,
    ]
    # What is both is said once.
    assert lines.notes(roofed(LINEAR))[2:] == [
        "ffn: 100.0 % of FLOPs, 100.0 % of time: 390 FLOP/byte, compute-bound (65.0 % of its roof)",
        PEAKS,
    ]
    breakdown.workload.backend = "fbgemm"
    assert [line.partition(":")[0] for line in lines.notes(breakdown)[2:]] == ["no roofline"]
    breakdown.peaks = None
    assert len(lines.notes(breakdown)) == 2


def test_the_peaks_of_several_threads_and_of_a_gpu_and_of_one_working_set():
    said = {threads: lines.peaks_line(peaks(threads=threads)) for threads in (None, 1, 2)}
    assert [text.partition(";")[0].partition("float32")[2] for text in said.values()] == [
        "",
        ", 1 thread",
        ", 2 threads",
    ]
    one = peaks(bandwidths=[Bandwidth(working_set_bytes=250_000, bytes_per_s=5e9)])
    assert "; 5.00 GB/s at 0.25 MB; " in lines.peaks_line(one)


def test_of_the_bandwidths_the_highest_and_that_of_the_largest_working_set_are_named():
    found = peaks()
    found.bandwidths = [
        Bandwidth(working_set_bytes=2**18, bytes_per_s=85.9e9),
        Bandwidth(working_set_bytes=2**20, bytes_per_s=121e9),
        Bandwidth(working_set_bytes=2**29, bytes_per_s=14e9),
    ]
    assert "; 121 GB/s at 1.04858 MB … 14.0 GB/s at 536.871 MB; " in lines.peaks_line(found)


def test_a_long_caveat_is_cut():
    found = made(caveats=[Caveat(code="x", text="long " * 1_000)])
    (caveat,) = lines.caveat_lines(found)
    assert (len(caveat), caveat[-1]) == (400, "…")


def test_what_is_above_its_roof_is_a_caveat():
    # 390 MFLOP in 3 ms are 130 GFLOP/s, where 100 were found.
    fast = cost(Component.FFN, 0, [3.0], flops=390_000_000, bytes_moved=0)
    breakdown = roofed(fast, caveats=[Caveat(code="c", text="t")])
    assert lines.caveat_lines(breakdown) == [
        "t",
        "faster than the device was found to be: ffn (130 % of its roof); its peaks were measured beside other work or "
        "at a lower clock: measure them again with --peaks on a quiet machine",
    ]
    breakdown.peaks = None
    assert lines.caveat_lines(breakdown) == ["t"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            GpuState(power_mw=300_400, sm_mhz=1980, temperature_c=45, throttle_reasons=[]),
            GpuState(power_mw=310_000, sm_mhz=1965, temperature_c=52, throttle_reasons=["power"]),
            ["1,980 → 1,965 MHz, 45 → 52 °C, 300 → 310 W, clocks held back for power"],
        ),
        (GpuState(sm_mhz=0), GpuState(sm_mhz=210, temperature_c=40), ["0 → 210 MHz"]),
        (GpuState(), GpuState(), []),
        (None, GpuState(sm_mhz=210), []),
    ],
)
def test_the_state_of_a_gpu_is_told(before: GpuState | None, after: GpuState | None, said: list[str]):
    record = made(cost(time_ms=[1.0]), host={"gpu_before": before, "gpu_after": after})
    found = [line.partition(": ")[2] for line in lines.notes(record) if line.startswith("the GPU before")]
    assert found == said
