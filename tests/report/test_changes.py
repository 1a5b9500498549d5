"""What is shown of a Diff before it is formatted: rows, columns, cells."""

import pytest
from compared import distilled, real, slower, timed, untimed
from hypothesis import given

from bertprof.comparison import SHARE, Comparison
from bertprof.components import Component
from bertprof.difference import Change, Diff
from bertprof.errors import UsageError
from bertprof.report import changes
from bertprof.report.changes import Column
from handmade import cost, made, pairs


def headers(diff: Diff, by: str = "component", wide: bool = False) -> list[str]:
    return [column.header for column in changes.columns(diff, by, wide)]


@pytest.fixture
def smaller() -> Diff:
    return Comparison(untimed(real()), distilled()).diff()


def test_views(smaller: Diff):
    labels = {by: [changes.label(row) for row in changes.table(smaller, by)] for by in changes.VIEWS}
    assert labels["group"] == ["embedding", "attention-linear", "softmax-attention", "ffn", "rest"]
    # `other` has a row in both records and costs nothing in either.
    assert labels["component"] == [str(c) for c in Component if c in changed_components(smaller)]
    assert "other" not in labels["component"]
    assert labels["unit"][:2] == ["unit[0]", "unit[1]"]
    assert labels["unit"][12:] == [*(f"after.unit[{i}]" for i in range(6)), "outside"]
    assert "unit[3].ffn" in labels["cell"]
    with pytest.raises(UsageError, match="'module': use one of group, component, unit, cell"):
        changes.table(smaller, "module")


def changed_components(diff: Diff) -> set[Component]:
    return {row.component for row in diff.at("component") if row.component and row.metrics["flops"].before}


@pytest.mark.parametrize("by", ["component", "unit", "cell", "group"])
def test_changes_of_rows_sum_to_that_of_the_total(by: str, smaller: Diff):
    for metric in ("parameters", "bytes", "macs", "flops"):
        parts = [row.metrics[metric].change or 0 for row in changes.table(smaller, by)]
        assert sum(parts) == smaller.row("total").metrics[metric].change
        shares = [changes.share(smaller, row, metric) or 0.0 for row in changes.table(smaller, by)]
        assert sum(shares) == pytest.approx(1)


def test_columns_are_those_that_tell_something(smaller: Diff):
    # Bytes are four times the parameters everywhere.
    of = ["parameters", "Δ params", "of Δ", "MACs", "Δ MACs", "of Δ", "FLOPs", "Δ FLOPs", "of Δ"]
    assert headers(smaller) == of
    assert "bytes" in headers(smaller, wide=True)
    # Counts that are the same in every row have no column, times always have.
    assert headers(slower()) == ["time ms", "Δ time", "of Δ", "verdict"]
    assert headers(slower(), wide=True)[4:6] == ["time share", "parameters"]
    # Where nothing changed there is still something to show.
    assert headers(Comparison(untimed(real()), untimed(real())).diff()) == ["parameters", "Δ params"]


def test_bytes_have_a_column_where_they_change_alone():
    after = untimed(real())
    for each in after.of(Component.FFN):
        each.parameter_bytes //= 4
    assert headers(Comparison(untimed(real()), after).diff()) == ["bytes", "Δ bytes", "of Δ"]


def cells(diff: Diff, scope: str, exact: bool = False) -> dict[str, str]:
    row = diff.row(scope)
    return {
        f"{column.metric} {column.kind}": changes.cell(diff, row, column, exact)
        for column in changes.columns(diff, "component", wide=True)
    }


def test_cells_of_counts(smaller: Diff):
    embedding = cells(smaller, "embedding")
    assert embedding["parameters figures"] == "23.84M → 23.83M"
    # 1,536 of 23,835,648 is 0.0064 %, not nothing.
    assert embedding["parameters change"] == "-0.01 %"
    assert embedding["macs change"] == "same"
    assert embedding["macs figures"] == "0"
    assert cells(smaller, "embedding", exact=True)["parameters figures"] == "23,835,648 → 23,834,112"
    ffn = cells(smaller, "ffn")
    assert ffn["macs figures"] == "7.248G → 3.624G"
    assert ffn["macs change"] == "-50.0 %"
    # 28,334,592 of 43,119,360
    assert ffn["parameters share"] == "66 %"
    assert ffn["bytes figures"] == "226.7 MB → 113.3 MB"
    assert cells(smaller, "head")["parameters change"] == "removed"
    assert cells(smaller, "total")["parameters share"] == "100 %"


