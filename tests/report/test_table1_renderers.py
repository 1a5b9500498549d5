"""The renderers of the survey's Table 1: what stands where, at which widths, and nothing that means harm."""

import csv
import io
import re
from pathlib import Path

import pytest
from pages import parsed
from rich.cells import cell_len
from trees import tree

from bertprof import report, schema
from bertprof.report import table1, table1_renderers
from bertprof.survey.approaches import APPROACHES
from bertprof.survey.methods import Methods
from bertprof.survey.table1 import COLUMNS, NOTES, TARGETS
from conftest import run_light
from surveyed import by_hand, hostile, measured, model, row


def text(document: Methods, suffix: str) -> str:
    return report.render(document, Path(f"x{suffix}")).decode()


def by_hand_1(time: bool = True) -> Methods:
    return by_hand("table1", time)


# Cells ----------------------------------------------------------------------------------------------------------------


def test_the_matrix_by_hand():
    found = {target: [table1.text(cell) for cell in cells] for target, cells in table1.matrix(by_hand_1()).items()}
    # DQ, EP, SP, EO, OL, AM, PS, EMC, AD; of KD-EO and KD-AM MobileBERT alone was measured, of KD-OL Tang and AdaBERT.
    assert found == {
        "embedding": ["X B", "–≠PB", "–", "4 PBT", "?", "? PBT", "?", "4 PB", "–"],
        "self-attention": ["X BT", "X PB", "4 PBMT", "4 PBMT", "–≠PBMT", "4 PBMT", "4 PB", "–", "X MT"],
        "FFN": ["X BT", "X PB", "–≠PBMT", "4 MT", "–≠PBMT", "–≠MT", "4 PB", "–", "–"],
        "Transformer": ["–", "–", "4 PBMT", "4 PBMT", "X PBMT", "–≠PBMT", "–", "–", "–"],
    }
    assert table1.headline(by_hand_1()) == (
        "27 of the 33 cells of Table 1 that were measured agree with the print; in 6 something changes where no mark "
        "is printed."
    )


def test_marks_of_a_method():
    document = by_hand_1()
    assert table1.method_marks(row(document, "Michel")) == ["·", "PBMT", "·", "·"]
    assert table1.method_marks(row(document, "MobileBERT")) == ["PBT+", "P+B+M+T+", "M+T+", "P+B+M+T+"]
    assert table1.method_marks(row(document, "Tang b"))[3] == "PBMT±"
    assert table1.method_marks(row(document, "Wu")) == ["–"] * 4
    assert [table1.total(row(document, "Michel"), field) for field in table1.TOTALS] == ["90.0", "85.1", "80.0"]
    assert table1.total(row(document, "Q-BERT"), "time") == "no kernel"
    assert table1.total(row(document, "Chia"), "time") == "failed"
    assert table1.total(row(document, "Wu"), "time") == "not run"
    assert table1.total(row(document, "Liu"), "time") == "–"
    assert table1.total(row(by_hand_1(time=False), "Q-BERT"), "time") == "–"


def test_disagreements_say_who_and_why():
    found = dict(table1.disagreements(by_hand_1()))
    assert found["Embed. Layer × PR-EP"].startswith(
        "not printed, Gordon changes P, B: Gordon prunes the word embeddings as well; Section 3.2 says"
    )
    assert found["Self-Attn. × KD-OL"].startswith("not printed, Turc, Tang b, Tang a, AdaBERT change P, B, M, T: ")
    document = by_hand_1()
    row(document, "DeFormer").measured = measured(model())
    found = dict(table1.disagreements(document))
    assert found["Self-Attn. × AIC-AD"] == "printed X, nothing changes: no reason is known."
    assert table1.headline(document).endswith("; in 1 nothing changes where a mark is printed.")


def test_the_legend_tells_what_was_not_looked_at():
    document = by_hand_1()
    row(document, "DeFormer").measured = None
    assert "no method was measured of AIC-AD" in table1.legend(document)
    assert not any("no method" in line for line in table1.legend(by_hand_1()))
    assert "time was not measured" in table1.key(by_hand_1(time=False))


# The terminal ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_it_fits(width: int):
    for document in (by_hand_1(), by_hand_1(time=False), hostile("table1")):
        assert max(map(cell_len, table1_renderers.terminal(document, width).splitlines())) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_the_whole_matrix_stands_side_by_side(width: int):
    shown = table1_renderers.terminal(by_hand_1(), width)
    (line,) = re.findall(r"^ Self-Attn\. .*$", shown, flags=re.MULTILINE)
    assert " ".join(line.split()) == "Self-Attn. X BT X PB 4 PBMT 4 PBMT –≠PBMT 4 PBMT 4 PB – X MT"
    (line,) = re.findall(r"^ Michel .*$", shown, flags=re.MULTILINE)
    # With the columns of Table 1 where there is room.
    assert " ".join(line.split()) == f"Michel {'PR-SP ' if width == 120 else ''}· PBMT · · 90.0 85.1 80.0"


def test_a_narrow_terminal_has_the_matrix_in_parts():
    shown = table1_renderers.terminal(by_hand_1(), 40)
    assert len(re.findall(r"^ Self-Attn\. ", shown, flags=re.MULTILINE)) == 3


def test_colours_are_for_terminals_only():
    plain = table1_renderers.terminal(by_hand_1(), 80)
    coloured = table1_renderers.terminal(by_hand_1(), 80, color=True)
    assert "\x1b[" not in plain
    assert "\x1b[33m–≠PB" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured).split() == plain.split()


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_what_the_marks_mean_stands_before_the_table(suffix: str):
    content = re.sub(r"\\(.)", r"\1", text(by_hand_1(), suffix)).replace("&#39;", "'")
    assert content.index(table1.key(by_hand_1())) < content.index("Embed. Layer")


