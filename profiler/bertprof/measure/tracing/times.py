"""From what torch.profiler recorded to times by component: the `profiler` clock of a CPU and the `kernels` clock.

A kernel belongs to the component in whose range it was launched. The launch is found by the number that CUPTI gives to
both (`correlation`); where it was not recorded, the operator that made it by torch's own (`External id`). What neither
leads to a range of the forward's thread is unattributed. This file knows no torch.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from bertprof import sampling
from bertprof.attribution import Owner
from bertprof.components import COMPONENT_ORDER, Component
from bertprof.errors import DeviceError
from bertprof.measure.tracing.events import DEVICE, LAUNCHES, OPERATOR, Event, Forward, Recorded
from bertprof.observations import ClockPart, OtherClock

SKEW_NS = 100_000
"""By how much a kernel may seem to start before its launch; our choice. CUPTI converts the device's time to that of the
CPU, which was seen to put kernels a little before their launch (pytorch/kineto#1380) and changes neither their lengths
nor their order. Broken records, which this is to find, are off by a day (10¹⁴ ns, pytorch/pytorch#192021)."""

NO_KERNELS = (
    "CUPTI gives no kernels: this user may not read the GPU's counters (ERR_NVGPUCTRPERM), another profiler holds "
    "CUPTI, or its library is missing"
)

_LAUNCH = ("LaunchKernel", "LaunchCooperativeKernel")
"""In the names of the calls that launch a kernel, of runtime and driver. A copy of no bytes leaves no record, so copies
are not counted on."""


class _Forward(NamedTuple):
    """Amounts of one forward by component, None for what is unattributed; in ns, launches in number."""

    time: Mapping[Component | None, int]
    busy: Mapping[Component | None, int]
    idle: Mapping[Component | None, int]
    launches: Mapping[Component | None, int]


def by_ranges(recorded: Recorded) -> OtherClock:
    """A CPU's forwards by torch.profiler's clock.

    A component's time is that of its ranges, Python between operators included, as by the clock of the record; busy is
    that part of it in which operators ran, launches the operators that it called itself.
    """
    return _clock("profiler", [_on_cpu(recorded, number) for number in range(len(recorded.forwards))])


def _on_cpu(recorded: Recorded, number: int) -> _Forward:
    forward, owners = recorded.forwards[number], recorded.owners[number]
    time, busy, launches = Counter[Component | None](), Counter[Component | None](), Counter[Component | None]()
    for owner, interval_ns in zip(owners, forward.intervals_ns, strict=True):
        time[owner.component] += interval_ns
    for operator in recorded.operators(forward):
        first, last = forward.interval_at(operator.start_ns), forward.interval_at(operator.end_ns)
        launches[owners[first].component] += 1
        for i in range(first, last + 1):
            begin_ns, end_ns = forward.bounds_ns[i], forward.bounds_ns[i + 1]
            busy[owners[i].component] += max(0, min(operator.end_ns, end_ns) - max(operator.start_ns, begin_ns))
    return _Forward(time, busy, {}, launches)


# Kernels --------------------------------------------------------------------------------------------------------------


class Kernel(NamedTuple):
    """What ran on the device: a kernel, a copy or a fill.

    Attributes:
        event: on the device.
        launch: the call that made it; None: not recorded.
        interval: in which of its forward's intervals it was launched; None: in none.
    """

    event: Event
    launch: Event | None
    interval: int | None


def kernels(recorded: Recorded) -> list[list[Kernel]]:
    """What each forward made run on the device, by start.

    Raises:
        DeviceError: there is nothing of the device, a launch has no kernel, or a kernel starts before its launch.
    """
    if not any(event.kind in DEVICE for event in recorded.events):
        raise DeviceError(NO_KERNELS)
    launches = {e.correlation: e for e in recorded.events if e.kind in LAUNCHES and e.correlation}
    operators = {e.external: e for e in recorded.events if e.kind == OPERATOR and e.external}
    starts = [forward.start_ns for forward in recorded.forwards]
    found: list[list[Kernel]] = [[] for _ in starts]
    for event in (event for event in recorded.events if event.kind in DEVICE):
        launch = launches.get(event.correlation)
        makers = [maker for maker in (launch, operators.get(event.external)) if maker is not None]
        # What was made by nobody is of the forward in whose time it ran: the device is idle as each begins.
        number = bisect_right(starts, (makers[0] if makers else event).start_ns) - 1
        if number < 0:
            continue  # the warm-up's
        forward = recorded.forwards[number]
        if makers and makers[0].start_ns > forward.end_ns:
            continue  # launched between forwards
        places = [forward.interval_at(maker.start_ns) for maker in makers if maker.place == forward.place]
        found[number].append(Kernel(event, launch, places[0] if places else None))
    for forward, mine in zip(recorded.forwards, found, strict=True):
        _check_complete(recorded, forward, mine)
        _check_order(mine)
    return found


def _check_complete(recorded: Recorded, forward: Forward, mine: Sequence[Kernel]) -> None:
    seen = {kernel.event.correlation for kernel in mine}
    calls: list[Event] = []
    lost: list[bool] = []
    for event in recorded.within(forward):
        if event.kind not in LAUNCHES or not any(name in event.name for name in _LAUNCH):
            continue
        is_lost = event.correlation not in seen
        if calls and calls[-1].place == event.place and event.end_ns <= calls[-1].end_ns:
            lost[-1] &= is_lost  # the driver's call within the runtime's
        else:
            calls.append(event)
            lost.append(is_lost)
    if any(lost):
        raise DeviceError(f"CUPTI lost {sum(lost)} of the {len(lost)} kernels of a forward: run it again")


def _check_order(mine: Sequence[Kernel]) -> None:
    for kernel in mine:
        if kernel.launch is not None and kernel.event.start_ns < kernel.launch.start_ns - SKEW_NS:
            early_ms = (kernel.launch.start_ns - kernel.event.start_ns) / 1e6
            name = _shortened(kernel.event.name)
            raise DeviceError(f"CUPTI's times are wrong: {name} starts {early_ms:.1f} ms before its launch")


def _check_repeats(found: Sequence[Sequence[Kernel]]) -> None:
    """Every forward launched the same kernels in the same intervals."""
    runs = [Counter((kernel.interval, kernel.event.name) for kernel in mine) for mine in found]
    for number, run in enumerate(runs[1:], start=2):
        for interval, name in sorted(run.keys() | runs[0].keys(), key=str):
            counts = runs[0][interval, name], run[interval, name]
            if counts[0] != counts[1]:
                raise DeviceError(
                    f"the forwards launch different kernels: {_shortened(name)} is launched {counts[0]} times at one "
                    f"place of the first forward, {counts[1]} times in forward {number}"
                )


def by_kernels(recorded: Recorded) -> OtherClock:
    """The forwards by their kernels, copies and fills.

    A component's time is that in which something that it launched ran, on whatever stream: the union of intervals, so
    that what ran side by side counts once. Where two components ran side by side, both count. Idle are the gaps between
    a forward's first kernel and its last in which nothing ran on the device; each belongs to the component that had
    launched what ended last before it, which is our choice: the device waits for what comes next, and the host is
    still busy with that component or has just left it. Gaps behind what is unattributed are not told.

    Raises:
        DeviceError: there are no kernels, or they are not to be trusted: one is lost, starts before its launch, or is
            not in every forward.
    """
    found = kernels(recorded)
    _check_repeats(found)
    if not all(found):
        raise DeviceError("the forward launches no kernel")
    return _clock("kernels", [_on_device(mine, owners) for mine, owners in zip(found, recorded.owners, strict=True)])


def _on_device(mine: Sequence[Kernel], owners: Sequence[Owner]) -> _Forward:
    ran: dict[Component | None, list[Event]] = {}
    idle = Counter[Component | None]()
    last: Component | None = None
    reached_ns = mine[0].event.start_ns
    for kernel in mine:
        component = None if kernel.interval is None else owners[kernel.interval].component
        ran.setdefault(component, []).append(kernel.event)
        idle[last] += max(0, kernel.event.start_ns - reached_ns)
        if kernel.event.end_ns >= reached_ns:
            reached_ns, last = kernel.event.end_ns, component
    busy = {component: _union_ns(events) for component, events in ran.items()}
    return _Forward(busy, busy, idle, {component: len(events) for component, events in ran.items()})


def _union_ns(events: Iterable[Event]) -> int:
    """The time in which at least one of these ran; they come by start."""
    total_ns, reached_ns = 0, 0
    for event in events:
        total_ns += max(0, event.end_ns - max(event.start_ns, reached_ns))
        reached_ns = max(reached_ns, event.end_ns)
    return total_ns


# Both -----------------------------------------------------------------------------------------------------------------


def _clock(name: Literal["profiler", "kernels"], runs: Sequence[_Forward]) -> OtherClock:
    """The clock's record: each amount is the mean over all forwards, scaled so that the whole is the median forward."""
    totals = [sum(run.time.values()) for run in runs]
    whole_ns = sum(totals)
    if not whole_ns:
        raise DeviceError("the forwards took no time by torch.profiler's clock")
    median_ms = sampling.median(totals) / 1e6

    def scaled(amounts: Sequence[Mapping[Component | None, int]], component: Component | None) -> float:
        return round(median_ms * sum(amount.get(component, 0) for amount in amounts) / whole_ns, 6)

    times, busy, idle = [run.time for run in runs], [run.busy for run in runs], [run.idle for run in runs]
    components = {component for time in times for component in time if component is not None}
    if not components:
        raise DeviceError(
            "no kernel of the forward was launched from the thread that runs it, so none can be attributed"
        )
    return OtherClock(
        clock=name,
        forwards=len(runs),
        total_ms=round(median_ms, 6),
        parts=[
            ClockPart(
                component=component,
                time_ms=scaled(times, component),
                busy_ms=scaled(busy, component),
                idle_ms=scaled(idle, component) if name == "kernels" else None,
                launches=round(sum(run.launches.get(component, 0) for run in runs) / len(runs)),
            )
            for component in sorted(components, key=COMPONENT_ORDER.__getitem__)
        ],
        unattributed_ms=scaled(times, None) if name == "kernels" else None,
    )


def _shortened(name: str) -> str:
    """A kernel's name as far as one line bears it: those of templates are hundreds of letters long."""
    return name if len(name) <= 60 else f"{name[:60]}..."
