"""A heat map, unit by component: where the time goes, or what changed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertprof import formatting
from bertprof.components import Component
from bertprof.difference import Change, Diff, Row
from bertprof.record import Breakdown
from bertprof.report import changes, lines
from bertprof.report.figure import pairs
from bertprof.report.figure.drawing import (
    EDGE_MM,
    PT_MM,
    SMALL_PT,
    TEXT_PT,
    Axes,
    Figure,
    Sheet,
    cut,
    line_mm,
    quiet_matplotlib,
    width_pt,
)
from bertprof.report.palette import ink_on

with quiet_matplotlib():
    from matplotlib.colors import Colormap, LinearSegmentedColormap, to_hex
    from matplotlib.patches import Rectangle

HEAT = LinearSegmentedColormap.from_list("heat", ["#FFFFFF", "#C6DDF0", "#6FA8D6", "#1F6AA8", "#06305C"])
"""Lightness falls from nothing to the most."""

CHANGE = LinearSegmentedColormap.from_list("change", ["#0B4F8A", "#7FB2DC", "#FFFFFF", "#F0A070", "#A03000"])
"""Less is blue, more is orange, both the darker the more; in grey the sign in a cell tells them apart."""

UNKNOWN = "#E4E4E4"

_TALLEST_MM = 190.0
_HIGHEST_MM = 6.0
"""How high a cell is at most; of many units it is lower, so that the figure stays within a page."""
_NUMBERS_FROM_MM = 2.9
"""Cells of this height have a line of text."""
_BAR_MM = 3.0
_STEPS = tuple(step * 10**power for power in range(5) for step in (1, 2, 5))
"""Of how many units one has its name beside it."""


@dataclass(frozen=True)
class Cell:
    """One cell: what its colour shows, None where that is not known, its text, and whether only one side has it.

    `texts` has the same in fewer characters behind it, for where there is less room.
    """

    value: float | None
    texts: tuple[str, ...]
    alone: bool = False


@dataclass(frozen=True)
class Heat:
    """All cells.

    Attributes:
        units: names of the rows; what is outside of all units stands last.
        components: names of the columns.
        cells: by row and column; what there is not is left out.
        shown: what the colour shows, for the scale.
        ends: what stands at the ends of the scale; empty: no cell has a colour.
        least, most: the values there.
        colors: the colours in between.
    """

    units: Sequence[str]
    components: Sequence[str]
    cells: dict[tuple[int, int], Cell]
    shown: str
    ends: tuple[str, str]
    least: float
    most: float
    colors: Colormap


OUTSIDE = "outside"


def draw(breakdown: Breakdown, width_mm: float) -> Figure:
    """The share of each component of each unit in the time of the forward; of the FLOPs where no time was measured."""
    metric = "time of the forward with marks" if breakdown.timed else "FLOPs"
    whole = breakdown.total("flops") or 1
    shares: dict[tuple[int | None, Component], float] = {}
    for cost in breakdown.costs:
        time = breakdown.time_share([cost])
        shares[cost.unit, cost.component] = cost.flops / whole if time is None else time.value
    units: list[int | None] = [*sorted({u for u, _ in shares if u is not None})]
    units += [None] if any(unit is None for unit, _ in shares) else []
    columns = [c for c in Component if any(share > 0 for (_, own), share in shares.items() if own is c)]
    most = max(shares.values(), default=0.0)
    digits = 1 if most >= 0.1 else 2
    formats = [f".{n}f" for n in range(digits, -1, -1)]
    cells = {
        (units.index(unit), columns.index(component)): Cell(share, tuple(format(100 * share, how) for how in formats))
        for (unit, component), share in shares.items()
        if component in columns
    }
    heat = Heat(
        units=[OUTSIDE if unit is None else str(unit) for unit in units],
        components=[str(component) for component in columns],
        cells=cells,
        shown=f"% of the {metric}",
        ends=("0", f"{100 * most:.{digits}f} %"),
        least=0.0,
        most=most or 1.0,
        colors=HEAT,
    )
    return _drawn(width_mm, heat, lines.title(breakdown), lines.workload_line(breakdown))


def draw_diff(diff: Diff, width_mm: float) -> Figure:
    """By how much each component of each unit changed: in time where that compares, else in FLOPs, else in bytes.

    Of a time a cell has a colour only where the change is sure. What only one side has is framed.
    """
    metric = compared(diff, "flops")
    shown = [row for row in changes.table(diff, "cell") if metric in row.metrics]
    units = list(dict.fromkeys(_unit(row) for row in shown))
    columns = [c for c in Component if any(row.component is c and _matters(row.metrics[metric]) for row in shown)]
    cells = {
        (units.index(_unit(row)), columns.index(row.component)): _cell(row.metrics[metric], metric)
        for row in shown
        if row.component in columns
    }
    most = max((abs(cell.value) for cell in cells.values() if cell.value is not None), default=0.0)
    heat = Heat(
        units=units,
        components=[str(component) for component in columns],
        cells=cells,
        shown=f"change in {_CALLED[metric]}",
        ends=(changes.signed(-most, metric), changes.signed(most, metric)) if most else ("", ""),
        least=-most or -1.0,
        most=most or 1.0,
        colors=CHANGE,
    )
    notes = [f"0: within ±{100 * diff.margin:g} %" if metric == "time" else "0: no change"]
    notes += ["after: units of the second side"] if any(unit.startswith("after") for unit in units) else []
    notes += ["?: not sure"] if any(cell.texts[-1] == "?" for cell in cells.values()) else []
    notes += ["framed: on one side only"] if any(cell.alone for cell in cells.values()) else []
    notes += ["–: not known of both"] if any(cell.texts[0] == _UNKNOWN for cell in cells.values()) else []
    return _drawn(width_mm, heat, pairs.title(diff), f"{'; '.join(notes)}.")


_CALLED = {"time": "time, in ms", "flops": "FLOPs", "bytes": "bytes of the weights"}


def compared(diff: Diff, counted: str) -> str:
    """What a figure of changes shows: time where that compares, else a count that changes, else FLOPs.

    Args:
        diff: the comparison.
        counted: which count before the other, "flops" or "bytes".
    """
    total = diff.row("total").metrics
    time = total.get("time")
    if time is not None and time.change is not None and time.verdict != "n/a":
        return "time"
    order = (counted, *(metric for metric in ("flops", "bytes") if metric != counted))
    return next((metric for metric in order if metric in total and total[metric].change), counted)


def _unit(row: Row) -> str:
    """The row's unit as it is called: 3, after 3, outside."""
    scope = row.scope.partition(".unit[")
    if row.unit is None:
        return OUTSIDE
    return f"after {row.unit}" if scope[1] and scope[0] == "after" else str(row.unit)


