"""A diff as the terminal's text."""

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from bertprof.difference import Diff
from bertprof.report import changes, diff_lines
from bertprof.report.changes import Column
from bertprof.report.console import EDGES, GAP, STYLES, console_of, listed, trimmed
from bertprof.report.findings import Finding, findings
from bertprof.report.terminal import bars
from bertprof.report.terminal.bars import BAR

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
    table, left_out = _table(diff, by, wide, width)
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


def _table(diff: Diff, by: str, wide: bool, width: int) -> tuple[Table, list[str]]:
    """The table with as many columns as there is room for beside the names of the rows, and what is left out."""
    body, total = changes.table(diff, by), diff.row("total")
    labels = [changes.label(row) for row in body]
    columns = changes.columns(diff, by, wide)
    cells = {
        column: [Text(changes.cell(diff, row, column), STYLES[changes.tone(row, column)]) for row in (*body, total)]
        for column in columns
    }
    needed = {column: GAP + max(map(cell_len, (column.header, *map(str, cells[column])))) for column in columns}
    # A share cannot be read without the change before it, nor a bar without its share.
    changed = {column.metric: column for column in columns if column.kind == "change"}
    behind = {column: changed[column.metric] for column in columns if column.kind == "share"}
    wanted, bar = _wanted(columns), Column(BAR, "share", "")
    parted = next((column for column in wanted if column.kind == "share"), None)
    if parted is not None:
        lengths = bars.lengths([changes.share(diff, row, parted.metric) for row in body])
        tones = [changes.tone(row, changed[parted.metric]) for row in body]
        wanted.insert(wanted.index(parted) + 1, bar)
        columns.insert(columns.index(parted) + 1, bar)
        behind[bar] = parted
    room = width - EDGES - max(map(cell_len, (by, "total", *labels)))
    shown, longest = bars.placed(wanted, needed, room, behind, bar)
    if longest:
        drawn = [bars.drawn(length, longest) for length in lengths]
        cells[bar] = [*(Text(each, STYLES[tone]) for each, tone in zip(drawn, tones, strict=True)), Text()]

    metrics = {column.metric for column in shown}
    left_out = list(dict.fromkeys(changes.NAMES[c.metric] for c in cells if c.metric not in {*metrics, BAR}))
    columns = [column for column in columns if column in shown]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_footer=True, header_style="bold")
    table.add_column(by, footer="total", overflow="fold")
    for column in columns:
        justify: Literal["left", "right"] = "left" if column.kind == "verdict" or column == bar else "right"
        table.add_column(column.header, footer=cells[column][-1], justify=justify, no_wrap=True, footer_style="bold")
    for i, label in enumerate(labels):
        table.add_row(Text(label), *(cells[column][i] for column in columns))
    return table, left_out


def _wanted(columns: Sequence[Column]) -> list[Column]:
    """The columns of a diff, most wanted first."""

    def of(kind: str, measured: bool) -> list[Column]:
        return [c for c in columns if c.kind == kind and (c.metric in changes.MEASURED) is measured]

    counts = of("change", measured=False)
    return [
        *(*of("change", measured=True), *of("verdict", measured=True), *of("figures", measured=True), *counts[:1]),
        *(*of("share", measured=True), *counts[1:], *of("figures", measured=False), *of("share", measured=False)),
    ]
