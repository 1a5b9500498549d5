"""Bars of 100 %, stacked by component: of one model, of before and after, or of several."""

from collections.abc import Sequence

from bertprof.components import Component
from bertprof.difference import Diff, Side
from bertprof.record import Breakdown
from bertprof.report import lines, several, stacks
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
    name_lines,
    width_pt,
)
from bertprof.report.palette import color_of, ink_on
from bertprof.report.stacks import Block

_ROW_MM = 5.5
_BLOCK_MM = 2.0
"""Between the bars of two metrics."""


def draw(breakdown: Breakdown, width_mm: float) -> Figure:
    """A bar a metric: the weights as they are stored, FLOPs and, where they are known, time and energy."""
    return _drawn(width_mm, stacks.of_breakdowns([breakdown]), lines.title(breakdown), lines.workload_line(breakdown))


def draw_diff(diff: Diff, width_mm: float) -> Figure:
    """Two bars a metric, before and after, each 100 % of its own side."""
    return _drawn(width_mm, stacks.of_diff(diff), pairs.title(diff), _work(diff.before, diff.after))


def draw_several(breakdowns: Sequence[Breakdown], width_mm: float) -> Figure:
    """A bar a record and metric, each 100 % of its own."""
    return _drawn(width_mm, stacks.of_breakdowns(breakdowns), "Side by side", several.described(breakdowns)[0])


def _work(before: Side, after: Side) -> str:
    """The work that both sides were given, as far as it is the same."""
    timed = before.latency is not None or after.latency is not None
    return lines.told_apart([lines.workload_parts(side.workload, timed) for side in (before, after)])[0]


def _drawn(width_mm: float, blocks: Sequence[Block], title: str, note: str) -> Figure:
    order = [str(component) for component in Component]
    labels = [each for each in order if any(stack.shares.get(each) for block in blocks for stack in block.stacks)]
    sheet = Sheet(width_mm)
    sheet.heading(title, note)
    if blocks:
        _stacks(sheet, blocks, labels)
    sheet.legend({label: color_of(label) for label in labels})
    sheet.at_mm += 1
    marks = "; time is that of the forward with marks" if any(block.metric == "time" for block in blocks) else ""
    sheet.lines([f"Each bar is 100 % of what stands beside it{marks}."], SMALL_PT)
    return sheet.finished()


def _stacks(sheet: Sheet, blocks: Sequence[Block], labels: Sequence[str]) -> None:
    """All bars, one below another; a block's name stands above its own, or beside the only one."""
    most_pt = 0.3 * sheet.inner_mm / PT_MM
    alone = all(len(block.stacks) == 1 for block in blocks)
    names = [[name_lines(block.title if alone else s.name, most_pt) for s in block.stacks] for block in blocks]
    every = [name for of_block in names for name in of_block]
    row_mm = max(_ROW_MM, max(map(len, every)) * line_mm(TEXT_PT) + 0.4)
    left = EDGE_MM + max(width_pt(line, TEXT_PT) for name in every for line in name) * PT_MM + 1.5
    totals = [[cut(s.total, most_pt, TEXT_PT) for s in block.stacks] for block in blocks]
    right = max(width_pt(total, TEXT_PT) for of_block in totals for total in of_block) * PT_MM + 1.5
    width = sheet.width_mm - EDGE_MM - left - right
    for block, of_block, own_totals in zip(blocks, names, totals, strict=True):
        if not alone:
            sheet.at_mm += _BLOCK_MM
            sheet.put(block.title, EDGE_MM, sheet.at_mm, TEXT_PT, weight="bold")
            sheet.at_mm += line_mm(TEXT_PT) + 0.5
        for stack, name, total in zip(block.stacks, of_block, own_totals, strict=True):
            middle = sheet.at_mm + row_mm / 2
            sheet.put("\n".join(name), left - 1.5, middle, TEXT_PT, ha="right", va="center", linespacing=1.1)
            sheet.put(total, left + width + 1.5, middle, TEXT_PT, va="center")
            axes = sheet.axes(left, 0.5, width, row_mm - 1)
            axes.set_axis_off()
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            _stack(axes, [(label, stack.shares.get(label, 0.0)) for label in labels], width / PT_MM)
            sheet.at_mm += row_mm


def _stack(axes: Axes, shares: Sequence[tuple[str, float]], width: float) -> None:
    """One bar, with the share of each part where there is room."""
    end = 0.0
    for label, share in shares:
        color = color_of(label)
        if share:
            axes.barh(0.5, share, 1, end, color=color, edgecolor="black", linewidth=0.4)
        texts = (f"{100 * share:.1f} %", f"{100 * share:.0f} %", f"{100 * share:.0f}")
        text = next((text for text in texts if width_pt(text, SMALL_PT) + 3 <= share * width), None)
        if text is not None:
            middle = end + share / 2
            axes.text(middle, 0.5, text, fontsize=SMALL_PT, color=ink_on(color), ha="center", va="center_baseline")
        end += share
