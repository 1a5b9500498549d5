"""The tables of a diff's page: what changed, in every view; see `bertprof.report.changes`."""

from collections.abc import Mapping
from types import MappingProxyType

from bertprof import formatting
from bertprof.comparison import SHARE
from bertprof.components import DESCRIPTIONS
from bertprof.difference import Change, Diff, Row, Verdict
from bertprof.report import changes, diff_lines
from bertprof.report.page.grid import Cell, Column, Grid, Line, tip
from bertprof.report.palette import color_of

_FAMILIES: Mapping[str, str] = MappingProxyType(
    {SHARE: "time", "nonzero_parameters": "parameters", "useful_macs": "macs", "activation_bytes": "bytes_moved"}
)
"""Metrics that show with another one, as on the page of a breakdown."""


def choice(metric: str) -> str:
    """What is chosen to see a metric alone: its name, or that of the metric with which it shows."""
    return changes.NAMES[_FAMILIES.get(metric, metric)]


_ENDS = {metric: f"_{unit.lower()}" for metric, unit in changes.UNITS.items()}
"""Metric → the unit at the end of the names that a program calls its columns."""

_CAPTIONS = {"unit": "By unit, and what stands outside of all", "cell": "Each component of each unit"}


def grids(diff: Diff, by: str, wide: bool = False) -> list[Grid]:
    """A table a view, that of `by` first.

    Args:
        diff: the comparison.
        by: the view; see `bertprof.report.changes.table`.
        wide: with every metric; see `bertprof.report.changes.columns`.
    """
    return [grid(diff, view, wide) for view in (by, *(view for view in changes.VIEWS if view != by))]


def grid(diff: Diff, by: str, wide: bool = False) -> Grid:
    """The table of one view."""
    shown, at_once = _shown(diff, by, wide)
    told = list(dict.fromkeys(column.metric for column in shown)) if by != "cell" else []
    return Grid(
        by=by,
        caption=f"{_CAPTIONS.get(by, f'By {by}')}, before and after.",
        columns=[column for each in shown for column in _columns(each, only=each.metric not in at_once)],
        lines=[_line(diff, row, shown, told) for row in changes.table(diff, by)],
        total=_line(diff, diff.row("total"), shown, told),
        compact=True,
    )


_DOUBLED = ("bytes", "macs")
"""Metrics that often tell what parameters or FLOPs do; beside these they show when they are chosen."""


MOST = 3
"""Metrics that have room beside one another on a usual screen; the others show when they are chosen."""

_WANTED = tuple(dict.fromkeys(("time", "parameters", "flops", "device_time", "bytes", "energy", *changes.NAMES)))
"""Metrics, the most wanted at once first; our choice."""


def _shown(diff: Diff, by: str, wide: bool) -> tuple[list[changes.Column], set[str]]:
    """The columns of a view, and which of their metrics show at once: as many as have room beside one another."""
    usual = changes.columns(diff, by, wide)
    at_once = {column.metric for column in usual}
    if wide:
        return usual, at_once
    if {"macs", "flops"} <= at_once:
        at_once.remove("macs")
    if "parameters" in at_once and len({choice(metric) for metric in at_once}) > MOST:
        at_once.discard("bytes")
    shown = sorted(at_once, key=_WANTED.index)
    at_once = {metric for metric in shown if choice(metric) in list(dict.fromkeys(map(choice, shown)))[:MOST]}
    rows = [diff.row("total"), *changes.table(diff, by)]
    others = {column.metric for column in usual}
    others |= {metric for metric in _DOUBLED if not changes.unchanged(rows, metric)}
    every = changes.columns(diff, by, wide=True)
    return [column for column in every if column.metric in at_once or column.metric in others], at_once


def _columns(column: changes.Column, only: bool) -> list[Column]:
    """A column of `changes` as those of a table: two of what was before and after."""
    metric, unit = choice(column.metric), _ENDS.get(column.metric, "")
    name = "time_share" if column.metric == SHARE else column.metric
    group = changes.header(column.metric)
    match column.kind:
        case "figures":
            sides = ("before", "after")
            return [Column(f"{name}_{side}{unit}", side, metric, group=group, side=side, only=only) for side in sides]
        case "change":
            return [Column(f"{name}_ratio", "Δ", metric, group=group, only=only)]
        case "share":
            return [Column(f"{name}_share_of_change", "of Δ", metric, group=group, only=only)]
        case "verdict":
            return [Column(f"{name}_verdict", "verdict", metric, word=True, group=group, only=only)]


