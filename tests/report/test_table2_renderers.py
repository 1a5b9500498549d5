"""The renderers of the survey's Table 2: what stands where, at which widths, and nothing that means harm."""

import csv
import io
import re
from pathlib import Path

import msgspec
import pytest
from pages import parsed
from rich.cells import cell_len
from trees import tree

from bertprof import report, schema
from bertprof.errors import UsageError
from bertprof.record import Caveat
from bertprof.report import table2, table2_lines, table2_renderers
from bertprof.report.table2 import Part
from bertprof.survey.systems import SYSTEMS
from bertprof.survey.table2 import Table2
from conftest import run_light
from tabled import by_hand, hostile, row


def text(table: Table2, suffix: str) -> str:
    return report.render(table, Path(f"x{suffix}")).decode()


def lines(table: Table2, name: str, width: int) -> list[str]:
    """The lines of the terminal's tables that begin with a system's row."""
    label = row(table, name).label
    found = table2_renderers.terminal(table, width).splitlines()
    return [line for line in found if re.match(rf" {re.escape(label)} +{re.escape(name)} ", line)]


def cells(table: Table2, part: Part) -> dict[tuple[str, str | None], list[str]]:
    """What stands in a part of the table, with all its columns, by system and which of two it is."""
    found = [column.field for column in table2.COLUMNS if column.part == part]
    of = table2.lines_of(table, part)
    return {(line.row.system, line.variant): [table2.cell(line, field) for field in found] for line in of}


# Cells ----------------------------------------------------------------------------------------------------------------


def test_cells_of_size_and_speed():
    found = cells(by_hand(), "cost")
    dash = "–"
    # Base: 200 + 800 parameters; Q8BERT the same at 8 bits in half the time; print has no MNLI of it.
    assert found["BERT-base", None] == ["100", "100.0", "100.0", "100.0", dash, "1x", "1.00x", "1x"]
    assert found["Q8BERT", None] == ["25", *3 * ["25.0"], dash, "4x", "1.00x", "2.00x [2.00, 2.00] faster"]
    assert found["Q-BERT", None][-1] == "no kernel: dequantised"
    # 1 − 0.593 × (1 − 0.2) by print's rule; 3,000 of 1,000 parameters, without the embedding 2,700 of 800; 1,399 left.
    assert found["RPP 59.3 %", None] == [
        *("53.6", "52.6", "300.0", "337.5", "139.9", dash),
        *("0.30x", "0.25x [0.25, 0.25] slower"),  # 800 multiply-accumulates of BERT-base, 2,700 of it
    ]
    assert found["RPP 88.4 %", None][-1] == "failed: the forward does not fit into memory"
    assert found["Wu BiLSTM?", None][-3:] == ["17.7x", dash, "not run: neither which student nor its widths are known"]
    assert found["ALBERT", None][-2:] == ["10.0x", "1.00x same"]
    assert found["DistilBERT", None][-1] == dash


def test_what_runs_without_its_cache_has_a_line_of_its_own():
    found = cells(by_hand(), "cost")
    assert [variant for system, variant in found if system == "DeFormer"] == ["cached", "uncached"]
    # Of 3,300 multiply-accumulates 1,000 are left with the cache and 3,267 without, of 300 ms 100 and all.
    assert found["DeFormer", "cached"] == [
        *("100", "100.0", "100.0", "100.0", "–", "2.7x*"),
        *("3.30x", "3.00x [3.00, 3.00] faster"),
    ]
    # What is printed is not of it.
    assert found["DeFormer", "uncached"] == ["", "", "100.0", "100.0", "–", "", "1.01x", "1.00x same"]
    later = cells(by_hand(), "later")
    assert later["DeFormer", "cached"][4:7] == ["3.14x", "3.55x", "3.00x"]
    assert later["DeFormer", "uncached"] == [*6 * [""], "1.00x", *4 * [""]]
    assert ("DeFormer", "uncached") not in cells(by_hand(), "accuracy")
    # Where nothing was timed there is nothing to say of it beside the later edition's speeds.
    assert ("DeFormer", "uncached") in cells(by_hand(timed=False), "cost")
    assert ("DeFormer", "uncached") not in cells(by_hand(timed=False), "later")


