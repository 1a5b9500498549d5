"""Table 2 of the survey as a terminal's text, as Markdown, as CSV and as a page."""

from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bertprof import formatting
from bertprof.report import beside, table2, table2_lines
from bertprof.report.console import EDGES, GAP, STYLES, console_of, fitting, listed, trimmed
from bertprof.report.csv import written
from bertprof.report.markdown import escape, fenced
from bertprof.report.table2 import Column, Line, Part
from bertprof.survey.table2 import Table2

_WANTED: tuple[str, ...] = (
    *("speedup", "printed_size", "percent", "printed_speedup", "macs", "rule_percent"),
    *("percent_without_embedding", "nonzero_percent"),
    *("later_size", "own_size", "later_rest", "own_rest", "gpu_speedup", "cpu_speedup", "here"),
    *("later_mnli", "later_squad_f1", "later_sst2", "later_qqp"),
    *("mnli", "printed_ratio", "ratio", "squad_f1", "sst2", "qqp"),
)
"""The columns, most wanted first: a narrow terminal has the first for which there is room."""

_NARROWEST = 25
"""Columns of the measured speed-up at least: 1.95x [1.93, 1.97] faster. What is longer is folded."""

_WIDEST = 44
"""And at most."""


def terminal(table: Table2, width: int = 100, color: bool = False) -> str:
    """The table as text: sizes and speeds, the later edition's beside ours, accuracies, what must be known of each row.

    Args:
        table: the table.
        width: columns of the terminal; the narrower, the fewer columns the table has.
        color: write ANSI colours: faster green, slower red, inconclusive and misprinted yellow.
    """
    console, stream = console_of(width, color)
    console.print(Text.assemble((table2.TITLE, "bold"), f" ({table2.SURVEY})"))
    for line in beside.setting(table):
        console.print(Text(line, style="dim"))
    console.print(Text(table2_lines.headline(table)))
    for part, title in table2.PARTS.items():
        if columns := table2.columns(table, part):
            console.print(Text(f"\n{title}", style="bold"))
            console.print(_table(table, part, columns, width))
    console.print(listed((Text("•"), Text(line, style="dim")) for line in table2_lines.legend(table)))
    for caveat in table2_lines.caveats(table):
        console.print(Text(caveat, style="yellow"))
    console.print()
    console.print(
        listed(
            (Text("•"), Text.assemble((f"{table2.name(row)}: ", "bold"), " ".join(sentences)))
            for row in table.rows
            if (sentences := table2_lines.details(table, row, brief=True))
        )
    )
    return trimmed(stream)


def _table(table: Table2, part: Part, columns: list[Column], width: int) -> Table:
    """A part of the table, with as many columns as there is room for beside the names."""
    found = table2.lines_of(table, part)
    names = [_named(line, part) for line in found]
    cells = {c.field: [table2.cell(line, c.field) for line in found] for c in columns}
    # A group's name stands above its first column.
    firsts = {c.short: c.field for c in reversed(columns)}
    heads = {c.field: c.short if firsts[c.short] == c.field else "" for c in columns}
    named = (max(map(_widest, texts)) for texts in zip(*names, ("row", "system"), strict=True))
    room = width - EDGES - GAP - sum(named)
    needed = {}
    for column in columns:
        widest = max(map(cell_len, (heads[column.field], column.header, *cells[column.field])))
        needed[column.field] = GAP + (min(widest, _NARROWEST) if column.field == "speedup" else widest)
    # All but the first of a group stand under its name.
    behind = {column.field: firsts[column.short] for column in columns}
    shown = fitting([field for field in _WANTED if field in needed], needed, room, behind)
    laid = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for header in ("row", "system"):
        laid.add_column(f"\n{header}", overflow="fold")
    for column in [column for column in columns if column.field in shown]:
        wordy = column.field == "speedup"
        justify: Literal["left", "right"] = "left" if wordy else "right"
        laid.add_column(
            f"{heads[column.field]}\n{column.header}",
            justify=justify,
            no_wrap=not wordy,
            max_width=_WIDEST if wordy else None,
        )
    for i, line in enumerate(found):
        texts = (Text(cells[c.field][i], style=STYLES[table2.tone(line, c.field)]) for c in columns if c.field in shown)
        laid.add_row(*map(Text, names[i]), *texts)
    return laid


def _named(line: Line, part: Part) -> tuple[str, str]:
    """Label and system; which of two it is stands below the system."""
    label, system = formatting.line(line.row.label), table2.system(line, part)
    if not line.first:
        return "", f"· {line.variant}"
    return label, system if line.variant is None or part == "accuracy" else f"{system}\n· {line.variant}"


def _widest(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def markdown(table: Table2) -> str:
    """The whole table, the later edition's figures beside ours, what the columns mean, and what to know of each row."""
    parts = [
        f"## {table2.TITLE}",
        f"{escape(table2.SURVEY)}  \n" + "  \n".join(map(escape, beside.setting(table))),
        escape(table2_lines.headline(table)),
        *(_ruled(table, part, title) for part, title in table2.PARTS.items()),
        "\n".join(f"- {escape(line)}" for line in table2_lines.legend(table)),
        "\n".join(f"- **caveat**: {escape(caveat)}" for caveat in table2_lines.caveats(table)),
    ]
    for row in table.rows:
        sentences = table2_lines.details(table, row)
        parts += [f"### {escape(table2.name(row))}", "\n".join(f"- {escape(sentence)}" for sentence in sentences)]
    if table.command is not None:
        parts.append(fenced(table.command))
    return "\n\n".join(part for part in parts if part) + "\n"


def _ruled(table: Table2, part: Part, title: str) -> str:
    """A part as a table of Markdown under its title; nothing where it has no columns."""
    columns = table2.columns(table, part)
    if not columns:
        return ""
    heads = [f"{c.short} {c.header}" for c in columns]
    rows = [
        [*map(escape, table2.in_line(line, part)), *(escape(table2.cell(line, c.field)) for c in columns)]
        for line in table2.lines_of(table, part)
    ]
    return "\n".join(
        [
            f"**{escape(title)}**\n",
            f"| {' | '.join(['row', 'system', *map(escape, heads)])} |",
            f"| --- | --- |{''.join(' --- |' if c.field == 'speedup' else ' ---: |' for c in columns)}",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )


def csv(table: Table2) -> str:
    """One line a row, all digits, units in the column names."""
    found = table2.records(table)
    return written([*found[0]], found)


def page(table: Table2) -> str:
    """The whole page."""
    from bertprof.report.page.survey import table2_page

    return table2_page(table)


def fragment(table: Table2) -> str:
    """The parts of the table, for a notebook."""
    from bertprof.report.page.survey import table2_fragment

    return table2_fragment(table)
