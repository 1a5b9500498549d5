"""From before to after, component by component."""

from bertprof.difference import Diff
from bertprof.report import changes
from bertprof.report.figure import pairs
from bertprof.report.figure.drawing import SMALL_PT, Bars, Figure, Sheet, pale, place, scaled
from bertprof.report.figure.units import compared
from bertprof.report.palette import REST, color_of
from bertprof.report.waterfall import MACHINE, Step, Waterfall, waterfall

_ROW_MM = 5.0


def draw(diff: Diff, width_mm: float) -> Figure:
    """A floating bar a component from before to after: in time where that compares, else in bytes, else in FLOPs.

    Steps of which it is not sure that they are any are pale, and have a question mark.
    """
    found = _chosen(diff)
    metric = found.metric
    origin, most = found.axis
    factor, unit = (1.0, pairs.METRICS[metric]) if metric == "time" else scaled(most, pairs.METRICS[metric])
    total = diff.row("total").metrics.get(metric)
    answer = "" if total is None or metric == "time" else f", {changes.brief(total, metric)}"
    bars = Bars(
        f"{found.title}: {found.ends}{answer}",
        f"{unit} (the axis does not begin at 0)" if origin > 0 else unit,
        2 + len(found.steps),
        origin / factor,
    )
    last = 1 + len(found.steps)
    for i, level in ((0, found.before), (last, found.after)):
        bars.add(i, origin / factor, level / factor, color=REST)
        bars.labels[i] = changes.with_unit(changes.figure(level, metric), metric)
    for i, step in enumerate(found.steps, 1):
        begin, end = sorted((step.start / factor, step.end / factor))
        color = color_of(step.label)
        bars.add(i, begin, end, color=color if _sure(step) else pale(color))
        bars.labels[i] = changes.signed(step.end - step.start, metric) + ("" if _sure(step) else "?")
    sheet = Sheet(width_mm)
    sheet.heading(pairs.title(diff), found.note)
    (axes,) = place(sheet, ["before", *(step.label for step in found.steps), "after"], [bars], _ROW_MM)
    for i, level in enumerate((found.before, *(step.end for step in found.steps))):
        axes.plot([level / factor] * 2, [i - 0.35, i + 1.35], color="black", linewidth=0.5, linestyle=":", zorder=1)
    sheet.at_mm += 1
    sheet.lines(_notes(diff, found), SMALL_PT)
    return sheet.finished()


def _chosen(diff: Diff) -> Waterfall:
    """The first of the metrics that changed; without steps where none did."""
    metric = compared(diff, "bytes")
    found = (waterfall(diff, each) for each in dict.fromkeys((metric, "bytes", "flops")))
    total = diff.row("total").metrics[metric]
    return next((each for each in found if each), Waterfall(metric, total.before or 0, total.after or 0, []))


def _sure(step: Step) -> bool:
    return step.change is None or step.change.verdict not in ("inconclusive", "n/a")


def _notes(diff: Diff, found: Waterfall) -> list[str]:
    shown = {step.label for step in found.steps}
    idle = [row.scope for row in changes.table(diff, "component") if row.scope not in shown]
    notes = [f"Neither side has any of it in {', '.join(idle)}."] if idle else []
    if not all(map(_sure, found.steps)):
        notes.append("Pale, with a question mark: not surely a change.")
    if MACHINE in shown:
        notes.append("The machine itself: what the yardstick took beside after against beside before.")
    return notes