def test_cells_of_the_later_edition():
    found = cells(by_hand(), "later")
    assert [system for system, variant in found if variant != "uncached"] == [
        *("Q-BERT", "RPP 59.3 %", "Liu BiLSTM", "DistilBERT", "Zhao"),
        *("MobileBERT", "TinyBERT4", "DeFormer", "ALBERT"),
    ]
    # 100 of 1,000 parameters, 80 of 800 without the embedding, as fast.
    assert found["ALBERT", None] == [
        *("10.7", "10.0", "8.8", "10.0", "1.2x", "1.2x", "1.00x"),
        *("84.3", "89.6", "90.3", "89.3"),
    ]
    # Of other settings than ours: 0.25 · 20 % + 0.125 · 80 %, and 1 − 0.413 · 80 %; no speed of ours belongs there.
    assert found["Q-BERT", None][:7] == ["15", "15.0", "12.5", "12.5", "1x", "1x", "–"]
    assert found["RPP 59.3 %", None][:7] == ["67.6", "67.0", "58.7", "58.7", "1x", "1x", "–"]
    assert found["Liu BiLSTM", None][:7] == ["24.1", "–", "3.3", "–", "10.7x", "8.6x", "–"]
    named = {table2.system(line, "later") for line in table2.lines_of(by_hand(), "later")}
    assert {"Q-BERT 4 bit †", "RPP 41.3 % †"} < named


def test_cells_of_accuracy():
    found = cells(by_hand(), "accuracy")
    assert found["Q8BERT", None] == ["–", "87.9/–", "92.2", "88.5", "–", "–"]
    assert found["ALBERT", None][-2:] == ["44.45", "≠ 29.63"]
    assert found["Wu BiLSTM?", None][-2:] == ["7.96", "7.97"]  # cut off, not wrong


def test_little_is_not_nothing():
    table = by_hand()
    size = row(table, "ALBERT").size
    assert size is not None
    size.percent = 0.5507
    assert cells(table, "cost")["ALBERT", None][2] == "0.55"


def test_a_column_without_figures_is_left_out():
    table = by_hand()
    for each in table.rows:
        each.size = each.speed = each.macs = each.uncached = None
    fields = {column.field for column in table2.columns(table, "cost")}
    assert not fields & {"rule_percent", "percent", "nonzero_percent", "macs"}
    assert {"printed_size", "speedup"} <= fields  # why rows are not run stands there
    for each in table.rows:
        each.later = None
    assert table2.columns(table, "later") == []
    for content in (table2_renderers.terminal(table, 120), text(table, ".md"), text(table, ".html")):
        assert table2.PARTS["later"] not in content.replace("&#39;", "'")


def test_speeds_that_were_not_asked_for_have_no_column():
    table = by_hand(timed=False)
    assert [column.header for column in table2.columns(table, "cost")][-2:] == ["print", "MACs"]
    assert "here" not in [c.header for c in table2.columns(table, "later") if c.group == "speed-up"]
    shown = table2_renderers.terminal(table, 120)
    assert "speed here" not in shown
    # What stood in it is told below.
    assert "Not run: neither which student nor its widths are known." in " ".join(shown.split())
    assert "Failed: no such model." in " ".join(shown.split())
    (wide, *_) = lines(table, "RPP 59.3 %", 80)
    assert wide.split()[-6:] == ["52.6", "300.0", "337.5", "139.9", "–", "0.30x"]  # there is room for more columns


