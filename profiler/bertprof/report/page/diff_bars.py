"""The bars of a diff's page, in HTML and CSS: before above after, and the waterfall from one to the other.

Whatever a bar shows stands beside it as text; no figure is in its length or its colour alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from bertprof.difference import Change, Diff
from bertprof.report import changes
from bertprof.report.changes import Tone
from bertprof.report.page.diff_grids import choice
from bertprof.report.palette import REST, color_of
from bertprof.report.waterfall import METRICS, Step, Waterfall, waterfall


@dataclass(frozen=True)
class Bar:
    """One bar, or two above each other.

    Attributes:
        label: of what.
        text: its figures.
        change: what changed, in words or in percent; empty: nothing is said.
        tone: whether that is good.
        color: of the component.
        spans: from where to where each reaches, in percent of the width.
    """

    label: str
    text: str
    change: str
    tone: Tone
    color: str
    spans: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """The bars of one metric.

    Attributes:
        metric: what is chosen to see it.
        title: what it is called.
        total: the figures of the whole model.
        change: how these changed.
        tone: whether that is good.
        bars: the bars, in order.
        notes: how to read it, one sentence or more each.
        cut: whether the axis starts above zero.
    """

    metric: str
    title: str
    total: str
    change: str
    tone: Tone
    bars: Sequence[Bar]
    notes: Sequence[str] = ()
    cut: bool = False


# Before above after ---------------------------------------------------------------------------------------------------

PAIRED = ("bytes", "flops", *changes.MEASURED)
"""Metrics of which both sides are drawn: what Figure 2 of the survey shows, and what was measured beside time."""


def pairs(diff: Diff) -> list[Panel]:
    """Before above after by component, a panel a metric that compares and is not the same in every row."""
    return [panel for panel in (_paired(diff, metric) for metric in PAIRED) if panel is not None]


def _paired(diff: Diff, metric: str) -> Panel | None:
    rows = [row for row in changes.table(diff, "component") if metric in row.metrics]
    total = diff.row("total").metrics.get(metric)
    if total is None or total.verdict == "n/a" or not rows or changes.unchanged(rows, metric):
        return None
    found = [(row, row.metrics[metric]) for row in rows]
    longest = max(abs(value or 0) for _, change in found for value in (change.before, change.after))
    bars = []
    for row, change in found:
        values = [value or 0 for value in (change.before, change.after)]
        if any(values):
            text = changes.with_unit(changes.figures(change, metric), metric)
            spans = [(0.0, _percent(value, 0, longest)) for value in values]
            color, tone = color_of(row.component or row.scope), changes.tone_of(change.verdict)
            bars.append(Bar(changes.label(row), text, changes.brief(change, metric), tone, color, spans))
    return Panel(
        choice(metric),
        changes.title(metric),
        changes.with_unit(changes.figures(total, metric), metric),
        changes.brief(total, metric),
        changes.tone_of(total.verdict),
        bars,
    )


# The waterfall --------------------------------------------------------------------------------------------------------


def waterfalls(diff: Diff) -> list[Panel]:
    """The waterfall of each metric that changed."""
    found = (waterfall(diff, metric) for metric in METRICS)
    return [_drawn(diff, each) for each in found if each is not None]


def _drawn(diff: Diff, found: Waterfall) -> Panel:
    metric = found.metric
    origin, most = found.axis
    cut = origin > 0

    def end(label: str, value: float) -> Bar:
        text = changes.with_unit(changes.figure(value, metric), metric)
        return Bar(label, text, "", "plain", REST, [(0.0, _percent(value, origin, most))])

    bars = [end("before", found.before), *(_step(step, metric, origin, most) for step in found.steps)]
    bars.append(end("after", found.after))
    notes = [found.note] if found.note else []
    if cut:
        start = changes.with_unit(changes.figure(origin, metric), metric)
        notes.append(f"The axis starts at {start}, not at zero.")
    total = diff.row("total").metrics[metric]
    return Panel(
        choice(metric),
        found.title,
        found.ends,
        changes.signed(found.after - found.before, metric),
        changes.tone_of(total.verdict),
        bars,
        notes,
        cut,
    )


def _step(step: Step, metric: str, origin: float, most: float) -> Bar:
    """One step; that of the machine has no verdict."""
    low, high = sorted((step.start, step.end))
    span = (_percent(low, origin, most), _percent(high, origin, most))
    change, text = step.change, changes.signed(step.end - step.start, metric)
    if step.row is None or change is None:
        return Bar(step.label, text, "", "plain", REST, [span])
    color = color_of(step.row.component or step.row.scope)
    if metric not in changes.MEASURED and change.before == change.after:
        return Bar(step.label, "same", "", "plain", color, [span])
    said = change.verdict if change.verdict not in ("smaller", "larger") else ""  # which its sign tells
    tone = changes.tone_of(change.verdict) if change.verdict not in ("new", "removed") else _by_sign(change)
    return Bar(step.label, text, said, tone, color, [span])


def _by_sign(change: Change) -> Tone:
    """The tone of a step that is there on one side only: less is better."""
    return "better" if (change.change or 0) < 0 else "worse" if (change.change or 0) > 0 else "plain"


def _percent(value: float, origin: float, most: float) -> float:
    """Where a value stands on the axis, in percent of its width."""
    width = most - origin
    where = 100 * (value - origin) / width if width else 0.0
    return min(100.0, max(0.0, where)) if isfinite(where) else 0.0
