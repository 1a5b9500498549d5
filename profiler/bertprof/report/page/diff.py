"""A diff as one HTML file; see `bertprof.report.page.breakdown`."""

from bertprof.difference import Diff
from bertprof.report import diff_lines
from bertprof.report.findings import findings
from bertprof.report.page.carried import carried
from bertprof.report.page.diff_bars import pairs, waterfalls
from bertprof.report.page.diff_grids import grid, grids
from bertprof.report.page.grid import choices
from bertprof.report.template import loaded


def render_diff(diff: Diff, by: str = "component", wide: bool = False) -> str:
    """A diff as a whole page: what moved and why, bars, the waterfall, the tables of every view, and the diff itself.

    Args:
        diff: the comparison.
        by: the view that its tables open with; see `bertprof.report.changes.table`.
        wide: with every metric; see `bertprof.report.changes.columns`.
    """
    views = grids(diff, by, wide)
    falls = waterfalls(diff)
    return loaded("diff.html").render(
        diff=diff,
        title=diff_lines.title(diff),
        verdict=diff_lines.verdict(diff),
        findings=findings(diff),
        sides=diff_lines.sides(diff),
        machines=diff_lines.machines(diff),
        notes=diff_lines.notes(diff),
        caveats=diff_lines.caveats(diff),
        gates=diff_lines.gates(diff),
        pairs=pairs(diff),
        waterfalls=falls,
        margin=diff_lines.margin(diff),
        falls={"metric": [(fall.metric, fall.metric) for fall in falls]},
        grids=views,
        choices=choices(views),
        environment=diff_lines.environment(diff),
        carried=carried(diff, f"{diff.before.name}-to-{diff.after.name}"),
    )


def diff_fragment(diff: Diff, by: str = "component") -> str:
    """What changed, its table and the gates, for a notebook."""
    return loaded("diff_fragment.html").render(
        title=diff_lines.title(diff),
        verdict=diff_lines.verdict(diff),
        findings=findings(diff),
        notes=diff_lines.notes(diff),
        caveats=diff_lines.caveats(diff),
        gates=diff_lines.gates(diff),
        grid=grid(diff, by),
    )
