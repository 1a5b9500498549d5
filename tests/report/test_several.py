"""Records side by side, each against the first."""

import csv
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.image
import pytest
from compared import HOSTILE, distilled, real, slower, untimed
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import parsed

from bertprof import report
from bertprof.components import Component
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Caveat
from bertprof.report import markdown, rows, several, terminal
from handmade import breakdowns, cost, made

SUFFIXES = (".html", ".png", ".svg", ".csv", ".md")


def faster() -> Breakdown:
    """The real record in half the time."""
    breakdown = real()
    for each in breakdown.costs:
        each.time_ms = [sample / 2 for sample in each.time_ms or []]
    breakdown.instrumented_ms = [sample / 2 for sample in breakdown.instrumented_ms or []]
    breakdown.end_to_end_ms = [sample / 2 for sample in breakdown.end_to_end_ms or []]
    breakdown.label = "faster"
    return breakdown


def section(found: list[several.Section], title: str) -> dict[str, list[tuple[str, str, str]]]:
    (wanted,) = (each for each in found if each.title == title)
    return {label: [cell.parts for cell in cells] for label, cells in wanted.lines}


def test_records_of_one_name_are_told_apart():
    assert several.names([real(), faster(), real()]) == ["bert-base-uncased (1)", "faster", "bert-base-uncased (2)"]
    # One that is called as another would be numbered.
    numbered = faster()
    numbered.label = "faster (2)"
    assert several.names([faster(), faster(), numbered]) == ["faster (1)", "faster (3)", "faster (2)"]


def test_totals_against_the_first():
    total = section(several.sections([real(), distilled()], "component"), "total")
    # 66,362,880 / 109,482,240 = 0.606
    assert total["parameters"] == [("109.5M", "", ""), ("66.36M", "", "0.61 ×")]
    assert total["bytes"] == [("437.9 MB", "", ""), ("265.5 MB", "", "0.61 ×")]
    assert total["latency ms"] == [("102.7", "", ""), ("–", "", "")]
    # 128 tokens in 102.7286 ms
    assert total["tokens/s"][0] == ("1,246", "", "")
    assert "peak memory" not in total


def test_the_answer_in_a_sentence():
    # 66,362,880 / 109,482,240 parameters; 11.21G / 22.43G FLOPs: half the units. DistilBERT was not timed here.
    assert several.headline([real(), distilled()]) == (
        "distilbert-base-uncased has 0.61 × the parameters and 0.50 × the FLOPs of bert-base-uncased."
    )
    assert several.headline([real(), faster()]) == (
        "faster has as many parameters and FLOPs as bert-base-uncased and takes 0.50 × its time."
    )
    assert several.headline([real(), *[faster()] * 5]).endswith(" 2 more below.")


def test_the_answer_compares_no_other_work_and_no_other_machine():
    longer, elsewhere = faster(), faster()
    longer.workload.batch_size += 1
    assert several.headline([real(), longer]) == "faster has as many parameters as bert-base-uncased."
    elsewhere.host.cpu = "another"
    told = several.headline([real(), elsewhere])
    assert told == "faster has as many parameters and FLOPs as bert-base-uncased."


def test_a_time_without_a_kernel_is_no_ratio():
    dequantised = faster()
    dequantised.caveats.append(Caveat(code="no-kernel", text="x"))
    found = several.sections([real(), dequantised, faster()], "component")
    total = section(found, "total")
    # The real record's 102.7 ms are halved.
    assert total["latency ms"][1:] == [("51.4", "", "no kernel: dequantised"), ("51.4", "", "0.50 ×")]
    assert [ratio for _, _, ratio in total["tokens/s"]] == ["", "", "2.00 ×"]
    assert [ratio for _, _, ratio in section(found, "time ms by component")["ffn"]] == ["", "", "0.50 ×"]
    common, own = several.described([real(), dequantised])
    assert "kernel" not in common
    assert "no kernel: dequantised" in own[1]
    for record in several.records([real(), dequantised], "component"):
        assert record["time_ratio"] is None
    # Two that were both dequantised compare.
    total = section(several.sections([dequantised, dequantised], "component"), "total")
    assert [ratio for _, _, ratio in total["latency ms"]] == ["no kernel: dequantised", "1.00 ×"]


def test_rows_with_their_time_share_and_ratio():
    found = several.sections([real(), faster()], "component")
    assert [each.title for each in found] == ["total", "time ms by component"]
    first, second = section(found, "time ms by component")["ffn"]
    assert first[1:] == ("60.3 %", "")
    assert second[1:] == ("60.3 %", "0.50 ×")
    assert section(found, "total")["tokens/s"][1] == ("2,492", "", "2.00 ×")


