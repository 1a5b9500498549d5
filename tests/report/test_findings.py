"""What a Diff says in words: each form of each sentence."""

from compared import ROUNDS, distilled, real, slower, timed, untimed
from hypothesis import given

from bertprof.comparison import Comparison, accuracy, caveats_of_precision
from bertprof.components import Component
from bertprof.difference import Diff
from bertprof.record import Breakdown, Caveat
from bertprof.report.findings import Finding, findings
from handmade import cost, made, pairs

LINEAR, SOFTMAX, FFN, HEAD = (
    Component.ATTENTION_LINEAR_IN,
    Component.SOFTMAX_ATTENTION,
    Component.FFN,
    Component.HEAD,
)


def said(diff: Diff, start: str) -> Finding:
    (found,) = (finding for finding in findings(diff) if finding.text.startswith(start))
    return found


def latency(before: dict[Component, float], after: dict[Component, float]) -> Finding:
    return said(Comparison(*timed(before, after)).diff(), "latency")


# Time -----------------------------------------------------------------------------------------------------------------


def test_where_the_gain_came_from():
    # 33 + 22 + 140 = 195 ms; 11 + 22 + 82 = 115 ms: 41.03 % less. 22 is 11.3 % of 195 and 19.1 % of 115.
    found = latency({LINEAR: 33, SOFTMAX: 22, FFN: 140}, {LINEAR: 11, SOFTMAX: 22, FFN: 82})
    assert found.text == (
        "latency -41.03 % [-41.03, -41.03], 1.70 × as fast [1.70, 1.70]: ffn -58.0 ms of -80.0 ms, "
        "attention-linear -22.0 ms; softmax-attention unchanged, now 19 % of the time (was 11 %)"
    )
    assert found.tone == "better"


def test_a_digit_is_printed_only_where_it_is_earned():
    before, after = timed({FFN: 100.0}, {FFN: 59.0})
    after.costs[0].time_ms = after.instrumented_ms = after.end_to_end_ms = [57.0, 59.0, 61.0, 59.0] * 5
    # The sixth of 20 ordered ratios from either end: 0.59 lies on both sides of the middle; 57 and 61 stand 5 times.
    assert said(Comparison(before, after).diff(), "latency").head.startswith("latency -41.00 % [-41.00, -41.00]")
    after.costs[0].time_ms = after.instrumented_ms = after.end_to_end_ms = [57.0, 61.0] * 10
    # In the middle √(0.57 · 0.61) = 0.590, the interval from 0.57 to 0.61: ±2 points.
    assert said(Comparison(before, after).diff(), "latency").head == (
        "latency -41 % [-43, -39], 1.70 × as fast [1.64, 1.75]"
    )


def test_what_went_against_the_rest_is_named():
    found = latency({LINEAR: 10, FFN: 100}, {LINEAR: 20, FFN: 60})
    assert found.detail == "ffn -40.0 ms of -30.0 ms, attention-linear +10.0 ms"


def test_what_is_new_or_gone_is_named():
    found = latency({FFN: 50, HEAD: 50}, {FFN: 50})
    assert found.detail == "head -50.0 ms of -50.0 ms (removed); ffn unchanged, now 100 % of the time (was 50 %)"
    back = latency({FFN: 50}, {FFN: 50, HEAD: 50})
    assert back.text.startswith("latency +100.00 % [+100.00, +100.00], slower: head +50.0 ms of +50.0 ms (new); ffn")
    assert back.tone == "worse"


def test_slower_names_the_row():
    found = said(slower(), "latency")
    assert found.head.endswith(", slower")
    assert found.detail.startswith("ffn +6.2")
    assert found.tone == "worse"


def test_unchanged():
    found = latency({LINEAR: 50, FFN: 50}, {LINEAR: 50.5, FFN: 50})
    assert found.text == "latency unchanged, +0.50 % [+0.50, +0.50]"
    assert found.tone == "plain"


def test_unchanged_in_all_but_not_in_its_parts():
    found = latency({LINEAR: 50, FFN: 50}, {LINEAR: 40, FFN: 60})
    assert found.text.startswith("latency unchanged, +0.00 % [+0.00, +0.00]: ")
    assert "attention-linear -10.0 ms" in found.detail
    assert "ffn +10.0 ms" in found.detail


