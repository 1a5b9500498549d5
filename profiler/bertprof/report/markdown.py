"""The breakdown as Markdown, for a pull request or a note."""

import re
from collections.abc import Sequence

from bertprof import formatting
from bertprof.record import Breakdown
from bertprof.report import rows
from bertprof.report.rows import Row
from bertprof.survey.claims import Verdict

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&-])")


def escape(text: str) -> str:
    """Text from a record, inert in Markdown and in the HTML that Markdown allows."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def render(breakdown: Breakdown, by: str = "component", claims: Sequence[Verdict] = (), wide: bool = False) -> str:
    """A heading, the workload and the machine, the table, how it was measured, the caveats.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.table`.
        claims: the survey's claims as checked against this record, where that was asked for.
        wide: with traffic, intensity and activations; see `bertprof.report.rows.headers`.
    """
    lines = [
        f"## {escape(rows.title(breakdown))}",
        "",
        f"{rows.headline(breakdown)}",
        "",
        f"{escape(rows.workload_line(breakdown))}  ",
        f"{escape(rows.host_line(breakdown))}",
        "",
        *_table(breakdown, by, wide),
        "",
        *(f"{escape(line)}  " for line in rows.notes(breakdown)),
        *(f"- **caveat**: {escape(caveat)}" for caveat in rows.caveat_lines(breakdown)),
    ]
    if claims:
        lines += ["", "### What the survey claims", "", render_claims(claims)]
    return "\n".join(lines).rstrip() + "\n"


def render_claims(verdicts: Sequence[Verdict]) -> str:
    """The survey's claims as a table."""
    lines = ["| claim | section | the survey says | measured here | holds? |", "| --- | --- | --- | --- | --- |"]
    for verdict in verdicts:
        claim = verdict.claim
        cells = (claim.title, claim.section, claim.says, escape(verdict.measured), verdict.answer)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


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
