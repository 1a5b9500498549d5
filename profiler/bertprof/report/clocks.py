"""The panel of clocks: the same forward by each clock that was asked for, component by component."""

from collections.abc import Iterable, Mapping, Sequence

from bertprof import formatting
from bertprof.components import Component
from bertprof.observations import OtherClock
from bertprof.record import Breakdown
from bertprof.report.panels import Panel

AGREE_WITHIN = 2.0
"""Two clocks agree where no component's share differs by more percentage points; our choice."""

_TOTAL, _UNATTRIBUTED = "total", "unattributed"

_Column = tuple[str, Mapping[str, str]]
"""A header, and the cells by the label of their row."""


def panel(breakdown: Breakdown) -> Panel | None:
    """The clocks side by side; None where the record holds no other than its own."""
    if not breakdown.clocks:
        return None
    told = [clock for clock in breakdown.clocks if clock.unavailable is None]
    notes = _notes(breakdown, told)
    for clock in breakdown.clocks:
        if clock.unavailable is not None:
            notes.append(f"{clock.clock} clock unavailable: {formatting.line(clock.unavailable)}")
    if not told:
        return Panel("Other clocks", (), (), notes)
    own = _own(breakdown)
    amounts = [own, *map(_amounts, told)]
    digits = _digits(max(each.get(_TOTAL, 0.0) for each in amounts))
    columns: list[_Column] = []
    if own:
        columns += [(str(breakdown.workload.clock), _times(own, digits)), ("%", _percents(own))]
    for clock in told:
        columns += _columns(clock, own, digits)
    labels = [label for label in (*Component, _UNATTRIBUTED) if any(each.get(label) for each in amounts)]
    return Panel(
        "The same forward by each clock, in ms",
        ("component", *(header for header, _ in columns)),
        [(label, *(cells.get(label, "–") for _, cells in columns)) for label in labels],
        notes,
        (_TOTAL, *(cells.get(_TOTAL, "") for _, cells in columns)),
    )


def largest_difference(breakdown: Breakdown, clock: OtherClock) -> tuple[Component, float]:
    """The component whose share by another clock differs most from that by the record's own, and by how many points.

    Args:
        breakdown: a record with times.
        clock: one that told something. Of `kernels` the share is that of the time in which they ran.
    """
    return _largest(_own(breakdown), _amounts(clock))


def _largest(of: Mapping[str, float], by: Mapping[str, float]) -> tuple[Component, float]:
    told = [component for component in Component if of.get(component) or by.get(component)]
    points = {component: 100 * (_share(by, component) - _share(of, component)) for component in told}
    return max(points.items(), key=lambda each: abs(each[1]))


# Amounts in ms by row, the total among them ---------------------------------------------------------------------------


def _own(breakdown: Breakdown) -> dict[str, float]:
    """By the clock that gave the record's times; nothing where it has none."""
    whole = breakdown.instrumented_time_ms
    if whole is None:
        return {}
    times = {str(component): breakdown.time_of(breakdown.of(component)) for component in Component}
    return {**{label: time.value for label, time in times.items() if time is not None}, _TOTAL: whole.value}


def _amounts(clock: OtherClock) -> dict[str, float]:
    found = {str(part.component): part.time_ms for part in clock.parts}
    if clock.unattributed_ms:
        found[_UNATTRIBUTED] = clock.unattributed_ms
    return {**found, _TOTAL: clock.total_ms or 0.0}


def _share(amounts: Mapping[str, float], label: str) -> float:
    return amounts.get(label, 0.0) / amounts[_TOTAL] if amounts.get(_TOTAL) else 0.0


# Columns --------------------------------------------------------------------------------------------------------------