def test_details_have_the_arithmetic_and_the_reasons():
    table = by_hand()

    def told(name: str, brief: bool = False) -> str:
        return " ".join(table2_lines.details(table, row(table, name), brief))

    assert "ΔMS/ΔA: (100 − 11.1) / (84.6 − 81.6) = 29.63, printed 44.45." in told("ALBERT")
    assert (
        "Time here: 50.0 ms [50.0, 50.0] against 100.0 ms [100.0, 100.0] of BERT-base in the same 20 rounds."
        in told("Q8BERT")
    )
    assert "executed dequantised" in told("Q-BERT")
    assert "By itself: bertprof diff bert-base-uncased bert-base-uncased+int8,embedding=8" in told("Q8BERT")
    assert "Failed: no such model." in told("MobileBERT")
    assert "set.normalization_type=layer_norm" in told("MobileBERT")
    assert "Not run: neither which student nor its widths are known." in told("Wu BiLSTM?")
    assert "Not run" not in told("Wu BiLSTM?", brief=True)
    assert "MACs: 800 / 800 = 1.00x." in told("Q8BERT")
    assert "MACs" not in told("Q8BERT", brief=True)
    for brief in (False, True):
        deformer = told("DeFormer", brief)
        assert "Run, like BERT-base beside it, on 24 + 296 tokens." in deformer
        assert "MACs cached: 3.300k / 1.000k = 3.30x." in deformer
        assert "MACs uncached: 3.300k / 3.267k = 1.01x." in deformer
        assert "Time here cached: 100.0 ms" in deformer
        assert "Time here uncached: 300.0 ms" in deformer
        both = "bertprof diff bert-base-uncased bert-base-uncased+decompose-attention=9"
        assert f"By itself: {both}+cache-segment=2 --segments 24,296" in deformer
        assert f"Uncached: {both} --segments 24,296" in deformer
    assert (
        "† Later edition: BERT-base with 41.3 % pruned, which is not run here; 1 × 20.0 % + 0.587 × 80.0 % = 67.0 %, "
        "printed 67.6 %; without the embedding 58.7 %, printed 58.7 %."
    ) in told("RPP 59.3 %")
    assert "guess: by elimination" in told("Wu BiLSTM?")
    assert "in truth stored dense 3,000 / 1,000 parameters = 300.0 %, not zero 1,399 = 139.9 %" in told("RPP 59.3 %")
    # In the terminal the table stands right above.
    assert told("BERT-base", brief=True) == ""
    assert "Failed" not in told("MobileBERT", brief=True)
    row(table, "MobileBERT").failed = "x" * 300
    assert "x" * 300 in told("MobileBERT", brief=True)


def test_the_legend_says_beside_which_of_the_later_speeds_ours_belong():
    table = by_hand()
    assert "speed here beside its CPU" in " ".join(table2_lines.legend(table))
    table.workload = msgspec.structs.replace(table.workload, device="cuda:0")
    assert "speed here beside its GPU" in " ".join(table2_lines.legend(table))
    untimed = " ".join(table2_lines.legend(by_hand(timed=False)))
    assert "speed here" not in untimed
    assert "which neither MACs nor time count; uncached: they run" in untimed
    for each in table.rows:
        each.later = each.uncached = None
    assert "its speed-ups" not in " ".join(table2_lines.legend(table))
    assert "uncached" not in " ".join(table2_lines.legend(table))


def test_the_answer_in_two_sentences():
    # 25 of 25 and 100 of 100; not 25 of 11.5, 52.6 of 53.6, 29.3 of 30.9, 10 of 11.1. Faster: Q8BERT and DeFormer.
    assert table2_lines.headline(by_hand()) == (
        "Of 6 sizes 2 are within 1 point of the printed ones, counted by the same rule, 2 as the weights are stored. "
        "Of 4 systems timed here 2 are surely faster than BERT-base; the fastest is DeFormer, 3.00 times."
    )
    assert table2_lines.headline(by_hand(timed=False)).endswith("as the weights are stored. Time was not measured.")
    table = by_hand()
    for each in table.rows:
        each.size = each.speed = None
    assert table2_lines.headline(table) == "Of 0 systems timed here 0 are surely faster than BERT-base."
    for content in (table2_renderers.terminal(by_hand(), 10_000), text(by_hand(), ".md"), text(by_hand(), ".html")):
        assert "the fastest is DeFormer, 3.00 times" in content


def test_caveats_of_all_rows_are_announced_once():
    table = by_hand()
    assert table2_lines.caveats(table) == []
    for each in table.rows:
        if each.speed is not None:
            each.speed.caveats.append(Caveat(code="unsteady-time", text="unsteady; is something else running?"))
    assert table2_lines.caveats(table) == ["caveats of the times of all rows: see each"]
    assert "Caveat: unsteady; is something else running?" in table2_lines.details(table, row(table, "Q8BERT"))


def test_caveats_of_what_runs_without_its_cache_are_told():
    table = by_hand()
    uncached = row(table, "DeFormer").uncached
    assert uncached is not None
    assert uncached.speed is not None
    uncached.speed.caveats.append(Caveat(code="unsteady-time", text="unsteady"))
    assert table2_lines.caveats(table) == ["caveats of the times of DeFormer: see each"]
    assert "Caveat: unsteady." in table2_lines.details(table, row(table, "DeFormer"))