def test_macs_where_a_record_has_no_times():
    found = several.sections([untimed(real()), distilled()], "group")
    assert [each.title for each in found] == ["total", "MACs by group"]
    macs = section(found, "MACs by group")
    assert macs["ffn"] == [("7.248G", "64.9 %", ""), ("3.624G", "64.9 %", "0.50 ×")]
    assert macs["embedding"] == [("0", "0.0 %", ""), ("0", "0.0 %", "")]
    mixed = several.sections([real(), distilled()], "group")
    assert [each.title for each in mixed] == ["total", "time ms by group", "MACs by group"]


def test_wide_has_all_counts():
    titles = [each.title for each in several.sections([real(), faster()], "component", wide=True)]
    assert titles == ["total", *(f"{name} by component" for name in ("time ms", "parameters", "MACs", "FLOPs"))]


def test_rows_that_only_some_have_keep_their_place():
    def labels(by: str, *sides: Breakdown) -> list[str]:
        return several.aligned(sides, by)[0]

    units = labels("unit", distilled(), untimed(real()))
    assert units == [*(f"unit {i}" for i in range(12)), "outside the units"]
    one, other = made(cost(Component.EMBEDDING, parameters=1)), made(cost(Component.FFN, parameters=1))
    head = made(cost(Component.HEAD, parameters=1), cost(Component.EMBEDDING, parameters=1))
    assert labels("component", head, other, one) == ["embedding", "ffn", "head"]
    assert labels("group", other, one) == ["embedding", "ffn"]
    modules = labels("module", real(), real())
    assert modules == [row.label for row in rows.table(real(), "module")]


@pytest.mark.parametrize(
    ("orders", "merged"),
    [
        ([["a", "b", "d"], ["a", "c", "d"]], ["a", "c", "b", "d"]),
        ([["a"], ["b", "a"]], ["b", "a"]),
        ([[], ["a", "b"]], ["a", "b"]),
    ],
)
def test_module_trees_are_merged(orders: list[list[str]], merged: list[str]):
    assert several._merged(orders) == merged


def test_what_is_common_is_told_once():
    after = faster()
    after.workload.threads = 4
    after.workload.recipes = ["int8"]
    common, (first, second) = several.described([real(), after])
    assert common.startswith("1 × 128 tokens, float32, sdpa, cpu, random weights, torch, Intel")
    assert first == "2 threads"
    assert second == "4 threads, recipes int8"


def test_caveats_are_told_with_their_records():
    first, second = real(), faster()
    first.caveats = [Caveat(code="x", text="load"), Caveat(code="y", text="clock")]
    second.caveats = [Caveat(code="x", text="load")]
    assert several.caveats([first, second]) == ["all: load", "bert-base-uncased: clock"]


def test_ratios_of_times_claim_nothing():
    assert "`bertprof diff` says" in several.note([real(), faster()])
    assert several.note([distilled(), untimed(real())]) == "× is against distilbert-base-uncased"


# Formats --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("by", rows.VIEWS)
def test_every_format_takes_every_view(suffix: str, by: str):
    sides = [real(), faster(), real()]
    content = report.render_several(sides, Path(f"x{suffix}"), by, wide=True)
    assert content == report.render_several(sides, Path(f"x{suffix}"), by, wide=True)


def test_json_is_of_one_record():
    with pytest.raises(UsageError, match=r"-o x.json: JSON holds one record; use \.md"):
        report.render_several([real(), real()], Path("x.json"))
    with pytest.raises(UsageError, match="no known suffix"):
        report.render_several([real(), real()], Path("x.pdf"))


def test_a_view_that_there_is_not():
    with pytest.raises(UsageError, match="no view by 'colour'"):
        report.render_several([real(), real()], Path("x.md"), "colour")
    with pytest.raises(UsageError, match="holds no modules"):
        report.render_several([real(), distilled()], Path("x.md"), "module")


def test_csv_has_all_digits():
    content = report.render_several([real(), distilled()], Path("x.csv")).decode()
    found = {(row["record"], row["component"]): row for row in csv.DictReader(io.StringIO(content))}
    total = found["distilbert-base-uncased", "total"]
    assert (total["parameters"], total["latency_ms"], total["time_ms"]) == ("66362880", "", "")
    assert float(total["parameters_ratio"]) == 66_362_880 / 109_482_240
    assert float(found["bert-base-uncased", "total"]["latency_ms"]) == 102.7286
    assert found["bert-base-uncased", "ffn"]["parameters_ratio"] == ""
    assert ("distilbert-base-uncased", "head") not in found
    assert list(found)[:2] == [("bert-base-uncased", "total"), ("distilbert-base-uncased", "total")]


