"""Grids: what a table of a page carries, for a reader, for the script, and without it."""

import json
import math
import re

import pytest
from pages import grids, parsed

from bertprof.report.page import grid as of_grid
from bertprof.report.page.grid import Cell, Column, Grid, Line, choices, tip
from bertprof.report.template import loaded

COLUMNS = [
    Column("a_ms", "ms", "time", "absolute", group="time"),
    Column("a_share", "%", "time", "share", group="time", only=True),
    Column("b", "count", "FLOPs", "absolute", group="FLOPs"),
    Column("word", "what", word=True),
]


def grid(**fields: object) -> Grid:
    cells = [Cell("1.50", 1.5), Cell("60.0", 0.6, bar=60.0), Cell("2.000k", 2000), Cell("wide", "wide")]
    lines = [Line("first", cells, color="#123456", note="a note", tip="how\nso"), Line("second", cells, depth=2)]
    return Grid("unit", "A caption", COLUMNS, lines, total=Line("total", cells), **fields)  # type: ignore[arg-type]


def rendered(found: Grid) -> str:
    return str(loaded("grid.html").module.grid_of(found))  # type: ignore[attr-defined]


def test_a_table_is_read_back_as_it_was_made():
    (found,) = grids(rendered(grid()))
    assert found.caption == "A caption"
    assert found.headers == ["unit", "ms", "%", "count", "what"]
    assert found.names == ["unit", "a_ms", "a_share", "b", "word"]
    assert [label for label, _, _ in found.rows] == ["first", "second", "total"]
    for _, texts, values in found.rows:
        assert texts == ["1.50", "60.0", "2.000k", "wide"]
        assert values == [1.5, 0.6, 2000, "wide"]


def test_omitted_end_tags_leave_rows_and_cells_as_they_are():
    found = parsed(rendered(grid()))
    assert [len(row) for row in found.rows] == [4, 5, 5, 5, 5]
    assert found.rows[2] == ["first a note", "1.50", "60.0", "2.000k", "wide"]


def test_what_only_a_choice_shows_is_hidden_without_a_script():
    content = rendered(grid())
    assert content.count(" hidden") == 1 + 3  # its head and its cells
    assert '<th scope="colgroup" data-over="2" colspan="1"><span>time</span></th>' in content


def test_a_group_of_hidden_columns_is_hidden():
    only = [Column("a", "x", "time", "share", group="time", only=True), *COLUMNS[2:]]
    content = rendered(Grid("unit", "", only, [Line("l", [Cell("1", 1)] * 3)]))
    assert '<th scope="colgroup" data-over="1" hidden><span>time</span></th>' in content


def test_tables_without_groups_have_one_row_of_heads():
    content = rendered(Grid("unit", "", [Column("a", "x")], [Line("l", [Cell("1", 1)])]))
    assert content.count("<tr") == 2
    assert "<tfoot" not in content


def test_cells_carry_their_looks():
    cells = [Cell("1", 1, heat=0.5), Cell("2", 2, tone="worse"), Cell("3", 3, title="three"), Cell("4", 4, title="4")]
    content = rendered(Grid("unit", "", [Column(f"c{i}", "x") for i in range(4)], [Line("l", cells)]))
    assert '<td style="--heat:0.50">1<td class="worse">2<td title="three">3<td>4' in content


def test_whatever_stands_in_a_table_is_inert():
    bad = "<b onclick=x>\"'&\x1b"
    cell = Cell(bad, bad, title=f"{bad}!")
    content = rendered(Grid("unit", bad, [Column("a", bad)], [Line(bad, [cell], note=bad, tip=tip(bad))]))
    found = parsed(content)
    assert "b" not in found.tags
    assert found.fetched == []
    (table,) = grids(content)
    assert table.rows[0][2] == [bad]


def test_values_keep_seven_digits_and_every_count():
    cells = [Cell("", 1 / 3), Cell("", 2**62), Cell("", 3.0), Cell("", None), Cell("", "é")]
    assert Line("", cells).values == f'[0.3333333,{2**62},3,null,"é"]'
    assert of_grid.DIGITS == 7
    assert json.loads(Line("", cells).values)[1] == 2**62


def test_what_can_be_chosen():
    one, other = grid(), Grid("module", "", COLUMNS, [])
    found = choices([one, other])
    assert found["by"] == [("unit", "unit"), ("module", "module")]
    assert found["metric"] == [("", "all"), ("time", "time"), ("FLOPs", "FLOPs")]
    assert found["as"] == [("", "figures and shares"), ("absolute", "figures"), ("share", "shares")]
    assert "by" not in choices([one])
    assert "side" not in found
    sided = [Column(f"a_{side}", side, side=side) for side in ("before", "after")]
    assert choices([Grid("unit", "", sided, [])]) == {
        "side": [("", "before and after"), ("before", "before"), ("after", "after")]
    }
    assert choices([Grid("unit", "", COLUMNS[:1], [])]) == {}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_finite_number_is_not_known(value: float):
    content = rendered(Grid("unit", "", [Column("a", "x")], [Line("l", [Cell("–", value)])]))
    (found,) = grids(content)
    assert found.rows == [("l", ["–"], [None])]
    assert "Infinity" not in content
    assert "NaN" not in content


def test_a_usual_table_is_without_what_only_a_choice_shows():
    usual = grid().usual
    assert [column.name for column in usual.columns] == ["a_ms", "b", "word"]
    assert usual.total is not None
    for line in (*usual.lines, usual.total):
        assert [cell.text for cell in line.cells] == ["1.50", "2.000k", "wide"]
    assert [(group.name, group.over) for group in usual.groups] == [("time", 1), ("FLOPs", 1), ("", 1)]
    assert usual.usual == usual
    assert grid().usual.lines[1].depth == 2


def test_a_table_for_a_notebook_has_its_looks_in_it():
    content = str(loaded("grid.html").module.fragment_of(grid()))  # type: ignore[attr-defined]
    assert " class=" not in content
    assert " hidden" not in content
    found = parsed(content)
    assert [len(row) for row in found.rows] == [4] * 5
    assert found.rows[1] == ["unit", "ms", "count", "what"]
    assert found.rows[-1] == ["total", "1.50", "2.000k", "wide"]
    alone = Grid("unit", "", [Column("a", "x")], [Line("l", [Cell("1", 1)])])
    assert len(parsed(str(loaded("grid.html").module.fragment_of(alone))).rows) == 2  # type: ignore[attr-defined]


def test_controls_say_what_they_are_of():
    module = loaded("grid.html").module
    found = str(module.controls({"metric": [("a", "A")]}, "Heat map", copies=False))  # type: ignore[attr-defined]
    assert 'aria-label="Heat map: what is shown"' in found
    assert "data-copy" not in found
    assert "data-copy" in str(module.controls({}, "Totals"))  # type: ignore[attr-defined]


def test_the_script_that_runs_has_no_comments():
    page = re.search(r"<script>(.*?)</script>", loaded("page.html").render(title="", caveats=[]), re.DOTALL)
    assert page is not None
    lines = page[1].splitlines()
    assert lines[0] == '"use strict";'
    assert [line for line in lines if line.lstrip().startswith("//") or line != line.lstrip() or not line] == []