def test_cells_of_times():
    diff = slower()
    ffn, change = cells(diff, "ffn"), diff.row("ffn").metrics["time"]
    assert change.low == pytest.approx(1.1)
    assert ffn["time change"] == "+10.00 % [+10.00, +10.00]"
    assert ffn["time verdict"] == "slower"
    assert change.before is not None
    assert change.after is not None
    assert ffn["time figures"] == f"{change.before:.1f} → {change.after:.1f}"
    assert ffn["share(time) figures"].startswith("60.3 % → ")
    assert cells(diff, "head")["time verdict"] == "same"


def test_of_what_is_not_comparable_only_the_figures_are_shown():
    before, after = real(), real()
    after.workload.sequence_length = 64
    diff = Comparison(before, after).diff()
    ffn = cells(diff, "ffn")
    assert ffn["time change"] == ffn["macs change"] == "–"
    assert ffn["time verdict"] == "n/a"
    assert ffn["macs figures"] == "7.248G"


def change(verdict: str, **fields: float | None) -> Change:
    figures: dict[str, float | None] = {"before": 1, "after": 2, "change": 1, "ratio": 2.0, **fields}
    return Change(**figures, verdict=verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        (change("larger"), "+100.0 %"),
        (change("larger", before=0, ratio=None), "larger"),
        (change("n/a"), "–"),
        (change("n/a", before=None, change=None), "–"),
        (change("new", before=0, ratio=None), "new"),
        (change("removed", before=0, after=0, change=0, ratio=None), "same"),
        (change("inconclusive", ratio=1.03, low=0.95, high=1.11), "+3 % [-5, +11]"),
        (change("inconclusive"), "+100.0 %"),
        (change("same", after=1, change=0, ratio=1.0), "same"),
        (change("same", ratio=1.001, low=0.999, high=1.003), "+0.1 % [-0.1, +0.3]"),
    ],
)
def test_a_change_in_percent(given_: Change, text: str):
    assert changes.relative(given_) == text


@pytest.mark.parametrize(
    ("metric", "given_", "text"),
    [
        ("flops", change("smaller", after=0.5, ratio=0.5), "-50.0 %"),
        ("flops", change("removed", after=0, ratio=0.0), "removed"),
        ("flops", change("larger", before=0, ratio=None), "larger"),
        ("flops", change("same", after=1, change=0, ratio=1.0), "same"),
        # No more digits than the interval earns: it is 12 points wide.
        ("time", change("slower", ratio=1.097, low=1.03, high=1.15), "+10 %, slower"),
        ("time", change("faster", ratio=0.9, low=0.8995, high=0.9005), "-10.00 %, faster"),
        ("energy", change("smaller", ratio=0.5, low=0.4, high=0.6), "-50 %, smaller"),
        # The percentage only where it is sure.
        ("time", change("inconclusive", ratio=1.03, low=0.95, high=1.11), "inconclusive"),
        ("time", change("same", ratio=1.001, low=0.999, high=1.003), "same"),
        ("time", change("new", before=0, ratio=None), "new"),
        ("time", change("n/a"), "not compared"),
        ("bytes", change("n/a", before=None, change=None), "not compared"),
    ],
)
def test_a_change_in_a_few_characters(metric: str, given_: Change, text: str):
    assert changes.brief(given_, metric) == text


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (-58.1, "time", "-58.1 ms"),
        (0.32, "energy", "+0.32 mJ"),
        (0, "time", "0 ms"),
        (-0.001, "device_time", "0.00 ms"),
        (0.001, "time", "0.00 ms"),
        (0, "flops", "0"),
        (-0.4, "flops", "0"),
        (1536, "parameters", "+1,536"),
        (0, "bytes", "0 B"),
        (-172.5e6, "bytes", "-172.5 MB"),
    ],
)
def test_what_rounds_to_nothing_has_no_sign(value: float, metric: str, text: str):
    assert changes.signed(value, metric) == text


