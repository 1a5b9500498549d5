"""Several records side by side as the terminal's text."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bertprof.record import Breakdown
from bertprof.report import several
from bertprof.report.console import EDGES, GAP, console_of, listed, trimmed
from bertprof.report.several import Section


def render_several(
    breakdowns: Sequence[Breakdown], by: str = "component", width: int = 100, color: bool = False, wide: bool = False
) -> str:
    """Records side by side as text, as many beside each other as there is room for, the others below.

    Args:
        breakdowns: the records.
        by: the view; see `bertprof.report.rows.table`.
        width: columns of the terminal.
        color: write ANSI colours.
        wide: see `bertprof.report.several.sections`.
    """
    console, stream = console_of(width, color)
    names, sections = several.names(breakdowns), several.sections(breakdowns, by, wide)
    common, own = several.described(breakdowns)
    console.print(Text(common))
    apart = [(name, text) for name, text in zip(names, own, strict=True) if text]
    console.print(listed((Text(f"{name}:", style="bold"), Text(text)) for name, text in apart))
    columns = [_column(sections, i) for i in range(len(names))]
    labels = [label for section in sections for label in (section.title, *(f" {label}" for label, _ in section.lines))]
    taken = 0
    while taken < len(names):
        room = width - EDGES - max(map(cell_len, labels))
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("", overflow="fold")
        shown: list[list[list[str]]] = []
        while taken < len(names):
            needed = max(
                min(cell_len(names[taken]), _NAME), *(cell_len(cell) for part in columns[taken] for cell in part)
            )
            room -= GAP + needed
            if room < 0 and shown:
                break
            table.add_column(Text(names[taken]), overflow="fold", max_width=needed)
            shown.append(columns[taken])
            taken += 1
        for i, section in enumerate(sections):
            table.add_row(Text(section.title, style="dim"))
            for j, (label, _) in enumerate(section.lines):
                last = j == len(section.lines) - 1
                table.add_row(Text(f" {label}"), *(Text(column[i][j]) for column in shown), end_section=last)
        console.print(table)
    console.print(Text(several.note(breakdowns), style="dim"))
    for caveat in several.caveats(breakdowns):
        console.print(Text(f"caveat: {caveat}", style="yellow"))
    return trimmed(stream)


_NAME = 24
"""Columns that a record's name has at most before it is folded."""


def _column(sections: Sequence[Section], record: int) -> list[list[str]]:
    """The cells of one record, by section: figures below figures, shares below shares, ratios below ratios."""
    parts = [[cells[record].parts for _, cells in section.lines] for section in sections]
    widths = [max(map(cell_len, column)) for column in zip(*(part for each in parts for part in each), strict=True)]
    return [
        ["  ".join(text.rjust(width) for text, width in zip(part, widths, strict=True) if width) for part in each]
        for each in parts
    ]
