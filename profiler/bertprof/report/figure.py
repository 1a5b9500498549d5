"""The survey's Figure 2, drawn from a record: memory and FLOPs on top, run time below."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from bertprof import formatting
from bertprof.components import SURVEY_COMPONENTS, Component
from bertprof.record import Breakdown
from bertprof.report import quiet_matplotlib, rows
from bertprof.report.palette import REST, color_of
from bertprof.report.rows import Row

with quiet_matplotlib():  # its import looks for a place for its font cache
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

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
    name = rows.title(breakdown)
    name = name if len(name) <= 90 else f"{name[:87]}..."
    # A dollar sign would open a formula.
    return f"{name}: sums over all encoder units\n{rows.workload_line(breakdown)}".replace("$", r"\$")


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


def render(breakdown: Breakdown, suffix: Literal["png", "svg"]) -> bytes:
    """Figure 2 as a file's content. The same record gives the same bytes."""
    return _saved(figure2(breakdown), suffix)


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
