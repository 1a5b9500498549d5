from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given

from bertprof import comparison, documents, session
from bertprof.components import Component
from bertprof.compress.methods import COLUMNS as DESCRIBED
from bertprof.record import Breakdown
from bertprof.survey import methods, table1
from bertprof.survey.approaches import APPROACHES
from bertprof.survey.methods import Methods, Row
from bertprof.survey.table1 import COLUMNS, PRINTED, REASONS, TARGETS, UNKNOWN, Cell
from handmade import pairs
from surveyed import BASE, EMBEDDING, FFN, LINEARS, MODELS, SOFTMAX, by_hand, measured, model, row

REPORTS = Path(__file__).parents[2] / "reports"

# What is printed ------------------------------------------------------------------------------------------------------


def test_the_marks_are_those_of_the_text_in_its_order():
    # Table 1 of arXiv 2002.11985v1 as its text has it, the columns lost; one 4 of the embedding may stand in three.
    assert COLUMNS == ("DQ", "PR-EP", "PR-SP", "KD-EO", "KD-OL", "KD-AM", "AIC-PS", "AIC-EMC", "AIC-AD")
    raw = {"embedding": "X44?", "self-attention": "XX4444X", "FFN": "XX44", "Transformer": "44X"}
    for target, printed in PRINTED.items():
        assert set(printed) <= set(COLUMNS)
        found = "".join(printed[column] for column in COLUMNS if printed.get(column, UNKNOWN) != UNKNOWN)
        assert found + "?" * (UNKNOWN in printed.values()) == raw[target]
    assert [column for column in COLUMNS if PRINTED["embedding"].get(column) == UNKNOWN] == [
        *("KD-OL", "KD-AM", "AIC-PS")
    ]


def test_the_note_on_the_legend_is_about_these_marks():
    marks = {(c, mark) for printed in PRINTED.values() for c, mark in printed.items() if mark != UNKNOWN}
    assert {column for column, mark in marks if mark == "X"} == {"DQ", "PR-EP", "KD-OL", "AIC-AD"}
    assert {column for column, mark in marks if mark == "4"} == {"PR-SP", "KD-EO", "KD-AM", "AIC-PS", "AIC-EMC"}
    said = " ".join(table1.NOTES)
    assert "X stands where a task's data do (DQ, PR-EP, KD-OL, AIC-AD)" in said
    assert "(KD-EO, KD-AM, AIC-PS, AIC-EMC, LayerDrop)" in said


def test_every_column_has_a_method_that_runs():
    for column in DESCRIBED:
        assert [each for each in APPROACHES if column in each.columns and each.model and not each.apart], column


# What changes ---------------------------------------------------------------------------------------------------------


def changed(name: str) -> dict[str, str]:
    """What a method by hand changes: its letters with their signs, a row of the table."""
    signs = {"less": "-", "more": "+", "both": "±"}
    found = {target: table1.changes(measured(MODELS[name]), target) for target in TARGETS}
    return {
        target: " ".join(f"{letter}{signs[way]}" for letter, way in own.items()) for target, own in found.items() if own
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Q8BERT", {"embedding": "B-", "self-attention": "B- T-", "FFN": "B- T-"}),
        ("Q-BERT", {"embedding": "B-", "self-attention": "B-", "FFN": "B-"}),  # executed dequantised: no time
        ("Gordon", {"embedding": "P- B-", "self-attention": "P- B-", "FFN": "P- B-"}),  # zeros are no weights
        ("RPP", {"self-attention": "P- B-", "FFN": "P- B-"}),
        ("Michel", {"self-attention": "P- B- M- T-"}),
        (
            "LayerDrop",
            {"self-attention": "P- B- M- T-", "FFN": "P- B- M- T-", "Transformer": "P- B- M- T-"},
        ),
        # Four units of half the FFN: as many weights there, of work twice.
        (
            "MobileBERT",
            {
                "embedding": "P- B- T+",
                "self-attention": "P+ B+ M+ T+",
                "FFN": "M+ T+",
                "Transformer": "P+ B+ M+ T+",
            },
        ),
        # No units: 560 parameters of them gone, 80 come.
        (
            "Tang b",
            {"self-attention": "P- B- M- T-", "FFN": "P- B- M- T-", "Transformer": "P- B- M- T±"},
        ),
        ("ALBERT's sharing", {"self-attention": "P- B-", "FFN": "P- B-"}),
        ("Zhao's vocabulary", {"embedding": "P- B-"}),
        ("DeFormer", {"self-attention": "M- T-"}),
    ],
)
def test_what_a_method_changes(name: str, expected: dict[str, str]):
    assert changed(name) == expected


