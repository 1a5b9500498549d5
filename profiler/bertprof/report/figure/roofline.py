"""The roofline: each component against what the device can do at most. What that is, `bertprof.roofline` says."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertprof import formatting, roofline
from bertprof.errors import UsageError
from bertprof.observations import Bandwidth, Peaks
from bertprof.record import Breakdown
from bertprof.report import lines
from bertprof.report.figure.drawing import (
    EDGE_MM,
    GRID,
    PT_MM,
    SMALL_PT,
    TEXT_PT,
    Axes,
    Figure,
    Sheet,
    line_mm,
    quiet_matplotlib,
    tick,
    width_pt,
)
from bertprof.report.palette import color_of
from bertprof.report.roof_points import WHOLE, Point, points

with quiet_matplotlib():
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

_SHAPE = 0.52
"""Height of the plot by its width, where it is wide."""


def draw(breakdown: Breakdown, width_mm: float) -> Figure:
    """Arithmetic intensity against achieved FLOP/s, both logarithmic; the roofs of the device, a point a component.

    A component's own roof is at the end of the line above its point: the bandwidth of what it touches is between those
    that were measured.

    Raises:
        UsageError: the record has no times, no peaks, or peaks of something else.
    """
    peaks = _peaks(breakdown)
    found, without = points(breakdown)
    if not found:
        raise UsageError("--figure roofline: no component's bytes, FLOPs and time are all known; measure again")
    sheet = Sheet(width_mm)
    sheet.heading(lines.title(breakdown), lines.workload_line(breakdown))
    across, up = _ranges(found, peaks)
    left = EDGE_MM + 6 + max(width_pt(tick(value / 1e9), TEXT_PT) for value in _powers(*up)) * PT_MM
    width = sheet.width_mm - left - EDGE_MM - 1
    height = max(55.0, min(105.0, _SHAPE * width))
    axes = sheet.axes(left, 0, width, height)
    intensity = "arithmetic intensity, FLOP per byte moved"
    axes.set_xlabel(intensity if width_pt(intensity, TEXT_PT) * PT_MM < width else "FLOP per byte moved")
    _frame(axes, across, up)
    _roofs(axes, found, peaks)
    sheet.at_mm += height + 2 * line_mm(TEXT_PT) + 1
    sheet.finished()
    left_out = _label(sheet, axes, found, peaks)
    if left_out:
        sheet.legend(left_out)
    sheet.at_mm += 1
    clock = "device" if found[0].line.by_graph else "forward with marks"
    notes = [f"%: how much of its own roof, the bar above its point, a component reaches; times by the {clock}."]
    if without:
        notes.append(f"Without a point, as its arithmetic, traffic or time is not known: {', '.join(without)}.")
    told = lines.peaks_line(peaks)
    sheet.lines([f"{told[0].upper()}{told[1:]}.", *notes], SMALL_PT, most_lines=6)
    return sheet.finished()


def _peaks(breakdown: Breakdown) -> Peaks:
    """What the device can do, where the record tells it of the same work."""
    if not breakdown.timed:
        raise UsageError("--figure roofline: the record has no times; measure it again without --no-time")
    if breakdown.peaks is None:
        why = "the record has no peaks of its device; measure it there again with --roofline"
        raise UsageError(f"--figure roofline: {why}")
    missing = roofline.missing(breakdown)
    if missing is not None:
        raise UsageError(f"--figure roofline: {missing}")
    return breakdown.peaks


# Drawing --------------------------------------------------------------------------------------------------------------

_ROOF = "#777777"


def _ranges(found: Sequence[Point], peaks: Peaks) -> tuple[tuple[float, float], tuple[float, float]]:
    """FLOP per byte and FLOP/s: wide enough for all points, their roofs and where the roofs bend."""
    bends = [peaks.flops_per_s / point.bytes_per_s for point in peaks.bandwidths]
    across = [*(point.intensity for point in found), *bends]
    up = [*(point.reached for point in found), *(point.allowed for point in found), peaks.flops_per_s]
    return (min(across) / 3, max(across) * 4), (min(up) / 3, max(up) * 2)


def _frame(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    """Both axes, logarithmic."""
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(across)
    axes.set_ylim(up)
    axes.set_ylabel("GFLOP/s")
    for axis, (low, high), factor in ((axes.xaxis, across, 1.0), (axes.yaxis, up, 1e9)):
        axis.set_major_locator(FixedLocator(_powers(low, high)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _, factor=factor: tick(value / factor)))
    axes.grid(linewidth=0.4, color=GRID, zorder=0)
    axes.set_axisbelow(True)


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten in a range, every second or so of many; with 2 and 5 times these, where they are few."""
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last - first >= 2:
        return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 7)]
    found = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
    return [value for value in found if low <= value <= high]


