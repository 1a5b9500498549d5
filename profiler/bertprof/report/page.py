"""A breakdown, a diff or several records as one HTML file that needs nothing else: no network, no script, no font."""

import re
from collections.abc import Sequence

from markupsafe import Markup

from bertprof import difference
from bertprof.components import DESCRIPTIONS, Component
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import changes, diff_lines, figure, lines, rows, several
from bertprof.report.changes import Column
from bertprof.report.findings import findings
from bertprof.report.palette import color_of
from bertprof.report.panels import panels
from bertprof.report.rows import Row
from bertprof.report.template import loaded
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
    described = "Figure 2: memory, FLOPs and run time by component"
    whole = template == "breakdown.html"
    return loaded(template).render(
        breakdown=breakdown,
        title=lines.title(breakdown),
        caveats=lines.caveat_lines(breakdown),
        by=by,
        headers={f: h for f, h in rows.headers(breakdown, by, wide).items() if f not in ("type", "component")},
        table=rows.table(breakdown, by),
        total=rows.total(breakdown),
        headline=lines.headline(breakdown),
        workload=lines.workload_line(breakdown),
        host=lines.host_line(breakdown),
        notes=lines.notes(breakdown),
        claims=claims,
        panels=panels(breakdown),
        color_of=color_of,
        describe=_describe,
        exact=by != "module" and not wide,  # else the table is too broad for most screens
        cell=rows.cell,
        total_cell=rows.total_cell,
        share=_share,
        in_tree=rows.in_tree,
        figure=inline_svg(figure.render(breakdown, "svg"), described) if whole else "",
    )


def _share(row: Row, field: str) -> float | None:
    """How far the bar behind a cell reaches, in percent; None for a cell without a bar."""
    if field == "time_share":
        return None if row.time_share is None else 100 * row.time_share.value
    return 100 * getattr(row, field) if field in ("parameters_share", "macs_share", "flops_share") else None


def _describe(row: Row) -> str:
    return DESCRIPTIONS[Component(row.label)] if row.label in set(Component) else ""


def inline_svg(content: bytes, described: str) -> str:
    """A figure for the inside of a page: without XML prologue and fixed size, so that it shrinks with the page."""
    svg = content.decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{described}"', 1)


# A diff ---------------------------------------------------------------------------------------------------------------


def render_diff(diff: Diff, by: str = "component", wide: bool = False) -> str:
    """A diff as a whole page.

    Args:
        diff: the comparison.
        by: the view of the table; see `bertprof.report.changes.table`.
        wide: with every metric; see `bertprof.report.changes.columns`.
    """
    return _rendered_diff("diff.html", diff, by, wide)


def diff_fragment(diff: Diff, by: str = "component") -> str:
    """What changed, its table and the gates, for a notebook."""
    return _rendered_diff("diff_fragment.html", diff, by, wide=False)


def _rendered_diff(template: str, diff: Diff, by: str, wide: bool) -> str:
    whole = template == "diff.html"
    views = [by, "component" if by in ("unit", "cell") else "unit"] if whole else [by]
    described = "Parameters, FLOPs and time by component, before beside after"
    return loaded(template).render(
        diff=diff,
        by=by,
        title=diff_lines.title(diff),
        verdict=diff_lines.verdict(diff),
        findings=findings(diff),
        sides=diff_lines.sides(diff),
        machines=diff_lines.machines(diff),
        notes=diff_lines.notes(diff),
        caveats=diff_lines.caveats(diff),
        gates=diff_lines.gates(diff),
        environment=diff_lines.environment(diff),
        views=[
            {"by": view, "columns": changes.columns(diff, view, wide), "rows": changes.table(diff, view)}
            for view in views
        ],
        label=changes.label,
        color_of=color_of,
        cell=lambda row, column: _cell(diff, row, column),
        figure=inline_svg(figure.render(diff, "svg"), described) if whole else "",
    )


def _cell(diff: Diff, row: difference.Row, column: Column) -> Markup:
    """A cell: its digits on pointing, its tone, and a bar for its part of the change."""
    text, exact = (changes.cell(diff, row, column, exact) for exact in (False, True))
    classes = [changes.tone(row, column), *(["word"] if column.kind == "verdict" else [])]
    part = changes.share(diff, row, column.metric) if column.kind == "share" and row.level != "total" else None
    style = Markup("")
    if part is not None and part > 0:
        classes.append("share")
        style = Markup(' style="--share:{:.2f}%"').format(min(100.0, 100 * part))
    return Markup('<td class="{}"{} title="{}">{}</td>').format(" ".join(classes), style, exact, text)


# Several records ------------------------------------------------------------------------------------------------------


def render_several(breakdowns: Sequence[Breakdown], by: str = "component", wide: bool = False) -> str:
    """Records side by side as a whole page; see `bertprof.report.several.sections`."""
    common, own = several.described(breakdowns)
    return loaded("several.html").render(
        names=several.names(breakdowns),
        common=common,
        own=own,
        sections=several.sections(breakdowns, by, wide),
        note=several.note(breakdowns),
        caveats=several.caveats(breakdowns),
        color_of=color_of,
        figure=inline_svg(
            figure.render_several(breakdowns, "svg"), "Parameters, FLOPs and time by component, one bar a record"
        ),
    )
