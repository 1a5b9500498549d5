"""What is said of a Diff beside its table: sides, machines, notes, caveats, gates."""

import pytest
from compared import distilled, gate, hostile, real, slower, timed, untimed

from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Diff
from bertprof.record import Caveat, Checkpoint
from bertprof.report import diff_lines
from bertprof.report.waterfall import waterfall
from handmade import cost, made


def test_sides_tell_what_is_common_and_what_differs():
    diff = Comparison(untimed(real()), distilled()).diff()
    assert diff_lines.title(diff) == "bert-base-uncased → distilbert-base-uncased"
    assert diff_lines.sides(diff) == {
        "both": "1 × 128 tokens, float32, sdpa, counted, not timed, random weights, torch, no recipes",
        "before": "12 units",
        "after": "6 units",
    }


def test_dtype_attention_backend_and_recipes_are_always_told():
    before, after = real(), real()
    w = after.workload
    w.dtype, w.attention, w.backend, w.recipes = "int8", "eager", "torchao", ["heads=6", "int8"]
    found = diff_lines.sides(Comparison(before, after).diff())
    assert found["before"] == "float32, sdpa, torch, no recipes"
    assert found["after"] == "int8, eager, torchao, recipes heads=6, int8"


def test_a_label_does_not_hide_the_model():
    assert diff_lines.sides(slower())["after"] == "model bert-base-uncased"


def test_two_models_of_one_name_are_told_apart():
    before, after = real(), real()
    after.workload.config_sha256 = "abcdef0123"
    found = diff_lines.sides(Comparison(before, after).diff())
    assert found["before"] == "configuration 9556fdc"
    assert found["after"] == "configuration abcdef0"


def test_a_checkpoint_is_told():
    before, after = real(), real()
    after.checkpoint = Checkpoint(format="safetensors", files=1, file_bytes=1_000_000, load_time_ms=None)
    assert diff_lines.sides(Comparison(before, after).diff())["after"] == "safetensors of 1.000 MB on disk"


def test_machines_are_one_line_where_they_are_the_same():
    before, after = real(), real()
    assert len(diff_lines.machines(Comparison(before, after).diff())) == 1
    after.host.torch = "2.8.0"
    first, second = diff_lines.machines(Comparison(before, after).diff())
    assert first.startswith("before: Intel")
    assert "torch 2.8.0" in second


def test_the_environment_holds_what_is_known():
    before, after = real(), untimed(real())
    after.host.gpu, after.host.clocks = "H100", {"sm": 1980}
    found = {name: sides for name, *sides in diff_lines.environment(Comparison(before, after).diff())}
    assert found["torch"] == ["2.13.0+cpu", "2.13.0+cpu"]
    assert found["GPU"] == ["–", "H100"]
    assert found["clocks"] == ["–", "sm 1980 MHz"]
    assert found["memory"] == ["25.28 GB", "25.28 GB"]
    assert found["repeats"] == ["87", "–"]
    assert found["processes"] == ["1", "–"]
    assert "driver" not in found


def processes(machine: float, count: int = 5, work: float = 1.0) -> Diff:
    """Five processes a side; the machine takes `machine` times as long after, for `work` times the work."""
    before, after = timed({Component.FFN: 100.0}, {Component.FFN: 100.0 * machine * work})
    for side, run, length in ((before, "a", 1.0), (after, "b", machine)):
        factors = [factor for factor in (0.99, 1.0, 1.01, 1.0, 1.0) for _ in range(4)]
        samples = [x * factor for x, factor in zip(side.costs[0].time_ms or [], factors, strict=True)]
        side.costs[0].time_ms = side.instrumented_ms = side.end_to_end_ms = samples
        side.yardstick_ms = {Component.FFN: [length * factor for factor in factors]}
        side.run, side.processes = run, count
    return Comparison(before, after).diff()


HOLM = (
    "a change of a time within ±2 % counts as none; intervals are at 95 %, verdicts are corrected for the number of "
    "rows (Holm)"
)


def test_notes_of_interleaved_rounds():
    assert diff_lines.notes(slower()) == [
        "times: interleaved in 87 rounds of one process, compared round by round",
        HOLM,
    ]


def test_rounds_of_several_processes():
    before, after = timed({Component.FFN: 100.0}, {Component.FFN: 90.0})
    before.processes = after.processes = 2
    assert diff_lines.notes(Comparison(before, after).diff())[0] == (
        "times: interleaved in 20 rounds of 2 processes, compared round by round"
    )


def test_the_machine_is_taken_out_and_that_is_said():
    diff = processes(1.1)
    assert diff.row("ffn").metrics["time"].ratio == pytest.approx(1.0)
    times, yardstick, _ = diff_lines.notes(diff)
    assert times == "times: of 5 processes before and 5 after"
    assert yardstick == (
        "the yardstick, a fixed BERT layer run in the same rounds, took 10.0 % longer beside AFTER; "
        "changes of time are corrected for it (times before → after are as measured)"
    )
    assert "took 10.0 % less time beside AFTER; " in diff_lines.notes(processes(0.9))[1]