_UNKNOWN = "–"


def _matters(change: Change) -> bool:
    return bool(change.before or change.after)


def _cell(change: Change, metric: str) -> Cell:
    if change.change is None or change.verdict == "n/a":
        return Cell(None, (_UNKNOWN, _UNKNOWN))
    alone = change.verdict in ("new", "removed") and _matters(change)
    moved = changes.moved(change) or 0.0
    text = _brief(moved, metric)
    text, sign = (text, text[0]) if re.search("[1-9]", text) else ("±0", "±0")
    if change.verdict == "inconclusive":
        return Cell(0.0, (f"{text}?", "?"))
    if change.verdict == "same" or not moved:
        return Cell(0.0, ("0", "0"), alone)
    return Cell(moved, (text, sign), alone)


def _brief(value: float, metric: str) -> str:
    """A change in few characters, without its unit where the scale names it: -1.24, +28.3M."""
    if metric == "time":
        return formatting.signed(value)
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            scaled = value / factor
            return f"{scaled:+.{2 if abs(scaled) < 9.995 else 1 if abs(scaled) < 99.95 else 0}f}{prefix}"
    return f"{value:+.0f}"


# Drawing --------------------------------------------------------------------------------------------------------------


def _drawn(width_mm: float, heat: Heat, title: str, note: str) -> Figure:
    sheet = Sheet(width_mm)
    sheet.heading(title, note)
    if not heat.units or not heat.components:
        sheet.lines(["There is nothing to show: no component of any unit costs anything."])
        return sheet.finished()
    high = min(_HIGHEST_MM, _TALLEST_MM / len(heat.units))
    names = [cut(name, 60, TEXT_PT) for name in heat.units]
    left = EDGE_MM + max(width_pt(name, TEXT_PT) for name in (*names, "unit")) * PT_MM + 1.5
    width = (sheet.width_mm - EDGE_MM - left) / len(heat.components)
    _columns(sheet, heat.components, left, width)
    axes = sheet.axes(left, 0, width * len(heat.components), high * len(heat.units))
    axes.set_xlim(0, len(heat.components))
    axes.set_ylim(len(heat.units), 0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _cells(axes, heat, width, high)
    every = next(n for n in _STEPS if n * high >= 0.9 * line_mm(TEXT_PT))
    last = len(names) - 1
    ticks = [i for i in range(len(names)) if (i % every == 0 and (last - i) >= every) or i == last]
    axes.set_yticks([i + 0.5 for i in ticks], [names[i] for i in ticks])
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, pad=3)
    sheet.at_mm += high * len(heat.units) + 2.5
    _scale(sheet, heat)
    return sheet.finished()


