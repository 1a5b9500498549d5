"""Breakdowns and diffs as Markdown, for a pull request or a note."""

import re
from collections.abc import Sequence

from bertprof import difference, formatting
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import changes, diff_lines, lines, rows, several
from bertprof.report.changes import Column
from bertprof.report.diff_lines import GateLine
from bertprof.report.findings import findings
from bertprof.report.panels import Panel, panels
from bertprof.report.rows import Row
from bertprof.survey.claims import Verdict

_SPECIAL = re.compile(
    r"[\\`*|~$]"  # a cell's end, emphasis, code, struck out, and mathematics
    r"|\b_+|_+\b"  # emphasis as well, but for those between letters
    r"|\](?=\()"  # a link or a picture
    r"|&(?=#?\w+;)"  # a character reference
    # At the beginning: a heading, also one by what is below its text, a list, a task, a definition, a rule below the
    # head of a table; at the end: what closes a heading.
    r"|^[\[#=:]|^[+-](?!\d)|^\d+[.)](?=\s|$)|#$",
    re.ASCII,
)


def escape(text: str) -> str:
    """Text from a record, inert in a table, a paragraph, a list or a heading of GitHub's Markdown (GFM 0.29) and in the
    HTML that it allows; an @ calls nobody.

    What is special only at the beginning of a block is left as it is elsewhere: `attention-linear-in` reads as it is.
    """
    inert = _SPECIAL.sub(lambda found: re.sub(r"_|\W", r"\\\g<0>", found[0]), " ".join(text.split()))
    return inert.replace("<", "&lt;").replace(">", "&gt;").replace("@", "@<!-- -->")


def render(breakdown: Breakdown, by: str = "component", claims: Sequence[Verdict] = (), wide: bool = False) -> str:
    """A heading, the workload and the machine, the table, how it was measured, the caveats.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.table`.
        claims: the survey's claims as checked against this record, where that was asked for.
        wide: with traffic, intensity and activations; see `bertprof.report.rows.headers`.
    """
    parts = [
        f"## {escape(lines.title(breakdown))}",
        "",
        f"{lines.headline(breakdown)}",
        "",
        f"{escape(lines.workload_line(breakdown))}  ",
        f"{escape(lines.host_line(breakdown))}",
        "",
        *_table(breakdown, by, wide),
        "",
        *(f"{escape(line)}  " for line in lines.notes(breakdown)),
        *(f"- **caveat**: {escape(caveat)}" for caveat in lines.caveat_lines(breakdown)),
    ]
    for panel in panels(breakdown):
        parts += ["", *_panel(panel)]
    if claims:
        parts += ["", "### What the survey claims", "", render_claims(claims)]
    return "\n".join(parts).rstrip() + "\n"


def _panel(panel: Panel) -> list[str]:
    def inert(text: str) -> str:
        return escape(formatting.plain(text))

    head = [f"### {inert(panel.title)}", ""]
    bold = [f"**{inert(cell)}**" if cell else "" for cell in panel.total]
    body = [list(map(inert, row)) for row in panel.rows] + ([bold] if bold else [])
    if body:
        head += [f"| {' | '.join(map(inert, panel.headers))} |", f"| --- |{' ---: |' * (len(panel.headers) - 1)}"]
        head += [*(f"| {' | '.join(row)} |" for row in body), ""]
    return [*head, *(f"{inert(note)}  " for note in panel.notes)]


def render_claims(verdicts: Sequence[Verdict]) -> str:
    """The survey's claims as a table."""
    lines = ["| claim | section | the survey says | measured here | holds? |", "| --- | --- | --- | --- | --- |"]
    for verdict in verdicts:
        claim = verdict.claim
        cells = (claim.title, claim.section, claim.says, escape(verdict.measured), verdict.answer)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# A diff ---------------------------------------------------------------------------------------------------------------

MARKER = "<!-- bertprof:diff -->"
"""The first line of a diff, by which a comment on a pull request is found again and edited."""