def test_markdown_table():
    content = report.render_several([real(), distilled()], Path("x.md")).decode()
    assert r"| total | bert-base-uncased | distilbert-base-uncased |" in content
    assert "| parameters | 109.5M | 66.36M, 0.61 × |" in content
    assert "| ffn | 7.248G, 64.9 % | 3.624G, 64.9 %, 0.50 × |" in content
    assert {line.count("|") for line in content.splitlines() if line.startswith("|")} == {4}


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("by", ["group", "component", "unit"])
def test_terminal_stays_within_its_width(width: int, by: str):
    content = terminal.render_several([real(), faster(), real(), faster()], by, width, wide=True)
    assert max(map(len, content.splitlines())) <= width


@pytest.mark.parametrize(("width", "tables"), [(60, 4), (80, 2), (100, 2), (140, 1)])
def test_terminal_puts_as_many_beside_each_other_as_there_is_room_for(width: int, tables: int):
    # 21 columns for the labels, 21 for the first record, 24 for each other, 2 between any two and 2 at the edges.
    content = terminal.render_several([real(), faster(), real(), faster()], width=width)
    assert content.count("\n total\n") == tables
    assert content.count("109.5M") == 4


def test_a_name_stands_over_its_figures():
    lines = terminal.render_several([real(), faster()], width=100).splitlines()
    header = next(line for line in lines if line.rstrip().endswith("faster"))
    parameters = next(line for line in lines if line.startswith("  parameters"))
    assert parameters.split() == ["parameters", "109.5M", "109.5M", "1.00", "×"]
    assert header.index("faster") <= parameters.rindex("109.5M")


# One or several -------------------------------------------------------------------------------------------------------


def test_one_document_is_shown_as_it_always_is():
    diff = slower()
    for document in (real(), diff):
        assert report.render_all([document], Path("x.md")) == report.render(document, Path("x.md"))
        assert report.text_of_all([document], "component", 90, False, False) == document.text(width=90)


def test_several_records_stand_side_by_side():
    sides = [real(), faster()]
    assert report.render_all(sides, Path("x.md")) == report.render_several(sides, Path("x.md"))
    assert report.text_of_all(sides, "unit", 90, True, False) == terminal.render_several(sides, "unit", 90, wide=True)


def test_a_diff_stands_beside_nothing():
    with pytest.raises(UsageError, match="only records stand side by side"):
        report.render_all([real(), slower()], Path("x.md"))
    with pytest.raises(UsageError, match="report it alone"):
        report.text_of_all([slower(), real()], "component", 90, False, False)


# Any records ----------------------------------------------------------------------------------------------------------


def test_what_means_harm_is_inert():
    bad = real()
    bad.label = bad.host.cpu = bad.workload.dtype = bad.workload.backend = HOSTILE
    bad.caveats = [Caveat(code="x", text=HOSTILE)]
    assert bad.modules is not None
    bad.modules[3].path = f"embeddings.{HOSTILE}"
    for by in ("component", "module"):
        found = parsed(report.render_several([real(), bad], Path("x.html"), by).decode())
        assert "img" not in found.tags
        assert found.tags.count("script") == 1  # the page's own
        content = report.render_several([real(), bad], Path("x.md"), by).decode()
        assert "<" not in content.replace("@<!-- -->", "")
        assert "\x1b" not in content + terminal.render_several([real(), bad], by)
    assert ElementTree.fromstring(report.render_several([real(), bad], Path("x.svg"))).tag.endswith("svg")
    assert matplotlib.image.imread(io.BytesIO(report.render_several([real(), bad], Path("x.png")))).ndim == 3


@given(st.lists(breakdowns(), min_size=2, max_size=4))
@settings(max_examples=15)
def test_any_records(sides: list[Breakdown]):
    for by in ("group", "component", "unit"):
        for wide in (False, True):
            assert markdown.render_several(sides, by, wide)
            assert terminal.render_several(sides, by, 80, wide=wide)
        found = list(csv.DictReader(io.StringIO(report.render_several(sides, Path("x.csv"), by).decode())))
        totals = [row for row in found if row["by"] == "total"]
        assert [int(row["macs"]) for row in totals] == [side.total("macs") for side in sides]