def test_only_a_sure_change_of_the_time_counts():
    unsure = model()
    series = next(each for each in unsure.costs if each.component is EMBEDDING).time_ms
    assert series is not None
    series[:] = [1.0, 4.0] * 10
    assert table1.changes(measured(unsure), "embedding") == {}
    assert table1.changes(measured(model({EMBEDDING: {"time": 1.01}})), "embedding") == {}
    assert table1.changes(measured(model({EMBEDDING: {"time": 1.1}})), "embedding") == {"T": "more"}


def test_another_width_is_no_other_backbone():
    found = measured(model({each: {"parameters": 0.1, "macs": 0.1} for each in (*LINEARS, SOFTMAX)}))
    assert table1.changes(found, "Transformer") == {}
    assert table1.changes(found, "FFN") == {"P": "less", "B": "less", "M": "less"}
    # As many units, and a convolution beside them: another backbone.
    other = measured(model(added={Component.CONVOLUTION: (1, 10, 1.0)}))
    assert table1.changes(other, "Transformer") == {"P": "more", "B": "more", "M": "more", "T": "more"}


def test_without_time_there_is_no_t():
    for cell in table1.cells(by_hand(time=False)):
        assert "T" not in cell.found


@given(pairs())
def test_counts_change_exactly_where_they_differ(both: tuple[Breakdown, Breakdown]):
    before, after = both
    assume(all(before.total(count) for count in ("parameters", "parameter_bytes", "macs")))
    found = methods.measured_of(comparison.Comparison(before, after).diff())
    for target in ("embedding", "self-attention", "FFN"):
        changes = table1.changes(found, target)  # type: ignore[arg-type]
        for letter, field in (("B", "parameter_bytes"), ("M", "macs")):
            old, new = (
                sum(getattr(c, field) for c in side.of(*TARGETS[target]))  # type: ignore[index]
                for side in both
            )
            assert changes.get(letter) == (None if old == new else "less" if new < old else "more")  # type: ignore[call-overload]
    if before.units == after.units and not after.of(Component.RECURRENT, Component.CONVOLUTION):
        assert table1.changes(found, "Transformer") == {}


# The table ------------------------------------------------------------------------------------------------------------


def cell(document: Methods, target: str, column: str) -> Cell:
    return next(each for each in table1.cells(document) if (each.target, each.column) == (target, column))


def test_cells_by_hand():
    document = by_hand()
    assert len(table1.cells(document)) == 4 * 9
    found = cell(document, "embedding", "PR-EP")
    assert (found.printed, "".join(found.found), found.methods, found.agrees) == ("", "PB", ["Gordon"], False)
    assert "Gordon prunes the word embeddings" in found.reason
    found = cell(document, "self-attention", "PR-SP")
    assert (found.printed, "".join(found.found), found.agrees) == ("4", "PBMT", True)
    assert found.methods == ["Michel", "LayerDrop"]
    # Neither prints nor changes.
    assert cell(document, "Transformer", "DQ").agrees is True
    # A mark of unknown place neither agrees nor disagrees.
    assert cell(document, "embedding", "KD-OL").agrees is None
    # LayerDrop has less, a pruned head none of it: both letters stand for themselves.
    assert cell(document, "FFN", "PR-SP").found == dict.fromkeys("PBMT", "less")


def test_directions_that_differ_are_both():
    document = by_hand()
    row(document, "TinyBERT4").measured = measured(model(units=1))
    found = cell(document, "FFN", "KD-AM").found
    assert found == {"P": "less", "B": "less", "M": "both", "T": "both"}  # MobileBERT: as many weights, more work


def test_a_method_that_stands_apart_counts_in_no_column():
    document = by_hand()
    # ALBERT as a whole changes the embedding; sharing alone does not, and so nor does its column.
    assert table1.changes(measured(MODELS["ALBERT"]), "embedding")
    assert cell(document, "embedding", "AIC-PS").found == {}
    assert cell(document, "self-attention", "AIC-EMC").found == {}
    assert {each.name for each in APPROACHES if each.apart} == {"ALBERT", "DeFormer, cached"}


def test_a_column_of_which_nothing_was_measured_says_nothing():
    document = by_hand()
    row(document, "DeFormer").measured = None
    assert [each.agrees for each in table1.cells(document) if each.column == "AIC-AD"] == [None] * 4
    assert not [each for each in table1.disagreements(document) if each.column == "AIC-AD"]


