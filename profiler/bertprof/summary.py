"""What a diff says of each of its sides: the breakdown in short, and what the user says of its accuracy."""

from bertprof.difference import Accuracy, Latency, Side
from bertprof.errors import UsageError
from bertprof.record import Breakdown

MOST_POINTS = 100.0
"""Points of accuracy, or of F1."""


def side_of(breakdown: Breakdown) -> Side:
    """A side in short."""
    return Side(
        name=breakdown.name,
        created=breakdown.created,
        bertprof_version=breakdown.bertprof_version,
        workload=breakdown.workload,
        host=breakdown.host,
        checkpoint=breakdown.checkpoint,
        units=breakdown.units,
        processes=breakdown.processes,
        samples=None if breakdown.end_to_end_ms is None else len(breakdown.end_to_end_ms),
        latency=_latency(breakdown),
        caveats=breakdown.caveats,
    )


def _latency(breakdown: Breakdown) -> Latency | None:
    estimate = breakdown.end_to_end_time_ms
    if estimate is None:
        return None
    return Latency(
        median_ms=estimate.value,
        low_ms=estimate.low,
        high_ms=estimate.high,
        p95_ms=breakdown.p95_ms,
        tokens_per_second=breakdown.tokens_per_second,
    )


def accuracy(before: Breakdown, after: Breakdown, values: tuple[float, float], metric: str | None) -> Accuracy:
    """The survey's ΔMS/ΔA (its Table 2): points of model size saved for each point of accuracy lost.

    Model size is bytes as stored: 8-bit weights are 25 % of 32-bit ones there.

    Raises:
        UsageError: a value is no number of points.
    """
    for value in values:
        if not 0 <= value <= MOST_POINTS:
            raise UsageError(f"--accuracy {value}: give the accuracy of each side in points from 0 to 100, as 84.6")
    if 0 < max(values) <= 1:
        raise UsageError(f"--accuracy {values[0]} {values[1]}: these are shares; give points, as {100 * values[0]:g}")
    whole = before.total("parameter_bytes")
    saved = 100 * (1 - after.total("parameter_bytes") / whole) if whole else 0.0
    # As floats 84.6 − 81.7 is 2.8999999999999915.
    lost = round(values[0] - values[1], 9)
    return Accuracy(
        metric=metric,
        before=values[0],
        after=values[1],
        size_drop=saved,
        size_drop_per_accuracy_drop=saved / lost if lost > 0 and saved >= 0 else None,
    )
