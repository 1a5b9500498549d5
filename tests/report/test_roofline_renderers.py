"""The roofline in every report: columns where there is room, the sentences, the caveat."""

import re

import pytest

from bertprof.components import Component
from bertprof.record import Breakdown
from bertprof.report import markdown, page, terminal
from handmade import cost
from test_roofline import ATTENTION, LINEAR, record

FAST = cost(Component.HEAD, None, [1.0], flops=200_000_000, bytes_moved=0)


@pytest.fixture
def breakdown() -> Breakdown:
    """Attention that is bound by memory, an FFN that is by arithmetic, and a head that is faster than its roof."""
    return record(ATTENTION, LINEAR, FAST)


@pytest.mark.parametrize(
    ("width", "shown"),
    [(130, ["roof %", "bound"]), (90, ["roof %"]), (70, [])],
)
def test_columns_of_a_terminal(width: int, shown: list[str], breakdown: Breakdown):
    lines = terminal.render(breakdown, width=width).splitlines()
    head = lines[next(i for i, line in enumerate(lines) if line.startswith(" ──")) - 1]
    assert [name for name in ("roof %", "bound", "GFLOP/s") if name in head] == shown


def test_a_wide_table_has_the_rates(breakdown: Breakdown):
    row = next(
        line for line in terminal.render(breakdown, width=160, wide=True).splitlines() if line.startswith(" softmax")
    )
    assert re.search(r"2\.50 +2\.50 +6\.2 +memory$", row)


def test_every_report_explains_and_warns(breakdown: Breakdown):
    for text in (terminal.render(breakdown, width=400), markdown.render(breakdown), page.render(breakdown)):
        plain = text.replace("\\", "")
        assert "far below its roof, which is that of memory (6.2 % of it)" in plain
        assert "peaks of the device: 100 GFLOP/s float32" in plain
        assert "head (200 % of its roof)" in plain
    assert re.search(r"\| 6\.2 \| memory \|\n", markdown.render(breakdown))
    assert re.search(r"<td[^>]*>memory\s*<", page.render(breakdown))