MOST_CHARACTERS = 60_000
"""GitHub takes 65,536 in a comment."""

_ICONS = {"failed": "❌", "warning": "⚠️", "not comparable": "🚫", "inconclusive": "❔", "passed": "✅"}


def render_diff(diff: Diff, by: str = "component", wide: bool = False) -> str:
    """A diff for a pull request: verdict, what changed, gates, the rows that changed, and the rest folded away.

    Args:
        diff: the comparison.
        by: the view; see `bertprof.report.changes.table`.
        wide: with every metric; see `bertprof.report.changes.columns`.
    """
    gates, verdict = diff_lines.gates(diff), diff_lines.verdict(diff)
    title = escape(diff_lines.title(diff))
    columns = changes.columns(diff, by, wide)
    changed, same = changes.by_change(changes.table(diff, by), columns)
    found = [f"- {escape(finding.text)}" for finding in findings(diff)]
    beside = [f"{name}: {text}" for name, text in diff_lines.sides(diff).items()]
    beside += [*diff_lines.machines(diff), *diff_lines.notes(diff)]
    caveats = [f"- **caveat**: {escape(caveat)}" for caveat in diff_lines.caveats(diff)]
    first = [MARKER]
    if verdict is None:
        first.append(f"### {title}")
    else:
        first += [f"### {_ICONS[gates[0].answer]} {escape(formatting.line(verdict[0], 500))}", f"**{title}**"]
    first += [
        _fitted(found, 6_000, "findings"),
        _gates(gates),
        _fitted([f"{escape(line)}  " for line in beside], 5_000, "lines"),
        _fitted(caveats, 5_000, "caveats"),
    ]
    last = _folded("Environment and how to reproduce", _environment(diff))
    # What room there is goes to the rows, the most telling first.
    room = MOST_CHARACTERS - sum(map(len, (*first, last))) - 1_000
    tables = [_changes(diff, by, changed, columns, room, total=True)]
    if same:
        summary = f"{len(same)} row{'s' if len(same) > 1 else ''} unchanged"
        tables.append(_folded(summary, _changes(diff, by, same, columns, room - len(tables[0]))))
    tables.append(_details(diff, by, wide, room - sum(map(len, tables))))
    return "\n\n".join(part for part in (*first, *tables, last) if part) + "\n"


def _gates(gates: Sequence[GateLine]) -> str:
    if not gates:
        return ""
    head = ["| outcome | | gate |", "| --- | --- | --- |"]
    body = [f"| {_ICONS[g.answer]} {g.answer} | {escape(g.reason)} | {escape(g.gate)} |" for g in gates]
    return _fitted([*head, *body], 9_000, "gates")


def _changes(
    diff: Diff, by: str, body: Sequence[difference.Row], columns: Sequence[Column], room: int, total: bool = False
) -> str:
    """A table of rows, as many as there is room for. The total, where it is asked for, stands first and so stays."""
    lines = [
        f"| {' | '.join([by, *(column.header for column in columns)])} |",
        f"| --- |{''.join(' --- |' if column.kind == 'verdict' else ' ---: |' for column in columns)}",
    ]
    for row in [diff.row("total"), *body] if total else body:
        cells = [changes.label(row), *(changes.cell(diff, row, column, exact=True) for column in columns)]
        bold = "**" if row.level == "total" else ""
        lines.append(f"| {' | '.join(f'{bold}{escape(cell)}{bold}' for cell in cells)} |")
    return _fitted(lines, room, "rows")


def _details(diff: Diff, by: str, wide: bool, room: int) -> str:
    """The other view, folded: by unit, with what changed inside of each where units correspond."""
    view = "component" if by in ("unit", "cell") else "unit"
    columns = changes.columns(diff, view, wide)
    rows = changes.table(diff, view)
    if not changes.by_change(rows, columns)[0]:
        return ""
    if view == "unit" and not any(row.scope.startswith("after.") for row in rows):
        cells, _ = changes.by_change(changes.table(diff, "cell"), columns)
        rows = [each for unit in rows for each in (unit, *(c for c in cells if c.scope.startswith(f"{unit.scope}.")))]
    return _folded(f"By {view}", _changes(diff, view, rows, columns, room))


