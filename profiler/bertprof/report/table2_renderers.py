"""Table 2 of the survey as a terminal's text, as Markdown, as CSV and as a page."""

from itertools import groupby
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bertprof import formatting
from bertprof.report import table2
from bertprof.report.console import EDGES, GAP, STYLES, console_of, listed, trimmed
from bertprof.report.csv import written
from bertprof.report.markdown import escape
from bertprof.report.table2 import Column, Part
from bertprof.report.template import loaded
from bertprof.survey.table2 import Table2

_WANTED: tuple[str, ...] = (
    *("speedup", "printed_size", "percent", "printed_speedup", "rule_percent"),
    *("percent_without_embedding", "nonzero_percent"),
    *("mnli", "ratio", "printed_ratio", "squad_f1", "sst2", "qqp"),
)
"""The columns, most wanted first: a narrow terminal has the first for which there is room."""

_NARROWEST = 25
"""Columns of the measured speed-up at least: 1.95x [1.93, 1.97] faster. What is longer is folded."""

_WIDEST = 44
"""And at most."""


def terminal(table: Table2, width: int = 100, color: bool = False) -> str:
    """The table as text: sizes and speeds, then accuracies, then what must be known of each row.

    Args:
        table: the table.
        width: columns of the terminal; the narrower, the fewer columns the table has.
        color: write ANSI colours: faster green, slower red, inconclusive and misprinted yellow.
    """
    console, stream = console_of(width, color)
    console.print(Text.assemble((table2.TITLE, "bold"), f" ({table2.SURVEY})"))
    for line in table2.setting(table):
        console.print(Text(line, style="dim"))
    for part in ("cost", "accuracy"):
        console.print(_table(table, part, width))
    console.print(listed((Text("•"), Text(line, style="dim")) for line in table2.legend(table)))
    for caveat in table2.caveats(table):
        console.print(Text(caveat, style="yellow"))
    console.print()
    console.print(
        listed(
            (Text("•"), Text.assemble((f"{table2.name(row)}: ", "bold"), " ".join(sentences)))
            for row in table.rows
            if (sentences := table2.details(row, table2.baseline(table), brief=True))
        )
    )
    return trimmed(stream)


def _table(table: Table2, part: Part, width: int) -> Table:
    """A half of the table, with as many columns as there is room for beside the names."""
    columns = table2.columns(table, part)
    names = [[formatting.line(text) for text in (row.label, row.system)] for row in table.rows]
    cells = {c.field: [table2.cell(row, c.field) for row in table.rows] for c in columns}
    # A group's name stands above its first column.
    firsts = {c.short: c.field for c in reversed(columns)}
    heads = {c.field: c.short if firsts[c.short] == c.field else "" for c in columns}
    named = (max(map(cell_len, texts)) for texts in zip(*names, ("row", "system"), strict=True))
    room = width - EDGES - GAP - sum(named)
    shown: list[str] = []
    for column in sorted(columns, key=lambda c: _WANTED.index(c.field)):
        needed = max(map(cell_len, (heads[column.field], column.header, *cells[column.field])))
        needed = GAP + (min(needed, _NARROWEST) if column.field == "speedup" else needed)
        # One figure has to be there, however narrow.
        if not shown or needed <= room:
            shown.append(column.field)
            room -= needed
    found = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for header in ("row", "system"):
        found.add_column(f"\n{header}", overflow="fold")
    for column in [column for column in columns if column.field in shown]:
        wordy = column.field == "speedup"
        justify: Literal["left", "right"] = "left" if wordy else "right"
        found.add_column(
            f"{heads[column.field]}\n{column.header}",
            justify=justify,
            no_wrap=not wordy,
            max_width=_WIDEST if wordy else None,
        )
    for i, row in enumerate(table.rows):
        texts = (Text(cells[c.field][i], style=STYLES[table2.tone(row, c.field)]) for c in columns if c.field in shown)
        found.add_row(*map(Text, names[i]), *texts)
    return found


def markdown(table: Table2) -> str:
    """The whole table, then what its columns mean, then what must be known of each row."""
    columns = table2.columns(table)
    rows = [
        [
            escape(formatting.line(row.label)),
            escape(formatting.line(row.system)),
            *(escape(table2.cell(row, c.field)) for c in columns),
        ]
        for row in table.rows
    ]
    heads = [f"{c.short} {c.header}" for c in columns]
    parts = [
        f"## {table2.TITLE}",
        f"{escape(table2.SURVEY)}  \n" + "  \n".join(map(escape, table2.setting(table))),
        "\n".join(
            [
                f"| {' | '.join(['row', 'system', *map(escape, heads)])} |",
                f"| --- | --- |{''.join(' --- |' if c.field == 'speedup' else ' ---: |' for c in columns)}",
                *(f"| {' | '.join(row)} |" for row in rows),
            ]
        ),
        "\n".join(f"- {escape(line)}" for line in table2.legend(table)),
        "\n".join(f"- **caveat**: {escape(caveat)}" for caveat in table2.caveats(table)),
    ]
    for row in table.rows:
        sentences = table2.details(row, table2.baseline(table))
        parts += [f"### {escape(table2.name(row))}", "\n".join(f"- {escape(sentence)}" for sentence in sentences)]
    if table.command is not None:
        parts.append(escape(formatting.line(table.command)))
    return "\n\n".join(part for part in parts if part) + "\n"


def csv(table: Table2) -> str:
    """One line a row, all digits, units in the column names."""
    found = table2.records(table)
    return written([*found[0]], found)


def page(table: Table2) -> str:
    """The whole page."""
    return _rendered("table2.html", table)


def fragment(table: Table2) -> str:
    """The table alone, for a notebook."""
    return _rendered("table2_fragment.html", table)


def _rendered(template: str, table: Table2) -> str:
    columns = table2.columns(table)
    return loaded(template).render(
        table=table,
        title=table2.TITLE,
        survey=table2.SURVEY,
        setting=table2.setting(table),
        caveats=table2.caveats(table),
        legend=table2.legend(table),
        columns=columns,
        groups=[(group, len(list(of))) for group, of in groupby(columns, key=_group)],
        cell=table2.cell,
        tone=table2.tone,
        name=table2.name,
        details=lambda row: table2.details(row, table2.baseline(table)),
    )


def _group(column: Column) -> str:
    return column.group