@pytest.mark.parametrize(("work", "is_rough"), [(0.5, True), (0.7, False), (1.45, False), (1.55, True)])
def test_models_of_other_length_have_another_yardstick(work: float, is_rough: bool):
    # As measured the latencies are as 1 to the work.
    note = diff_lines.notes(processes(1.0, work=work))[1]
    rough = ", which is rough where the models differ this much in length; measure both together (diff MODEL MODEL)"
    assert note.endswith(rough) == is_rough
    assert "machine" not in note


def test_with_one_process_a_side_nothing_is_corrected():
    (note,) = diff_lines.notes(processes(1.1, count=1))
    assert note.endswith(
        "took 10.0 % longer beside AFTER; times and their ratios are not corrected for it; the parts of the change and "
        "the waterfall's steps are"
    )
    diff = processes(1.1, count=1)
    fall, whole = waterfall(diff, "time"), diff.row("total").metrics["time"]
    assert fall is not None
    # 100 → 110 ms, of which the machine's tenth is taken out of the step, and not out of the ratio.
    assert [step.end - step.start for step in fall.steps] == [pytest.approx(0, abs=1e-9), pytest.approx(10)]
    assert whole.before is not None
    assert whole.after == pytest.approx(1.1 * whole.before)


def test_units_that_do_not_correspond():
    (note,) = diff_lines.notes(Comparison(untimed(real()), distilled()).diff())
    assert note == "12 units before, 6 after: single units do not correspond"


def test_caveats_are_told_once_and_of_whom():
    diff = slower()
    diff.caveats = [Caveat(code="m", text="of the\ncomparison")]
    diff.before.caveats = [Caveat(code="x", text="load"), Caveat(code="y", text="clock")]
    diff.after.caveats = [Caveat(code="x", text="load"), Caveat(code="z", text="heat")]
    assert diff_lines.caveats(diff) == ["of the comparison", "both sides: load", "before: clock", "after: heat"]


def test_every_mismatch_is_told():
    before, after = real(), real()
    after.workload.sequence_length, after.host.torch = 64, "2.8"
    text = " ".join(diff_lines.caveats(Comparison(before, after, allowed=["torch"]).diff()))
    assert "sequence_length differs: 128 before, 64 after" in text
    assert "torch differs" in text


# Gates ----------------------------------------------------------------------------------------------------------------


def gated(*gates) -> Diff:
    diff = slower()
    diff.gates = list(gates)
    return diff


OUTCOMES = ("passed", "inconclusive", "not comparable", "failed")


def test_a_line_for_each_gate_failed_ones_first():
    diff = gated(*(gate(outcome) for outcome in OUTCOMES), gate("failed", "warn-on"))
    found = diff_lines.gates(diff)
    assert [line.answer for line in found] == ["failed", "warning", "not comparable", "inconclusive", "passed"]
    assert [line.tone for line in found] == ["worse", "open", "open", "open", "better"]
    assert found[0].reason == "ffn.time +9 % is above +5 %"
    assert found[0].gate == "fail-on ffn.time:+5%, command line"


@pytest.mark.parametrize(
    ("gates", "text", "tone"),
    [
        ([gate("passed")], "the gate passed", "better"),
        ([gate("passed"), gate("passed", scope="total")], "all 2 gates passed", "better"),
        ([gate("failed")], "1 of 1 gate failed: ffn.time", "worse"),
        (
            [*(gate("passed") for _ in range(3)), gate("failed"), gate("failed", scope="total")],
            "2 of 5 gates failed: ffn.time, total.time; 3 passed",
            "worse",
        ),
        (
            [gate("passed"), gate("failed", "warn-on", metric="macs")],
            "1 of 2 gates only warned: ffn.macs; 1 passed",
            "open",
        ),
        (
            [gate("inconclusive"), gate("not comparable", metric="macs")],
            "1 of 2 gates not comparable: ffn.macs; 1 inconclusive: ffn.time",
            "open",
        ),
        (
            [gate("failed", scope=f"unit[{i}]") for i in range(7)],
            "7 of 7 gates failed: " + ", ".join(f"unit[{i}].time" for i in range(5)) + " and 2 more",
            "worse",
        ),
    ],
)
def test_one_verdict_line(gates, text: str, tone: str):
    assert diff_lines.verdict(gated(*gates)) == (text, tone)


def test_without_gates_there_is_no_verdict():
    assert diff_lines.verdict(slower()) is None
    assert diff_lines.gates(slower()) == []


def test_a_row_that_failed_twice_is_named_once():
    verdict = diff_lines.verdict(gated(gate("failed"), gate("failed", "require")))
    assert verdict == ("2 of 2 gates failed: ffn.time", "worse")


def test_what_means_harm_is_one_printable_line_each():
    diff = hostile()
    texts = [diff_lines.title(diff), *diff_lines.sides(diff).values(), *diff_lines.machines(diff)]
    texts += diff_lines.caveats(diff)
    texts += [text for line in diff_lines.gates(diff) for text in (line.row, line.reason, line.gate)]
    texts += [text for line in diff_lines.environment(diff) for text in line]
    assert len(texts) > 1000
    assert all(text.isprintable() and len(text) <= 1000 for text in texts)


def test_one_model_on_both_sides_is_told_apart_in_the_title():
    a, b = (made(cost(flops=1)) for _ in range(2))
    b.workload.attention = "eager"
    assert diff_lines.title(Comparison(a, b).diff()) == "m (sdpa) → m (eager)"
    assert diff_lines.title(Comparison(a, a).diff()) == "m → m"
