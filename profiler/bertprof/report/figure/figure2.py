"""The survey's Figure 2 for any model."""

from bertprof.record import Breakdown
from bertprof.report import figure2, lines
from bertprof.report.figure.drawing import (
    EDGE_MM,
    GRID,
    PT_MM,
    SMALL_PT,
    TEXT_PT,
    Axes,
    Bars,
    Figure,
    Sheet,
    line_mm,
    place,
    scaled,
    tick,
    ticks,
    width_pt,
)
from bertprof.sampling import Estimate

_UPRIGHT_FROM_MM = 130.0
"""From this width on two panels with upright bars stand side by side."""

_PANEL_MM = 42.0
_ROW_MM = 4.2


def draw(breakdown: Breakdown, width_mm: float) -> Figure:
    """Parameter memory and FLOPs on top, run time below, a bar a component; see `bertprof.report.figure2`.

    The run-time bars carry their 95 % intervals. Without time, that panel is left out. In one column of a journal the
    panels stand below one another, their bars lie.
    """
    sheet = Sheet(width_mm)
    sheet.heading(lines.title(breakdown), lines.workload_line(breakdown))
    panels = [_Panel(panel) for panel in figure2.panels(breakdown)]
    if width_mm < _UPRIGHT_FROM_MM:
        place(sheet, [bar.name for bar in panels[0].bars], [panel.lying() for panel in panels], _ROW_MM)
    else:
        _upright(sheet, panels)
    return sheet.finished()


class _Panel:
    """A panel: its title, its unit, and the bars' lengths in it, shares, and how far an interval reaches."""

    def __init__(self, panel: figure2.Panel) -> None:
        self.title, self.bars = f"{panel.title}: {panel.total}", panel.bars
        largest = max(bar.value for bar in panel.bars)
        factor, self.unit = (1.0, panel.unit) if panel.unit == "ms" else scaled(largest, panel.unit)
        self.values = [bar.value / factor for bar in panel.bars]
        self.shares = [f"{100 * bar.share:.1f} %" for bar in panel.bars]
        self.reaches = [_reach(bar.interval) for bar in panel.bars]

    def lying(self) -> Bars:
        """The same with bars that lie."""
        bars = Bars(self.title, self.unit, len(self.values))
        for i, bar in enumerate(self.bars):
            bars.add(i, 0, self.values[i], color=bar.color)
            bars.reach[i] = self.reaches[i]
            bars.labels[i] = f"{_short(self.values[i])} · {self.shares[i]}"
        return bars


def _reach(interval: Estimate | None) -> tuple[float, float]:
    """How far an interval goes below and above its figure."""
    if interval is None:
        return 0.0, 0.0
    return max(0.0, interval.value - interval.low), max(0.0, interval.high - interval.value)


def _upright(sheet: Sheet, panels: list[_Panel]) -> None:
    """Two panels side by side, that of time below both."""
    below_mm = 3 * line_mm(SMALL_PT) + 2
    titles_mm = line_mm(TEXT_PT) + 1.5
    half = sheet.inner_mm / 2
    for i, panel in enumerate(panels):
        left, width = (EDGE_MM + i * half, half - 1) if i < 2 else (EDGE_MM, sheet.inner_mm)
        sheet.put(panel.title, left, sheet.at_mm, TEXT_PT, weight="bold")
        axis_mm = _axis_mm(panel)
        axes = sheet.axes(left + axis_mm, titles_mm, width - axis_mm, _PANEL_MM)
        _fill(axes, panel)
        if i != 0 or len(panels) == 1:
            sheet.at_mm += titles_mm + _PANEL_MM + below_mm + (2 if i + 1 < len(panels) else 0)


def _axis_mm(panel: _Panel) -> float:
    """How much room the figures on an axis take, and its unit."""
    return width_pt(tick(round(max(panel.values))), TEXT_PT) * PT_MM + 8


def _fill(axes: Axes, panel: _Panel) -> None:
    tallest = max(value + reach[1] for value, reach in zip(panel.values, panel.reaches, strict=True)) or 1.0
    for x, (bar, value) in enumerate(zip(panel.bars, panel.values, strict=True)):
        axes.bar(x, value, color=bar.color, width=0.72, edgecolor="black", linewidth=0.4, zorder=2)
        low, high = panel.reaches[x]
        if low + high > 0:
            axes.errorbar(
                x, value, yerr=[[low], [high]], color="black", linewidth=0.8, capsize=2, capthick=0.8, zorder=3
            )
        axes.annotate(
            f"{_short(value)}\n{panel.shares[x]}",
            (x, value + high),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL_PT,
        )
    axes.set_xticks(range(len(panel.bars)), [bar.name.replace(" ", "\n") for bar in panel.bars], fontsize=SMALL_PT)
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, tallest * 1.24)
    axes.set_xlim(-0.5, len(panel.bars) - 0.5)
    axes.set_ylabel(panel.unit)
    ticks(axes, "y", _PANEL_MM / PT_MM)
    axes.grid(axis="y", linewidth=0.4, color=GRID, zorder=0)
    axes.set_axisbelow(True)


def _short(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.{0 if value >= 1000 else 1 if value >= 10 else 2}f}"