def noisy(before: float, after: float) -> Diff:
    first, second = timed({FFN: before}, {FFN: after})
    second.costs[0].time_ms = second.instrumented_ms = second.end_to_end_ms = [after * 0.9, after * 1.1] * (ROUNDS // 2)
    return Comparison(first, second).diff()


def test_inconclusive_in_rounds_says_how_to_know_more():
    found = said(noisy(100, 104), "latency")
    # √(93.6 · 114.4) = 103.5
    assert found.head == "latency inconclusive, +3 % [-6, +14] may or may not be beyond ±2 %"
    assert found.detail.endswith("more rounds say more (--until 2%)")
    assert found.tone == "open"


def test_where_the_time_was_up_more_of_it_is_asked_for():
    diff = noisy(100, 104)
    diff.caveats = caveats_of_precision(diff, 0.02)
    assert [caveat.code for caveat in diff.caveats] == ["precision-not-reached"]
    detail = said(diff, "latency").detail
    assert detail.endswith("sampling for longer says more (--max-time)")
    assert "--until" not in detail


def test_one_process_a_side_says_nothing_and_shows_the_way_out():
    before, after = timed({LINEAR: 20.0, FFN: 80.0}, {LINEAR: 20.0, FFN: 60.0})
    before.run = "a"
    found = said(Comparison(before, after).diff(), "latency")
    assert found.head == "latency inconclusive, 100.0 → 80.0 ms (-20.0 %), most of it in ffn (-20.0 ms)"
    assert found.detail == (
        "1 process a side cannot tell a change from chance; measure both with --processes 5, "
        "or give both as models to `bertprof diff`, which then runs them side by side"
    )
    assert found.tone == "open"


def test_inconclusive_across_processes_asks_for_more_of_them():
    before, after = timed({FFN: 100.0}, {FFN: 103.0})
    for side, run in ((before, "a"), (after, "b")):
        factors = [factor for factor in (0.9, 1.0, 1.0, 1.1) for _ in range(5)]
        samples = [x * factor for x, factor in zip(side.costs[0].time_ms or [], factors, strict=True)]
        side.costs[0].time_ms = side.instrumented_ms = side.end_to_end_ms = samples
        side.run, side.processes = run, 4
    found = said(Comparison(before, after).diff(), "latency")
    assert found.detail.endswith("more processes say more than the 4 a side here")


def test_the_same_samples():
    found = said(Comparison(real(), real()).diff(), "latency")
    assert found.text == "latency 102.7 ms on both sides: the very same samples"


def test_not_comparable_names_what_differs():
    before, after = real(), real()
    after.workload.threads = 4
    found = said(Comparison(before, after).diff(), "latency")
    assert found.text == "latency not compared: threads differs; 102.7 ms"
    after.host.torch = "2.8"
    assert "threads, torch differ; " in said(Comparison(before, after).diff(), "latency").text


def test_time_on_one_side_only():
    assert said(Comparison(real(), untimed(real())).diff(), "time").text == "time not compared: none was measured after"
    assert not [f for f in findings(Comparison(untimed(real()), distilled()).diff()) if "time" in f.text]


def test_speed_as_measured():
    # 1 × 8 tokens in 100 ms are 80 tokens/s; in 60 ms 133.3.
    found = said(Comparison(*timed({FFN: 100}, {FFN: 60})).diff(), "as measured")
    assert found.text == (
        "as measured: 100.000 ms [100.000, 100.000] → 60.000 ms [60.000, 60.000]; p95 100.0 → 60.0 ms; "
        "80 → 133 tokens/s"
    )


def test_speed_without_tokens_and_of_few_samples():
    before, after = (made(cost(FFN, 0, [time] * 3), workload={"sequence_length": None}) for time in (4.0, 5.0))
    found = said(Comparison(before, after).diff(), "as measured")
    assert found.text == "as measured: 4.000 ms [4.000, 4.000] → 5.000 ms [5.000, 5.000]"


# Counts ---------------------------------------------------------------------------------------------------------------


def test_bert_against_distilbert():
    diff = Comparison(untimed(real()), distilled()).diff()
    assert said(diff, "parameters").text == (
        "parameters 109.5M → 66.36M (-39.4 %): ffn -50.0 % (-28.33M of -43.12M), attention-linear -50.0 % (-14.17M), "
        "head removed (-590.6k), add-norm -48.0 % (-18.43k), embedding -0.01 % (-1,536); 12 units → 6"
    )
    assert said(diff, "MACs").text.startswith("MACs 11.17G → 5.587G (-50.0 %): ffn -50.0 % (-3.624G of -5.587G), ")
    assert said(diff, "FLOPs").head.startswith("FLOPs 22.43G → 11.2")
    # 437,928,960 / 265,451,520 = 1.6497
    assert said(diff, "weights").text == "weights 437.9 MB → 265.5 MB, 1.65 × smaller"
    assert {finding.tone for finding in findings(diff)} == {"better"}


def test_the_other_way_round():
    diff = Comparison(distilled(), untimed(real())).diff()
    text = said(diff, "parameters").text
    assert "ffn +100.0 % (+28.33M of +43.12M)" in text
    assert "head new (+590.6k)" in text
    assert text.endswith("; 6 units → 12")
    assert said(diff, "weights").text == "weights 265.5 MB → 437.9 MB, 1.65 × as large"


def test_one_parameter_more():
    after = untimed(real())
    after.costs[0].parameters += 1
    found = said(Comparison(untimed(real()), after).diff(), "parameters")
    assert found.detail.endswith("(+1 of +1)")
    assert found.tone == "worse"


def test_what_is_the_same_in_every_row_is_said_once():
    diff = Comparison(real(), real()).diff()
    assert said(diff, "parameters").text == "parameters, bytes, MACs and FLOPs: the same in every row"


def test_zeros():
    def sparse(nonzero: int | None) -> Breakdown:
        return made(cost(FFN, 0, parameters=1000, nonzero_parameters=nonzero))

    def text(before: int | None, after: int | None) -> list[str]:
        found = findings(Comparison(sparse(before), sparse(after)).diff())
        return [finding.text for finding in found if finding.text.startswith("parameters that are not zero")]

    assert text(1000, 400) == ["parameters that are not zero: 100.0 % → 40.0 %"]
    assert text(None, 400) == ["parameters that are not zero: 40.0 % after, before not counted"]
    # As many, unknown, or the few zeros of biases and padding.
    assert text(400, 400) == text(None, None) == text(None, 995) == text(1000, 999) == []


def test_no_kernel_is_no_speed_up():
    def sides(*codes: str) -> tuple[Breakdown, Breakdown]:
        before, after = timed({FFN: 100.0}, {FFN: 80.0})
        after.caveats = [Caveat(code=code, text="x") for code in codes]
        return before, after

    assert said(Comparison(*sides()).diff(), "latency").head.startswith("latency -20.00 %")
    diff = Comparison(*sides("no-kernel")).diff()
    found = said(diff, "latency")
    assert found.text == (
        "latency not compared: no kernel runs the weights of AFTER as they are stored: they were dequantised, and its "
        "time is that of its float model: no speed-up of the narrower weights; 100.0 → 80.0 ms"
    )
    assert found.tone == "open"
    assert "80.000 ms [80.000, 80.000] (no kernel: dequantised); " in said(diff, "as measured").text
    assert not [f for f in findings(diff) if f.text.startswith("why")]
    before, after = sides("no-kernel")
    before.workload.threads = 2
    assert (
        "no speed-up of the narrower weights; threads differs; 80.0 → 100.0"
        in said(Comparison(after, before).diff(), "latency").text
    )
    assert "weights of BEFORE" in said(Comparison(after, before).diff(), "latency").text


def test_what_only_moved_is_the_same_in_total():
    before, after = (
        made(cost(FFN, 0, parameters=ffn), cost(HEAD, parameters=10 - ffn), cost(LINEAR, 0, parameters=1))
        for ffn in (4, 6)
    )
    found = said(Comparison(before, after).diff(), "parameters")
    assert found.text == "parameters 11, the same in total: ffn +50.0 % (+2 of 0), head -33.3 % (-2)"
    assert found.tone == "plain"


def test_units_are_told_where_the_parameters_are_the_same():
    before = made(cost(FFN, None, parameters=5), cost(FFN, 1, macs=4))
    after = made(cost(FFN, None, parameters=5), cost(FFN, 0, macs=4))
    assert findings(Comparison(before, after).diff())[-1].text == "2 units → 1"


def test_counts_of_other_work_are_not_compared():
    before, after = real(), real()
    after.workload.batch_size = 2
    diff = Comparison(before, after).diff()
    assert said(diff, "MACs").text == "MACs not compared: 11.17G"
    assert said(diff, "parameters").text == "parameters and bytes: the same in every row"


def test_a_size_that_came_of_nothing_has_no_ratio():
    diff = Comparison(made(cost(FFN, 0)), made(cost(FFN, 0, parameters=1, parameter_bytes=4))).diff()
    assert not [f for f in findings(diff) if f.text.startswith("weights")]


def test_peak_memory():
    before, after = timed({FFN: 10}, {FFN: 10})
    before.peak_memory_bytes, after.peak_memory_bytes = 1_200_000_000, 900_000_000
    found = said(Comparison(before, after).diff(), "peak")
    assert found.text == "peak memory 1.200 GB → 900.0 MB (-25.0 %)"
    assert found.tone == "better"


# Accuracy -------------------------------------------------------------------------------------------------------------


def test_accuracy_with_the_surveys_ratio():
    sides = untimed(real()), distilled()
    diff = Comparison(*sides).diff(accuracy(*sides, (84.6, 82.2), "MNLI"))
    # 100 · (1 − 265,451,520 / 437,928,960) = 39.38 points; for 2.4 points of accuracy: 16.4
    assert said(diff, "MNLI").text == (
        "MNLI 84.6 → 82.2 (-2.4 points): ΔMS 39.4 points, ΔMS/ΔA 16.4, the points of model size saved for each lost"
    )
    assert said(diff, "MNLI").tone == "worse"


def test_accuracy_that_was_not_lost():
    sides = untimed(real()), distilled()
    diff = Comparison(*sides).diff(accuracy(*sides, (80.0, 81.5), None))
    assert said(diff, "accuracy").text == "accuracy 80 → 81.5 (+1.5 points): ΔMS 39.4 points, no accuracy lost"
    assert said(diff, "accuracy").tone == "better"


@given(pairs())
def test_any_two_records_are_told_of(pair):
    for finding in findings(Comparison(*pair).diff()):
        assert finding.text == " ".join(finding.text.split())
        assert finding.text.isprintable()
        assert len(finding.text) < 1000
