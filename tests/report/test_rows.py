from pathlib import Path

import pytest

import bertprof
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.report import rows
from test_record import cost, made

REAL = Path(__file__).parents[1] / "data" / "bert-base-uncased.json"


@pytest.mark.parametrize("by", rows.VIEWS)
def test_rows_of_every_view_sum_to_the_whole(by: str):
    breakdown = bertprof.load(REAL)
    table, total = rows.table(breakdown, by), rows.total(breakdown)
    for field in ("parameters", "macs", "flops"):
        assert sum(getattr(row, field) for row in table) == getattr(total, field)
    assert sum(row.parameters_share for row in table) == pytest.approx(1)
    if by != "module":
        assert sum(row.bytes or 0 for row in table) == total.bytes
        assert total.time_ms is not None
        assert sum(row.time_ms.value for row in table if row.time_ms) == pytest.approx(total.time_ms.value)


def test_labels_and_their_order():
    breakdown = bertprof.load(REAL)
    labels = {by: [row.label for row in rows.table(breakdown, by)] for by in ("group", "component", "unit")}
    assert labels["group"] == ["embedding", "attention-linear", "softmax-attention", "ffn", "rest"]
    assert labels["component"] == [str(c) for c in Component if breakdown.of(c)]
    assert labels["unit"] == [f"unit {i}" for i in range(12)] + ["outside the units"]


def test_what_costs_nothing_is_not_shown():
    breakdown = made([cost(Component.FFN, 0, parameters=1), cost(Component.OTHER)])
    assert [row.label for row in rows.table(breakdown, "component")] == ["ffn"]


def test_modules_without_cost_are_left_out_and_those_above_cost_are_kept():
    labels = [row.label for row in rows.table(bertprof.load(REAL), "module")]
    assert "encoder.layer.3.attention" in labels
    assert "encoder.layer.3.attention.self.query" in labels
    assert not any("dropout" in label for label in labels)


def test_views_that_there_are_not():
    with pytest.raises(UsageError, match="no view by 'colour'"):
        rows.table(bertprof.load(REAL), "colour")
    with pytest.raises(UsageError, match="holds no modules"):
        rows.table(made([]), "module")


def test_the_answer_in_a_sentence():
    parts = {
        Component.FFN: ({"flops": 60}, [6.0]),
        Component.SOFTMAX_ATTENTION: ({"flops": 10}, [3.0]),
        Component.HEAD: ({"flops": 30}, [1.0]),
    }
    timed = made([cost(c, None, time, **counts) for c, (counts, time) in parts.items()], instrumented=[10.0])
    assert rows.headline(timed) == (
        "ffn takes 60 % of the time and does 60 % of the FLOPs; softmax-attention takes 3.0 × its share of FLOPs."
    )
    counted = made([cost(c, None, None, **counts) for c, (counts, _) in parts.items()])
    assert rows.headline(counted) == "ffn does 60 % of the FLOPs."
    assert rows.headline(made([])) == "The record is empty."


def test_lines_beside_the_table():
    breakdown = bertprof.load(REAL)
    assert rows.workload_line(breakdown) == "1 × 128 tokens, float32, sdpa, cpu, 2 threads, random weights"
    assert "torch 2.13.0" in rows.host_line(breakdown)
    first, second = rows.timing_lines(breakdown)
    assert first.startswith("end to end ")
    assert "tokens/s" in first
    assert second.startswith("marks (wrappers, host clock) cost ")
    assert rows.timing_lines(made([])) == []
    assert rows.workload_line(made([])) == "2 × 8 tokens, float32, sdpa, counted, not timed"
