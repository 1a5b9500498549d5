"""The renderers of the survey's Table 2: what stands where, at which widths, and nothing that means harm."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import parsed
from rich.cells import cell_len

from bertprof import report, schema
from bertprof.errors import UsageError
from bertprof.record import Caveat
from bertprof.report import table2, table2_renderers
from bertprof.survey.systems import SYSTEMS
from bertprof.survey.table2 import Table2
from tabled import by_hand, hostile, row


def text(table: Table2, suffix: str) -> str:
    return report.render(table, Path(f"x{suffix}")).decode()


def lines(table: Table2, name: str, width: int) -> list[str]:
    """The lines of the terminal's two tables that begin with a system's row."""
    label = row(table, name).label
    found = table2_renderers.terminal(table, width).splitlines()
    return [line for line in found if re.match(rf" {re.escape(label)} +{re.escape(name)} ", line)]


# Cells ----------------------------------------------------------------------------------------------------------------


def test_cells():
    table = by_hand()
    found = {each.system: [table2.cell(each, column.field) for column in table2.COLUMNS] for each in table.rows}
    dash = "–"
    # Base: 200 + 800 parameters; Q8BERT the same at 8 bits in half the time; print has no MNLI of it.
    assert found["BERT-base"][:7] == ["100", "100.0", "100.0", "100.0", dash, "1x", "1x"]
    assert found["Q8BERT"][:7] == ["25", "25.0", "25.0", "25.0", dash, "4x", "2.00x [2.00, 2.00] faster"]
    assert found["Q8BERT"][7:] == [dash, "87.9/–", "92.2", "88.5", dash, dash]
    assert found["Q-BERT"][6] == "no kernel: dequantised"
    # 1 − 0.593 × (1 − 0.2) by print's rule; 3,000 of 1,000 parameters, without the embedding 2,700 of 800; 1,399 left.
    assert found["RPP 59.3 %"][:5] == ["53.6", "52.6", "300.0", "337.5", "139.9"]
    assert found["RPP 59.3 %"][6] == "0.25x [0.25, 0.25] slower"
    assert found["RPP 88.4 %"][6] == "failed: the forward does not fit into memory"
    assert found["DeFormer"][5:7] == ["2.7x*", "not run: it decomposes attention, which bertprof cannot yet"]
    assert found["ALBERT"][6] == "1.00x same"
    assert found["ALBERT"][-2:] == ["44.45", "≠ 29.63"]
    assert found["Wu BiLSTM?"][-2:] == ["7.96", "7.97"]  # cut off, not wrong
    assert found["DistilBERT"][6] == dash


def test_little_is_not_nothing():
    table = by_hand()
    size = row(table, "ALBERT").size
    assert size is not None
    size.percent = 0.5507
    assert table2.cell(row(table, "ALBERT"), "percent") == "0.55"


def test_a_column_without_figures_is_left_out():
    table = by_hand()
    for each in table.rows:
        each.size = each.speed = None
    fields = {column.field for column in table2.columns(table)}
    assert not fields & {"rule_percent", "percent", "nonzero_percent"}
    assert {"printed_size", "speedup"} <= fields  # why rows are not run stands there


def test_details_have_the_arithmetic_and_the_reasons():
    table = by_hand()

    def told(name: str, brief: bool = False) -> str:
        return " ".join(table2.details(row(table, name), table2.baseline(table), brief))

    assert "ΔMS/ΔA: (100 − 11.1) / (84.6 − 81.6) = 29.63, printed 44.45." in told("ALBERT")
    assert (
        "Time here: 50.0 ms [50.0, 50.0] against 100.0 ms [100.0, 100.0] of BERT-base in the same 20 rounds."
        in told("Q8BERT")
    )
    assert "executed dequantised" in told("Q-BERT")
    assert "By itself: bertprof diff bert-base-uncased bert-base-uncased+int8,embedding=8" in told("Q8BERT")
    assert "Failed: no such model." in told("MobileBERT")
    assert "set.normalization_type=layer_norm" in told("MobileBERT")
    assert "Not run: which system it is, is not certain." in told("Wu BiLSTM?")
    assert "guess: by elimination" in told("Wu BiLSTM?")
    assert "in truth stored dense 3,000 / 1,000 parameters = 300.0 %, not zero 1,399 = 139.9 %" in told("RPP 59.3 %")
    # In the terminal the table stands right above.
    assert told("BERT-base", brief=True) == ""
    assert "Failed" not in told("MobileBERT", brief=True)
    row(table, "MobileBERT").failed = "x" * 300
    assert "x" * 300 in told("MobileBERT", brief=True)


def test_caveats_of_all_rows_are_announced_once():
    table = by_hand()
    assert table2.caveats(table) == []
    for each in table.rows:
        if each.speed is not None:
            each.speed.caveats.append(Caveat(code="unsteady-time", text="unsteady; is something else running?"))
    assert table2.caveats(table) == ["caveats of the times of all rows: see each"]
    assert table2.details(row(table, "Q8BERT"), table.rows[0])[4] == "Caveat: unsteady; is something else running?"


# The terminal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_it_fits(width: int):
    for table in (by_hand(), hostile()):
        assert max(map(cell_len, table2_renderers.terminal(table, width).splitlines())) <= width


def test_eighty_columns_have_what_matters():
    (cost, accuracy) = lines(by_hand(), "Q8BERT", 80)
    assert cost.split() == ["DQ", "Q8BERT", "25", "25.0", "25.0", "4x", "2.00x", "[2.00,", "2.00]", "faster"]
    assert accuracy.split() == ["DQ", "Q8BERT", "–", "87.9/–", "92.2", "88.5", "–", "–"]


def test_a_hundred_and_twenty_show_more():
    (cost, _) = lines(by_hand(), "RPP 59.3 %", 120)
    assert cost.split()[3:9] == ["%", "53.6", "52.6", "300.0", "337.5", "139.9"]
    assert "no emb." in table2_renderers.terminal(by_hand(), 120)
    assert "no emb. " not in table2_renderers.terminal(by_hand(), 80).partition("•")[0]


def test_colours_are_for_terminals_only():
    plain = table2_renderers.terminal(by_hand(), 80)
    coloured = table2_renderers.terminal(by_hand(), 80, color=True)
    assert "\x1b[" not in plain
    assert "\x1b[32m" in coloured
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split() == plain.split()


def test_every_row_is_told_of_everywhere():
    table = by_hand()
    table.rows[1].speed.caveats.append(Caveat(code="noise", text="the machine was busy"))  # type: ignore[union-attr]
    for content in (table2_renderers.terminal(table, 10_000), text(table, ".md"), text(table, ".html")):
        read = re.sub(r"\\(.)", r"\1", re.sub(r"<[^>]*>", "", content)).replace("&#39;", "'").replace("&#34;", '"')
        for system in SYSTEMS:
            assert system.name in read
            assert system.known_by in read or system.name == "BERT-base"
            for note in system.notes:
                assert note.removesuffix(".") in read
        for note in table.notes:
            assert note in read
        assert "caveats of the times of Q8BERT: see each" in read
        assert "Caveat: the machine was busy." in read
        assert "29.63" in read
        assert "nothing here runs 2 bits" not in read  # the cell says so


def test_it_shows_itself(tmp_path: Path):
    table = by_hand()
    assert str(table) == table.text() == table2_renderers.terminal(table)
    assert "<table>" in table._repr_html_()
    table.save(tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text() == text(table, ".md")


# Files ----------------------------------------------------------------------------------------------------------------


def test_markdown_has_a_table_of_all_rows():
    (table,) = re.findall(r"(?:^\|.*\n)+", text(by_hand(), ".md"), flags=re.MULTILINE)
    found = table.splitlines()
    assert len(found) == 2 + 14
    assert len({line.replace("\\|", "").count("|") for line in found}) == 1


def test_the_page_has_the_table_and_fetches_nothing():
    page = parsed(text(by_hand(), ".html"))
    assert len(page.rows) == 2 + 14
    assert page.rows[3][:8] == ["DQ", "Q8BERT", "25", "25.0", "25.0", "25.0", "–", "4x"]
    assert page.fetched == []
    assert "script" not in page.tags
    assert {len(cells) for cells in page.rows[1:]} == {15}


def test_csv_has_all_digits_and_empty_cells_for_what_is_not_known():
    found = list(csv.DictReader(io.StringIO(text(by_hand(), ".csv"))))
    assert [line["system"] for line in found] == [system.name for system in SYSTEMS]
    of = {line["system"]: line for line in found}
    assert (of["RPP 59.3 %"]["bytes"], of["RPP 59.3 %"]["nonzero_parameters"]) == ("12000", "1399")
    assert float(of["RPP 59.3 %"]["printed_rule_percent"]) == pytest.approx(100 * (1 - 0.593 * 0.8))
    assert (of["Q8BERT"]["speedup"], of["Q8BERT"]["verdict"], of["Q8BERT"]["rounds"]) == ("2.0", "faster", "20")
    assert (of["Q-BERT"]["speedup"], of["Q-BERT"]["verdict"]) == ("", "no kernel: dequantised")
    assert of["Q8BERT"]["printed_mnli"] == ""
    assert float(of["ALBERT"]["size_per_accuracy"]) == pytest.approx(88.9 / 3)
    assert of["DeFormer"]["not_run"].startswith("it decomposes attention")


def test_json_is_the_table():
    assert text(by_hand(), ".json").encode() == schema.encode(by_hand())


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_there_is_no_figure(suffix: str, tmp_path: Path):
    with pytest.raises(
        UsageError, match=r"there is no figure of the survey's Table 2; use one of \.json, \.html, \.csv"
    ):
        by_hand().save(tmp_path / f"t{suffix}")
    assert not list(tmp_path.iterdir())


def test_it_has_no_views_and_stands_alone():
    with pytest.raises(UsageError, match="no view by 'unit'"):
        report.render(by_hand(), Path("x.md"), "unit")
    with pytest.raises(UsageError, match="no view by 'unit'"):
        report.text_of_all([by_hand()], "unit", 80, wide=False, color=False)
    with pytest.raises(UsageError, match="a table of the survey was given with other files"):
        report.render_all([by_hand(), by_hand()], Path("x.md"))


# Harm -----------------------------------------------------------------------------------------------------------------


def test_hostile_text_is_inert():
    table = hostile()
    for width in (80, 200):
        shown = table2_renderers.terminal(table, width)
        assert all(c.isprintable() or c == "\n" for c in shown)
    markdown = text(table, ".md")
    assert "<img" not in markdown
    assert "\n# [a]" not in markdown
    assert not re.search(r"(?<!\\)[|`]x", markdown.replace("| ", ""))
    assert "\x1b" not in markdown
    page = parsed(text(table, ".html"))
    assert page.fetched == []
    assert not {"img", "script"} & set(page.tags)
    assert "\x1b" not in text(table, ".html")
    for line in csv.DictReader(io.StringIO(text(table, ".csv"))):
        assert not any((value or "").startswith(("=", "+", "@")) for value in line.values())


@pytest.mark.slow
def test_reading_one_is_light(tmp_path: Path):
    by_hand().save(tmp_path / "t.json")
    code = """
import sys
from bertprof.__main__ import main
sys.argv = ["bertprof", "report", "t.json", "-o", "t.md", "-o", "t.html", "-o", "t.csv"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
heavy = {"torch", "transformers", "fvcore", "pandas", "matplotlib", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.html").stat().st_size > 5000