def test_a_mark_where_nothing_changes_disagrees():
    document = by_hand()
    row(document, "Michel").measured = row(document, "LayerDrop").measured = measured(BASE)
    found = {(each.target, each.column): each for each in table1.disagreements(document)}
    assert found["self-attention", "PR-SP"].printed == "4"
    assert found["self-attention", "PR-SP"].found == {}
    assert ("FFN", "PR-SP") not in found


def test_time_alone_has_a_reason_of_its_own():
    document = by_hand()
    row(document, "Michel").measured = measured(model({EMBEDDING: {"time": 0.5}, FFN: {"time": 0.5}}))
    row(document, "LayerDrop").measured = None
    found = {each.target: each for each in table1.disagreements(document) if each.column == "PR-SP"}
    assert found["embedding"].reason == found["FFN"].reason == table1.TIME_ALONE


@pytest.fixture(scope="module")
def counted() -> Methods:
    return session.survey_table1(time=False)


@pytest.mark.slow
@pytest.mark.xdist_group("table1")
def test_every_disagreement_of_the_real_methods_has_its_reason(counted: Methods):
    assert not [(each.name, each.failed) for each in counted.rows if each.failed]
    assert {(each.target, each.column) for each in table1.disagreements(counted)} == set(REASONS)
    assert all(table1.UNEXPLAINED not in each.reason for each in table1.disagreements(counted))
    assert all(each.measured for each in table1.cells(counted))


@pytest.mark.slow
@pytest.mark.xdist_group("table1")
def test_what_is_published_has_the_counts_of_today(counted: Methods):
    published = documents.load_any(REPORTS / "methods-cpu" / "methods.html")
    assert isinstance(published, Methods)
    assert published.timed
    assert {each.name: counts(each) for each in published.rows} == {each.name: counts(each) for each in counted.rows}


def counts(each: Row) -> dict[str, Any] | None:
    """Parameters, bytes and MACs of a method and of BERT-base, as a whole and by component."""
    if each.measured is None:
        return None
    parts = {str(part.component): part.metrics for part in each.measured.parts}
    return {
        scope: [(metrics[name].before, metrics[name].after) for name in ("parameters", "bytes", "macs")]
        for scope, metrics in {"total": each.measured.total, **parts}.items()
        if any(metrics[name].before or metrics[name].after for name in ("parameters", "bytes", "macs"))
    }


@pytest.mark.slow
@pytest.mark.xdist_group("table1")
def test_what_the_reasons_say_is_so(counted: Methods):
    found = {(each.target, each.column): each for each in table1.disagreements(counted)}
    assert found["embedding", "PR-EP"].methods == ["Gordon"]
    assert found["FFN", "PR-SP"].methods == ["LayerDrop"]
    assert found["Transformer", "KD-AM"].methods == ["MobileBERT", "TinyBERT4"]
    units = {each.name: each.measured.units_after for each in counted.rows if each.measured}
    assert (units["MobileBERT"], units["TinyBERT4"]) == (24, 4)


@pytest.mark.slow
@pytest.mark.xdist_group("table1")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Q8BERT", ["B", "B", "B", ""]),
        ("Q-BERT", ["B", "B", "B", ""]),
        ("Gordon", ["PB", "PB", "PB", ""]),
        ("RPP", ["", "PB", "PB", ""]),
        ("Michel", ["", "PBM", "", ""]),
        ("Raganato", ["", "PBM", "", ""]),
        ("LayerDrop", ["", "PBM", "PBM", "PBM"]),
        ("BERT-PKD", ["", "PBM", "PBM", "PBM"]),
        ("DistilBERT", ["PB", "PBM", "PBM", "PBM"]),  # it has no segments
        ("TinyBERT4", ["PB", "PBM", "PBM", "PBM"]),
        ("Zhao", ["PB", "PBM", "PBM", ""]),  # as many units, of another width
        ("Tang b", ["PB", "PBM", "PBM", "PBM"]),
        ("AdaBERT", ["PB", "PBM", "PBM", "PBM"]),
        ("ALBERT's sharing", ["", "PB", "PB", ""]),
        ("ALBERT's factors", ["PBM", "", "", ""]),
        ("Zhao's vocabulary", ["PB", "", "", ""]),
        ("DeFormer", ["", "M", "", ""]),
    ],
)
def test_the_real_methods(counted: Methods, name: str, expected: list[Any]):
    own = table1.own_changes(row(counted, name))
    assert own is not None
    assert ["".join(own[target]) for target in TARGETS] == expected
