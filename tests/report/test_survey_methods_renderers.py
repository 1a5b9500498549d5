"""The renderers of the survey's methods: what stands where, at which widths, and nothing that means harm."""

import csv
import io
import re
from pathlib import Path

import pytest
from pages import parsed
from rich.cells import cell_len

from bertprof import report, schema
from bertprof.errors import UsageError
from bertprof.record import Caveat
from bertprof.report import figure, survey_methods, survey_methods_renderers
from bertprof.survey.approaches import APPROACHES
from bertprof.survey.methods import Methods
from surveyed import MODELS, by_hand, hostile, row


def text(document: Methods, suffix: str) -> str:
    return report.render(document, Path(f"x{suffix}")).decode()


def lines(document: Methods, name: str, width: int) -> list[str]:
    """The lines of the terminal's tables that begin with a method's name."""
    found = survey_methods_renderers.terminal(document, width).splitlines()
    return [" ".join(line.split()) for line in found if re.match(rf" {re.escape(name)}  ", line)]


# Cells ----------------------------------------------------------------------------------------------------------------


def test_cells():
    document = by_hand()
    found = {
        each.name: [survey_methods.cell(each, column.field) for column in survey_methods.COLUMNS]
        for each in survey_methods.rows(document)
    }
    dash = "–"
    assert found["BERT-base"] == [dash, "100.0", "100.0", "100.0", "100.0", "1x", dash, dash]
    # Of 3,200 bytes 200 of the embedding, 560 of linears, 160 of the head; 43 of 100 ms are saved.
    assert found["Q8BERT"][:6] == ["DQ", "28.8", "100.0", "100.0", "57.0 [57.0, 57.0]", "1.75x faster"]
    assert found["Q-BERT"][4:6] == [dash, "no kernel: dequantised"]
    assert found["Gordon"][1:6] == ["65.0", "60.0", "100.0", "100.0", "1.00x same"]
    assert found["MobileBERT"][0] == "KD-EO, AM"
    assert found["MobileBERT"][5] == "0.50x slower"  # 2 × 3 + 192 + 2 ms of its embedding, four units and head
    assert found["MobileBERT"][6:] == ["23.1", "3.9x/4.7x"]
    assert found["AdaBERT"][7] == "19.5x/–"
    assert found["Chia"][1:6] == [*[dash] * 4, "failed"]
    assert found["Turc"][1] == "65.0"  # counted: 200 + 280 + 40 of 800, and not timed
    assert found["Turc"][4:6] == [dash, "failed"]
    assert found["Wu"][5] == "not run"
    assert found["Liu"][5] == dash


def test_columns_of_a_branch_are_named_once():
    assert survey_methods.short_columns(["KD-EO", "KD-OL", "KD-AM"]) == "KD-EO, OL, AM"
    assert survey_methods.short_columns(["AIC-PS", "AIC-EMC"]) == "AIC-PS, EMC"
    assert survey_methods.short_columns(["DQ"]) == "DQ"
    assert survey_methods.short_columns([]) == "–"


def test_groups_are_of_all_of_the_base():
    document = by_hand()
    assert survey_methods.groups(document) == [
        *("embedding", "attention-linear", "softmax-attention", "ffn", "recurrent", "convolution", "rest")
    ]
    # 200, 160, 0, 400 and 40 of 800 parameters.
    names = [*survey_methods.groups(document), None]
    assert [survey_methods.group_cell(document.base, "size", name) for name in names] == [
        *("25.0", "20.0", "0", "50.0", "0", "0", "5.0", "100.0")
    ]
    tang = row(document, "Tang b")
    assert [survey_methods.group_cell(tang, "size", name) for name in names] == [
        *("25.0", "0", "0", "0", "10.0", "0", "5.0", "40.0")
    ]
    assert [survey_methods.group_cell(tang, "time", name) for name in names] == [
        *("2.0", "0", "0", "0", "20.0", "0", "2.0", "24.0")
    ]
    assert survey_methods.group_cell(row(document, "Q-BERT"), "time", "ffn") == "–"
    assert survey_methods.group_cell(row(document, "Wu"), "size", None) == "–"


def test_the_answer_in_a_few_words():
    said = survey_methods.headline(by_hand())
    # 15 have figures (Tang a those of Tang b, Turc counted only); MobileBERT has more parameters, DeFormer as many.
    assert said.startswith("13 of 15 measured methods are smaller than BERT-base, 7 are surely faster.")
    assert "The fastest is AdaBERT, 20.0 times." in said  # 2 + 2 + 1 ms of 100
    assert "Smaller, and not surely faster: Q-BERT, Gordon, RPP, Turc, ALBERT, ALBERT's sharing, Zhao's voc" in said
    assert survey_methods.headline(by_hand(time=False)).endswith("time was not measured.")


