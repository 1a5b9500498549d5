"""Before beside after, two bars a component."""

from bertprof import formatting
from bertprof.difference import Change, Diff
from bertprof.report import changes
from bertprof.report.figure.drawing import Bars, Figure, Sheet, pale, place, scaled
from bertprof.report.palette import REST, color_of

METRICS = {
    "bytes": "B",
    "flops": "FLOPs",
    "time": "ms",
}
"""Metric → its unit on an axis."""

_ROW_MM = 5.8


def draw(diff: Diff, width_mm: float) -> Figure:
    """Two bars a component, a panel each for stored parameters, FLOPs and, where known, time.

    The bar of before is pale, that of after full; beside them stands what changed.
    """
    shown = changes.table(diff, "component")
    total = diff.row("total").metrics
    known = [m for m in METRICS if m in total and total[m].change is not None]
    sheet = Sheet(width_mm)
    sheet.heading(title(diff), "" if known else "The sides have no figures in common.")
    panels = []
    for metric in known:
        figures = [(row.scope, change_of(row.metrics.get(metric))) for row in shown]
        largest = max((float(max(pair)) for _, (_, pair) in figures if pair is not None), default=0.0)
        factor, unit = (1.0, METRICS[metric]) if metric == "time" else scaled(largest, METRICS[metric])
        whole = total[metric]
        shown_whole = changes.with_unit(changes.figures(whole, metric), metric)
        head = f"{changes.title(metric)}: {shown_whole}, {changes.brief(whole, metric)}"
        bars = Bars(head, unit, len(shown))
        for i, (scope, (change, pair)) in enumerate(figures):
            if change is None or pair is None:
                continue
            color = color_of(scope)
            for at, value, fill in zip((-0.19, 0.19), pair, (pale(color), color), strict=True):
                bars.add(i, 0, value / factor, at, 0.36, color=fill)
            bars.labels[i] = changes.brief(change, metric)
        panels.append(bars)
    if panels:
        place(sheet, [row.scope for row in shown], panels, _ROW_MM)
    sheet.legend({"before": pale(REST), "after": REST})
    return sheet.finished()


def title(diff: Diff) -> str:
    """Both sides' names."""
    return f"{formatting.line(diff.before.name, 60)} → {formatting.line(diff.after.name, 60)}"


def change_of(change: Change | None) -> tuple[Change | None, tuple[float, float] | None]:
    """A change, and its two figures where both are known."""
    if change is None or change.before is None or change.after is None:
        return change, None
    return change, (change.before, change.after)