def test_a_metric_has_one_name():
    assert [changes.header(metric) for metric in changes.MEASURED] == ["time ms", "GPU time ms", "energy mJ"]
    assert [changes.title(metric) for metric in ("time", "device_time", "bytes", "flops")] == [
        *("Time", "GPU time", "Bytes", "FLOPs")
    ]
    # As on the page of a breakdown.
    assert {"parameters", "bytes", "MACs", "FLOPs", "time", "GPU time", "energy", "traffic"} <= {
        *changes.NAMES.values()
    }


def test_what_moved_is_what_the_evidence_says():
    # Drift made 10 of 8; the rounds say that it became faster.
    drifted = change("faster", before=8.0, after=10.0, change=2.0, ratio=0.5, low=0.4, high=0.6)
    assert changes.moved(drifted) == pytest.approx(-4.0)
    assert changes.moved(change("larger", before=8, after=10, change=2, ratio=1.25)) == 2
    assert changes.moved(change("n/a", change=None)) is None


def test_a_row_has_no_part_in_a_change_that_is_not_sure():
    before, after = timed({Component.FFN: 10.0}, {Component.FFN: 12.0})
    before.run = None
    diff = Comparison(before, after).diff()
    assert diff.times == "too few processes"
    assert changes.share(diff, diff.row("ffn"), "time") is None


@pytest.mark.parametrize(
    ("verdict", "tone"),
    [
        ("faster", "better"),
        ("smaller", "better"),
        ("slower", "worse"),
        ("larger", "worse"),
        ("inconclusive", "open"),
        *((verdict, "plain") for verdict in ("same", "new", "removed", "n/a")),
    ],
)
def test_tones(verdict: str, tone: str):
    diff = slower()
    row = diff.row("ffn")
    row.metrics["time"].verdict = row.metrics[SHARE].verdict = verdict  # type: ignore[assignment]
    assert changes.tone(row, Column("time", "change", "")) == tone
    assert changes.tone(row, Column("time", "verdict", "")) == tone
    assert changes.tone(row, Column("time", "figures", "")) == "plain"
    assert changes.tone(row, Column(SHARE, "change", "")) == "plain"


def test_changed_rows_stand_before_those_of_which_it_is_open():
    diff = slower()
    diff.row("embedding").metrics["time"].verdict = "inconclusive"
    rows, same = changes.by_change(changes.table(diff, "component"), changes.columns(diff, "component"))
    assert [row.scope for row in rows] == ["ffn", "embedding"]
    assert [row.scope for row in same] == [
        *("attention-linear-in", "softmax-attention", "attention-linear-out", "add-norm", "head", "other")
    ]


def test_a_label_is_one_short_line():
    diff = slower()
    diff.rows[1].scope = "a\nb\x1b" + "c" * 500
    assert changes.label(diff.rows[1]).startswith("a b�ccc")
    assert len(changes.label(diff.rows[1])) == 60


@given(pairs())
def test_any_two_records_give_rows_columns_and_cells(pair):
    diff = Comparison(*pair).diff()
    for by in changes.VIEWS:
        for wide in (False, True):
            columns = changes.columns(diff, by, wide)
            assert columns
            for row in (*changes.table(diff, by), diff.row("total")):
                for column in columns:
                    assert changes.cell(diff, row, column)


@given(pairs())
def test_records_of_all_rows_hold_every_figure_once(pair):
    diff = Comparison(*pair).diff()
    found = changes.records(diff.rows)
    assert len(found) == sum(len(row.metrics) for row in diff.rows)
    assert len({(entry["scope"], entry["metric"]) for entry in found}) == len(found)


def test_a_side_without_a_metric():
    before = made(cost(parameters=1, bytes_moved=5))
    after = made(cost(parameters=1))
    found = cells(Comparison(before, after).diff(), "ffn")
    assert found["bytes_moved figures"] == "5 B → –"
    assert found["bytes_moved change"] == "–"