def _environment(diff: Diff) -> str:
    """The machine on both sides, and the command."""
    rows = [f"| {' | '.join(map(escape, cells))} |" for cells in diff_lines.environment(diff)]
    table = _fitted(["| | before | after |", "| --- | --- | --- |", *rows], 5_000, "rows")
    if diff.command is None:
        return table
    return f"{table}\n\n{fenced(diff.command)}"


def fenced(command: str) -> str:
    """A command as it was given, at most 2,000 characters of it, in a block that no back-tick of it closes."""
    text = formatting.plain(command)  # white space between its quotes counts
    text = text if len(text) <= 2_000 else f"{text[:1_999]}…"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def _fitted(lines: Sequence[str], room: int, what: str) -> str:
    """As many lines as there is room for, and how many are left out."""
    taken = 0
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            break
        taken += 1
    text = "\n".join(lines[:taken])
    return text if taken == len(lines) else f"{text}\n\n*{len(lines) - taken} more {what} left out*"


# Several records ------------------------------------------------------------------------------------------------------


def render_several(breakdowns: Sequence[Breakdown], by: str = "component", wide: bool = False) -> str:
    """Records side by side; see `bertprof.report.several.sections`."""
    names = [escape(name) for name in several.names(breakdowns)]
    common, own = several.described(breakdowns)
    parts = [f"## {' · '.join(names)}", escape(common)]
    parts.append("\n".join(f"- {name}: {escape(text)}" for name, text in zip(names, own, strict=True) if text))
    for section in several.sections(breakdowns, by, wide):
        table = [f"| {escape(section.title)} | {' | '.join(names)} |", f"| --- |{' ---: |' * len(names)}"]
        for label, cells in section.lines:
            texts = (escape(", ".join(filter(None, cell.parts))) for cell in cells)
            table.append(f"| {escape(label)} | {' | '.join(texts)} |")
        parts.append("\n".join(table))
    parts.append(escape(several.note(breakdowns)))
    parts.append("\n".join(f"- **caveat**: {escape(caveat)}" for caveat in several.caveats(breakdowns)))
    return "\n\n".join(part for part in parts if part) + "\n"


# A breakdown's table --------------------------------------------------------------------------------------------------

_HEADERS = {"bytes": "MB", "time_ms": "time (ms)"}


def _table(breakdown: Breakdown, by: str, wide: bool) -> list[str]:
    headers = rows.headers(breakdown, by, wide)
    if by != "module":
        headers.pop("plus_minus", None)  # stands with the time
        headers |= {field: header for field, header in _HEADERS.items() if field in headers}
    total = rows.total(breakdown)
    cells = [[row.label, *(_cell(row, field) for field in headers)] for row in rows.table(breakdown, by)]
    footer = ["total", *(_cell(total, field) if rows.total_cell(total, field) else "" for field in headers)]
    return [
        f"| {' | '.join([by, *headers.values()])} |",
        f"| --- |{''.join(' --- |' if field in rows.TEXTS else ' ---: |' for field in headers)}",
        *(f"| {' | '.join(map(escape, row))} |" for row in cells),
        f"| {' | '.join(f'**{escape(cell)}**' if cell else '' for cell in footer)} |",
    ]


def _cell(row: Row, field: str) -> str:
    """A row's field with all its digits; a dash for what is not known."""
    if field == "bytes" and row.bytes is not None:
        return f"{row.bytes / 1e6:,.2f}"
    if field == "time_ms" and row.time_ms is not None:
        return formatting.with_interval(row.time_ms)
    return rows.cell(row, field, exact=True)
