"""The terminal's table."""

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertprof import formatting
from bertprof.catalog import Entry
from bertprof.record import Breakdown
from bertprof.report import rows
from bertprof.report.rows import Row
from bertprof.survey.claims import Verdict

WIDE = 100
"""From this width on the claims are shown with what the survey says."""


def render(breakdown: Breakdown, by: str = "component", width: int = 100, color: bool = False) -> str:
    """The breakdown as text: what was asked, the table, how it was measured, the caveats.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.table`.
        width: columns of the terminal; the narrower, the fewer columns the table has.
        color: write ANSI colours.
    """
    console, stream = _console(width, color)
    console.print(Text.assemble((rows.title(breakdown), "bold"), "  ", rows.workload_line(breakdown)))
    console.print(Text(rows.host_line(breakdown), style="dim"))
    console.print(_table(breakdown, by, console))
    console.print(Text(rows.headline(breakdown)))
    for line in rows.timing_lines(breakdown):
        console.print(Text(line, style="dim"))
    for caveat in rows.caveat_lines(breakdown):
        console.print(Text(f"caveat: {caveat}", style="yellow"))
    return _trimmed(stream)


def _console(width: int, color: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    # Text of records is never markup.
    console = Console(
        file=stream, width=width, force_terminal=color, no_color=not color, highlight=False, markup=False, emoji=False
    )
    return console, stream


def _trimmed(stream: io.StringIO) -> str:
    """Without the blanks with which a table fills its lines, and which make a diff of two outputs noisy."""
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


_COLUMNS = (
    ("component", "component"),
    ("parameters", "parameters"),
    ("%", "parameters_share"),
    ("bytes", "bytes"),
    ("MACs", "macs"),
    ("%", "macs_share"),
    ("FLOPs", "flops"),
    ("%", "flops_share"),
    ("time ms", "time_ms"),
    ("±", "plus_minus"),
    ("%", "time_share"),
)
"""Header and the row's field, in the order of display."""

_DISPENSABLE = (
    *("bytes", "macs_share", "macs", "parameters_share", "plus_minus", "flops_share", "component", "flops"),
    *("parameters", "time_ms"),
)
"""What a narrow terminal does without, first to go first. The name of the row is never among it."""


def _fields(breakdown: Breakdown, by: str) -> list[str]:
    """What there is to show. A record splits neither bytes nor intervals by module."""
    absent = {"bytes", "plus_minus"} if by == "module" else {"component"}
    if not breakdown.timed:
        absent |= {"time_ms", "plus_minus", "time_share"}
    return [field for _, field in _COLUMNS if field not in absent]


def _table(breakdown: Breakdown, by: str, console: Console) -> Table:
    """The table with as many columns as the console has room for."""
    fields = _fields(breakdown, by)
    body = rows.table(breakdown, by)
    table = _built(breakdown, by, fields, body)
    for field in _DISPENSABLE:
        if console.measure(table, options=console.options.update(width=10_000)).maximum <= console.width:
            break
        if field in fields:
            fields.remove(field)
            table = _built(breakdown, by, fields, body)
    return table


def _built(breakdown: Breakdown, by: str, fields: Sequence[str], body: Sequence[Row]) -> Table:
    total = rows.total(breakdown)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True, header_style="bold")
    table.add_column(by, footer="total", overflow="fold")
    for name, field in _COLUMNS:
        if field in fields:
            numeric = field != "component"
            table.add_column(
                name,
                footer=cell(total, field) if numeric else "",
                justify="right" if numeric else "left",
                no_wrap=True,
                footer_style="bold",
            )
    for row in body:
        label = _in_tree(row.label) if by == "module" else row.label
        table.add_row(Text(formatting.plain(label)), *(cell(row, field) for _, field in _COLUMNS if field in fields))
    return table


def _in_tree(path: str) -> str:
    """A module's name, indented by its depth."""
    return path if path.startswith("(") else f"{' ' * (1 + path.count('.'))}{path.rpartition('.')[2]}"


def cell(row: Row, field: str) -> str:
    """A row's field as text; a dash for what is not known."""
    if field == "plus_minus":
        known = row.time_ms is not None and row.time_ms.high > row.time_ms.low
        return formatting.plus_minus(row.time_ms) if known and row.time_ms is not None else "–"
    value = getattr(row, field)
    if value is None:
        return "–"
    if field == "component":
        return str(value)
    if field == "time_ms":
        return formatting.milliseconds(value)
    if field == "time_share":
        return formatting.percent(value.value)
    if field.endswith("_share"):
        return formatting.percent(value)
    return formatting.size(value) if field == "bytes" else formatting.count(value)


def render_claims(verdicts: Sequence[Verdict], width: int = 100, color: bool = False) -> str:
    """The survey's claims, one row each: claim, section, what the survey says, what was measured, whether it holds."""
    console, stream = _console(width, color)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_lines=False)
    wide = width >= WIDE
    table.add_column("claim", ratio=3)
    table.add_column("§", no_wrap=True)
    if wide:
        table.add_column("the survey says", ratio=4)
    table.add_column("measured here", ratio=4)
    table.add_column("holds?", no_wrap=True)
    table.expand = True
    styles = {"yes": "green", "no": "bold red"}
    for verdict in verdicts:
        cells = [verdict.claim.title, verdict.claim.section, *([verdict.claim.says] if wide else []), verdict.measured]
        table.add_row(*(Text(c) for c in cells), Text(verdict.answer, style=styles.get(verdict.answer, "yellow")))
    console.print(table)
    return _trimmed(stream)


def render_models(entries: Sequence[Entry], width: int = 100, color: bool = False) -> str:
    """The known models: name, family, L, H, A, parameters."""
    console, stream = _console(width, color)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("name", overflow="fold", min_width=12)
    if width >= 60:
        table.add_column("family", no_wrap=True)
    for name in ("L", "H", "A", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in entries:
        layers, hidden, heads = entry.size
        figures = (str(layers), str(hidden), str(heads), formatting.exact(entry.parameters))
        table.add_row(entry.short_name, *([entry.family] if width >= 60 else []), *figures)
    console.print(table)
    console.print(Text("L encoder units, H hidden size, A attention heads; parameters of the base model", style="dim"))
    return _trimmed(stream)