@pytest.mark.parametrize("every", [False, True])
def test_caveats_lead_to_where_they_stand(every: bool):
    table = by_hand()
    for each in table.rows if every else [row(table, "Q8BERT")]:
        if each.speed is not None:
            each.speed.caveats.append(Caveat(code="unsteady-time", text="unsteady"))
    root = tree(table2_renderers.page(table))
    links = root.one("section", class_name="caveats").all("a")
    targets = [root.one(id=link.attributes["href"].removeprefix("#")) for link in links]
    assert targets
    if not every:
        assert [target.text for target in targets] == [link.text for link in links]


# The terminal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_it_fits(width: int):
    for table in (by_hand(), by_hand(timed=False), hostile()):
        assert max(map(cell_len, table2_renderers.terminal(table, width).splitlines())) <= width


def test_eighty_columns_have_what_matters():
    (cost, accuracy) = lines(by_hand(), "Q8BERT", 80)
    assert cost.split() == ["DQ", "Q8BERT", "25", "25.0", "4x", "1.00x", "2.00x", "[2.00,", "2.00]", "faster"]
    assert accuracy.split() == ["DQ", "Q8BERT", "–", "87.9/–", "92.2", "88.5", "–", "–"]
    (_, later, _) = lines(by_hand(), "ALBERT", 80)
    assert later.split() == ["AIC", "ALBERT", "10.7", "10.0", "8.8", "10.0", "1.2x", "1.2x", "1.00x"]


def test_a_group_without_its_name_is_not_begun():
    # SQuAD of the later edition would fit where MNLI, under which its group is named, does not.
    for width in range(60, 121):
        shown = table2_renderers.terminal(by_hand(timed=False), width).partition(table2.PARTS["later"])[2]
        heads = shown.partition("──")[0]
        assert ("SQuAD" in heads) <= ("MNLI" in heads)
        assert ("MNLI" in heads) <= ("acc./F1" in heads)


@pytest.mark.parametrize("width", [80, 120])
def test_cached_and_uncached_stand_below_one_another(width: int):
    found = [line.strip() for line in table2_renderers.terminal(by_hand(), width).splitlines()]
    at = next(i for i, line in enumerate(found) if line.startswith("AIC          DeFormer"))
    assert found[at].endswith("2.7x*  3.30x  3.00x [3.00, 3.00] faster")
    assert found[at + 1] == "· cached"
    assert found[at + 2].startswith("· uncached  ")
    assert found[at + 2].endswith("1.01x  1.00x same")
    # In the files each says which it is in a cell of its own.
    assert "DeFormer, cached" in text(by_hand(), ".html")
    assert "DeFormer, uncached" in text(by_hand(), ".md")


def test_a_hundred_and_twenty_show_more():
    (cost, _) = lines(by_hand(), "RPP 59.3 %", 120)
    assert cost.split()[3:10] == ["%", "53.6", "52.6", "300.0", "337.5", "139.9", "–"]
    (_, later, _) = lines(by_hand(), "ALBERT", 120)
    assert later.split()[-4:] == ["84.3", "89.6", "90.3", "89.3"]
    assert "not zero" in table2_renderers.terminal(by_hand(), 120)
    assert "not zero " not in table2_renderers.terminal(by_hand(), 80).partition("•")[0]


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
        assert re.search("caveats of the times of .*Q8BERT: see each", read)
        assert "Caveat: the machine was busy." in read
        assert "29.63" in read
        assert "nothing here runs 2 bits" not in read  # the cell says so