def _columns(sheet: Sheet, names: Sequence[str], left: float, width: float) -> None:
    """The columns' names above them: in lines where they fit, else upright."""
    parts = [name.replace("-", "-\n").split("\n") for name in names]
    if all(width_pt(part, TEXT_PT) * PT_MM <= width - 1 for name in parts for part in name):
        high = max(map(len, parts)) * line_mm(TEXT_PT)
        how: dict[str, Any] = {"linespacing": 1.1}
        texts = ["\n".join(name) for name in parts]
    else:
        high = max(width_pt(name, TEXT_PT) for name in names) * PT_MM + 1
        how, texts = {"rotation": 90}, list(names)
    sheet.at_mm += high
    for i, text in enumerate(texts):
        sheet.put(text, left + (i + 0.5) * width, sheet.at_mm, TEXT_PT, ha="center", va="bottom", **how)
    sheet.put("unit", left - 1.5, sheet.at_mm, TEXT_PT, ha="right", va="bottom")
    sheet.at_mm += 1


def _cells(axes: Axes, heat: Heat, width: float, high: float) -> None:
    span = heat.most - heat.least
    written = _written(heat, width, high)
    for (row, column), cell in heat.cells.items():
        color = UNKNOWN if cell.value is None else to_hex(heat.colors((cell.value - heat.least) / span))
        box = Rectangle((column, row), 1, 1, facecolor=color, edgecolor="#999999", linewidth=0.3, clip_on=False)
        axes.add_patch(box)
        if cell.alone:
            inset_x, inset_y = 0.45 / width, 0.45 / high
            frame = Rectangle(
                (column + inset_x, row + inset_y),
                1 - 2 * inset_x,
                1 - 2 * inset_y,
                fill=False,
                edgecolor=ink_on(color),
                linewidth=0.5,
                linestyle=(0, (2, 1)),
                zorder=2,
            )
            axes.add_patch(frame)
        if written is not None:
            axes.text(
                column + 0.5,
                row + 0.5,
                cell.texts[written],
                fontsize=SMALL_PT,
                color=ink_on(color),
                ha="center",
                va="center_baseline",
                zorder=3,
            )


def _written(heat: Heat, width: float, high: float) -> int | None:
    """Which of a cell's texts fits, in all of them; None where none does, and so none is written."""
    if high < _NUMBERS_FROM_MM or not heat.cells:
        return None
    room = (width - (1.4 if any(cell.alone for cell in heat.cells.values()) else 0.6)) / PT_MM
    for i in range(min(len(cell.texts) for cell in heat.cells.values())):
        if all(width_pt(cell.texts[i], SMALL_PT) <= room for cell in heat.cells.values()):
            return i
    return None


def _scale(sheet: Sheet, heat: Heat) -> None:
    """The scale of the colours, what it shows above it; that alone where no cell has a colour."""
    width = min(sheet.inner_mm, 60.0)
    coloured = any(heat.ends)
    sheet.lines([heat.shown if coloured else f"{heat.shown}: none is sure"], TEXT_PT)
    if not coloured:
        return
    sheet.at_mm += 0.5
    axes = sheet.axes(EDGE_MM, 0, width, _BAR_MM)
    steps = 64
    for i in range(steps):
        axes.axvspan(i / steps, (i + 1) / steps, color=heat.colors((i + 0.5) / steps), linewidth=0)
    axes.set_xlim(0, 1)
    axes.set_xticks([])
    axes.set_yticks([])
    sheet.at_mm += _BAR_MM + 0.7
    sheet.put(heat.ends[0], EDGE_MM, sheet.at_mm)
    sheet.put(heat.ends[1], EDGE_MM + width, sheet.at_mm, ha="right")
    if heat.least < 0:
        sheet.put("0", EDGE_MM + width / 2, sheet.at_mm, ha="center")
    sheet.at_mm += line_mm(TEXT_PT)
