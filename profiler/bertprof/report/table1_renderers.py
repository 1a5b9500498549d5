"""Table 1 of the survey as a terminal's text, as Markdown, as CSV and as a page."""

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bertprof.report import beside, survey_methods, table1
from bertprof.report.console import EDGES, STYLES, console_of, listed, trimmed
from bertprof.report.csv import written
from bertprof.report.markdown import escape
from bertprof.report.survey_methods_renderers import details_in_markdown, table_in_markdown
from bertprof.report.table2 import SURVEY
from bertprof.survey.methods import Methods
from bertprof.survey.table1 import COLUMNS, TARGETS

_CELL = 6
"""Columns of a cell of the matrix: X≠PBMT."""


def terminal(document: Methods, width: int = 100, color: bool = False) -> str:
    """The matrix, where it disagrees and why, what each method changes by itself, then how to read it.

    Args:
        document: the methods.
        width: columns of the terminal; where the matrix is wider, it is cut into several.
        color: write ANSI colours: disagreements yellow.
    """
    console, stream = console_of(width, color)
    console.print(Text.assemble((table1.TITLE, "bold"), f" ({SURVEY})"))
    for line in beside.setting(document):
        console.print(Text(line, style="dim"))
    console.print(Text(table1.key(document), style="dim"))
    named = max(map(cell_len, table1.AS_PRINTED.values()))
    fitting = max(1, (width - EDGES - named) // (_CELL + 1))
    for first in range(0, len(COLUMNS), fitting):
        console.print(_matrix(document, first, first + fitting))
    console.print(Text(table1.headline(document)))
    console.print()
    console.print(listed((Text("≠"), Text.assemble((f"{w}: ", "bold"), t)) for w, t in table1.disagreements(document)))
    console.print(_methods(document, width))
    console.print(listed((Text("•"), Text(line, style="dim")) for line in table1.legend(document)))
    for caveat in survey_methods.caveats(document):
        console.print(Text(caveat, style="yellow"))
    console.print(
        listed((Text("•"), Text.assemble((f"{n}: ", "bold"), why)) for n, why in table1.not_measured(document))
    )
    return trimmed(stream)


def _matrix(document: Methods, first: int, last: int) -> Table:
    """Some columns of the matrix."""
    found = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, header_style="bold")
    found.add_column("\ncomponent", overflow="fold")
    for column in COLUMNS[first:last]:
        branch, separator, own = column.partition("-")
        found.add_column(f"{branch}{separator}\n{own}", no_wrap=True, min_width=_CELL)
    for target, cells in table1.matrix(document).items():
        texts = (Text(table1.text(cell), style=STYLES[table1.tone(cell)]) for cell in cells[first:last])
        found.add_row(Text(table1.AS_PRINTED[target]), *texts)
    return found


def _methods(document: Methods, width: int) -> Table:
    """One line a method, with its columns of Table 1 where there is room."""
    rows = document.rows
    heads = ["Embed.\nLayer", "Self-\nAttn.", "\nFFN", "Trans-\nformer"]
    heads += [head.replace(" ", "\n") for head in table1.TOTALS.values()]
    names = [survey_methods.name(row) for row in rows]
    branches = [survey_methods.short_columns(row.columns) for row in rows]
    texts = [[*table1.method_marks(row), *(table1.total(row, field) for field in table1.TOTALS)] for row in rows]
    needed = EDGES + sum(
        1 + max(map(cell_len, (*head.split("\n"), *column)))
        for head, column in zip(heads, zip(*texts, strict=True), strict=True)
    )
    with_branches = needed + max(map(cell_len, names)) + 1 + max(map(cell_len, branches)) <= width
    found = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, header_style="bold")
    found.add_column("\nmethod", overflow="fold")
    if with_branches:
        found.add_column("\nTable 1", overflow="fold")
    for i, head in enumerate(heads):
        found.add_column(head, justify="left" if i < len(TARGETS) else "right", overflow="fold")
    for name, branch, own in zip(names, branches, texts, strict=True):
        found.add_row(Text(name), *([Text(branch)] if with_branches else []), *map(Text, own))
    return found


def markdown(document: Methods) -> str:
    """The matrix, the disagreements, one line a method, how to read it, then what must be known of each method."""
    matrix = [
        [table1.AS_PRINTED[target], *(table1.text(cell, gap=" ") for cell in cells)]
        for target, cells in table1.matrix(document).items()
    ]
    rows = [
        [
            survey_methods.name(row),
            survey_methods.short_columns(row.columns),
            *table1.method_marks(row),
            *(table1.total(row, field) for field in table1.TOTALS),
        ]
        for row in document.rows
    ]
    heads = ["method", "Table 1", *table1.AS_PRINTED.values(), *table1.TOTALS.values()]
    parts = [
        f"## {table1.TITLE}",
        f"{escape(SURVEY)}  \n" + "  \n".join(map(escape, beside.setting(document))),
        escape(table1.key(document)),
        table_in_markdown(["component", *COLUMNS], matrix),
        escape(table1.headline(document)),
        "\n".join(f"- **{escape(where)}**: {escape(what)}" for where, what in table1.disagreements(document)),
        table_in_markdown(heads, rows, right=len(table1.TOTALS)),
        "\n".join(f"- {escape(line)}" for line in table1.legend(document)),
        "\n".join(f"- **caveat**: {escape(caveat)}" for caveat in survey_methods.caveats(document)),
        *details_in_markdown(document),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def csv(document: Methods) -> str:
    """One line a cell of the matrix, then one a method and component."""
    found = table1.records(document)
    return written([*found[0]], found)


def page(document: Methods) -> str:
    """The whole page."""
    from bertprof.report.page.survey import table1_page

    return table1_page(document)


def fragment(document: Methods) -> str:
    """The matrix and its disagreements, for a notebook."""
    from bertprof.report.page.survey import table1_fragment

    return table1_fragment(document)
