"""The terminal's table."""

import io
from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertprof import formatting
from bertprof.catalog import Entry
from bertprof.record import Breakdown
from bertprof.report import rows
from bertprof.survey.claims import Verdict

WIDE = 100
"""From this width on the claims are shown with what the survey says."""


def render(
    breakdown: Breakdown, by: str = "component", width: int = 100, color: bool = False, wide: bool = False
) -> str:
    """The breakdown as text: what was asked, the table, how it was measured, the caveats.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.table`.
        width: columns of the terminal; the narrower, the fewer columns the table has.
        color: write ANSI colours.
        wide: with traffic, intensity and activations; see `bertprof.report.rows.headers`.
    """
    console, stream = _console(width, color)
    console.print(Text.assemble((rows.title(breakdown), "bold"), "  ", rows.workload_line(breakdown)))
    console.print(Text(rows.host_line(breakdown), style="dim"))
    table, left_out = _table(breakdown, by, wide, width)
    console.print(table)
    if left_out:
        text = f"no room for {', '.join(left_out)}: widen the terminal, or write them to a file with -o"
        console.print(Text(text, style="dim"))
    console.print(Text(rows.headline(breakdown)))
    for line in rows.notes(breakdown):
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


_WANTED = (
    *("time_share", "intensity", "bytes_moved", "nonzero_share", "useful_macs", "activation_bytes", "time_ms"),
    *("parameters", "bytes", "flops", "flops_share", "plus_minus", "parameters_share", "macs", "macs_share"),
)
"""The columns, most wanted first: a narrow terminal has the first for which there is room. What is not in every table
was asked for, or says what is special about this model."""

_WANTED_OF_MODULES = (
    *("inclusive_parameters", "inclusive_time_ms", "component", "time_ms", "parameters", "inclusive_macs", "macs"),
    *("type", "time_share", "inclusive_flops", "flops"),
)

_BESIDE = {"flops_share": "flops", "plus_minus": "time_ms", "parameters_share": "parameters", "macs_share": "macs"}
"""What cannot be read without the column before it."""


def _table(breakdown: Breakdown, by: str, wide: bool, width: int) -> tuple[Table, list[str]]:
    """The table with as many columns as there is room for beside the names of the rows, and what is left out."""
    headers = {field: header.split(", ") for field, header in rows.headers(breakdown, by, wide).items()}
    body, total = rows.table(breakdown, by), rows.total(breakdown)
    labels = [formatting.plain(_in_tree(row.label) if by == "module" else row.label) for row in body]
    cells = {field: [rows.cell(row, field) for row in body] for field in headers}
    footers = {field: rows.total_cell(total, field) for field in headers}

    wanted = [field for field in (_WANTED_OF_MODULES if by == "module" else _WANTED) if field in headers]
    if "useful_macs" in wanted:  # they are read against all
        wanted.remove("macs")
        wanted.insert(wanted.index("useful_macs") + 1, "macs")
    lone = {"time_share": ["time %"]} if "time_share" in headers and by != "module" else {}
    room = width - _EDGES - max(map(cell_len, (by, "total", *labels)))
    shown: set[str] = set()
    for field in wanted:
        needed = _GAP + max(map(cell_len, (*lone.get(field, headers[field]), *cells[field], footers[field])))
        # One figure has to be there, however narrow.
        if not shown or (needed <= room and _BESIDE.get(field, field) in {field, *shown}):
            shown.add(field)
            room -= needed
    if "time_ms" not in shown:
        headers |= lone

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True, header_style="bold")
    table.add_column(by, footer="total", overflow="fold")
    columns = [field for field in headers if field in shown]
    for field in columns:
        justify: Literal["left", "right"] = "left" if field in rows.TEXTS else "right"
        header, footer = "\n".join(headers[field]), footers[field]
        table.add_column(header, footer=footer, justify=justify, no_wrap=True, footer_style="bold")
    for i, label in enumerate(labels):
        table.add_row(Text(label), *(Text(cells[field][i]) for field in columns))
    left_out = [" ".join(headers[field]) for field in headers if field not in shown and field not in _BESIDE]
    return table, left_out


_EDGES = 2
_GAP = 2
"""Characters that the table puts beside all its columns, and between two of them."""


def _in_tree(label: str) -> str:
    """A module's name, indented by its depth."""
    depth, name = rows.in_tree(label)
    return " " * depth + name


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