def _roofs(axes: Axes, found: Sequence[Point], peaks: Peaks) -> None:
    """The device's limits, of its bandwidths the highest and the lowest, and above each point its own roof."""
    low, high = axes.get_xlim()
    fastest = max(point.bytes_per_s for point in peaks.bandwidths)
    axes.plot([peaks.flops_per_s / fastest, high], [peaks.flops_per_s] * 2, color="black", linewidth=1.0, zorder=2)
    for point in _ends(peaks):
        bend = peaks.flops_per_s / point.bytes_per_s
        ends = [low, bend], [low * point.bytes_per_s, peaks.flops_per_s]
        axes.plot(*ends, color="black" if point.bytes_per_s == fastest else _ROOF, linewidth=0.7, zorder=2)
    for one in found:
        axes.plot([one.intensity] * 2, [one.reached, one.allowed], color=_ROOF, linewidth=0.5, linestyle=":", zorder=3)
        axes.plot(one.intensity, one.allowed, marker="_", markersize=6, color="black", markeredgewidth=0.9, zorder=3)
        marker = "D" if one.name == WHOLE else "o"
        axes.plot(
            one.intensity,
            one.reached,
            marker=marker,
            markersize=5,
            color=_color(one),
            markeredgecolor="black",
            markeredgewidth=0.5,
            zorder=4,
        )


def _ends(peaks: Peaks) -> list[Bandwidth]:
    """The lowest and the highest bandwidth; one where only one was measured."""
    ordered = sorted(peaks.bandwidths, key=lambda point: point.bytes_per_s)
    return ordered[:1] + ordered[1:][-1:]


def _color(point: Point) -> str:
    return "#FFFFFF" if point.name == WHOLE else color_of(point.name)


_Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in points of the figure."""

_DISTANCES_PT = (5, 8, 12, 17, 23, 30, 38, 48, 60, 74, 90, 110, 135)
_DIRECTIONS = (0, 180, *(turn for step in range(15, 180, 15) for turn in (-step, step)))
"""Degrees from the right upwards, the best first."""
_LINE_FROM_PT = 8
"""From this distance on a line leads from a label to its point."""


@dataclass(frozen=True)
class _Label:
    """Where a text goes, by its middle; `line` leads to its point, `cost` is how far off it is."""

    text: str
    box: _Box
    line: tuple[float, float, float, float] | None
    cost: float
    bold: bool = False


class _Labels:
    """Places labels one after the other, each where it covers nothing that is placed already."""

    def __init__(self, sheet: Sheet, axes: Axes) -> None:
        self._sheet, self._axes = sheet, axes
        self._height_mm = 25.4 * float(sheet.figure.get_size_inches()[1])
        self._pt = 72 / sheet.figure.dpi
        box = axes.get_window_extent()
        self._frame: _Box = (box.x0 * self._pt, box.y0 * self._pt, box.x1 * self._pt, box.y1 * self._pt)
        self._taken: list[_Box] = []
        self._struck: list[_Box] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the axes is, in points of the figure."""
        across, up = self._axes.transData.transform((x, y))
        return float(across) * self._pt, float(up) * self._pt

    def keep(self, x: float, y: float, reach: float = 3.5) -> None:
        """Nothing may cover this point of the axes."""
        x, y = self.at(x, y)
        self._taken.append((x - reach, y - reach, x + reach, y + reach))

    def strike(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """A line of the plot, which labels leave free where they can."""
        (x, y), (to_x, to_y) = self.at(*begin), self.at(*end)
        steps = max(1, math.ceil(math.hypot(to_x - x, to_y - y) / 4))
        for i in range(steps + 1):
            across, up = x + (to_x - x) * i / steps, y + (to_y - y) * i / steps
            self._struck.append((across - 0.5, up - 0.5, across + 0.5, up + 0.5))

    def place(self, wanted: Sequence[tuple[str, float, float, bool]]) -> list[str]:
        """Writes labels beside their points, in that order of several in which they stand nearest; what has no room.

        Args:
            wanted: text, the point in the axes, and whether it is bold.
        """
        before = list(self._taken)
        orders = [list(range(len(wanted)))[i:] + list(range(len(wanted)))[:i] for i in range(len(wanted))]
        plans = []
        for order in [*orders, *(order[::-1] for order in orders)]:
            self._taken = list(before)
            found = [self._beside(*wanted[i]) for i in order]
            plans.append((found, list(self._taken)))
        best, self._taken = min(plans, key=lambda plan: sum(500.0 if one is None else one.cost for one in plan[0]))
        for label in best:
            if label is None:
                continue
            if label.line is not None:
                x, y, to_x, to_y = label.line
                ends = [x * PT_MM, to_x * PT_MM], [self._down_mm(y), self._down_mm(to_y)]
                line = Line2D(*ends, transform=self._sheet.mm, color=_ROOF, linewidth=0.5, zorder=3.5)
                self._sheet.figure.add_artist(line)
            left, bottom, right, top = label.box
            self._write(label.text, (left + right) / 2, (bottom + top) / 2, weight="bold" if label.bold else "normal")
        written = {label.text for label in best if label is not None}
        return [text for text, *_ in wanted if text not in written]

    def _beside(self, text: str, x: float, y: float, bold: bool) -> _Label | None:
        """The best place for a label, which is taken then; one that strikes a line of the plot only where none other
        is near."""
        wide, high = width_pt(text, SMALL_PT, "bold" if bold else "normal") * 1.03, 1.15 * SMALL_PT
        at_x, at_y = self.at(x, y)
        found: list[_Label] = []
        for distance, degrees in itertools.product(_DISTANCES_PT, _DIRECTIONS):
            if found and distance > found[0].cost:
                break
            way_x, way_y = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            middle_x = at_x + way_x * (distance + wide / 2)
            middle_y = at_y + way_y * (distance + high / 2)
            box = (middle_x - wide / 2, middle_y - high / 2, middle_x + wide / 2, middle_y + high / 2)
            if not self._free(box):
                continue
            near_x, near_y = min(max(at_x, box[0]), box[2]), min(max(at_y, box[1]), box[3])
            far = math.hypot(near_x - at_x, near_y - at_y)
            if far > _LINE_FROM_PT and self._crosses(at_x, at_y, near_x, near_y):
                continue
            struck = any(_over(box, other) for other in self._struck)
            line = (at_x, at_y, near_x, near_y) if far > _LINE_FROM_PT else None
            found.append(_Label(text, box, line, far + (40 if struck else 0), bold))
            found.sort(key=lambda label: label.cost)
        if not found:
            return None
        self._taken.append(found[0].box)
        return found[0]

    def _free(self, box: _Box) -> bool:
        """Whether a box is in the axes and covers nothing."""
        left, bottom, right, top = self._frame
        inside = box[0] >= left and box[1] >= bottom and box[2] <= right and box[3] <= top
        return inside and not any(_over(box, other) for other in self._taken)

    def _crosses(self, x: float, y: float, to_x: float, to_y: float) -> bool:
        """Whether a line to a point passes over something; what is around the point itself does not count."""
        steps = [(x + (to_x - x) * i / 20, y + (to_y - y) * i / 20) for i in range(1, 20)]
        return any(
            left < across < right and bottom < up < top
            for left, bottom, right, top in self._taken
            if not (left <= x <= right and bottom <= y <= top)
            for across, up in steps
        )

    def along(self, text: str, begin: tuple[float, float], end: tuple[float, float], above: bool) -> None:
        """Writes a label along a line, at the first place where there is room; leaves it out where there is none."""
        (x, y), (to_x, to_y) = self.at(*begin), self.at(*end)
        length = math.hypot(to_x - x, to_y - y)
        wide, high = width_pt(text, SMALL_PT) * 1.03, 1.15 * SMALL_PT
        if length < wide:
            return
        way_x, way_y = (to_x - x) / length, (to_y - y) / length
        off = (high / 2 + 2) * (1 if above else -1)
        half_x, half_y = (abs(way_x) * wide + abs(way_y) * high) / 2, (abs(way_y) * wide + abs(way_x) * high) / 2
        for i in range(1, 20):
            along = wide / 2 + (length - wide) * i / 20
            middle_x, middle_y = x + way_x * along - way_y * off, y + way_y * along + way_x * off
            box = (middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y)
            if self._free(box):
                self._taken.append(box)
                degrees = math.degrees(math.atan2(way_y, way_x))
                self._write(text, middle_x, middle_y, rotation=degrees)
                return

    def _write(self, text: str, x: float, y: float, **how: Any) -> None:
        self._sheet.put(text, x * PT_MM, self._down_mm(y), SMALL_PT, ha="center", va="center", zorder=5, **how)

    def _down_mm(self, y: float) -> float:
        return self._height_mm - y * PT_MM


def _over(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


_LABELS_FROM_MM = 120.0
"""In a narrower figure names would lie over the roofs; a legend tells them."""


def _label(sheet: Sheet, axes: Axes, found: Sequence[Point], peaks: Peaks) -> dict[str, str]:
    """Names beside the points, and what the roofs are along these; the names for which there is no room, each with its
    colour."""
    labels = _Labels(sheet, axes)
    low, high = axes.get_xlim()
    for one in found:
        labels.keep(one.intensity, one.reached)
        labels.keep(one.intensity, one.allowed, 2)
        labels.strike((one.intensity, one.reached), (one.intensity, one.allowed))
    ordered = _ends(peaks)
    bends = [peaks.flops_per_s / point.bytes_per_s for point in ordered]
    for point, bend in zip(ordered, bends, strict=True):
        labels.strike((low, low * point.bytes_per_s), (bend, peaks.flops_per_s))
    labels.strike((bends[-1], peaks.flops_per_s), (high, peaks.flops_per_s))
    text = f"{formatting.giga(peaks.flops_per_s)} GFLOP/s {formatting.line(peaks.dtype, 20)}"
    labels.along(text, (bends[-1], peaks.flops_per_s), (high, peaks.flops_per_s), above=True)
    texts = {}
    for one in found:
        launch = ", launch-bound" if one.line.bound == "launch" else ""
        texts[f"{one.name} {formatting.percent(one.line.share)} %{launch}"] = one
    wanted = [(text, one.intensity, one.reached, one.name == WHOLE) for text, one in texts.items()]
    left_out = labels.place(wanted) if sheet.width_mm >= _LABELS_FROM_MM else list(texts)
    for i, above in ((-1, True), (0, False))[: len(ordered)]:
        text = f"{formatting.giga(ordered[i].bytes_per_s)} GB/s at {ordered[i].working_set_bytes / 1e6:g} MB"
        labels.along(text, (low, low * ordered[i].bytes_per_s), (bends[i], peaks.flops_per_s), above)
    return {text: _color(texts[text]) for text in left_out}
