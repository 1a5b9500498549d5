"""The terminal's tables."""

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertprof import formatting
from bertprof.catalog import Entry
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import changes, diff_lines, lines, rows, several
from bertprof.report.changes import Column
from bertprof.report.console import EDGES, GAP, STYLES, console_of, listed, trimmed
from bertprof.report.findings import Finding, findings
from bertprof.report.panels import Panel, panels
from bertprof.report.several import Section
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
    console, stream = console_of(width, color)
    console.print(Text.assemble((lines.title(breakdown), "bold"), "  ", lines.workload_line(breakdown)))
    console.print(Text(lines.host_line(breakdown), style="dim"))
    table, left_out = _table(breakdown, by, wide, width)
    console.print(table)
    if left_out:
        text = f"no room for {', '.join(left_out)}: widen the terminal, or write them to a file with -o"
        console.print(Text(text, style="dim"))
    console.print(Text(lines.headline(breakdown)))
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
    *("activation_bytes", "time_ms", "parameters", "bytes", "flops", "flops_share", "roof_share", "bound"),
    *("plus_minus", "parameters_share", "macs", "macs_share"),
)
"""The columns, most wanted first: a narrow terminal has the first for which there is room. What is not in every table
was asked for, or says what is special about this model."""

_WANTED_OF_MODULES = (
    *("inclusive_parameters", "inclusive_time_ms", "component", "time_ms", "parameters", "inclusive_macs", "macs"),
    *("type", "time_share", "inclusive_flops", "flops"),
)

_BESIDE = {
    "flops_share": "flops",
    "plus_minus": "time_ms",
    "parameters_share": "parameters",
    "macs_share": "macs",
    "bound": "roof_share",
}
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
    room = width - EDGES - max(map(cell_len, (by, "total", *labels)))
    shown: set[str] = set()
    for field in wanted:
        needed = GAP + max(map(cell_len, (*lone.get(field, headers[field]), *cells[field], footers[field])))
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


def _in_tree(label: str) -> str:
    """A module's name, indented by its depth."""
    depth, name = rows.in_tree(label)
    return " " * depth + name


# A diff ---------------------------------------------------------------------------------------------------------------

_MOST_GATES = 40
"""Lines of gates in a terminal, failed ones first."""


def render_diff(diff: Diff, by: str = "component", width: int = 100, color: bool = False, wide: bool = False) -> str:
    """A diff as text: what was compared, what changed and where it came from, the table, the gates.

    Args:
        diff: the comparison.
        by: the view; see `bertprof.report.changes.table`.
        width: columns of the terminal; the narrower, the fewer columns the table has.
        color: write ANSI colours: better green, worse red, inconclusive yellow.
        wide: with every metric; see `bertprof.report.changes.columns`.
    """
    console, stream = console_of(width, color)
    console.print(Text(diff_lines.title(diff), style="bold"))
    console.print(listed((Text(name, style="dim"), Text(text)) for name, text in diff_lines.sides(diff).items()))
    for line in diff_lines.machines(diff):
        console.print(Text(line, style="dim"))
    console.print()
    console.print(listed((Text("•"), _said(finding)) for finding in findings(diff)))
    table, left_out = _diff_table(diff, by, wide, width)
    console.print(table)
    if left_out:
        text = f"no room for {', '.join(left_out)}: widen the terminal, or write them to a file with -o"
        console.print(Text(text, style="dim"))
    for line in diff_lines.notes(diff):
        console.print(Text(line, style="dim"))
    for caveat in diff_lines.caveats(diff):
        console.print(Text(f"caveat: {caveat}", style="yellow"))
    gates, verdict = diff_lines.gates(diff), diff_lines.verdict(diff)
    if verdict is not None:
        console.print()
        console.print(
            listed(
                (Text(gate.answer, style=f"bold {STYLES[gate.tone]}"), Text(f"{gate.reason} ({gate.gate})"))
                for gate in gates[:_MOST_GATES]
            )
        )
        if len(gates) > _MOST_GATES:
            console.print(Text(f"and {len(gates) - _MOST_GATES} more gates", style="dim"))
        console.print(Text(verdict[0], style=f"bold {STYLES[verdict[1]]}"))
    return trimmed(stream)


def _said(finding: Finding) -> Text:
    return Text.assemble((finding.head, STYLES[finding.tone]), finding.text.removeprefix(finding.head))


def _diff_table(diff: Diff, by: str, wide: bool, width: int) -> tuple[Table, list[str]]:
    """The table with as many columns as there is room for beside the names of the rows, and what is left out."""
    body, total = changes.table(diff, by), diff.row("total")
    labels = [changes.label(row) for row in body]
    columns = changes.columns(diff, by, wide)
    cells = {column: [changes.cell(diff, row, column) for row in (*body, total)] for column in columns}
    room = width - EDGES - max(map(cell_len, (by, "total", *labels)))
    shown: list[Column] = []
    for column in _wanted(columns):
        needed = GAP + max(map(cell_len, (column.header, *cells[column])))
        # A share cannot be read without the change before it.
        beside = column.kind != "share" or any((c.metric, c.kind) == (column.metric, "change") for c in shown)
        # One figure has to be there, however narrow.
        if not shown or (needed <= room and beside):
            shown.append(column)
            room -= needed

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True, header_style="bold")
    table.add_column(by, footer="total", overflow="fold")
    for column in columns:
        if column in shown:
            style = f"bold {STYLES[changes.tone(total, column)]}"
            justify: Literal["left", "right"] = "left" if column.kind == "verdict" else "right"
            footer = Text(cells[column][-1], style=style)
            table.add_column(column.header, footer=footer, justify=justify, no_wrap=True)
    for i, row in enumerate(body):
        texts = (Text(cells[c][i], style=STYLES[changes.tone(row, c)]) for c in columns if c in shown)
        table.add_row(Text(labels[i]), *texts)
    metrics = {column.metric for column in shown}
    return table, list(dict.fromkeys(changes.NAMES[c.metric] for c in columns if c.metric not in metrics))


def _wanted(columns: Sequence[Column]) -> list[Column]:
    """The columns of a diff, most wanted first."""

    def of(kind: str, measured: bool) -> list[Column]:
        return [c for c in columns if c.kind == kind and (c.metric in changes.MEASURED) is measured]

    counts = of("change", measured=False)
    return [
        *(*of("change", measured=True), *of("verdict", measured=True), *of("figures", measured=True), *counts[:1]),
        *(*of("share", measured=True), *counts[1:], *of("figures", measured=False), *of("share", measured=False)),
    ]


# Several records ------------------------------------------------------------------------------------------------------


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


def render_claims(verdicts: Sequence[Verdict], width: int = 100, color: bool = False) -> str:
    """The survey's claims, one row each: claim, section, what the survey says, what was measured, whether it holds."""
    console, stream = console_of(width, color)
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
    return trimmed(stream)


def render_models(entries: Sequence[Entry], width: int = 100, color: bool = False) -> str:
    """The known models: name, family, L, H, A, parameters."""
    console, stream = console_of(width, color)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("name", overflow="fold", min_width=12)
    if width >= 64:
        table.add_column("family", no_wrap=True)
    for name in ("L", "H", "A", "parameters"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in entries:
        layers, hidden, heads = entry.size
        figures = (str(layers), str(hidden), "–" if heads is None else str(heads), formatting.exact(entry.parameters))
        table.add_row(entry.short_name, *([entry.family] if width >= 64 else []), *figures)
    console.print(table)
    text = "L encoder units, or layers of a student's backbone, H hidden size, A attention heads; "
    console.print(Text(f"{text}parameters of the base model", style="dim"))
    return trimmed(stream)
