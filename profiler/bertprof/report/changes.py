"""Changes: what every table and figure of a Diff shows, before it is formatted. The counterpart of `rows` for a Diff.

What changed stands beside what it was, row by row; what it means in words is in `findings`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from bertprof import formatting
from bertprof.comparison import MEMORY, SAMPLED, SHARE
from bertprof.components import GROUPS
from bertprof.difference import Change, Diff, Row, Verdict
from bertprof.errors import UsageError

View = Literal["group", "component", "unit", "cell"]
VIEWS: tuple[str, ...] = get_args(View)

Tone = Literal["better", "worse", "open", "plain"]
"""How a change is coloured. Its verdict always stands in words or by its sign as well."""

CHANGED: tuple[Verdict, ...] = ("faster", "slower", "smaller", "larger", "new", "removed")
"""Verdicts that say that something surely changed."""

MEASURED = tuple(SAMPLED)
"""Metrics with samples, of which a verdict is needed to know whether they changed."""


def table(diff: Diff, by: str) -> list[Row]:
    """The rows of a view, in order, without the total. What costs nothing on either side is left out.

    Args:
        diff: the comparison.
        by: "group" (four groups and the rest), "component", "unit" (and what stands outside of all) or "cell", each
            component of each unit.

    Raises:
        UsageError: there is no such view.
    """
    if by not in VIEWS:
        raise UsageError(f"a diff has no view by {by!r}: use one of {', '.join(VIEWS)}")
    if by == "group":
        of = {row.scope: row for row in diff.rows if row.level in ("group", "component")}
        found = [of[name] for name in GROUPS if name in of]
    else:
        found = diff.at(by)
    return [row for row in found if _costs(row)]


def parts(diff: Diff) -> list[Row]:
    """The rows of which sentences speak: the groups, and each component of the rest by itself."""
    rest = {str(component) for component in GROUPS["rest"]}
    return [
        *(row for row in table(diff, "group") if row.scope != "rest"),
        *(row for row in table(diff, "component") if row.scope in rest),
    ]


def _costs(row: Row) -> bool:
    figures = [row.metrics[metric] for metric in ("parameters", "bytes", "flops", *MEASURED) if metric in row.metrics]
    return any(figure.before or figure.after for figure in figures)


def label(row: Row) -> str:
    """A row's name: its scope, as gates write it."""
    return formatting.line(row.scope, 60)


# Columns --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column beside the rows' names.

    `kind`: "figures" is before → after; "change" the change in percent, with its interval where it is measured;
    "share" the row's part of the change of the total; "verdict" the word.
    """

    metric: str
    kind: Literal["figures", "change", "share", "verdict"]
    header: str


NAMES: Mapping[str, str] = MappingProxyType(
    {
        "time": "time",
        "device_time": "GPU time",
        "energy": "energy",
        SHARE: "time share",
        "parameters": "parameters",
        "nonzero_parameters": "non-zero",
        "bytes": "bytes",
        "macs": "MACs",
        "useful_macs": "useful MACs",
        "flops": "FLOPs",
        "bytes_moved": "traffic",
        "activation_bytes": "activations",
    }
)
"""Metric → what it is called in every table and figure, in the order of display."""

UNITS: Mapping[str, str] = MappingProxyType({"time": "ms", "device_time": "ms", "energy": "mJ"})
"""Metric → the unit of its figures, where these do not carry it."""


def title(metric: str) -> str:
    """A metric's name as a heading: Time, GPU time."""
    return f"{NAMES[metric][0].upper()}{NAMES[metric][1:]}"


def header(metric: str) -> str:
    """A metric's name above its figures, with their unit: time ms."""
    return f"{NAMES[metric]} {UNITS[metric]}" if metric in UNITS else NAMES[metric]


_SHORT = {"parameters": "params"}

_USUAL = (*MEASURED, "parameters", "bytes", "macs", "flops")
_ALL_DIGITS = ("parameters", "nonzero_parameters")
_SIZES = ("bytes", "bytes_moved", "activation_bytes", MEMORY)


