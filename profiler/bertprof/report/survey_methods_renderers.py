"""The survey's methods as a terminal's text, as Markdown, as CSV and as a page."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bertprof.report import beside, survey_methods
from bertprof.report.console import EDGES, GAP, STYLES, console_of, fitting, listed, trimmed
from bertprof.report.csv import written
from bertprof.report.markdown import escape, fenced
from bertprof.report.survey_methods import WORDS
from bertprof.report.table2 import SURVEY
from bertprof.survey.methods import Methods, Metric

_WANTED = ("speedup", "size", "macs", "time", "columns", "later_size", "later_speed", "parameters")
"""The columns, most wanted first: a narrow terminal has the first for which there is room."""

_NARROWEST = 13
"""Columns of the speed-up at least: 1.95x faster. What is longer is folded."""

_WIDEST = 44
"""And at most."""


def terminal(document: Methods, width: int = 100, color: bool = False) -> str:
    """The methods as text: each as a whole, then by component, then what must be known of each.

    Args:
        document: the methods.
        width: columns of the terminal; the narrower, the fewer columns the tables have.
        color: write ANSI colours: faster green, slower red, inconclusive yellow.
    """
    console, stream = console_of(width, color)
    console.print(Text.assemble((survey_methods.TITLE, "bold"), f" ({SURVEY})"))
    for line in beside.setting(document):
        console.print(Text(line, style="dim"))
    console.print(Text(survey_methods.headline(document)))
    console.print(_whole(document, width))
    for metric in survey_methods.panels(document):
        console.print(Text(survey_methods.panel_caption(metric), style="bold"))
        console.print(_by_group(document, metric, width))
    console.print(listed((Text("•"), Text(line, style="dim")) for line in survey_methods.legend(document)))
    for caveat in survey_methods.caveats(document):
        console.print(Text(caveat, style="yellow"))
    console.print()
    console.print(
        listed(
            (Text("•"), Text.assemble((f"{survey_methods.name(row)}: ", "bold"), " ".join(sentences)))
            for row in survey_methods.rows(document)
            if (sentences := survey_methods.details(row, brief=True))
        )
    )
    return trimmed(stream)


def _whole(document: Methods, width: int) -> Table:
    """Each method as a whole, with as many columns as there is room for beside the names."""
    rows = survey_methods.rows(document)
    names = [survey_methods.name(row) for row in rows]
    columns = survey_methods.columns(document)
    cells = {c.field: [survey_methods.cell(row, c.field) for row in rows] for c in columns}
    room = width - EDGES - GAP - max(map(cell_len, ("method", *names)))
    needed = {}
    for column in columns:
        widest = max(map(cell_len, (*column.header.split("\n"), *cells[column.field])))
        needed[column.field] = GAP + (min(widest, _NARROWEST) if column.field == "speedup" else widest)
    shown = fitting([field for field in _WANTED if field in needed], needed, room)
    found = _table()
    for column in [column for column in columns if column.field in shown]:
        wordy = column.field == "speedup"
        found.add_column(
            column.header,
            justify="left" if column.field in WORDS else "right",
            no_wrap=not wordy,
            max_width=_WIDEST if wordy else None,
        )
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        texts = (
            Text(cells[c.field][i], style=STYLES[survey_methods.tone(row, c.field)])
            for c in columns
            if c.field in shown
        )
        found.add_row(Text(name), *texts)
    return found


def _table() -> Table:
    found = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    found.add_column("method", overflow="fold")
    return found


_SHORT = {
    "embedding": "embed.",
    "attention-linear": "linear",
    "softmax-attention": "softmax",
    "recurrent": "recur.",
    "convolution": "conv.",
}
"""Groups in few letters, where a terminal is narrow."""


def _by_group(document: Methods, metric: Metric, width: int) -> Table:
    """One metric of each method by component: names in few letters, and without the total, where it is narrow."""
    rows = [row for row in survey_methods.rows(document) if row.measured is not None]
    groups: list[str | None] = [*survey_methods.groups(document), None]
    cells = [[survey_methods.group_cell(row, metric, group) for group in groups] for row in rows]
    heads = [group or "total" for group in groups]
    named = max(cell_len(survey_methods.name(row)) for row in rows)

    def needed(heads: Sequence[str]) -> int:
        columns = zip(heads, zip(*cells, strict=True), strict=False)
        return EDGES + named + sum(GAP + max(map(cell_len, (head, *column))) for head, column in columns)

    if needed(heads) > width:
        heads = [_SHORT.get(head, head) for head in heads]
    while needed(heads) > width and len(heads) > 1:
        heads = heads[:-1]
    found = _table()
    for head in heads:
        found.add_column(head, justify="right", no_wrap=True)
    for row, own in zip(rows, cells, strict=True):
        found.add_row(Text(survey_methods.name(row)), *map(Text, own[: len(heads)]))
    return found


# Markdown -------------------------------------------------------------------------------------------------------------


def markdown(document: Methods) -> str:
    """The methods as a whole, by component, how to read it, then what must be known of each."""
    rows = survey_methods.rows(document)
    columns = survey_methods.columns(document)
    whole = [[survey_methods.name(row), *(survey_methods.cell(row, c.field) for c in columns)] for row in rows]
    parts = [
        f"## {survey_methods.TITLE}",
        f"{escape(SURVEY)}  \n" + "  \n".join(map(escape, beside.setting(document))),
        escape(survey_methods.headline(document)),
        table_in_markdown(["method", *(c.header for c in columns)], whole),
    ]
    groups: list[str | None] = [*survey_methods.groups(document), None]
    for metric in survey_methods.panels(document):
        cells = [
            [survey_methods.name(row), *(survey_methods.group_cell(row, metric, group) for group in groups)]
            for row in rows
            if row.measured is not None
        ]
        heads = ["method", *(group or "total" for group in groups)]
        parts += [
            f"### {escape(survey_methods.panel_caption(metric))}",
            table_in_markdown(heads, cells, right=len(groups)),
        ]
    parts += [
        "\n".join(f"- {escape(line)}" for line in survey_methods.legend(document)),
        "\n".join(f"- **caveat**: {escape(caveat)}" for caveat in survey_methods.caveats(document)),
        *details_in_markdown(document),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_in_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0) -> str:
    """Rows of texts as a table, the last `right` columns set right."""
    rules = [" --- " if i < len(heads) - right else " ---: " for i in range(len(heads))]
    lines = [
        f"| {' | '.join(map(escape, heads))} |",
        f"|{'|'.join(rules)}|",
        *(f"| {' | '.join(map(escape, row))} |" for row in rows),
    ]
    return "\n".join(lines)


def details_in_markdown(document: Methods) -> Iterator[str]:
    """What must be known of each method, and how to make the document again."""
    for row in document.rows:
        yield f"### {escape(survey_methods.name(row))}"
        yield "\n".join(f"- {escape(sentence)}" for sentence in survey_methods.details(row))
    if document.command is not None:
        yield fenced(document.command)


def csv(document: Methods) -> str:
    """One line a method and component, all digits, units in the column names."""
    found = survey_methods.records(document)
    return written([*found[0]], found)


# Pages ----------------------------------------------------------------------------------------------------------------


def page(document: Methods) -> str:
    """The whole page, with the figure."""
    from bertprof.report import figure
    from bertprof.report.page.drawn import inline_svg
    from bertprof.report.page.survey import methods_page

    drawn = inline_svg(figure.render([document], "svg"), "Size, MACs and time of each method by component")
    return methods_page(document, drawn)


def fragment(document: Methods) -> str:
    """The methods as a whole, for a notebook."""
    from bertprof.report.page.survey import methods_fragment

    return methods_fragment(document)