def test_details():
    document = by_hand()

    def told(name: str, brief: bool = False) -> str:
        return " ".join(survey_methods.details(row(document, name), brief))

    assert "57.0 ms [57.0, 57.0] against 100.0 ms [100.0, 100.0] of BERT-base in the same 20 rounds" in told("Q8BERT")
    assert "executed dequantised" in told("Q-BERT")
    assert "By itself: bertprof diff bert-base-uncased bert-base-uncased+decompose-attention=9 --segments 24,296" in (
        told("DeFormer")
    )
    assert "Failed: no such model." in told("Chia", brief=True)
    assert "Not run: which student it is" in told("Wu", brief=True)
    assert "Counted in no column of Table 1: it stands in two columns" in told("ALBERT")
    assert (
        "The later edition (likely): 23.1 % of the size, 24.8 % without embeddings; speed-up 3.9x/4.7x (GPU/CPU)."
        in told("MobileBERT")
    )
    assert "Runs (guess): a CNN" in told("Chia")
    assert survey_methods.details(document.base) == []


def test_caveats_are_announced_and_told():
    document = by_hand()
    assert survey_methods.caveats(document) == []
    measured = row(document, "Q8BERT").measured
    assert measured is not None
    measured.caveats.append(Caveat(code="unsteady-time", text="the machine was busy"))
    assert survey_methods.caveats(document) == ["caveats of Q8BERT: see each"]
    assert "Caveat: the machine was busy." in survey_methods.details(row(document, "Q8BERT"))


# The terminal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_it_fits(width: int):
    for document in (by_hand(), by_hand(time=False), hostile()):
        assert max(map(cell_len, survey_methods_renderers.terminal(document, width).splitlines())) <= width


def test_eighty_columns_have_what_matters():
    whole, size, macs, time = lines(by_hand(), "Michel", 80)
    assert whole == "Michel 90.0 85.1 80.0 [80.0, 80.0] 1.25x faster"
    assert size == "Michel 25.0 10.0 0 50.0 0 0 5.0 90.0"
    # Of 5,710 MACs 1,600 are of linears, 100 of attention; half of each are left.
    assert macs == "Michel 0 14.0 0.88 70.1 0 0 0.18 85.1"
    assert time == "Michel 2.0 15.0 5.0 56.0 0 0 2.0 80.0"


def test_more_columns_show_more():
    (whole, *_) = lines(by_hand(), "DistilBERT", 120)
    assert whole == "DistilBERT KD-EO, OL – – – – 60.7 1.94x/1.73x"
    assert "attention-linear" in survey_methods_renderers.terminal(by_hand(), 120)


def test_what_was_not_timed_has_no_panel_of_times():
    assert len(lines(by_hand(time=False), "Michel", 80)) == 3


def test_every_method_is_told_of_everywhere():
    for content in (
        survey_methods_renderers.terminal(by_hand(), 10_000),
        text(by_hand(), ".md"),
        text(by_hand(), ".html"),
    ):
        read = re.sub(r"\\(.)", r"\1", re.sub(r"<[^>]*>", "", content)).replace("&#39;", "'").replace("&gt;", ">")
        for each in APPROACHES:
            assert each.name in read
            assert each.paper in read
            for note in (*each.notes, *by_hand().notes):
                assert note.removesuffix(".") in read
        assert "surely faster" in read


def test_colours_are_for_terminals_only():
    plain = survey_methods_renderers.terminal(by_hand(), 80)
    coloured = survey_methods_renderers.terminal(by_hand(), 80, color=True)
    assert "\x1b[" not in plain
    assert "\x1b[32m1.25x faster" in coloured
    assert "\x1b[31mfailed" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split() == plain.split()


# Files ----------------------------------------------------------------------------------------------------------------


def test_markdown_has_a_table_of_all_and_one_a_metric():
    tables = re.findall(r"(?:^\|.*\n)+", text(by_hand(), ".md"), flags=re.MULTILINE)
    # 15 methods with figures, and BERT-base.
    assert [len(table.splitlines()) for table in tables] == [2 + 26, 2 + 16, 2 + 16, 2 + 16]
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_the_page_stands_alone():
    content = text(by_hand(), ".html")
    page = parsed(content)
    assert len(page.rows) == 1 + 26 + 3 * (1 + 16)
    assert page.fetched == []
    assert page.tags.count("script") == 1  # its own
    assert schema.unpacked(content.encode(), "x") == schema.encode(by_hand())
    assert content.count("<svg") == 1
    assert ">ALBERT's sharing</text>" in content.replace("&#39;", "'")


