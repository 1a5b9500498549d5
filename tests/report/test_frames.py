"""Frames and the long CSV: types, sums and what comes back from a file."""

import io
from pathlib import Path

import pandas as pd
import pytest
from compared import distilled, real, slower, untimed
from hypothesis import given, settings
from hypothesis import strategies as st

from bertprof import report
from bertprof.comparison import Comparison
from bertprof.components import Component
from bertprof.record import Breakdown
from bertprof.report import changes, csv, rows, several
from handmade import breakdowns, cost, made, pairs

VIEWS = ("group", "component", "unit", "cost", "module")
COUNTS = ("parameters", "macs", "flops")
MAYBE = ("parameter_bytes", "nonzero_parameters", "useful_macs", "bytes_moved", "activation_bytes")
WHAT = {
    "group": ["group"],
    "component": ["component"],
    "unit": ["unit"],
    "cost": ["unit", "component"],
    "module": ["module", "type", "component", "calls"],
}


def back(frame: pd.DataFrame, content: str | None = None) -> pd.DataFrame:
    """What is read from the frame's own CSV, or from another, as the docstring of `frame` says."""
    return pd.read_csv(
        io.StringIO(frame.to_csv(index=False) if content is None else content),
        dtype=frame.dtypes.to_dict(),
        keep_default_na=False,
        na_values=[""],
    )


def views(breakdown: Breakdown) -> tuple[str, ...]:
    return VIEWS if breakdown.modules is not None else VIEWS[:-1]


# A breakdown ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", VIEWS)
def test_types_do_not_depend_on_what_is_known(by: str):
    everything, nothing = real(), untimed(real())
    everything.costs[0].bytes_moved = 1
    frames = [everything.frame(by), nothing.frame(by)]
    assert frames[0].dtypes.to_dict() == frames[1].dtypes.to_dict()
    types = frames[0].dtypes.astype(str)
    assert list(types.index)[: len(WHAT[by])] == WHAT[by]
    assert set(types[[*COUNTS]]) == {"int64"}
    assert set(types[[*MAYBE, "activation_peak_bytes", "allocated_peak_bytes"]]) == {"Int64"}
    assert set(types[["time_ms", "time_share", "device_time_ms", "energy_mj", "roof_share"]]) == {"float64"}
    assert types["bound"] == "string"
    for name in WHAT[by]:
        assert types[name] == {"unit": "Int64", "calls": "int64"}.get(name, "string")


def test_a_view_without_rows_has_its_columns():
    nothing = made(cost(Component.FFN, 0))
    for by in VIEWS[:-2]:
        frame = nothing.frame(by)
        assert len(frame) == 0
        assert frame.dtypes.to_dict() == real().frame(by).dtypes.to_dict()
    nothing.modules = []
    assert list(nothing.frame("module")) == list(real().frame("module"))


def test_units_are_numbers_and_what_stands_outside_is_missing():
    frame = real().frame("unit")
    assert frame["unit"].to_list() == [*range(12), pd.NA]
    # Embedding and pooler: 23,837,184 - 1,536 of the LayerNorm, which is in both, + 590,592
    assert frame.set_index("unit").loc[3, "parameters"] == 7_087_872
    costs = real().frame("cost").groupby("unit", dropna=False)["parameters"].sum()
    assert costs.to_list() == frame["parameters"].to_list()


@given(breakdowns())
@settings(max_examples=40)
def test_sums_are_the_totals_of_the_record(breakdown: Breakdown):
    for by in views(breakdown):
        frame = breakdown.frame(by)
        for name in ("parameters", "flops"):
            assert frame[name].sum() == breakdown.total(name)
            if breakdown.total(name):
                assert frame[f"{name}_share"].sum() == pytest.approx(1)
        if breakdown.instrumented_time_ms is not None and by != "module":
            assert frame["time_ms"].sum() == pytest.approx(breakdown.instrumented_time_ms.value)
            assert frame["time_share"].sum() == pytest.approx(1)
    # A row without parameters, FLOPs and time is in no view, whatever a strange record says that it costs otherwise.
    costs = breakdown.frame("cost")
    for name in ("macs", *MAYBE):
        whole = breakdown.total(name)
        assert costs[name].isna().any() if whole is None else costs[name].sum() == whole
    for name in ("device_time_ms", "energy_mj"):
        median = breakdown.median_of(breakdown.costs, name)  # type: ignore[arg-type]
        assert costs[name].isna().all() if median is None else costs[name].sum() == pytest.approx(median)


