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


def render(breakdown: Breakdown, by: str = "component", claims: Sequence[Verdict] = (), wide: bool = False) -> str:
    """The whole page.

    Args:
        breakdown: the record.
        by: the view of the table; see `bertprof.report.rows.table`.
        claims: the survey's claims as checked against this record, where that was asked for.
        wide: with traffic, intensity and activations; see `bertprof.report.rows.headers`.
    """
    return _rendered("breakdown.html", breakdown, by, claims, wide)


def fragment(breakdown: Breakdown, by: str = "component") -> str:
    """The table alone, for a notebook."""
    return _rendered("fragment.html", breakdown, by, (), wide=False)


def _rendered(template: str, breakdown: Breakdown, by: str, claims: Sequence[Verdict], wide: bool) -> str:
    environment = Environment(
        loader=PackageLoader("bertprof.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=formatting.plain)
    return environment.get_template(template).render(
        breakdown=breakdown,
        title=rows.title(breakdown),
        caveats=rows.caveat_lines(breakdown),
        by=by,
        headers={f: h for f, h in rows.headers(breakdown, by, wide).items() if f not in rows.TEXTS},
        table=rows.table(breakdown, by),
        total=rows.total(breakdown),
        headline=rows.headline(breakdown),
        workload=rows.workload_line(breakdown),
        host=rows.host_line(breakdown),
        notes=rows.notes(breakdown),
        claims=claims,
        color_of=color_of,
        describe=_describe,
        exact=by != "module" and not wide,  # else the table is too broad for most screens
        cell=rows.cell,
        total_cell=rows.total_cell,
        share=_share,
        in_tree=rows.in_tree,
        figure=_inline_svg(breakdown) if template == "breakdown.html" else "",
    )


def _share(row: Row, field: str) -> float | None:
    """How far the bar behind a cell reaches, in percent; None for a cell without a bar."""
    if field == "time_share":
        return None if row.time_share is None else 100 * row.time_share.value
    return 100 * getattr(row, field) if field in ("parameters_share", "macs_share", "flops_share") else None


def _describe(row: Row) -> str:
    return DESCRIPTIONS[Component(row.label)] if row.label in set(Component) else ""


def _inline_svg(breakdown: Breakdown) -> str:
    """The figure for the inside of a page: without XML prologue and fixed size, so that it shrinks with the page."""
    svg = figure.render(breakdown, "svg").decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", '<svg role="img" aria-label="Figure 2: memory, FLOPs and run time by component"', 1)