def _columns(clock: OtherClock, own: Mapping[str, float], digits: int) -> list[_Column]:
    amounts = _amounts(clock)
    if clock.clock == "graph":
        return [("graph", _times(amounts, digits)), ("%", _percents(amounts))]
    if clock.clock == "profiler":
        found: list[_Column] = [("profiler", _times(amounts, digits)), ("%", _percents(amounts))]
        if own:
            found.append(("points", {c: _points(_share(amounts, c) - _share(own, c)) for c in Component}))
        return found
    idle = _summed({str(part.component): part.idle_ms or 0.0 for part in clock.parts})
    launches = _summed({str(part.component): part.launches or 0 for part in clock.parts})
    return [
        ("busy", _times(amounts, digits)),
        ("idle", {**_times(idle, digits), _UNATTRIBUTED: "–"}),
        ("%", _percents(amounts)),
        ("launches", {label: formatting.exact(round(launches.get(label, 0))) for label in _rows(launches)}),
    ]


def _summed(parts: dict[str, float]) -> dict[str, float]:
    return {**parts, _TOTAL: sum(parts.values())}


def _rows(amounts: Iterable[str]) -> list[str]:
    """The rows that a clock tells of: what has no amount has none of it."""
    return [*Component, *(label for label in amounts if label in (_UNATTRIBUTED, _TOTAL))]


def _times(amounts: Mapping[str, float], digits: int) -> dict[str, str]:
    return {label: f"{amounts.get(label, 0.0):.{digits}f}" for label in _rows(amounts)}


def _percents(amounts: Mapping[str, float]) -> dict[str, str]:
    return {**{label: formatting.percent(_share(amounts, label)) for label in _rows(amounts)}, _TOTAL: "100"}


def _points(difference: float) -> str:
    """A difference of shares in percentage points, signed, but for a zero: +0.4."""
    points = round(100 * difference, 1)
    return f"{points:+.1f}" if points else "0.0"


def _digits(total_ms: float) -> int:
    """Decimals by which parts can be told apart, the same in all columns: 1 µs of a forward below 10 ms."""
    return 3 if total_ms < 10 else 2 if total_ms < 100 else 1


# Notes ----------------------------------------------------------------------------------------------------------------


def _notes(breakdown: Breakdown, told: Sequence[OtherClock]) -> list[str]:
    notes: list[str] = []
    by_name = {clock.clock: clock for clock in told}
    graph, kernels, profiler = (by_name.get(name) for name in ("graph", "kernels", "profiler"))
    if graph is not None:
        notes.append(f"graph: the forward as a CUDA graph, without gaps between launches; median of {graph.forwards}")
        notes += _launch_bound(breakdown, graph)
    if kernels is not None:
        notes.append(
            f"busy, idle: the device as torch.profiler saw it in {kernels.forwards} forwards, which it slows down; "
            "% is of busy, and no latency"
        )
        unattributed = _share(_amounts(kernels), _UNATTRIBUTED)
        if unattributed:
            notes.append(f"{formatting.percent(unattributed)} % of the kernels' time could be given to no component")
    if graph is not None and kernels is not None:
        notes.append(_agreement("graph and kernels", _amounts(graph), _amounts(kernels)))
    own = _own(breakdown)
    if profiler is not None and own:
        notes.append(_agreement(f"{breakdown.workload.clock} and profiler", own, _amounts(profiler)))
    return notes


def _launch_bound(breakdown: Breakdown, graph: OtherClock) -> list[str]:
    end_to_end = breakdown.end_to_end_time_ms
    if end_to_end is None or graph.total_ms is None:
        return []
    waited = max(0.0, 1 - graph.total_ms / end_to_end.value)
    return [
        f"the device waited for launches in {100 * waited:.0f} % of the time: 1 - graph / end to end "
        f"({formatting.duration(graph.total_ms)} of {formatting.duration(end_to_end.value)})"
    ]


def _agreement(names: str, of: Mapping[str, float], by: Mapping[str, float]) -> str:
    component, points = _largest(of, by)
    verdict = "agree" if abs(round(points, 1)) <= AGREE_WITHIN else "do not agree"  # as it is printed
    return f"{names} {verdict} within {AGREE_WITHIN:.0f} points of share: {_points(points / 100)} at most ({component})"
