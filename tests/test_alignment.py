"""Which unit of one side stands beside which of the other where a recipe dropped some."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertprof
from bertprof import record
from bertprof.alignment import correspond
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.record import Breakdown
from handmade import cost, made

FFN, HEAD = Component.FFN, Component.HEAD


def kept(*units: int, model: str = "m", **fields: Any) -> Breakdown:
    """A record of what a recipe left of a model whose unit u has 100 + u MACs."""
    costs = [cost(FFN, place, macs=100 + unit) for place, unit in enumerate(units)]
    found = made(*costs, cost(HEAD, macs=5), kept_units=list(units), **fields)
    found.workload.model = model
    return found


def whole(count: int, model: str = "m") -> Breakdown:
    found = kept(*range(count), model=model)
    found.kept_units = None
    return found


def verdicts(before: Breakdown, after: Breakdown) -> dict[str, str]:
    """Scope of a unit → what became of its MACs."""
    compared = Comparison(before, after)
    rows = {row.scope: row for row in compared.diff().at("unit")}
    return {scope: row.metrics["macs"].verdict for scope, row in rows.items()}


def test_units_that_stayed_stand_beside_themselves():
    assert verdicts(whole(4), kept(0, 2)) == {
        "unit[0]": "same",
        "unit[1]": "removed",
        "unit[2]": "same",
        "unit[3]": "removed",
        "outside": "same",
    }
    assert set(verdicts(kept(1, 3), whole(4)).values()) == {"new", "same"}
    assert verdicts(kept(0, 1), kept(1, 2)) == {
        "unit[0]": "removed",
        "unit[1]": "same",
        "unit[2]": "new",
        "outside": "same",
    }
    compared = Comparison(whole(4), kept(0, 2))
    assert compared.mismatches == []
    assert compared.diff().caveats == []
    assert [part.unit for part in compared.parts if part.level == "cell"] == [0, 1, 2, 3, None]
    part = compared.part("unit[2].ffn")
    assert part is not None
    assert [c.unit for c in (*part.before, *part.after)] == [2, 1]


def test_units_of_another_model_stand_beside_their_own_index_or_alone():
    by_index = {"unit[0]": "smaller", "unit[1]": "smaller", "outside": "same"}  # 101 → 100 and 103 → 101
    assert verdicts(kept(1, 3), whole(2, model="n")) == by_index
    compared = Comparison(whole(4, model="n"), kept(0, 2))
    assert [(m.key, m.before, m.after) for m in compared.mismatches] == [("units", "4", "2")]
    assert set(verdicts(whole(4, model="n"), kept(0, 2))) >= {"unit[0]", "after.unit[0]"}
    other = kept(0, 2)
    other.workload.config_sha256 = "1"
    assert correspond(whole(4), other) is None
    # As many units as there are indices, but none of the last: it is not the model that they are of.
    assert correspond(whole(3), kept(0, 3)) is None
    assert correspond(whole(4), whole(3)) is None


def test_as_asked_they_stand_beside_their_own_index():
    compared = Comparison(whole(4, model="n"), kept(0, 2), ["units"])
    assert [part.scope for part in compared.parts if part.level == "unit"] == [
        *(f"unit[{unit}]" for unit in range(4)),
        "outside",
    ]
    part = compared.part("unit[1].ffn")
    assert part is not None
    assert [c.macs for c in (*part.before, *part.after)] == [101, 102]


@given(st.integers(1, 12), st.data())
def test_every_unit_stands_once_and_beside_itself(count: int, data: st.DataObject):
    units = st.lists(st.integers(0, count - 1), min_size=1, unique=True).map(sorted)
    before, after = (whole(count) if data.draw(st.booleans()) else kept(*data.draw(units)) for _ in range(2))
    compared = Comparison(before, after)
    assert compared.mismatches == []
    cells = [part for part in compared.parts if part.level == "cell" and part.unit is not None]
    assert {part.unit for part in cells} == {
        unit for side in (before, after) for unit in (side.kept_units or range(count))
    }
    for part in cells:
        assert part.scope == f"unit[{part.unit}].ffn"
        assert {c.macs for c in part.costs} == {100 + (part.unit or 0)}
    back = record.decode(record.encode(after), "a.json")
    assert back == after


def test_a_model_and_what_a_recipe_leaves_of_it(folder: Any):
    path = folder("bert", num_hidden_layers=4)
    before, after = (
        bertprof.breakdown(str(path), recipes=recipes, time=False, sequence_length=8) for recipes in ([], ["layers=2"])
    )
    assert (before.kept_units, after.kept_units) == (None, [0, 2])
    diff = bertprof.diff(before, after, fail_on="unit[*].macs:+0", budget="unit[3].ffn.macs:0")
    assert diff.mismatches == []
    assert [(gate.scope, gate.outcome) for gate in diff.gates] == [
        *((f"unit[{unit}]", "passed") for unit in range(4)),
        ("unit[3].ffn", "passed"),
    ]
    row = diff.row("unit[2].ffn").metrics["macs"]
    assert (row.before, row.after, row.verdict) == (2 * 8 * 32 * 64, 2 * 8 * 32 * 64, "same")
    assert diff.row("unit[3]").metrics["parameters"].verdict == "removed"
    assert "single units do not correspond" not in diff.text()


def test_old_records_have_none():
    data = Path(__file__).parent / "data" / "bert-base-uncased.json"
    assert bertprof.load(data).kept_units is None
    with pytest.raises(KeyError):
        Comparison(bertprof.load(data), bertprof.load(data)).diff().row("after.unit[0]")