def test_it_shows_itself(tmp_path: Path):
    table = by_hand()
    assert str(table) == table.text() == table2_renderers.terminal(table)
    shown = table._repr_html_()
    # Three parts: 14 rows and one without its cache, 9 of the later edition and that one, 14; two rows of headers each.
    assert [shown.count(text) for text in ("<table ", "</tr>")] == [3, 15 + 10 + 14 + 3 * 2]
    assert "class=" not in shown  # no style of a page is known where it goes
    table.save(tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text() == text(table, ".md")


# Files ----------------------------------------------------------------------------------------------------------------


def test_the_command_stands_as_it_was_given():
    document = by_hand()
    document.command = "bertprof survey -o 'a  b.json'"
    assert "'a  b.json'" in text(document, ".md")
    assert "&#39;a  b.json&#39;" in text(document, ".html")


def test_markdown_has_a_table_of_each_part():
    found = [table.splitlines() for table in re.findall(r"(?:^\|.*\n)+", text(by_hand(), ".md"), flags=re.MULTILINE)]
    # 14 rows and one without its cache; 9 of the later edition and that one; 14.
    assert [len(table) for table in found] == [2 + 15, 2 + 10, 2 + 14]
    for table in found:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1


def test_the_page_has_the_tables_and_fetches_nothing():
    page = parsed(text(by_hand(), ".html"))
    assert len(page.rows) == 3 * 2 + 15 + 10 + 14
    assert page.rows[3][:8] == ["Q8BERT", "DQ", "25", "25.0", "25.0", "25.0", "–", "4x"]
    assert page.fetched == []
    assert page.tags.count("script") == 1  # its own
    assert {len(found) for found in page.rows[1:17]} == {10}
    assert {len(found) for found in page.rows[18:29]} == {13}
    assert {len(found) for found in page.rows[30:]} == {8}


def test_the_page_carries_the_table():
    content = text(by_hand(), ".html")
    assert schema.unpacked(content.encode(), "x") == schema.encode(by_hand())


def test_csv_has_all_digits_and_empty_cells_for_what_is_not_known():
    found = list(csv.DictReader(io.StringIO(text(by_hand(), ".csv"))))
    names = [system.name for system in SYSTEMS]
    names.insert(names.index("DeFormer"), "DeFormer")
    assert [line["system"] for line in found] == names
    of = {(line["system"], line["variant"]): line for line in found}
    pruned, quantised, albert = (of[name, ""] for name in ("RPP 59.3 %", "Q8BERT", "ALBERT"))
    assert (pruned["bytes"], pruned["nonzero_parameters"]) == ("12000", "1399")
    assert float(pruned["printed_rule_percent"]) == pytest.approx(100 * (1 - 0.593 * 0.8))
    assert (pruned["baseline_macs"], pruned["macs"]) == ("800", "2700")
    assert (pruned["later_size_percent"], pruned["later_setting"]) == ("67.6", "BERT-base with 41.3 % pruned")
    assert float(pruned["beside_later_percent"]) == pytest.approx(100 * (1 - 0.413 * 0.8))
    assert (quantised["speedup"], quantised["verdict"], quantised["rounds"]) == ("2.0", "faster", "20")
    assert (of["Q-BERT", ""]["speedup"], of["Q-BERT", ""]["verdict"]) == ("", "no kernel: dequantised")
    assert quantised["printed_mnli"] == ""
    assert float(albert["size_per_accuracy"]) == pytest.approx(88.9 / 3)
    assert (albert["later_gpu_speedup"], albert["later_cpu_speedup"]) == ("1.2", "1.2")
    assert float(albert["beside_later_percent_without_embedding"]) == pytest.approx(10)
    assert of["Wu BiLSTM?", ""]["not_run"].startswith("neither which student")
    cached, uncached = of["DeFormer", "cached"], of["DeFormer", "uncached"]
    assert (cached["segments"], cached["printed_speedup"]) == ("24 296", "2.7")
    assert float(cached["speedup"]) == pytest.approx(3)
    # What is printed is not of it, nor are the later edition's figures.
    printed = [key for key in uncached if key.startswith(("printed_", "later_")) and key != "printed_rule_percent"]
    assert {uncached[key] for key in printed} == {""}
    assert (uncached["macs"], uncached["speedup"], uncached["verdict"]) == ("3267", "1.0", "same")
    assert uncached["model"] == "bert-base-uncased+decompose-attention=9"


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
    # The command stands in a block that nothing in it closes.
    command = r"^(`{3,})sh\n.*\n\1$"
    markdown, blocks = re.subn(command, "", text(table, ".md"), flags=re.MULTILINE)
    assert blocks == 1
    assert "<img" not in markdown
    assert "\n# [a]" not in markdown
    assert not re.search(r"(?<!\\)[|`]x", markdown.replace("| ", ""))
    assert "\x1b" not in markdown
    page = parsed(text(table, ".html"))
    assert page.fetched == []
    assert ("img" in page.tags, page.tags.count("script")) == (False, 1)
    assert "\x1b" not in text(table, ".html")
    for line in csv.DictReader(io.StringIO(text(table, ".csv"))):
        assert not any((value or "").startswith(("=", "+", "@")) for value in line.values())


@pytest.mark.slow
def test_reading_one_is_light(tmp_path: Path):
    by_hand().save(tmp_path / "t.json")
    run_light(tmp_path, "report", "t.json", "-o", "t.md", "-o", "t.html", "-o", "t.csv")
    assert (tmp_path / "t.html").stat().st_size > 5000
