from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

import bertprof
from bertprof.components import Component
from bertprof.record import Breakdown
from bertprof.survey import claims
from handmade import cost, made
from test_roofline import ATTENTION, LINEAR
from test_roofline import record as roofed

REAL = Path(__file__).parents[1] / "data" / "bert-base-uncased.json"

FIELDS: dict[Component, dict[str, int]] = {
    Component.EMBEDDING: {"parameters": 30, "parameter_bytes": 120, "flops": 1},
    Component.ATTENTION_LINEAR_IN: {"parameters": 30, "parameter_bytes": 120, "macs": 30, "flops": 60},
    Component.SOFTMAX_ATTENTION: {"macs": 2, "flops": 5},
    Component.ATTENTION_LINEAR_OUT: {"parameters": 10, "parameter_bytes": 40, "macs": 10, "flops": 20},
    Component.FFN: {"parameters": 80, "parameter_bytes": 320, "macs": 80, "flops": 160},
}
TIMES = {
    Component.EMBEDDING: 1.0,
    Component.ATTENTION_LINEAR_IN: 25.0,
    Component.SOFTMAX_ATTENTION: 10.0,
    Component.ATTENTION_LINEAR_OUT: 9.0,
    Component.FFN: 55.0,
}


def example(counts: dict[Component, Any] | None = None, times: dict[Component, Any] | None = None) -> Breakdown:
    """A record in which every claim on counts and times holds, with changes. A list of times is one a repeat."""
    fields = {**FIELDS, **(counts or {})}
    samples = {c: t if isinstance(t, list) else [t] * 12 for c, t in {**TIMES, **(times or {})}.items()}
    costs = [cost(c, None, samples[c], **fields[c]) for c in FIELDS]
    return made(*costs)


def answers(breakdown: Breakdown) -> dict[str, str]:
    return {verdict.claim.id: verdict.answer for verdict in claims.check(breakdown)}


def test_all_hold_for_bert_base_as_it_was_measured():
    verdicts = claims.check(bertprof.load(REAL))
    assert {verdict.claim.id: verdict.answer for verdict in verdicts} == {
        "ffn-memory": "yes",
        "ffn-flops": "yes",
        "word-table": "yes",
        "embedding-macs": "yes",
        "attention-weightless": "yes",
        "linear-before-after": "yes",
        "attention-dearer": "yes",
        "embedding-time": "yes",
        "ffn-bottleneck": "yes",
    }
    measured = {verdict.claim.id: verdict.measured for verdict in verdicts}
    # 30,522 · 768 of 109,482,240
    assert measured["word-table"] == "23,440,896 of 109,482,240 parameters: 21.4 %"
    assert measured["linear-before-after"] == "3.00 × the parameters, 3.00 × the MACs"


def test_without_time_the_claims_on_time_are_not_judged():
    breakdown = bertprof.load(REAL)
    breakdown.instrumented_ms = breakdown.end_to_end_ms = None
    for each in breakdown.costs:
        each.time_ms = None
    found = answers(breakdown)
    assert [name for name, answer in found.items() if answer == "not measured"] == [
        "attention-dearer",
        "embedding-time",
        "ffn-bottleneck",
    ]


FFN_SMALL = {Component.FFN: {"parameters": 20, "parameter_bytes": 80, "macs": 20, "flops": 40}}


@pytest.mark.parametrize(
    ("counts", "times", "claim", "answer"),
    [
        ({}, {}, "ffn-memory", "yes"),
        (FFN_SMALL, {}, "ffn-memory", "no"),
        (FFN_SMALL, {}, "ffn-flops", "no"),
        ({Component.EMBEDDING: {"macs": 1}}, {}, "embedding-macs", "no"),
        ({Component.SOFTMAX_ATTENTION: {"parameters": 1, "flops": 5}}, {}, "attention-weightless", "no"),
        ({Component.SOFTMAX_ATTENTION: {}}, {}, "attention-weightless", "no"),
        ({Component.ATTENTION_LINEAR_OUT: {"parameters": 15, "macs": 10}}, {}, "linear-before-after", "no"),
        ({Component.ATTENTION_LINEAR_OUT: {}}, {}, "linear-before-after", "no"),
        ({}, {Component.SOFTMAX_ATTENTION: 0.5}, "attention-dearer", "no"),
        ({}, {Component.SOFTMAX_ATTENTION: [0.0, 5.0] * 6}, "attention-dearer", "undecided"),
        ({}, {Component.EMBEDDING: 0.0}, "embedding-time", "no"),
        ({}, {Component.EMBEDDING: 20.0}, "embedding-time", "no"),
        ({}, {Component.EMBEDDING: [0.0, 18.0] * 6}, "embedding-time", "undecided"),
        ({}, {Component.FFN: 8.0}, "ffn-bottleneck", "no"),
        ({}, {Component.FFN: [0.0, 50.0] * 6}, "ffn-bottleneck", "undecided"),
        # two others share the lead: whichever it is, it is not the FFN
        ({}, {Component.FFN: 5.0, Component.SOFTMAX_ATTENTION: 25.0}, "ffn-bottleneck", "no"),
    ],
)
def test_a_claim_that_does_not_hold_is_shown_as_such(
    counts: dict[Component, Any], times: dict[Component, Any], claim: str, answer: str
):
    assert answers(example(counts, times))[claim] == answer


def test_what_makes_attention_dearer_is_said_where_the_peaks_are_known():
    def said(breakdown: Breakdown) -> str:
        return next(v.measured for v in claims.check(breakdown) if v.claim.id == "attention-dearer")

    breakdown = roofed(ATTENTION, LINEAR)
    # 40 % of the time over 2.5 % of the FLOPs: 16 times, which is 40 over 2.5 GFLOP/s.
    assert said(breakdown) == (
        "40.0 % [40.0, 40.0] of the time, 2.5 % of the FLOPs: 16.0 × its share; memory-bound, at 1.00 FLOP/byte: 2.50 "
        "of the 40.0 GFLOP/s that its roof allows, the whole model 40.0 of 96.4; its roof is 2.41 × lower and "
        "it is 6.64 × further below its roof"
    )
    breakdown.peaks = None
    assert said(breakdown) == "40.0 % [40.0, 40.0] of the time, 2.5 % of the FLOPs: 16.0 × its share"


def test_figure2_prints_the_finding_with_its_cause(run: Callable[..., Result], tmp_path: Path):
    roofed(ATTENTION, LINEAR).save(tmp_path / "r.json")
    shown = " ".join(run("survey", "figure2", "--record", "r.json").stdout.split())
    assert "far below its roof" in shown
    assert "memory-bound, at 1.00 FLOP/byte" in shown


def test_what_the_record_does_not_tell_is_not_measured():
    assert answers(example())["word-table"] == "not measured"
    assert len(answers(made())) == len(claims.CLAIMS)


def test_claims_are_distinct_and_name_their_section():
    assert len({claim.id for claim in claims.CLAIMS}) == len(claims.CLAIMS) == 9
    assert {claim.section for claim in claims.CLAIMS} == {"2", "3.4"}
