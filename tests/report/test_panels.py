"""Panels: small tables behind the main one, in every format that has a place for them."""

import re

import pytest

import handmade
from bertprof.components import Component
from bertprof.record import Breakdown
from bertprof.report import markdown, page, panels, terminal
from bertprof.report.panels import Panel

HOSTILE = "</td><script>alert(1)</script> | `x` \x1b[31m"
PANEL = Panel(
    "Two clocks",
    ("component", "graph ms", "share"),
    [("ffn", "3.0", "75 %"), (HOSTILE, "1.0", "25 %")],
    ["the sum is that of all", HOSTILE],
    ("total", "4.0", "100 %"),
)
RECORD = handmade.made(handmade.cost(Component.FFN, 0, [1.0, 2.0], flops=4))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Breakdown:
    for module in (terminal.breakdown, markdown, page.breakdown):
        monkeypatch.setattr(module, "panels", lambda breakdown: [PANEL, Panel("Words alone", (), (), ["as they are"])])
    return RECORD


def test_the_terminal_shows_them(shown: Breakdown):
    text = terminal.render(shown, width=80)
    lines = [line.strip() for line in text.splitlines()]
    assert lines.index("Two clocks") > next(i for i, line in enumerate(lines) if line.startswith("end to end"))
    assert re.search(r"ffn +3\.0 +75 %", text)
    assert re.search(r"total +4\.0 +100 %", text)
    assert "\x1b" not in text
    assert max(map(len, lines)) <= 80
    assert lines[-2:] == ["Words alone", "as they are"]


def test_markdown_shows_them(shown: Breakdown):
    text = markdown.render(shown)
    assert "### Two clocks" in text
    assert "| component | graph ms | share |\n| --- | ---: | ---: |\n| ffn | 3.0 | 75 % |" in text
    assert "| **total** | **4.0** | **100 %** |" in text
    assert "<script" not in text
    assert text.rstrip().endswith("### Words alone\n\nas they are")


def test_the_page_shows_them(shown: Breakdown):
    text = page.render(shown)
    assert "<h2>Two clocks</h2>" in text
    assert '<tr><th scope="row">ffn</th><td>3.0</td><td>75 %</td></tr>' in text
    assert '<tr><th scope="row">total</th><td>4.0</td><td>100 %</td></tr>' in text
    assert text.count("<script") == 1  # the page's own
    assert "\x1b" not in text
    assert '<h2>Words alone</h2>\n<p class="soft">as they are</p>' in text


def test_a_record_that_holds_nothing_of_it_has_none():
    assert panels.panels(RECORD) == []
