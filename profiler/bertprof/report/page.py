"""The breakdown as one HTML file that needs nothing else: no network, no script, no font."""

import re
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from bertprof import formatting
from bertprof.components import DESCRIPTIONS, Component
from bertprof.record import Breakdown
from bertprof.report import figure, rows
from bertprof.report.palette import color_of
from bertprof.report.rows import Row
from bertprof.survey.claims import Verdict


def render(breakdown: Breakdown, by: str = "component", claims: Sequence[Verdict] = ()) -> str:
    """The whole page.

    Args:
        breakdown: the record.
        by: the view of the table; see `bertprof.report.rows.table`.
        claims: the survey's claims as checked against this record, where that was asked for.
    """
    return _rendered("breakdown.html", breakdown, by, claims)


def fragment(breakdown: Breakdown, by: str = "component") -> str:
    """The table alone, for a notebook."""
    return _rendered("fragment.html", breakdown, by, ())


def _rendered(template: str, breakdown: Breakdown, by: str, claims: Sequence[Verdict]) -> str:
    environment = Environment(
        loader=PackageLoader("bertprof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(exact=formatting.exact, percent=formatting.percent, size=formatting.size)
    environment.globals.update(milliseconds=formatting.milliseconds, plus_minus=formatting.plus_minus)
    return environment.get_template(template).render(
        breakdown=breakdown,
        title=rows.title(breakdown),
        caveats=rows.caveat_lines(breakdown),
        by=by,
        table=rows.table(breakdown, by),
        total=rows.total(breakdown),
        headline=rows.headline(breakdown),
        workload=rows.workload_line(breakdown),
        host=rows.host_line(breakdown),
        timing=rows.timing_lines(breakdown),
        claims=claims,
        color_of=color_of,
        describe=_describe,
        figure=_inline_svg(breakdown) if template == "breakdown.html" else "",
    )


def _describe(row: Row) -> str:
    return DESCRIPTIONS[Component(row.label)] if row.label in set(Component) else ""


def _inline_svg(breakdown: Breakdown) -> str:
    """The figure for the inside of a page: without XML prologue and fixed size, so that it shrinks with the page."""
    svg = figure.render(breakdown, "svg").decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", '<svg role="img" aria-label="Figure 2: memory, FLOPs and run time by component"', 1)
