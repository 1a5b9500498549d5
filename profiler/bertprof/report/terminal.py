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
"""From this width on MACs, bytes and intervals are shown too."""


def render(breakdown: Breakdown, by: str = "component", width: int = 100, color: bool = False) -> str:
    """The breakdown as text: what was asked, the table, how it was measured, the caveats.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.table`.
        width: columns of the terminal; from 80 on the table fits.
        color: write ANSI colours.
    """
    console, stream = _console(width, color)
    console.print(Text.assemble((plain(breakdown.name), "bold"), "  ", rows.workload_line(breakdown)))
    console.print(Text(rows.host_line(breakdown), style="dim"))
    console.print(_table(breakdown, by, width))
    console.print(Text(rows.headline(breakdown)))
    for line in rows.timing_lines(breakdown):
        console.print(Text(line, style="dim"))
    for caveat in breakdown.caveats:
        console.print(Text(f"caveat: {plain(caveat.text)}", style="yellow"))
    return stream.getvalue()


def _console(width: int, color: bool) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    # Text of records is never markup.
    console = Console(
        file=stream, width=width, force_terminal=color, no_color=not color, highlight=False, markup=False, emoji=False
    )
    return console, stream


def plain(text: str) -> str:
    """Text from a record without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _table(breakdown: Breakdown, by: str, width: int) -> Table:
    wide, timed = width >= WIDE, breakdown.timed
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True, header_style="bold")
    cells = [_cells(row, wide, timed) for row in rows.table(breakdown, by)]
    footer = _cells(rows.total(breakdown), wide, timed)
    # By module, long paths fold rather than push the figures off the screen.
    table.add_column(by, footer="total", overflow="fold", ratio=1 if by == "module" else None)
    if by == "module" and wide:
        table.add_column("component", no_wrap=True)
    columns = _columns(wide, timed)
    for (name, _), last in zip(columns, footer[-len(columns) :], strict=True):
        table.add_column(name, footer=last, justify="right", no_wrap=True, footer_style="bold")
    for row in cells:
        table.add_row(*row)
    if by == "module":
        table.expand = True
    return table


def _columns(wide: bool, timed: bool) -> list[tuple[str, str]]:
    """Header and the row's field."""
    columns = [("parameters", "parameters"), ("%", "parameters_share")]
    if wide:
        columns += [("bytes", "bytes"), ("MACs", "macs"), ("%", "macs_share")]
    columns += [("FLOPs", "flops"), ("%", "flops_share")]
    if timed:
        columns += [("time ms", "time_ms"), ("±", "plus_minus"), ("%", "time_share")]
    elif not wide:
        columns[2:2] = [("MACs", "macs"), ("%", "macs_share")]
    return columns


def _cells(row: Row, wide: bool, timed: bool) -> list[str | Text]:
    cells: list[str | Text] = [Text(plain(row.label))]
    if row.component is not None and wide:
        cells.append(row.component)
    for _, field in _columns(wide, timed):
        cells.append(cell(row, field))
    return cells


def cell(row: Row, field: str) -> str:
    """A row's field as text; a dash for what is not known."""
    if field == "plus_minus":
        known = row.time_ms is not None and row.time_ms.high > row.time_ms.low
        return formatting.plus_minus(row.time_ms) if known and row.time_ms is not None else "–"
    value = getattr(row, field)
    if value is None:
        return "–"
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
    return stream.getvalue()


def render_models(entries: Sequence[Entry], width: int = 100, color: bool = False) -> str:
    """The known models: name, family, L, H, A, parameters."""
    console, stream = _console(width, color)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("name", overflow="fold")
    table.add_column("family", no_wrap=True)
    for name in ("L", "H", "A", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in entries:
        layers, hidden, heads = entry.size
        table.add_row(
            entry.short_name, entry.family, str(layers), str(hidden), str(heads), formatting.exact(entry.parameters)
        )
    console.print(table)
    console.print(Text("L encoder units, H hidden size, A attention heads; parameters of the base model", style="dim"))
    return stream.getvalue()
