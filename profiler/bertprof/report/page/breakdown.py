"""A breakdown as one HTML file that needs nothing else: no network, no library, no font; nor a script, but for more."""

from collections.abc import Sequence
from typing import NamedTuple

from bertprof import formatting, roofline
from bertprof.components import Component
from bertprof.conditions import dequantised
from bertprof.record import Breakdown
from bertprof.report import figure2, lines
from bertprof.report.page import costs
from bertprof.report.page.carried import carried
from bertprof.report.page.environment import environment
from bertprof.report.page.grid import choices
from bertprof.report.page.units import heat_maps
from bertprof.report.panels import panels
from bertprof.report.roof_points import points
from bertprof.report.template import loaded
from bertprof.survey.claims import Verdict


def render(breakdown: Breakdown, by: str = "component", claims: Sequence[Verdict] = (), wide: bool = False) -> str:
    """The whole page.

    Args:
        breakdown: the record.
        by: the view of the table that is shown first; see `bertprof.report.rows.table`.
        claims: the survey's claims as checked against this record, where that was asked for.
        wide: with traffic, intensity and activations; see `bertprof.report.rows.headers`.
    """
    grids = costs.grids(breakdown, by, wide)
    maps = heat_maps(breakdown)
    bounds = _bounds(breakdown)
    return loaded("breakdown.html").render(
        breakdown=breakdown,
        title=lines.title(breakdown),
        caveats=lines.caveat_lines(breakdown),
        headline=lines.headline(breakdown),
        workload=lines.workload_line(breakdown),
        host=lines.host_line(breakdown),
        tiles=_tiles(breakdown),
        carried=carried(breakdown, breakdown.name),
        figure2=_figure2(breakdown),
        grids=grids,
        choices=choices(grids),
        maps=maps,
        map_choices={"metric": [(metric, metric) for metric in maps]} if len(maps) > 1 else {},
        roofline=_roofline(breakdown),
        bounds=bounds,
        panels=panels(breakdown),
        claims=claims,
        notes=[note for note in lines.notes(breakdown) if note not in bounds],
        environment=environment(breakdown),
        command=None if breakdown.command is None else formatting.plain(breakdown.command),
        shown={column.name for grid in grids for column in grid.columns},
    )


def fragment(breakdown: Breakdown, by: str = "component") -> str:
    """The answer and one table, for a notebook; its looks are in it, since a notebook has none of ours."""
    return loaded("fragment.html").render(
        title=lines.title(breakdown),
        headline=lines.headline(breakdown),
        workload=lines.workload_line(breakdown),
        notes=lines.notes(breakdown),
        caveats=lines.caveat_lines(breakdown),
        grid=costs.grid(breakdown, by),
    )


class _Tile(NamedTuple):
    """A key figure: what it is, the figure, and what is to be said of it."""

    name: str
    figure: str
    note: str = ""


def _tiles(breakdown: Breakdown) -> list[_Tile]:
    """The key figures of the whole model, as far as they are known."""
    latency, tokens, p95 = breakdown.end_to_end_time_ms, breakdown.tokens_per_second, breakdown.p95_ms
    found = [
        _Tile("parameters", formatting.count(breakdown.total("parameters"))),
        _Tile("size of the weights", formatting.size(breakdown.total("parameter_bytes"))),
        _Tile("MACs", formatting.count(breakdown.total("macs")), "a forward"),
        _Tile("FLOPs", formatting.count(breakdown.total("flops")), "a forward"),
    ]
    if latency is not None:
        figure, _, interval = formatting.interval(latency).partition(" [")
        said = [f"95 % interval [{interval}"]
        said += [f"p95 {formatting.duration(p95)}"] if p95 is not None else []
        said += [lines.NO_KERNEL] if dequantised(breakdown) else []
        found.append(_Tile("latency", figure, "; ".join(said)))
    if tokens is not None:
        note = "padding included" if breakdown.workload.padding else ""
        found.append(_Tile("tokens a second", formatting.exact(round(tokens)), note))
    for byte_count, where in (
        (breakdown.peak_memory_bytes, "allocated on the GPU"),
        (breakdown.resident_peak_bytes, "resident, with the weights"),
    ):
        if byte_count is not None:
            found.append(_Tile("peak memory", formatting.size(byte_count), where))
    return found


# The survey's Figure 2 ------------------------------------------------------------------------------------------------


class _Bar(NamedTuple):
    """A bar: figure and share as texts; where it ends, and where its interval begins and how long that is, in percent
    of the space for bars."""

    name: str
    color: str
    figure: str
    share: str
    length: float
    low: float | None
    width: float | None


class _Panel(NamedTuple):
    """One panel of Figure 2."""

    title: str
    whole: str
    bars: Sequence[_Bar]


def _figure2(breakdown: Breakdown) -> list[_Panel]:
    """The panels of the survey's Figure 2, all on one scale: that of shares.

    As long as the longest bar of all panels is, as wide is the space for bars.
    """
    panels_ = figure2.panels(breakdown)
    longest = max(_end(bar) for panel in panels_ for bar in panel.bars) or 1.0
    return [_Panel(panel.title, panel.total, [_bar(bar, longest) for bar in panel.bars]) for panel in panels_]


def _end(bar: figure2.Bar) -> float:
    return bar.share if bar.share_interval is None else bar.share_interval.high


def _bar(bar: figure2.Bar, longest: float) -> _Bar:
    low = width = None
    if bar.share_interval is not None and bar.share_interval.half_width:
        low, width = 100 * bar.share_interval.low / longest, 200 * bar.share_interval.half_width / longest
    return _Bar(bar.name, bar.color, bar.text, formatting.percent(bar.share), 100 * bar.share / longest, low, width)


# The roofline ---------------------------------------------------------------------------------------------------------


def _roofline(breakdown: Breakdown) -> str:
    """The figure, inline; empty where it has no point."""
    if not points(breakdown)[0]:
        return ""
    from bertprof.report import figure
    from bertprof.report.page.drawn import inline_svg

    drawn = figure.render([breakdown], "svg", "roofline")
    return inline_svg(drawn, "Roofline: each component against what the device can do at most")


def _bounds(breakdown: Breakdown) -> list[str]:
    """What each component is bound by, and the device's peaks."""
    if breakdown.peaks is None:
        return []
    found = [roofline.explanation(breakdown, component) for component in Component]
    said = [formatting.plain(line) for line in found if line is not None]
    return [*said, formatting.plain(lines.peaks_line(breakdown.peaks))] if said else []