def columns(diff: Diff, by: str, wide: bool = False) -> list[Column]:
    """The columns of a view, in the order of display.

    Args:
        diff: the comparison.
        by: the view; see `table`.
        wide: with every metric that is known. Else those are left out that are the same in every row, and bytes where
            they are in proportion to the parameters everywhere, which tells the same twice.
    """
    rows = [diff.row("total"), *table(diff, by)]
    metrics = [metric for metric in NAMES if any(metric in row.metrics for row in rows)]
    if not wide:
        usual = [metric for metric in metrics if metric in _USUAL]
        metrics = [m for m in usual if m in MEASURED or not unchanged(rows, m)]
        if "bytes" in metrics and _in_proportion(rows):
            metrics.remove("bytes")
        metrics = metrics or usual[:1]
    found = []
    for metric in metrics:
        found.append(Column(metric, "figures", header(metric)))
        if metric != SHARE:  # a change of a share in percent of itself is read as one in points
            found.append(Column(metric, "change", f"Δ {_SHORT.get(metric, NAMES[metric])}"))
            found.append(Column(metric, "share", "of Δ"))
        if metric in MEASURED:
            found.append(Column(metric, "verdict", "verdict"))
    return [c for c in found if c.kind != "share" or any(share(diff, row, c.metric) for row in rows)]


def unchanged(rows: Sequence[Row], metric: str) -> bool:
    """Whether a metric is known and the same in all these rows."""
    return all(metric in row.metrics and row.metrics[metric].verdict == "same" for row in rows)


def _in_proportion(rows: Sequence[Row]) -> bool:
    """Whether bytes change as the parameters do in every row."""
    pairs = [(row.metrics.get("bytes"), row.metrics.get("parameters")) for row in rows]
    return all(a is not None and b is not None and (a.verdict, a.ratio) == (b.verdict, b.ratio) for a, b in pairs)


# Cells ----------------------------------------------------------------------------------------------------------------


def cell(diff: Diff, row: Row, column: Column, exact: bool = False) -> str:
    """A cell as text, parameters with all their digits or with a prefix; a dash for what is not known."""
    change = row.metrics.get(column.metric)
    if change is None:
        return "–"
    match column.kind:
        case "figures":
            return figures(change, column.metric, exact)
        case "change":
            return relative(change)
        case "share":
            return part(share(diff, row, column.metric))
        case "verdict":
            return change.verdict


def part(share: float | None) -> str:
    """A row's part of a change, in whole percent; a dash where it has none."""
    return "–" if share is None else f"{round(100 * share) + 0:,} %"  # a rounded zero has no sign


def figures(change: Change, metric: str, exact: bool = False) -> str:
    """Before → after; one figure where it is the same."""
    if change.before == change.after:
        return figure(change.before, metric, exact)
    return f"{figure(change.before, metric, exact)} → {figure(change.after, metric, exact)}"


def figure(value: float | None, metric: str, exact: bool = False) -> str:
    """A metric's figure; times in ms and energy in mJ without their unit."""
    if value is None:
        return "–"
    if metric in MEASURED:
        return formatting.measured(value)
    if metric == SHARE:
        return f"{formatting.percent(value)} %"
    if metric in _SIZES:
        return formatting.size(value)
    # MACs and FLOPs have too many digits to be read.
    return formatting.exact(round(value)) if exact and metric in _ALL_DIGITS else formatting.count(value)


def with_unit(text: str, metric: str) -> str:
    """The metric's figures with their unit, where they do not carry it."""
    return f"{text} {UNITS[metric]}" if metric in UNITS else text


def relative(change: Change) -> str:
    """The change in percent, with its interval where there is one; the word for what is new, removed or the same."""
    if change.verdict in ("new", "removed") and (change.before or change.after):
        return change.verdict
    if change.change is None or change.verdict == "n/a":
        return "–"
    if change.ratio is not None and change.low is not None and change.high is not None:
        return formatting.relative_interval(change.ratio, change.low, change.high)
    if change.before == change.after:
        return "same"
    return formatting.relative(change.ratio) if change.ratio is not None else change.verdict