def test_csv_has_all_digits_of_methods_and_components():
    found = list(csv.DictReader(io.StringIO(text(by_hand(), ".csv"))))
    of = {(line["method"], line["scope"]): line for line in found}
    assert len(of) == len(found)
    total = of["Gordon", "total"]
    assert (total["base_bytes"], total["bytes"], total["size_percent"]) == ("3200", "2080", "65.0")
    assert of["Gordon", "ffn"]["nonzero_parameters"] == "240"
    assert of["Gordon", "ffn"]["parameters_percent"] == "30.0"
    assert (of["Michel", "total"]["time_ratio"], of["Michel", "total"]["verdict"]) == ("0.8", "faster")
    assert of["Q-BERT", "total"]["verdict"] == "no kernel: dequantised"
    assert of["Q-BERT", "total"]["time_percent"] == ""
    assert of["Chia", "total"]["failed"] == "no such model"
    assert of["DeFormer", "total"]["segments"] == "24+296"
    assert of["BERT-base", "total"]["time_percent"] == "100.0"
    assert of["MobileBERT", "total"]["later_gpu_speedup"] == "3.9"
    assert of["MobileBERT", "ffn"]["later_gpu_speedup"] == ""


def test_json_is_the_document():
    assert text(by_hand(), ".json").encode() == schema.encode(by_hand())


def test_there_are_figures_always_the_same():
    for view in ("methods", "table1"):
        assert report.render(by_hand(view), Path("x.png")).startswith(b"\x89PNG")  # type: ignore[arg-type]
    assert text(by_hand(), ".svg") == text(by_hand(), ".svg")


def test_the_figure_has_a_bar_a_method():
    drawn = figure.draw([by_hand()])
    size, macs, time = drawn.axes
    for axes, metric in ((size, "size"), (macs, "macs"), (time, "time")):
        ends: dict[float, float] = {}
        for bar in axes.patches:
            middle = round(bar.get_y() + bar.get_height() / 2)  # type: ignore[attr-defined]
            ends[middle] = max(ends.get(middle, 0.0), bar.get_x() + bar.get_width())  # type: ignore[attr-defined]
        for y, each in enumerate(survey_methods.rows(by_hand())):
            wanted = None if each.measured is None else each.measured.percent(metric)  # type: ignore[arg-type]
            assert ends.get(y, 0.0) == pytest.approx(wanted or 0.0)
    labels = [label.get_text() for label in size.get_yticklabels()]
    assert labels[0] == "BERT-base"
    assert "DeFormer (24 + 296)" in labels
    assert {each.get_text() for each in time.texts} >= {"80.0, 1.25x faster", "no kernel: dequantised", "failed"}
    assert len(figure.draw([by_hand(time=False)]).axes) == 2


def test_it_shows_itself(tmp_path: Path):
    document = by_hand()
    assert str(document) == document.text() == survey_methods_renderers.terminal(document)
    shown = document._repr_html_()
    assert [shown.count(text) for text in ("<table ", "</tr>")] == [1, 1 + len(survey_methods.rows(document))]
    assert "class=" not in shown  # no style of a page is known where it goes
    assert len(document.figure().axes) == 3
    document.save(tmp_path / "m.md")
    assert (tmp_path / "m.md").read_text() == text(document, ".md")


def test_the_command_stands_as_it_was_given():
    document = by_hand()
    document.command = "bertprof survey -o 'a  b.json'"
    assert "'a  b.json'" in text(document, ".md")
    assert "&#39;a  b.json&#39;" in text(document, ".html")


def test_it_has_no_views_and_stands_alone():
    with pytest.raises(UsageError, match="the survey's methods have no view by 'unit'"):
        report.render(by_hand(), Path("x.md"), "unit")
    with pytest.raises(UsageError, match="given with other files"):
        report.text_of_all([by_hand(), MODELS["RPP"]], "component", 80, wide=False, color=False)


# Harm -----------------------------------------------------------------------------------------------------------------


def test_hostile_text_is_inert():
    document = hostile()
    for width in (80, 200):
        assert all(c.isprintable() or c == "\n" for c in survey_methods_renderers.terminal(document, width))
    # The command stands in a block that nothing in it closes.
    command = r"^(`{3,})sh\n.*\n\1$"
    markdown, blocks = re.subn(command, "", text(document, ".md"), flags=re.MULTILINE)
    assert blocks == 1
    assert "<img" not in markdown
    assert "\n# [a]" not in markdown
    assert "\x1b" not in markdown
    content = text(document, ".html")
    page = parsed(content)
    assert page.fetched == []
    assert ("img" in page.tags, page.tags.count("script")) == (False, 1)
    assert "\x1b" not in content
    for line in csv.DictReader(io.StringIO(text(document, ".csv"))):
        assert not any((value or "").startswith(("=", "+", "@")) for value in line.values())
