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


def render(breakdown: Breakdown, by: str = "component", claims: Sequence[Verdict] = ()) -> str:
    """A heading, the workload and the machine, the table, how it was measured, the caveats.

    Args:
        breakdown: the record.
        by: the view; see `bertprof.report.rows.table`.
        claims: the survey's claims as checked against this record, where that was asked for.
    """
    lines = [
        f"## {escape(rows.title(breakdown))}",
        "",
        f"{rows.headline(breakdown)}",
        "",
        f"{escape(rows.workload_line(breakdown))}  ",
        f"{escape(rows.host_line(breakdown))}",
        "",
        *_table(breakdown, by),
        "",
        *(f"{escape(line)}  " for line in rows.timing_lines(breakdown)),
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


def _table(breakdown: Breakdown, by: str) -> list[str]:
    columns = [("parameters", "parameters"), ("%", "parameters_share"), ("MB", "bytes"), ("MACs", "macs")]
    columns += [("%", "macs_share"), ("FLOPs", "flops"), ("%", "flops_share")]
    if breakdown.timed:
        columns += [("time (ms)", "time_ms"), ("%", "time_share")]
    if by == "module":
        columns = [("component", "component"), *(column for column in columns if column[1] != "bytes")]
    total = rows.total(breakdown)
    cells = [[row.label, *(_cell(row, field) for _, field in columns)] for row in rows.table(breakdown, by)]
    footer = ["total", *("" if field == "component" else _cell(total, field) for _, field in columns)]
    return [
        f"| {' | '.join([by, *(name for name, _ in columns)])} |",
        f"| --- |{' ---: |' * len(columns)}",
        *(f"| {' | '.join(map(escape, row))} |" for row in cells),
        f"| {' | '.join(f'**{escape(cell)}**' if cell else '' for cell in footer)} |",
    ]


def _cell(row: Row, field: str) -> str:
    """A row's field with all its digits; a dash for what is not known."""
    value = getattr(row, field)
    if value is None:
        return "–"
    if field == "time_ms":
        return formatting.with_interval(value)
    if field == "time_share":
        return formatting.percent(value.value)
    if field.endswith("_share"):
        return formatting.percent(value)
    if field == "bytes":
        return f"{value / 1e6:,.2f}"
    return str(value) if field == "component" else formatting.exact(value)
