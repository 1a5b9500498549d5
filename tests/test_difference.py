import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bertprof
from bertprof import difference, documents, record, schema
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.difference import Accuracy, Change, Diff, Gate, Outcome
from bertprof.errors import RecordError
from bertprof.record import Breakdown, Caveat
from handmade import cost, made, pairs

REAL = Path(__file__).parent / "data" / "bert-base-uncased.json"


def small() -> Diff:
    before = made(cost(Component.FFN, 0, [3.0] * 8, macs=4), cost(Component.HEAD, None, [1.0] * 8), run="r")
    after = made(cost(Component.FFN, 0, [1.0] * 8, macs=2), run="r", workload={"batch_size": 2})
    diff = Comparison(before, after, ["batch_size"]).diff(caveats=[Caveat(code="noise", text="a neighbour")])
    diff.accuracy = Accuracy(metric="MNLI", before=84.6, after=81.7, size_drop=50.0, size_drop_per_accuracy_drop=17.0)
    diff.command = "bertprof diff a b"
    diff.gates = [gate("failed")]
    return diff


def gate(outcome: Outcome, kind: Any = "fail-on") -> Gate:
    change = Change(before=1.0, after=2.0, change=1.0, ratio=2.0, low=1.9, high=2.1, verdict="slower")
    return Gate(
        kind=kind,
        text="time:+5%",
        origin="command line",
        scope="total",
        metric="time",
        outcome=outcome,
        change=change,
        p_value=0.001,
        reason="total.time is above",
    )


@given(pairs(), st.text(), st.booleans())
def test_any_diff_comes_back_as_it_was(sides: tuple[Breakdown, Breakdown], text: str, gated: bool):
    diff = Comparison(*sides).diff()
    diff.command = text
    diff.gates = [gate("passed")] if gated else []
    assert difference.decode(schema.encode(diff), "d.json") == diff


def test_a_diff_is_read_from_a_file(tmp_path: Path):
    (tmp_path / "d.json").write_bytes(schema.encode(small()))
    assert difference.load(tmp_path / "d.json") == small_at(difference.load(tmp_path / "d.json").created)
    with pytest.raises(RecordError, match=r"cannot read .*No such file"):
        difference.load(tmp_path / "none.json")


def small_at(created: str) -> Diff:
    return msgspec.structs.replace(small(), created=created)


def test_a_diff_stands_one_row_a_line():
    lines = schema.encode(small()).decode().splitlines()
    assert sum(line.startswith('  {"scope":') for line in lines) == len(small().rows)


def test_rows_by_scope_and_level():
    diff = small()
    assert diff.row("unit[0].ffn").metrics["macs"].change == -2
    assert [row.scope for row in diff.at("component")] == ["ffn", "head"]
    assert [row.scope for row in diff.at("unit")] == ["unit[0]", "outside"]
    with pytest.raises(KeyError, match="unit"):
        diff.row("unit[1]")


