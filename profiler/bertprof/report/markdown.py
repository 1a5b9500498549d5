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
    timed = breakdown.timed
    header = [by, "parameters", "%", "MB", "MACs", "%", "FLOPs", "%"] + (["time (ms)", "%"] if timed else [])
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    for row in rows.table(breakdown, by):
        lines.append(f"| {' | '.join(_cells(row, timed))} |")
    total = _cells(rows.total(breakdown), timed)
    lines.append(f"| {' | '.join(f'**{cell}**' for cell in total)} |")
    return lines


def _cells(row: Row, timed: bool) -> list[str]:
    cells = [
        escape(row.label),
        formatting.exact(row.parameters),
        formatting.percent(row.parameters_share),
        "–" if row.bytes is None else f"{row.bytes / 1e6:,.2f}",
        formatting.exact(row.macs),
        formatting.percent(row.macs_share),
        formatting.exact(row.flops),
        formatting.percent(row.flops_share),
    ]
    if timed:
        time, share = row.time_ms, row.time_share
        cells.append("–" if time is None else f"{formatting.milliseconds(time)} ± {formatting.plus_minus(time)}")
        cells.append(formatting.percent(None if share is None else share.value))
    return cells
