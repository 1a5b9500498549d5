"""Records side by side as one HTML file; see `bertprof.report.page.breakdown`."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertprof import formatting
from bertprof.record import Breakdown
from bertprof.report import changes, rows, several, stacks
from bertprof.report.page.carried import carried
from bertprof.report.page.environment import environment
from bertprof.report.page.grid import Cell, Column, Grid, Line
from bertprof.report.palette import color_of, ink_on
from bertprof.report.stacks import Stack
from bertprof.report.template import loaded


def render_several(breakdowns: Sequence[Breakdown], by: str = "component", wide: bool = False) -> str:
    """Records side by side as a whole page: the totals, 100 % bars, a table a view and metric, and the records.

    Args:
        breakdowns: the records.
        by: the view that its tables open with; see `bertprof.report.rows.table`.
        wide: with a table by module as well, where all records hold modules.

    Raises:
        UsageError: there is no such view, or it is by module and a record holds no modules.
    """
    names = several.names(breakdowns)
    common, own = several.described(breakdowns)
    metrics = _metrics(breakdowns)
    modules = wide and all(breakdown.modules is not None for breakdown in breakdowns)
    views = dict.fromkeys((by, *(view for view in rows.VIEWS if view != "module" or modules)))
    return loaded("several.html").render(
        title=", ".join(names),
        names=names,
        headline=several.headline(breakdowns),
        common=common,
        own=own,
        note=several.note(breakdowns).replace("`", ""),
        caveats=several.caveats(breakdowns),
        totals=_grid(several.totals(breakdowns), names, "total", "What each takes as a whole.", "figure"),
        blocks=blocks(breakdowns),
        legend=[(label, color_of(label)) for label in several.aligned(breakdowns, "component")[0]],
        tables=[(metric, grid) for view in views for metric, grid in grids(breakdowns, view, metrics).items()],
        choices={"by": [(view, view) for view in views], "metric": [(metric, metric) for metric in metrics]},
        records=[(name, each.command, environment(each)) for name, each in zip(names, breakdowns, strict=True)],
        carried=[carried(breakdown, name) for breakdown, name in zip(breakdowns, names, strict=True)],
    )


def _metrics(breakdowns: Sequence[Breakdown]) -> list[str]:
    """What can be shown: all counts, and times where there are any; these first where all records have them."""
    timed = {breakdown.timed for breakdown in breakdowns}
    return sorted(
        (metric for metric in several.METRICS if True in timed or metric != "time"),
        key=lambda metric: metric == "time" and False in timed,
    )


# Tables ---------------------------------------------------------------------------------------------------------------


def grids(breakdowns: Sequence[Breakdown], by: str, metrics: Sequence[str]) -> dict[str, Grid]:
    """A table a metric, each with the figure, the share and the ratio of every record; of modules, their own figures.

    Without bytes by module, which records do not have.
    """
    names = several.names(breakdowns)
    totals = [rows.total(breakdown) for breakdown in breakdowns]
    own = ", without the modules below" if by == "module" else ""
    known = [metric for metric in metrics if by != "module" or metric != "bytes"]
    found = {}
    for name, section in several.of_metrics(breakdowns, by, known).items():
        metric = several.METRICS[name]
        caption = f"{section.title[0].upper()}{section.title[1:]}{own}."
        total = several.cells(breakdowns, metric, totals)
        found[name] = _grid(section, names, by, caption, metric.field, total)
    return found


def _grid(
    section: several.Section,
    names: Sequence[str],
    by: str,
    caption: str,
    field: str,
    total: Sequence[several.Cell] = (),
) -> Grid:
    """A section as a table: of each record a figure, its share where there are any, and its ratio but for the first.

    `field` is what a program calls the figure.
    """
    stem = field.removesuffix("_ms")
    shared = any(cell.share is not None for _, cells in section.lines for cell in cells)
    columns = []
    for i, name in enumerate(names):
        columns.append(Column(f"{name}: {field}", "figure", group=name))
        columns += [Column(f"{name}: {stem}_share", "%", group=name)] if shared else []
        columns += [Column(f"{name}: {stem}_ratio", "×", group=name)] if i else []

    def line(label: str, cells: Sequence[several.Cell]) -> Line:
        found = []
        for i, cell in enumerate(cells):
            found.append(Cell(f"{cell.figure}{cell.remark and f' ({cell.remark})'}", cell.value))
            if shared:
                percent = None if cell.share is None or label == "total" else 100 * cell.share
                found.append(Cell(formatting.percent(cell.share), cell.share, percent))
            ratio = "–" if cell.ratio is None else formatting.times(cell.ratio).removesuffix(" ×")
            found += [Cell(ratio, cell.ratio)] if i else []
        colored = by in ("group", "component") and label != "total"
        return Line(label, found, color_of(label) if colored else None)

    lines = [line(label, cells) for label, cells in section.lines]
    return Grid(by, caption, columns, lines, line("total", total) if total else None, compact=True)


# 100 % bars -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A component in a bar: its share from 0 to 1, that in words, and in percent where it is wide enough to be read."""

    share: float
    said: str
    text: str
    color: str
    ink: str


@dataclass(frozen=True)
class Bar:
    """The bar of one record: its components, what they are a share of, and all that in words."""

    name: str
    total: str
    parts: Sequence[Part]
    said: str


READABLE = 0.05
"""From that share on there is room for a number."""


def blocks(breakdowns: Sequence[Breakdown]) -> list[tuple[str, list[Bar]]]:
    """The 100 % bars, a bar a record: what they are of, and the bars; see `bertprof.report.stacks`."""
    return [
        (changes.title(block.metric), [_bar(changes.NAMES[block.metric], stack) for stack in block.stacks])
        for block in stacks.of_breakdowns(breakdowns)
    ]


def _bar(metric: str, stack: Stack) -> Bar:
    parts = [_part(label, share) for label, share in stack.shares.items() if share]
    said = ", ".join(part.said for part in parts)
    return Bar(stack.name, stack.total, parts, f"{stack.name}, {metric} {stack.total}: {said or 'nothing known'}")


def _part(label: str, share: float) -> Part:
    color = color_of(label)
    text = f"{100 * share:.0f} %" if share >= READABLE else ""
    return Part(min(1.0, max(0.0, share)), f"{label} {formatting.percent(share)} %", text, color, ink_on(color))
