"""The survey's Figure 2 for any model, before it is drawn: memory, FLOPs and time, a bar a component."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bertprof import formatting
from bertprof.components import SURVEY_COMPONENTS, Component
from bertprof.record import Breakdown
from bertprof.report import rows
from bertprof.report.palette import REST, color_of
from bertprof.report.rows import Row
from bertprof.sampling import Estimate

NAMES: Mapping[str, str] = MappingProxyType(
    {
        Component.EMBEDDING: "embedding",
        Component.ATTENTION_LINEAR_IN: "linear before attention",
        Component.SOFTMAX_ATTENTION: "softmax attention",
        Component.ATTENTION_LINEAR_OUT: "linear after attention",
        Component.FFN: "FFN",
    }
)
"""The survey's names of its five bars, in its order."""


@dataclass(frozen=True)
class Bar:
    """One bar of a panel.

    Attributes:
        name: the survey's, or "rest".
        color: of the component.
        value: the figure in the panel's unit.
        text: the same to be read, with its interval where it has one.
        share: of the model's, 0 to 1.
        interval: that of the figure, where it is measured.
        share_interval: the same of the share.
    """

    name: str
    color: str
    value: float
    text: str
    share: float
    interval: Estimate | None = None
    share_interval: Estimate | None = None


@dataclass(frozen=True)
class Panel:
    """One panel: what it shows, of all bars together, and their unit without any prefix."""

    title: str
    total: str
    unit: str
    bars: Sequence[Bar]


def panels(breakdown: Breakdown) -> list[Panel]:
    """Memory of the parameters, FLOPs and, where it was measured, time: the survey's five components and the rest.

    The rest is residual sums and norms, head and glue, so that the bars of a panel sum to the model. The time is that
    of the forward with marks, to which its parts add up.
    """
    total = rows.total(breakdown)
    rest = [cost for cost in breakdown.costs if cost.component not in SURVEY_COMPONENTS]
    parts = [(NAMES[c], color_of(c), rows.row_of(breakdown, NAMES[c], breakdown.of(c))) for c in SURVEY_COMPONENTS]
    parts.append(("rest", REST, rows.row_of(breakdown, "rest", rest)))
    memory = [Bar(n, c, r.bytes or 0, formatting.size(r.bytes or 0), r.bytes_share or 0.0) for n, c, r in parts]
    flops = [Bar(n, c, r.flops, formatting.count(r.flops), r.flops_share) for n, c, r in parts]
    found = [
        Panel("Memory of the parameters", formatting.size(total.bytes or 0), "B", memory),
        Panel("Theoretical cost", f"{formatting.count(total.flops)} FLOPs", "FLOPs", flops),
    ]
    if total.time_ms is not None:
        times = [bar for part in parts if (bar := _timed(*part)) is not None]
        found.append(Panel("Run time", f"{formatting.interval(total.time_ms)} with marks", "ms", times))
    return found


def _timed(name: str, color: str, row: Row) -> Bar | None:
    """A bar of time; None where none is known."""
    time, share = row.time_ms, row.time_share
    if time is None or share is None:
        return None
    return Bar(name, color, time.value, f"{formatting.with_interval(time)} ms", share.value, time, share)