@pytest.mark.parametrize("by", ["group", "component", "unit", "cost", "module"])
def test_sums_of_a_real_record_are_its_totals(by: str):
    frame = real().frame(by)
    # bert-base-uncased, 1 × 128 tokens: parameters and MACs as in the README
    assert frame["parameters"].sum() == 109_482_240
    assert frame["macs"].sum() == 11_174_215_680
    if by != "module":  # of which no bytes are known, and not all the time
        assert frame["parameter_bytes"].sum() == 4 * 109_482_240
        assert frame["time_ms"].sum() == pytest.approx(real().instrumented_time_ms.value)  # type: ignore[union-attr]


@given(breakdowns())
@settings(max_examples=40)
def test_a_frame_comes_back_from_its_csv(breakdown: Breakdown):
    for by in views(breakdown):
        frame = breakdown.frame(by)
        pd.testing.assert_frame_equal(back(frame), frame, check_exact=True)


@given(breakdowns())
@settings(max_examples=40)
def test_the_csv_is_the_frame_of_costs(breakdown: Breakdown):
    breakdown.label = "m"
    for by, view in (("component", "cost"), ("module", "module")):
        if view in views(breakdown):
            frame = breakdown.frame(view)
            frame.insert(0, "model", pd.Series(["m"] * len(frame), dtype="string"))
            pd.testing.assert_frame_equal(back(frame, csv.render(breakdown, by)), frame, check_exact=True)


# A diff ---------------------------------------------------------------------------------------------------------------

DIFF_VIEWS = ("total", *changes.VIEWS)


def test_a_diff_has_the_same_types_in_every_view():
    for diff in (slower(), Comparison(untimed(real()), distilled()).diff()):
        for by in DIFF_VIEWS:
            types = diff.frame(by).dtypes.astype(str)
            assert types["unit"] == "Int64"
            assert set(types[["scope", "level", "component", "metric", "measured_in", "verdict"]]) == {"string"}
            assert set(types[["before", "after", "change", "ratio", "ratio_low", "ratio_high"]]) == {"float64"}
            assert types["share_of_change"] == "float64"


def test_a_diff_of_nothing_has_its_columns():
    nothing = made(cost(Component.FFN, 0))
    frame = Comparison(nothing, nothing).diff().frame("component")
    assert len(frame) == 0
    assert frame.dtypes.to_dict() == slower().frame("component").dtypes.to_dict()


@given(pairs())
@settings(max_examples=30)
def test_a_diff_adds_up_and_comes_back_from_its_csv(pair: tuple[Breakdown, Breakdown]):
    diff = Comparison(*pair).diff()
    for by in DIFF_VIEWS:
        frame = diff.frame(by)
        pd.testing.assert_frame_equal(back(frame), frame, check_exact=True)
        for name in ("parameters", "flops"):
            of = frame[frame["metric"] == name]
            for side, record in zip(("before", "after"), pair, strict=True):
                assert of[side].sum() == record.total(name)  # below 2⁵³, up to which a float64 is exact