@pytest.mark.parametrize(
    ("outcomes", "code", "strict"),
    [
        ([], 0, 0),
        (["passed"], 0, 0),
        (["inconclusive", "passed"], 0, 1),
        (["not comparable"], 3, 3),
        (["not comparable", "inconclusive"], 3, 1),
        (["not comparable", "failed"], 1, 1),
        (["failed", "passed"], 1, 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_gate(outcomes: list[Outcome], code: int, strict: int):
    diff = small()
    diff.gates = [gate(outcome) for outcome in outcomes]
    assert (diff.exit_code(), diff.exit_code(strict=True)) == (code, strict)
    diff.gates = [gate(outcome, "warn-on") for outcome in outcomes]
    assert (diff.exit_code(), diff.exit_code(strict=True)) == (0, 0)


# Reading what is none -------------------------------------------------------------------------------------------------


DELETE = object()
UNKNOWN: dict[str, Any] = {
    **dict.fromkeys(("before", "after", "change", "ratio", "low", "high", "share_of_change")),
    "verdict": "n/a",
}


def altered(**changes: Any) -> bytes:
    """The small diff with some fields replaced: a path of keys joined by `__` → value, DELETE to remove it."""
    data = json.loads(schema.encode(small()))
    for path, value in changes.items():
        *parents, last = [int(k) if k.isdecimal() else k for k in path.split("__")]
        place = data
        for key in parents:
            place = place[key]
        if value is DELETE:
            del place[last]
        else:
            place[last] = value
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": "2.0"}, "record version 2.0; this bertprof reads up to 1.2: upgrade it"),
        ({"schema_version": None}, r"no usable schema_version - at `\$.schema_version`"),
        ({"schema": "something.else"}, 'is not a record: no "schema": "bertprof.diff" in it; `bertprof diff -o` makes'),
        ({"rows": []}, r"no row of the total - at `\$.rows`"),
        ({"rows__0__scope": "ffn"}, r"a second row of 'ffn' - at `\$.rows\[2\]`"),
        ({"rows__2__component": None}, r"null in a row of a component - at `\$.rows\[2\].component`"),
        ({"rows__0__metrics__macs__verdict": "better"}, r"Invalid enum value 'better' - at `\$.rows\[0\].metrics"),
        ({"rows__0__metrics__macs__before": None}, r"a change is known where .* - at `\$.rows\[0\].metrics.macs`"),
        ({"rows__0__metrics__macs": {**UNKNOWN, "verdict": "same"}}, r"a ratio or verdict of what .* `\$.rows\[0\]"),
        ({"rows__0__metrics__macs": {**UNKNOWN, "ratio": 1}}, r"a ratio or verdict of what .* `\$.rows\[0\]"),
        ({"rows__0__metrics__time__low": None}, r"half an interval - at `\$.rows\[0\].metrics.time`"),
        ({"rows__0__metrics__time__ratio": 99}, r"a ratio outside of its interval - at `\$.rows\[0\].metrics.time`"),
        ({"rows__0__metrics__time__ratio": None}, r"a ratio outside of its interval - at `\$.rows\[0\].metrics.time`"),
        ({"gates__0__change__ratio": 99}, r"a ratio outside of its interval - at `\$.gates\[0\].change`"),
        ({"gates__0__p_value": 2}, r"<= 1.0 - at `\$.gates\[0\].p_value`"),
        ({"rows__0__metrics__macs__after": 10**30}, r"`\$.rows\[0\].metrics"),
        ({"margin": DELETE}, "missing required field `margin`"),
        ({"caveats": DELETE}, r"missing required field `caveats` - at `\$`"),
    ],
)
def test_an_invalid_diff_is_refused_with_the_path_of_the_field(changes: dict[str, Any], message: str):
    with pytest.raises(RecordError, match=message) as caught:
        difference.decode(altered(**changes), "d.json")
    assert "d.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_stays_short_whatever_the_diff_holds():
    long = "x" * 10**6
    for changes in (
        {"rows__0__scope": long, "rows__1__scope": long},
        {"rows__0__metrics": {long: UNKNOWN | {"ratio": 1}}},
    ):
        with pytest.raises(RecordError) as caught:
            difference.decode(altered(**changes), "d.json")
        assert len(str(caught.value)) < 500


def test_unknown_fields_of_a_newer_minor_version_are_tolerated():
    read = difference.decode(altered(schema_version="1.9", weather="fine"), "d.json")
    assert read.schema_version == "1.2"


# Either kind ----------------------------------------------------------------------------------------------------------


def test_either_kind_of_document_is_read_by_what_it_says(tmp_path: Path):
    path = tmp_path / "d.json"
    path.write_bytes(schema.encode(small()))
    assert isinstance(documents.load_any(path), Diff)
    assert documents.load_any(str(REAL)) == bertprof.load(REAL)


def test_the_one_kind_is_not_taken_for_the_other(tmp_path: Path):
    path = tmp_path / "d.json"
    path.write_bytes(schema.encode(small()))
    with pytest.raises(RecordError, match=r"d\.json is a diff, not the record of one model; `bertprof report` shows"):
        bertprof.load(path)
    with pytest.raises(RecordError, match=r"is the record of one model, not a diff; `bertprof diff` makes one of two"):
        difference.load(REAL)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"[" * 100_000, b"{}", b'{"schema": ["bertprof.diff"]}'])
def test_what_is_neither(tmp_path: Path, content: bytes):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    for load in (record.load, difference.load, documents.load_any):
        with pytest.raises(RecordError, match=r"x\.json is not a record"):
            load(path)