def _line(diff: Diff, row: Row, shown: list[changes.Column], told: list[str]) -> Line:
    return Line(
        label=changes.label(row),
        cells=[cell for column in shown for cell in _cells(diff, row, column)],
        color=None if row.level in ("total", "unit") else color_of(row.component or row.scope),
        tip=_tip(diff, row, told),
    )


def _cells(diff: Diff, row: Row, column: changes.Column) -> list[Cell]:
    change = row.metrics.get(column.metric)
    if change is None:
        return [Cell("–")] * (2 if column.kind == "figures" else 1)
    tone = changes.tone(row, column)
    match column.kind:
        case "figures":
            return [_figure(value, column.metric) for value in (change.before, change.after)]
        case "change":
            return [Cell(changes.relative(change), change.ratio, tone=tone)]
        case "share":
            part = changes.share(diff, row, column.metric)
            bar = min(100.0, 100 * part) if part is not None and part > 0 and row.level != "total" else None
            return [Cell(changes.cell(diff, row, column), None if part is None else part + 0.0, bar)]
        case "verdict":
            return [Cell(change.verdict, change.verdict, tone=tone)]


def _figure(value: float | None, metric: str) -> Cell:
    return Cell(changes.figure(value, metric), value)


# What is told of a row ------------------------------------------------------------------------------------------------


def _tip(diff: Diff, row: Row, told: list[str]) -> str:
    if not told:
        return ""
    found = [DESCRIPTIONS[row.component]] if row.component is not None else []
    found += [_sentence(diff, row, metric) for metric in told if metric in row.metrics and metric != SHARE]
    return tip(*found)


def _sentence(diff: Diff, row: Row, metric: str) -> str:
    """All of one change: both figures with all digits, by how much, the verdict with what it means, and its share."""
    change = row.metrics[metric]
    seen = " → ".join(dict.fromkeys(_exact(value, metric) for value in (change.before, change.after)))
    parts = [f"{changes.NAMES[metric]}: {changes.with_unit(seen, metric)}"]
    relative = changes.relative(change)
    if relative not in ("–", change.verdict):
        parts.append(relative)
    meaning = verdict_means(diff, change, metric)
    parts.append(f"{change.verdict} ({meaning})" if meaning else change.verdict)
    if medians_differ(diff, change, metric):
        parts.append(MEDIANS)
    share = changes.share(diff, row, metric)
    if share is not None and row.level != "total":
        parts.append(f"{changes.part(share)} of the change of the total")
    return ", ".join(parts)


def _exact(value: float | None, metric: str) -> str:
    if value is None or metric in changes.MEASURED:
        return changes.figure(value, metric)
    return formatting.exact(round(value))


MEDIANS = "before and after are each side's own medians, Δ is of the rounds' ratios"


def medians_differ(diff: Diff, change: Change, metric: str) -> bool:
    """Whether both medians say another change than the rounds, one by one: their ratio is
    outside of its interval by more than the margin.
    """
    if diff.times != "rounds" or metric not in changes.MEASURED or not change.before or change.after is None:
        return False
    if change.low is None or change.high is None:
        return False
    upper = 1 + diff.margin
    return not change.low / upper <= change.after / change.before <= change.high * upper


def verdict_means(diff: Diff, change: Change, metric: str) -> str:
    """What a verdict says of a change; empty of a count, which is exact and says it by itself."""
    means: dict[Verdict, str] = {
        "new": "only AFTER has it",
        "removed": "only BEFORE has it",
        "n/a": "not known on both sides, or taken under conditions that differ",
    }
    if change.verdict in means:
        return means[change.verdict]
    if metric not in changes.MEASURED:
        return ""
    margin, upper = diff_lines.margin(diff), 1 + diff.margin
    if change.low is None or change.high is None:
        return "" if change.verdict == "same" else "too short, or too few measurements, to tell"
    if change.verdict == "same":
        return f"the whole interval is within {margin}"
    if change.verdict != "inconclusive":
        return f"the whole interval is beyond {margin}, by Holm's correction no chance hit among all rows"
    if change.low > upper or change.high * upper < 1:
        more = "; more rounds (--until) may tell" if diff.times == "rounds" else ""
        return f"beyond {margin} by itself, but not surely after Holm's correction for all rows{more}"
    return f"neither surely beyond {margin} nor surely within"