def brief(change: Change, metric: str) -> str:
    """What changed, in a few characters: -50.0 %; of what was measured the percentage only where it is sure, to the
    digit that its interval earns, with the verdict: -41 %, faster.
    """
    if change.verdict == "n/a":
        return "not compared"
    percent, _, _ = relative(change).partition(" [")
    if metric not in MEASURED:
        return change.verdict if percent == "–" else percent
    return f"{percent}, {change.verdict}" if percent.endswith("%") and change.verdict in CHANGED else change.verdict


def signed(value: float, metric: str) -> str:
    """A change in the metric's own unit: -28.33M, -172.5 MB, -58.1 ms; what rounds to nothing has no sign."""
    if metric in UNITS:
        text = with_unit(formatting.signed(value), metric)
    else:
        text = formatting.signed_size(value) if metric in _SIZES else formatting.signed_count(value)
    return text if re.search("[1-9]", text) else text.lstrip("+-")


def moved(change: Change) -> float | None:
    """By how much a figure changed, in its own unit.

    Where there is evidence it is before × (ratio − 1): the rounds' pairs cancel the drift of the machine that the
    difference of two medians has in it, and the yardstick its state.
    """
    if change.before and change.ratio is not None and change.low is not None:
        return change.before * (change.ratio - 1)
    return change.change


def share(diff: Diff, row: Row, metric: str) -> float | None:
    """The row's part of the change of the total; None where that did not surely change."""
    whole, own = diff.row("total").metrics.get(metric), row.metrics.get(metric)
    return own.share_of_change if own is not None and whole is not None and whole.verdict in CHANGED else None


# Judgement ------------------------------------------------------------------------------------------------------------


def tone(row: Row, column: Column) -> Tone:
    """The colour of a cell: of what changed, by its verdict. A share is not better for being smaller."""
    change = row.metrics.get(column.metric)
    if change is None or column.kind not in ("change", "verdict") or column.metric == SHARE:
        return "plain"
    return tone_of(change.verdict)


def tone_of(verdict: Verdict) -> Tone:
    """Less is better; what only one side has is neither."""
    if verdict in ("faster", "smaller"):
        return "better"
    if verdict in ("slower", "larger"):
        return "worse"
    return "open" if verdict == "inconclusive" else "plain"


def by_change(rows: Sequence[Row], shown: Sequence[Column]) -> tuple[list[Row], list[Row]]:
    """The rows that changed and, after these, those of which it is open; and those that are the same throughout."""
    metrics = {column.metric for column in shown if column.metric != SHARE}
    surely: list[Row] = []
    maybe: list[Row] = []
    same: list[Row] = []
    for row in rows:
        verdicts = {row.metrics[metric].verdict for metric in metrics if metric in row.metrics}
        (surely if verdicts & set(CHANGED) else same if verdicts <= {"same"} else maybe).append(row)
    return surely + maybe, same


# For a program to read ------------------------------------------------------------------------------------------------

_MEASURED_IN: Mapping[str, str] = MappingProxyType({**UNITS, SHARE: "share", **dict.fromkeys(_SIZES, "bytes")})


def records(rows: Sequence[Row]) -> list[dict[str, object]]:
    """One entry a row and metric; None for what is not known."""
    return [
        {
            "scope": row.scope,
            "level": row.level,
            "component": None if row.component is None else str(row.component),
            "unit": row.unit,
            "metric": metric,
            "measured_in": _MEASURED_IN.get(metric, "count"),
            "before": change.before,
            "after": change.after,
            "change": change.change,
            "ratio": change.ratio,
            "ratio_low": change.low,
            "ratio_high": change.high,
            "share_of_change": change.share_of_change,
            "verdict": change.verdict,
        }
        for row in rows
        for metric, change in row.metrics.items()
    ]
