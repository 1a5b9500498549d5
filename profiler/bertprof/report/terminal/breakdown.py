"""A breakdown as the terminal's text."""

from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertprof import formatting
from bertprof.record import Breakdown
from bertprof.report import lines, palette, rows
from bertprof.report.console import EDGES, GAP, console_of, trimmed
from bertprof.report.panels import Panel, panels
from bertprof.report.rows import Row
from bertprof.report.terminal import bars
from bertprof.report.terminal.bars import BAR
from bertprof.sampling import Estimate

_SHORT = {"parameters": ["params"], "time_ms": ["time", "ms"]}
"""Headers where there is no room for all columns."""


def render(
    breakdown: Breakdown, by: str = "component", width: int = 100, color: bool = False, wide: bool = False
) -> str:
    """The breakdown as text: what was asked, the answer in a sentence, the table, how it was measured, the caveats.

    The bars are of the shares of the time, of the FLOPs where there is no time; the longest is the largest share.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.table`.
        width: columns of the terminal; the narrower, the fewer columns the table has.
        color: write ANSI colours; a bar has the hue of its component in every figure, where the terminal has 256.
        wide: with traffic, intensity and activations; see `bertprof.report.rows.headers`.
    """
    console, stream = console_of(width, color)
    console.print(Text.assemble((lines.title(breakdown), "bold"), "  ", lines.workload_line(breakdown)))
    console.print(Text(lines.headline(breakdown)))
    console.print(Text(lines.host_line(breakdown), style="dim"))
    table, left_out = _table(breakdown, by, wide, width, console.color_system in ("256", "truecolor"))
    console.print(table)
    if left_out:
        text = f"no room for {', '.join(left_out)}: widen the terminal, or write them to a file with -o"
        console.print(Text(text, style="dim"))
    for line in lines.notes(breakdown):
        console.print(Text(line, style="dim"))
    for panel in panels(breakdown):
        _print_panel(console, panel)
    for caveat in lines.caveat_lines(breakdown):
        console.print(Text(f"caveat: {caveat}", style="yellow"))
    return trimmed(stream)


def _print_panel(console: Console, panel: Panel) -> None:
    console.print()
    console.print(Text(formatting.plain(panel.title), style="bold"))
    table = Table(
        box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", show_footer=bool(panel.total)
    )
    footers = panel.total or [""] * len(panel.headers)
    for i, (header, footer) in enumerate(zip(panel.headers, footers, strict=True)):
        table.add_column(
            Text(formatting.plain(header)),
            footer=Text(formatting.plain(footer)),
            justify="right" if i else "left",
            overflow="fold",
        )
    for row in panel.rows:
        table.add_row(*(Text(formatting.plain(cell)) for cell in row))
    if panel.rows:
        console.print(table)
    for note in panel.notes:
        console.print(Text(formatting.plain(note), style="dim"))


_WANTED = (
    *("time_share", "intensity", "bytes_moved", "flops_per_s", "bytes_per_s", "nonzero_share", "useful_macs"),
    *("activation_bytes", "time_ms", "parameters", "bytes", "flops", "flops_share"),
)
"""The columns, most wanted first: a narrow terminal has the first for which there is room. What is not in every table
was asked for, or says what is special about this model."""

_WANTED_IF_NARROW = (*_WANTED, BAR, "roof_share", "bound", "plus_minus", "parameters_share", "macs", "macs_share")
_WANTED_IF_BROAD = (*_WANTED, "roof_share", "bound", "macs", BAR, "plus_minus", "parameters_share", "macs_share")
"""A bar is the quickest to read, but says nothing that is not beside it in digits: it goes where MACs have room."""

BROAD_FROM = 100
"""Characters of a terminal."""

_WANTED_OF_MODULES = (
    *("inclusive_parameters", "inclusive_time_ms", "component", "time_ms", "parameters", BAR, "inclusive_macs", "macs"),
    *("type", "time_share", "inclusive_flops", "flops"),
)

_BEHIND = {
    "flops_share": "flops",
    "plus_minus": "time_ms",
    "parameters_share": "parameters",
    "macs_share": "macs",
    "bound": "roof_share",
}
"""What cannot be read without the column before it."""


def _table(breakdown: Breakdown, by: str, wide: bool, width: int, hues: bool) -> tuple[Table, list[str]]:
    """The table with as many columns as there is room for beside the names of the rows, and what is left out; its bars
    in the hues of the components, or in the colour of the text."""
    headers = {field: header.split(", ") for field, header in rows.headers(breakdown, by, wide).items()}
    body, total = rows.table(breakdown, by), rows.total(breakdown)
    names = [" " * depth + name for depth, name, _ in rows.in_tree(body)] if by == "module" else [r.label for r in body]
    labels = [formatting.plain(name) for name in names]
    cells = {field: [Text(rows.cell(row, field)) for row in body] for field in headers}
    footers = {field: rows.total_cell(total, field) for field in headers}

    order = _WANTED_OF_MODULES if by == "module" else _WANTED_IF_BROAD if width >= BROAD_FROM else _WANTED_IF_NARROW
    wanted = [field for field in order if field in (*headers, BAR)]
    if "useful_macs" in wanted:  # they are read against all
        wanted.remove("macs")
        wanted.insert(wanted.index("useful_macs") + 1, "macs")
    lone = {"time_share": ["time %"]} if "time_share" in headers and by != "module" else {}
    share = "time_share" if breakdown.timed else "flops_share"
    lengths = bars.lengths([_share(row, share) for row in body])
    if not any(lengths):
        wanted.remove(BAR)
    room = width - EDGES - max(map(cell_len, (by, "total", *labels)))
    # The tree's bars have a header of their own: the figures that they are of may have no room there.
    behind = _BEHIND if by == "module" else {**_BEHIND, BAR: share}

    def placed() -> tuple[list[str], int]:
        needed = {
            field: GAP + max(map(cell_len, (*lone.get(field, header), *map(str, cells[field]), footers[field])))
            for field, header in headers.items()
        }
        return bars.placed(wanted, needed, room, behind, BAR, bars.LEAST if order is _WANTED_IF_BROAD else bars.USUAL)

    shown, longest = placed()
    if len(shown) < len(wanted) and by != "module":
        headers |= {field: header for field, header in _SHORT.items() if field in headers}
        shown, longest = placed()
    if "time_ms" not in shown:
        headers |= lone

    columns = [field for field in headers if field in shown]
    if BAR in shown:
        columns.insert(columns.index(share) + 1 if by != "module" else len(columns), BAR)
        headers[BAR] = [] if by != "module" else ["time" if breakdown.timed else "FLOPs", "own"]
        cells[BAR] = [
            Text(bars.drawn(length, longest), palette.terminal_color_of(row.component or row.label) if hues else "")
            for row, length in zip(body, lengths, strict=True)
        ]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True, header_style="bold")
    table.add_column(by, footer="total", overflow="fold")
    for field in columns:
        justify: Literal["left", "right"] = "left" if field in (*rows.TEXTS, BAR) else "right"
        header, footer = "\n".join(headers[field]), footers.get(field, "")
        table.add_column(header, footer=footer, justify=justify, no_wrap=True, footer_style="bold")
    for label, *texts in zip(labels, *(cells[field] for field in columns), strict=True):
        table.add_row(Text(label), *texts)
    left_out = [" ".join(headers[field]) for field in headers if field not in (*shown, *_BEHIND, BAR)]
    return table, left_out


def _share(row: Row, field: str) -> float | None:
    """A row's share of the whole by a field: that of its own FLOPs or time, in the tree without what is below."""
    value = getattr(row, field)
    return value.value if isinstance(value, Estimate) else value