@given(pairs())
@settings(max_examples=30)
def test_the_csv_of_a_diff_has_the_frames_of_all_levels(pair: tuple[Breakdown, Breakdown]):
    diff = Comparison(*pair).diff()
    total = diff.frame("total")
    whole = back(total, csv.render_diff(diff))
    assert list(whole) == list(total)
    for by in ("total", "component", "unit", "cell"):
        frame = diff.frame(by)
        level = whole[(whole["level"] == by) & whole["scope"].isin(frame["scope"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(level, frame, check_exact=True)


# Several records ------------------------------------------------------------------------------------------------------

ASKED = ["model", "recipes", "task", "batch_size", "sequence_length", "padding", "dtype", "attention", "backend"]


def long(sides: list[Breakdown], by: str = "component") -> pd.DataFrame:
    return pd.read_csv(io.StringIO(report.render_several(sides, Path("x.csv"), by).decode()))


def test_the_long_csv_has_what_to_group_by():
    after = real()
    after.workload.recipes = ["heads=6", "int8"]
    after.workload.batch_size = 4
    after.workload.threads = 8
    frame = long([real(), after])
    assert list(frame)[: len(ASKED) + 5] == ["record", *ASKED, "device", "threads", "by", "component"]
    assert set(frame["by"]) == {"total", "component"}
    totals = frame[frame["by"] == "total"].set_index(["recipes", "batch_size", "threads"])
    assert list(totals.index) == [("none", 1, 2), ("heads=6+int8", 4, 8)]
    assert (totals["parameters"] == 109_482_240).all()
    assert totals["component"].to_list() == ["total", "total"]
    parts = frame[frame["by"] == "component"].groupby(["record", "recipes"])["parameters"].sum()
    assert parts.to_list() == [109_482_240, 109_482_240]
    wide = frame[frame["by"] == "component"].pivot(index="component", columns="recipes", values="time_ratio")
    assert wide.loc["ffn", "heads=6+int8"] == 1.0
    assert wide["none"].isna().all()


def test_the_long_csv_by_unit_has_numbers():
    frame = long([real(), distilled()], "unit")
    assert frame[frame["by"] == "total"]["unit"].isna().all()
    of = frame[frame["by"] == "unit"].groupby("record")["unit"]
    assert of.max().to_dict() == {"bert-base-uncased": 11, "distilbert-base-uncased": 5}
    assert of.apply(lambda units: units.isna().sum()).to_list() == [1, 1]  # outside of the units


def test_the_long_csv_by_module_has_their_classes():
    frame = long([real(), real()], "module")
    assert (
        frame.set_index(["record", "module"]).loc[("bert-base-uncased (2)", "encoder.layer.0"), "type"] == "BertLayer"
    )
    assert "inclusive_macs" in frame
    assert frame["record"].unique().tolist() == ["bert-base-uncased (1)", "bert-base-uncased (2)"]


def test_ratios_are_against_the_first_record():
    frame = long([real(), distilled()]).set_index(["record", "component"])
    second = frame.loc["distilbert-base-uncased"]
    # 66,362,880 / 109,482,240 parameters of four bytes; half the MACs of every FFN
    assert second.loc["total", "parameters_ratio"] == second.loc["total", "parameter_bytes_ratio"]
    assert second.loc["total", "parameters_ratio"] == pytest.approx(0.606152)
    assert second.loc["ffn", "macs_ratio"] == 0.5
    assert second["latency_ratio"].isna().all()  # it was not timed
    twice = real()
    twice.end_to_end_ms = [2 * ms for ms in twice.end_to_end_ms or ()]
    totals = long([real(), twice]).query("by == 'total'")
    assert totals["latency_ratio"].to_list()[1] == pytest.approx(2)
    assert totals["latency_ms"].to_list() == pytest.approx([102.7286, 205.4572])


@given(st.lists(breakdowns(), min_size=2, max_size=3))
@settings(max_examples=25)
def test_the_long_csv_is_what_the_records_say(sides: list[Breakdown]):
    for i, side in enumerate(sides):
        side.label = f"side {i}"
    for by in ("group", "component", "unit"):
        expected = pd.DataFrame(several.records(sides, by))
        expected = expected.astype({name: "Int64" for name in expected if holds_counts(expected[name])})
        expected = expected.astype({name: "float64" for name in expected if expected[name].isna().all()})
        found = back(expected, report.render_several(sides, Path("x.csv"), by).decode())
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
        for i, side in enumerate(sides):
            own = found[found["record"] == f"side {i}"]
            for name in ("parameters", "flops"):
                whole, parts = own[own["by"] == "total"][name], own[own["by"] == by][name]
                assert (whole.sum(), parts.sum()) == (side.total(name), side.total(name))


def holds_counts(column: "pd.Series[float]") -> bool:
    return any(isinstance(value, int) for value in column.dropna().to_list())


def test_a_line_break_in_a_name_ends_no_row():
    bad = real()
    assert bad.modules is not None
    bad.modules[3].path = "embeddings.a\rb\nc"
    content = csv.render(bad, "module")
    assert len(pd.read_csv(io.StringIO(content))) == len(rows.table(bad, "module"))
    assert "embeddings.a�b�c" in content