def test_how_it_is_read_stands_everywhere():
    for content in (
        table1_renderers.terminal(by_hand_1(), 10_000),
        text(by_hand_1(), ".md"),
        text(by_hand_1(), ".html"),
    ):
        read = re.sub(r"\\(.)", r"\1", re.sub(r"<[^>]*>", "", content)).replace("&#39;", "'")
        for note in (*NOTES, *by_hand_1().notes):
            assert note in read
        for each in APPROACHES:
            assert each.name in read
        assert "no such model" in read
        assert "which student it is, is not certain" in read
        assert "Gordon prunes the word embeddings" in read


# Files ----------------------------------------------------------------------------------------------------------------


def test_markdown_has_both_tables():
    matrix, methods = re.findall(r"(?:^\|.*\n)+", text(by_hand_1(), ".md"), flags=re.MULTILINE)
    assert len(matrix.splitlines()) == 2 + 4
    assert len(methods.splitlines()) == 2 + 25
    for table in (matrix, methods):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_the_page_has_both_tables_and_fetches_nothing():
    page = parsed(text(by_hand_1(), ".html"))
    assert page.rows[0] == ["component", *COLUMNS]
    assert page.rows[2] == ["Self-Attn.", "X BT", "X PB", *["4 PBMT"] * 2, "– ≠ PBMT", "4 PBMT", "4 PB", "–", "X MT"]
    assert len(page.rows) == 1 + 4 + 1 + 25
    assert page.fetched == []
    assert page.tags.count("script") == 1  # its own


def test_the_page_carries_the_document():
    content = text(by_hand_1(), ".html")
    assert schema.unpacked(content.encode(), "x") == schema.encode(by_hand_1())


def test_csv_has_cells_and_methods():
    found = list(csv.DictReader(io.StringIO(text(by_hand_1(), ".csv"))))
    assert len(found) == 4 * 9 + 25 * 4
    cells = {(line["component"], line["column"]): line for line in found if not line["method"]}
    assert len(cells) == 36
    own = cells["embedding", "PR-EP"]
    assert (own["printed"], own["parameters"], own["bytes"], own["macs"], own["time"]) == (
        *("", "less", "less"),
        *("same", "same"),
    )
    assert (own["agrees"], own["changed_by"]) == ("no", "Gordon")
    assert own["reason"].startswith("Gordon prunes")
    assert (cells["FFN", "DQ"]["agrees"], cells["FFN", "DQ"]["reason"]) == ("yes", "")
    assert cells["embedding", "KD-AM"]["agrees"] == ""
    methods = {(line["method"], line["component"]): line for line in found if line["method"]}
    assert methods["MobileBERT", "FFN"]["time"] == "more"
    assert methods["Wu", "FFN"]["time"] == ""
    assert [key for key, _ in methods][:: len(TARGETS)] == [each.name for each in APPROACHES]


def test_json_is_the_document():
    assert text(by_hand_1(), ".json").encode() == schema.encode(by_hand_1())


def test_it_shows_itself():
    document = by_hand_1()
    assert str(document) == document.text() == table1_renderers.terminal(document)
    shown = document._repr_html_()
    assert [shown.count(text) for text in ("<table ", "</tr>", "<li>")] == [
        *(1, 1 + len(table1.AS_PRINTED), len(table1.disagreements(document)))
    ]
    assert "class=" not in shown  # no style of a page is known where it goes


def test_who_changes_a_component_is_told_by_its_row():
    content = table1_renderers.page(by_hand_1())
    assert "<td title" not in content  # which no keyboard reaches
    titles = [each.attributes["title"].split("\n") for each in tree(content).all("span", class_name="tip")]
    told = [
        [f"{cell.column}: {', '.join(cell.methods)}" for cell in cells if cell.methods]
        for cells in table1.matrix(by_hand_1()).values()
    ]
    assert titles == [each for each in told if each]


def test_every_control_and_region_says_of_what_it_is():
    root = tree(table1_renderers.page(by_hand_1()))
    explorers = root.all("section", class_name="explorer")
    names = [each.attributes["aria-label"] for each in explorers]
    assert len(set(names)) == len(names) == 2
    for name, each in zip(names, explorers, strict=True):
        assert name in each.one("div", role="group").attributes["aria-label"]


# Harm -----------------------------------------------------------------------------------------------------------------


def test_hostile_text_is_inert():
    document = hostile("table1")
    for width in (80, 200):
        assert all(c.isprintable() or c == "\n" for c in table1_renderers.terminal(document, width))
    # The command stands in a block that nothing in it closes.
    command = r"^(`{3,})sh\n.*\n\1$"
    markdown, blocks = re.subn(command, "", text(document, ".md"), flags=re.MULTILINE)
    assert blocks == 1
    assert "<img" not in markdown
    assert "\n# [a]" not in markdown
    assert "\x1b" not in markdown
    page = parsed(text(document, ".html"))
    assert page.fetched == []
    assert ("img" in page.tags, page.tags.count("script")) == (False, 1)
    for line in csv.DictReader(io.StringIO(text(document, ".csv"))):
        assert not any((value or "").startswith(("=", "+", "@")) for value in line.values())


@pytest.mark.slow
def test_reading_one_is_light(tmp_path: Path):
    by_hand_1().save(tmp_path / "t.json")
    run_light(tmp_path, "report", "t.json", "-o", "t.md", "-o", "t.html", "-o", "t.csv")
    assert (tmp_path / "t.html").stat().st_size > 5000
