"""Figures: the survey's Figure 2, before beside after, records side by side, and the survey's methods."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from bertprof import difference, formatting
from bertprof.components import SURVEY_COMPONENTS, Component
from bertprof.difference import Diff
from bertprof.record import Breakdown
from bertprof.report import beside, changes, lines, quiet_matplotlib, rows, several, survey_methods
from bertprof.report.palette import REST, color_of
from bertprof.report.rows import Row
from bertprof.survey import methods
from bertprof.survey.methods import Methods

with quiet_matplotlib():  # its import looks for a place for its font cache
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.size": 0,
    "ytick.major.width": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "bertprof",
}

_TICKS = {
    Component.EMBEDDING: "embedding",
    Component.ATTENTION_LINEAR_IN: "linear\nbefore\nattention",
    Component.SOFTMAX_ATTENTION: "softmax\nattention",
    Component.ATTENTION_LINEAR_OUT: "linear\nafter\nattention",
    Component.FFN: "FFN",
}


class ReportFigure(Figure):
    """A matplotlib Figure that shows itself in a notebook without pyplot."""

    def _repr_png_(self) -> bytes:
        return _saved(self, "png")


def figure2(breakdown: Breakdown) -> Figure:
    """Figure 2 of the survey for any model: parameter memory and FLOPs on top, run time below, a bar a component.

    The five bars of the survey stand first, in its order; then the rest (residual sums and norms, head, glue), so that
    the bars of a panel sum to the model. The run-time bars carry their 95 % intervals. Without time, the lower panel
    is left out.
    """
    bars = [(_TICKS[c], color_of(c), rows.row_of(breakdown, c, breakdown.of(c))) for c in SURVEY_COMPONENTS]
    others = [cost for cost in breakdown.costs if cost.component not in SURVEY_COMPONENTS]
    bars.append(("rest", REST, rows.row_of(breakdown, "rest", others)))
    with _quiet():
        figure = ReportFigure(figsize=(7.2, 5.4 if breakdown.timed else 3.1), layout="constrained")
        FigureCanvasAgg(figure)
        layout = [["memory", "flops"], ["time", "time"]] if breakdown.timed else [["memory", "flops"]]
        axes = figure.subplot_mosaic(layout)  # type: ignore[arg-type]  # its stubs want a literal
        total = rows.total(breakdown)
        _panel(
            axes["memory"],
            f"Memory of the parameters: {formatting.size(total.bytes or 0)}",
            "MB",
            [(tick, color, (row.bytes or 0) / 1e6, row.parameters_share, None) for tick, color, row in bars],
        )
        _panel(
            axes["flops"],
            f"Theoretical cost: {formatting.count(total.flops)} FLOPs",
            "MFLOPs",
            [(tick, color, row.flops / 1e6, row.flops_share, None) for tick, color, row in bars],
        )
        if breakdown.timed:
            whole = breakdown.instrumented_time_ms
            assert whole is not None
            _panel(
                axes["time"],
                f"Run time: {formatting.interval(whole)} with marks",
                "ms",
                [(tick, color, *_time(row)) for tick, color, row in bars],
            )
        figure.suptitle(_wrapped(breakdown), fontsize=8.5)
    return figure


def _time(row: Row) -> tuple[float, float, tuple[float, float]]:
    assert row.time_ms is not None
    assert row.time_share is not None
    value, low, high = row.time_ms
    return value, row.time_share.value, (max(0.0, value - low), max(0.0, high - value))


def _wrapped(breakdown: Breakdown) -> str:
    name = formatting.line(lines.title(breakdown), 90)
    return _escaped(f"{name}: sums over all encoder units\n{lines.workload_line(breakdown)}")


def _escaped(text: str) -> str:
    """A dollar sign would open a formula."""
    return text.replace("$", r"\$")


def _panel(
    axes: Axes,
    title: str,
    unit: str,
    bars: list[tuple[str, str, float, float, tuple[float, float] | None]],
) -> None:
    """One panel: tick, colour, height, share and, for times, how far the interval reaches down and up."""
    axes.set_title(title, loc="left")
    axes.set_ylabel(unit)
    tallest = max(height for _, _, height, _, _ in bars) or 1.0
    for x, (_, color, height, share, reach) in enumerate(bars):
        axes.bar(x, height, color=color, width=0.72, edgecolor="black", linewidth=0.4, zorder=2)
        top = height
        if reach is not None and sum(reach) > 0:
            axes.errorbar(x, height, yerr=[[reach[0]], [reach[1]]], color="black", linewidth=0.8, capsize=2, zorder=3)
            top += reach[1]
        axes.annotate(
            f"{_short(height)}\n{100 * share:.1f} %",
            (x, top),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=7,
        )
    axes.set_xticks(range(len(bars)), [tick for tick, *_ in bars], fontsize=6.5)
    axes.set_ylim(0, tallest * 1.24)
    axes.margins(x=0.02)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}" if tallest < 10 else "{x:,.0f}"))
    axes.grid(axis="y", linewidth=0.4, color="#DDDDDD", zorder=0)
    axes.set_axisbelow(True)


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2}f}"


# A diff ---------------------------------------------------------------------------------------------------------------

_PANELS = (
    ("bytes", "Weights", "", 1e6, "MB"),
    ("flops", "Theoretical cost", " FLOPs", 1e6, "MFLOPs"),
    ("time", "Run time", " ms", 1.0, "ms"),
)
"""Metric, title and what follows its figures, divisor and unit of each panel of a diff."""


def diff_figure(diff: Diff) -> Figure:
    """Before beside after: two bars a component, one panel each for stored parameters, FLOPs and, where known, time.

    The bar of before is pale, that of after full; beside them stands what changed.
    """
    rows_ = changes.table(diff, "component")
    total = diff.row("total")
    panels = [panel for panel in _PANELS if (c := total.metrics.get(panel[0])) and c.change is not None]
    with _quiet():
        figure = ReportFigure(figsize=(1.6 + 2.9 * max(1, len(panels)), 1.5 + 0.42 * len(rows_)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, max(1, len(panels)), sharey=True, squeeze=False)[0]
        for ax, (metric, title, suffix, divisor, unit) in zip(axes, panels, strict=False):
            _pairs(ax, rows_, metric, divisor)
            whole = total.metrics[metric]
            head = f"{title}: {changes.figures(whole, metric)}{suffix}"
            ax.set_title(f"{head}\n{_label(whole)}", loc="left", fontsize=7.5)
            ax.set_xlabel(unit)
        axes[0].set_yticks(range(len(rows_)), [_escaped(formatting.line(row.scope, 28)) for row in rows_], fontsize=7)
        axes[0].set_ylim(len(rows_) - 0.4, -0.6)
        figure.suptitle(
            _escaped(f"{formatting.line(diff.before.name, 60)} → {formatting.line(diff.after.name, 60)}"), fontsize=8.5
        )
        before, after = (Patch(facecolor=color, edgecolor="black", linewidth=0.4) for color in (_pale(REST), REST))
        figure.legend(
            [before, after], ["before", "after"], loc="outside lower right", ncols=2, frameon=False, fontsize=7
        )
    return figure


def _pale(color: str) -> tuple[float, float, float]:
    """A third of the colour, on white."""
    red, green, blue = (1 - (1 - part) * 0.35 for part in to_rgb(color))
    return red, green, blue


def _pairs(axes: Axes, rows_: Sequence[difference.Row], metric: str, divisor: float) -> None:
    """The bars of one panel: before above after, and what changed at their end."""
    longest = 0.0
    for y, row in enumerate(rows_):
        change = row.metrics.get(metric)
        if change is None or change.before is None or change.after is None:
            continue
        color = color_of(row.scope)
        lengths = [figure / divisor for figure in (change.before, change.after)]
        for offset, length, fill in zip((-0.19, 0.19), lengths, (_pale(color), color), strict=True):
            axes.barh(y + offset, length, 0.36, color=fill, edgecolor="black", linewidth=0.4, zorder=2)
        longest = max(longest, *lengths)
        at = (max(lengths), y)
        axes.annotate(_label(change), at, xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5)
    _scale(axes, longest, 1.42)


def _scale(axes: Axes, longest: float, room: float) -> None:
    """An x axis with room for what stands at the end of the bars."""
    axes.set_xlim(0, longest * room or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}" if longest < 10 else "{x:,.0f}"))
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", linewidth=0.4, color="#DDDDDD", zorder=0)
    axes.set_axisbelow(True)


def _label(change: difference.Change) -> str:
    """What changed, in a few characters: of a time the percentage only where it is sure."""
    if change.verdict in ("faster", "slower") and change.ratio is not None:
        return f"{formatting.change(change.ratio)}, {change.verdict}"
    return change.verdict if change.verdict in ("same", "inconclusive", "n/a") else changes.relative(change)


# Several records ------------------------------------------------------------------------------------------------------


def several_figure(breakdowns: Sequence[Breakdown]) -> Figure:
    """One bar a record, stacked by component; one panel each for stored parameters, FLOPs and, where known, time."""
    labels, tables = several.aligned(breakdowns, "component")
    panels: list[tuple[str, str, Callable[[Row], float]]] = [
        ("Parameters", "MB", lambda row: (row.bytes or 0) / 1e6),
        ("Theoretical cost", "MFLOPs", lambda row: row.flops / 1e6),
    ]
    if any(breakdown.timed for breakdown in breakdowns):
        panels.append(("Run time with marks", "ms", lambda row: 0.0 if row.time_ms is None else row.time_ms.value))
    with _quiet():
        size = (1.6 + 2.9 * len(panels), 1.7 + 0.32 * len(breakdowns))
        figure = ReportFigure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (title, unit, length) in zip(axes, panels, strict=True):
            ends = [0.0] * len(tables)
            for label in labels:
                lengths = [length(table[label]) if label in table else 0.0 for table in tables]
                ax.barh(range(len(tables)), lengths, 0.7, ends, color=color_of(label), edgecolor="black", linewidth=0.3)
                ends = [end + own for end, own in zip(ends, lengths, strict=True)]
            for y, end in enumerate(ends):
                text = f"{formatting.measured(end)}" if end else "–"
                ax.annotate(text, (end, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5)
            ax.set_title(title, loc="left", fontsize=8)
            ax.set_xlabel(unit)
            _scale(ax, max(ends), 1.25)
        names = [_escaped(formatting.line(name, 40)) for name in several.names(breakdowns)]
        axes[0].set_yticks(range(len(names)), names, fontsize=7)
        axes[0].set_ylim(len(names) - 0.4, -0.6)
        handles = [Patch(facecolor=color_of(label), edgecolor="black", linewidth=0.3) for label in labels]
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=7)
    return figure


# The survey's methods -------------------------------------------------------------------------------------------------


def methods_figure(document: Methods) -> Figure:
    """One bar a method, stacked by component, in % of BERT-base; one panel each for size, MACs and, where known, time.

    A method that did not run has its name and no bar; nor has one a time that is not that of its weights as stored.
    """
    shown = survey_methods.rows(document)
    groups = survey_methods.groups(document)
    panels = [metric for metric in survey_methods.PANELS if metric != "time" or document.timed]
    with _quiet():
        figure = ReportFigure(figsize=(2.2 + 2.7 * len(panels), 1.6 + 0.24 * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, metric in zip(axes, panels, strict=True):
            longest = max(_method_bar(ax, y, row, metric, groups) for y, row in enumerate(shown))
            ax.axvline(100, color="black", linewidth=0.6, linestyle=":", zorder=1)
            ax.set_title(survey_methods.PANELS[metric], loc="left", fontsize=8)
            ax.set_xlabel("% of BERT-base")
            _scale(ax, longest, 1.5 if metric == "time" else 1.25)
        names = [_escaped(survey_methods.name_with_work(row)) for row in shown]
        axes[0].set_yticks(range(len(names)), names, fontsize=7)
        axes[0].set_ylim(len(names) - 0.4, -0.6)
        figure.suptitle(_escaped("\n".join([survey_methods.TITLE, beside.setting(document)[0]])), fontsize=8.5)
        handles = [Patch(facecolor=color_of(group), edgecolor="black", linewidth=0.3) for group in groups]
        figure.legend(handles, groups, loc="outside lower center", ncols=7, frameon=False, fontsize=7)
    return figure


def _method_bar(axes: Axes, y: int, row: methods.Row, metric: methods.Metric, groups: Sequence[str]) -> float:
    """The bar of one method in one panel, with its figure at the end; how long it is."""
    end = 0.0
    for group in groups:
        parts = row.measured.of(*survey_methods.GROUPS[group]) if row.measured is not None else []
        length = (row.measured.percent(metric, parts) if row.measured is not None else None) or 0.0
        axes.barh(y, length, 0.72, end, color=color_of(group), edgecolor="black", linewidth=0.3, zorder=2)
        end += length
    label = _escaped(survey_methods.bar_label(row, metric))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # over the line at 100 %
    axes.annotate(label, (end, y), xytext=(3, 0), textcoords="offset points", va="center", fontsize=6.5, bbox=box)
    return end


# Files ----------------------------------------------------------------------------------------------------------------


def render(document: Breakdown | Diff | Methods, suffix: Literal["png", "svg"]) -> bytes:
    """Figure 2, before beside after, or the survey's methods, as a file's content. The same document gives the same
    bytes."""
    if isinstance(document, Methods):
        return _saved(methods_figure(document), suffix)
    return _saved(diff_figure(document) if isinstance(document, Diff) else figure2(document), suffix)


def render_several(breakdowns: Sequence[Breakdown], suffix: Literal["png", "svg"]) -> bytes:
    """Records side by side as a file's content."""
    return _saved(several_figure(breakdowns), suffix)


def _saved(figure: Figure, suffix: str) -> bytes:
    stream = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if suffix == "png" else {"Date": None, "Creator": "bertprof"}
    with _quiet():
        figure.savefig(stream, format=suffix, dpi=200, metadata=metadata)
    return stream.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Our style; no word of fonts, nor of a name in a script that the font does not have."""
    with quiet_matplotlib(), rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield
