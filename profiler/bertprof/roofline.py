"""The roofline: how fast a component could be on this device at most, and which of the device's limits it is under.

Arithmetic takes FLOPs / (peak FLOP/s) at least, traffic bytes / bandwidth, and what overlaps both the longer of the
two: the time that the roofline allows (Williams, Waterman and Patterson, Communications of the ACM 52(4), 2009). A
component in one unit is one such stretch of work; those of several add up. What is our choice:

*Bandwidth* is that of the working set, between the measured ones in proportion to the logarithm of its size, and beyond
them that of the last. Two sets are told apart, by how much else is touched before a byte is touched again. Weights are
read once a forward: theirs is the set of all weights of the model, tables of embeddings aside. What is looked up in
those, and activations, which one operator writes and the next reads, have what the component's operators touch on
average. Taking all that a component moves in a unit instead would count the same activations once for each operator
that reads them, and its roof would be lower than what a cache allows.

*Launch*: each operator costs the host some time, however little it does. On a CPU a component is launch-bound where its
operators take longer for that alone than its arithmetic or its traffic would, and so it is by the `events` clock of a
GPU. Beside the `graph` clock, which has no launches, that is seen and not reckoned: a component is launch-bound where
events, as the user runs it, take LAUNCH_FROM times as long.

What is not known makes a roof too high rather than too low: bytes are those of operands, each read or written once an
operator, and FLOPs are priced as if all were of large matrix products. Operators are those with arithmetic: views,
casts and copies are launched as well, so that fewer components are called launch-bound than are. For the same reason an
operator's set may be taken too large, and its bandwidth too low: of BERT that is so for what is looked up only.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from bertprof import formatting
from bertprof.components import Component
from bertprof.conditions import dequantised, entangled
from bertprof.observations import Peaks
from bertprof.record import Breakdown, Cost

Bound = Literal["compute", "memory", "launch"]

LAUNCH_FROM = 1.25
"""Events over graph from which on a component is launch-bound. Any gap means that the device waits for the host, and a
faster kernel would wait longer; but marks cost a forward up to 1.05, and two clocks of it agree no better than that."""

WORTH_SAYING = 1.1
"""A factor from which on it is named as a cause."""

FAR_BELOW = 0.1
"""Below this share of its roof a component is not said to be bound by it: a tenth at least should be explained."""

ABOVE_FROM = 1.05
"""From this share of a roof on, the roof is wrong: peaks of two runs agree within 10 %, half of it to either side."""


@dataclass(frozen=True)
class Roofline:
    """Where some costs stand below their roof. Times are of one forward, in ms.

    Attributes:
        flops, bytes_moved: what they do.
        time_ms: what it takes, by the graph clock where the record has one.
        by_graph: whether that is so.
        compute_ms, memory_ms: what their arithmetic alone, and their traffic alone, takes at least.
        launch_ms: what launching their operators takes at least; without meaning where the time is the graph's.
        attainable_ms: what the roofline allows: the longer of the first two, unit by unit.
        idle: whether the device waits for the host in between, which only the graph clock can tell.
    """

    flops: int
    bytes_moved: int
    time_ms: float
    by_graph: bool
    compute_ms: float
    memory_ms: float
    launch_ms: float
    attainable_ms: float
    idle: bool = False

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte moved; None where no byte is."""
        return self.flops / self.bytes_moved if self.bytes_moved else None

    @property
    def flops_per_s(self) -> float | None:
        """What is reached; None where there is no arithmetic or no time."""
        return 1e3 * self.flops / self.time_ms if self.flops and self.time_ms > 0 else None

    @property
    def bytes_per_s(self) -> float | None:
        """The same of traffic."""
        return 1e3 * self.bytes_moved / self.time_ms if self.bytes_moved and self.time_ms > 0 else None

    @property
    def share(self) -> float | None:
        """How much of the roof is reached, 1 is all; None where nothing is computed or moved, or there is no time."""
        return self.attainable_ms / self.time_ms if self.attainable_ms and self.time_ms > 0 else None

    @property
    def bound(self) -> Bound | None:
        """Which limit is the nearest; None where there is none."""
        launched = self.idle if self.by_graph else self.launch_ms > max(self.compute_ms, self.memory_ms)
        if launched:
            return "launch"
        if not self.attainable_ms:
            return None
        return "compute" if self.compute_ms >= self.memory_ms else "memory"


def missing(breakdown: Breakdown) -> str | None:
    """Why a record with times and peaks has no roofline; None where it has one, or could have none."""
    peaks, w = breakdown.peaks, breakdown.workload
    if peaks is None or not breakdown.timed:
        return None
    if w.backend != "torch":
        return f"no roofline: the peaks are those of {peaks.dtype} products by torch, the model is run by {w.backend}"
    if dequantised(breakdown):
        return "no roofline: the weights were dequantised, so what is timed is not what is counted"
    if peaks.dtype != w.dtype:
        return f"no roofline: the peaks are those of {peaks.dtype}, the model computes in {w.dtype}"
    if peaks.threads is not None and peaks.threads != w.threads:
        return f"no roofline: the peaks are those of {peaks.threads} threads, the times of {w.threads}"
    return None


def of(breakdown: Breakdown, costs: Sequence[Cost]) -> Roofline | None:
    """The roofline of some costs of a record.

    None where the record has no times or no peaks, where `missing` says why, where the bytes of a cost are not known,
    and where the time of a component stands in part with others that are not among them.
    """
    peaks = breakdown.peaks
    if peaks is None or not breakdown.timed or missing(breakdown) is not None:
        return None
    apart = entangled(breakdown)
    components = {cost.component for cost in costs}
    if apart & components and not apart <= components:
        return None
    model = _weights(breakdown)
    works = [_work(cost, model, peaks) for cost in costs]
    known = [work for work in works if work is not None]
    events = breakdown.time_of(costs)
    if len(known) < len(works) or events is None:
        return None
    graph_ms = breakdown.median_of(costs, "device_time_ms")
    return Roofline(
        flops=sum(cost.flops for cost in costs),
        bytes_moved=sum(cost.bytes_moved or 0 for cost in costs),
        time_ms=events.value if graph_ms is None else graph_ms,
        by_graph=graph_ms is not None,
        compute_ms=math.fsum(work.compute_ms for work in known),
        memory_ms=math.fsum(work.memory_ms for work in known),
        launch_ms=math.fsum(work.launch_ms for work in known),
        attainable_ms=math.fsum(max(work.compute_ms, work.memory_ms) for work in known),
        idle=graph_ms is not None and events.value > 0 and events.value >= LAUNCH_FROM * graph_ms,
    )


def bandwidth(peaks: Peaks, working_set_bytes: float) -> float:
    """Bytes a second at a working set: between two measured ones in proportion to the logarithm of the size."""
    points = peaks.bandwidths
    if working_set_bytes <= points[0].working_set_bytes:
        return points[0].bytes_per_s
    for low, high in itertools.pairwise(points):
        if working_set_bytes <= high.working_set_bytes:
            span = math.log(high.working_set_bytes / low.working_set_bytes)
            way = math.log(working_set_bytes / low.working_set_bytes) / span
            return low.bytes_per_s + way * (high.bytes_per_s - low.bytes_per_s)
    return points[-1].bytes_per_s


class _Work(NamedTuple):
    compute_ms: float
    memory_ms: float
    launch_ms: float


class _Weights(NamedTuple):
    """The bytes of all weights that a forward reads, and of those by component that several units share."""

    all_bytes: int
    shared_bytes: dict[Component, int]


def _weights(breakdown: Breakdown) -> _Weights:
    held = [cost for cost in breakdown.costs if cost.component is not Component.EMBEDDING]
    shared = {cost.component: cost.parameter_bytes for cost in held if cost.unit is None}
    return _Weights(sum(cost.parameter_bytes for cost in held), shared)


def _work(cost: Cost, model: _Weights, peaks: Peaks) -> _Work | None:
    """What one component of one unit takes at least; None where its bytes are not known."""
    if cost.bytes_moved is None:
        return None
    weights = 0 if cost.component is Component.EMBEDDING else cost.parameter_bytes
    if not weights and cost.unit is not None:
        weights = model.shared_bytes.get(cost.component, 0)
    weights = min(weights, cost.bytes_moved)
    activations = cost.bytes_moved - weights
    calls = sum(operator.calls for operator in cost.operators.values())
    seconds = weights / bandwidth(peaks, model.all_bytes) if weights else 0.0
    if activations:
        seconds += activations / bandwidth(peaks, activations / max(1, calls))
    return _Work(1e3 * cost.flops / peaks.flops_per_s, 1e3 * seconds, 1e-6 * calls * peaks.launch_ns)


# What is said of it ---------------------------------------------------------------------------------------------------


def explanation(breakdown: Breakdown, component: Component) -> str | None:
    """What a component is under, in a sentence; None where no roof is known of it."""
    costs = breakdown.of(component)
    found, time = of(breakdown, costs), breakdown.time_share(costs)
    if found is None or found.share is None or time is None:
        return None
    whole = breakdown.total("flops")
    flops = sum(cost.flops for cost in costs) / whole if whole else 0.0
    text = f"{component}: {100 * flops:.1f} % of FLOPs, {100 * time.value:.1f} % of time"
    if found.intensity is not None:
        text += f": {formatting.intensity(found.intensity)} FLOP/byte"
    return f"{text}, {_standing(found)}"


def _standing(line: Roofline) -> str:
    """What a component is bound by; where it is far from every limit, that none of them explains its time."""
    share = 0.0 if line.share is None else line.share
    if share < FAR_BELOW and line.bound != "launch":
        return f"far below its roof, which is that of {line.bound} ({formatting.percent(share)} % of it)"
    return f"{line.bound}-bound ({formatting.percent(share)} % of its roof)"


def cause(breakdown: Breakdown, component: Component) -> str | None:
    """Why a component takes a larger share of the time than of the FLOPs; None where no roof is known of it.

    The one over the other is what the whole model reaches, in FLOP/s, over what the component reaches. Each is what its
    roof allows × the share of it that it reaches; so that is how much lower its roof is × how much further below it is.
    """
    own, whole = of(breakdown, breakdown.of(component)), of(breakdown, breakdown.costs)
    if own is None or whole is None or not (own.flops_per_s and whole.flops_per_s and own.share and whole.share):
        return None
    allowed, all_allowed = own.flops_per_s / own.share, whole.flops_per_s / whole.share
    at = "" if own.intensity is None else f", at {formatting.intensity(own.intensity)} FLOP/byte"
    text = (
        f"{own.bound}-bound{at}: {formatting.giga(own.flops_per_s)} of the {formatting.giga(allowed)} GFLOP/s that its "
        f"roof allows, the whole model {formatting.giga(whole.flops_per_s)} of {formatting.giga(all_allowed)}"
    )
    lower, further = all_allowed / allowed, whole.share / own.share
    parts = [f"its roof is {formatting.times(lower)} lower"] if lower > WORTH_SAYING else []
    parts += [f"it is {formatting.times(further)} further below its roof"] if further > WORTH_SAYING else []
    return text + (f"; {' and '.join(parts)}" if parts else "")


def above_roof(breakdown: Breakdown) -> dict[Component, float]:
    """The components that are faster than their roof, with the share of it that they reach."""
    found = {component: of(breakdown, breakdown.of(component)) for component in Component}
    shares = {component: line.share for component, line in found.items() if line is not None}
    return {component: share for component, share in shares.items() if share is not None and share > ABOVE_FROM}
