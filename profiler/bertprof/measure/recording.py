"""From what was counted and sampled to a record: one row for each unit and component, and what a reader must know."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

import bertprof
from bertprof import sampling
from bertprof.attribution import Key, Owner
from bertprof.components import COMPONENT_ORDER, Component
from bertprof.measure import flops, host, timing
from bertprof.measure.beside import Found
from bertprof.measure.parameters import Storage, total_storage
from bertprof.measure.subject import Subject
from bertprof.observations import Fit, GpuState
from bertprof.quantities import Samples
from bertprof.record import Breakdown, Caveat, Checkpoint, Cost, Module, Operator, Workload, now, sort_key

UNSTEADY_FROM = 0.1
"""Relative width of the latency's interval from which on a reader is warned. The target is 0.01; a shared machine of 2
cores was seen at 0.03 when idle and above 0.3 beside another job."""

_TICK_NS = 100
"""Times are recorded to 0.1 µs, the order of what a mark costs."""


class Counted(NamedTuple):
    """What one forward does, and what the model holds."""

    operators: dict[Owner, dict[str, Operator]]
    largest: tuple[int, str]
    traffic: dict[Owner, flops.Traffic]
    useful: dict[Key, int] | None  # MACs of tokens that are no padding
    storage: dict[Owner, Storage]
    modules: list[Module]
    alive_bytes: dict[Key, int]  # of activations, the most at a time while a row runs
    caveats: list[Caveat]
    memory_limit_bytes: int | None = None
    fits: list[Fit] | None = None


class Timed(NamedTuple):
    """What sampling gave. `run` names the measurement, which several subjects may share."""

    kept: "Kept"
    style: timing.MarkStyle
    clock: str
    threads: int
    beside: Found
    peak_memory_bytes: int | None
    load_ms: float | None
    p95_ms: float | None = None
    yardstick: dict[Component, Samples] | None = None
    run: str | None = None
    gpu: tuple[GpuState | None, GpuState | None] = (None, None)  # before sampling and behind it


class Kept(NamedTuple):
    """What the record keeps of a series, in milliseconds."""

    instrumented: Samples
    end_to_end: Samples
    rows: dict[Owner, Samples]


def breakdown(subject: Subject, counted: Counted, timed: Timed | None, label: str | None) -> Breakdown:
    """The record of one subject; without times where it was only counted."""
    kept = None if timed is None else timed.kept
    beside = Found() if timed is None else timed.beside
    return Breakdown(
        bertprof_version=bertprof.__version__,
        created=now(),
        label=label,
        workload=_workload(subject.workload, timed),
        host=host.describe(subject.device, *((None, None) if timed is None else timed.gpu)),
        checkpoint=_files(subject, timed),
        kept_units=None if subject.kept_units is None else list(subject.kept_units),
        costs=_costs(counted, kept, beside),
        modules=_with_times(counted.modules, kept),
        instrumented_ms=None if kept is None else kept.instrumented,
        end_to_end_ms=None if kept is None else kept.end_to_end,
        end_to_end_p95_ms=None if timed is None else timed.p95_ms,
        yardstick_ms=None if timed is None else timed.yardstick,
        peak_memory_bytes=None if timed is None else timed.peak_memory_bytes,
        resident_peak_bytes=beside.resident_peak_bytes,
        clocks=beside.clocks or None,
        peaks=beside.peaks,
        memory_limit_bytes=counted.memory_limit_bytes,
        fits=counted.fits,
        energy=beside.energy,
        run=None if timed is None else timed.run,
        caveats=[*counted.caveats, *_unplaced(counted, kept), *unsteady(kept), *beside.caveats],
    )


def _files(subject: Subject, timed: Timed | None) -> Checkpoint | None:
    if subject.files is None or timed is None or timed.load_ms is None:
        return subject.files
    return msgspec.structs.replace(subject.files, load_time_ms=round(timed.load_ms, 4))


def unsteady(kept: Kept | None) -> list[Caveat]:
    """A caveat where sampling ended far from its target."""
    if kept is None:
        return []
    latency = sampling.median_estimate(kept.end_to_end)
    width = (latency.high - latency.low) / latency.value
    if width <= UNSTEADY_FROM:
        return []
    text = (
        f"the machine was unsteady: forwards took {min(kept.end_to_end):.1f} to {max(kept.end_to_end):.1f} ms, and the "
        f"interval of their median is {100 * width:.0f} % wide; is something else running?"
    )
    return [Caveat(code="unsteady-time", text=text, value=width)]


def _workload(asked: Workload, timed: Timed | None) -> Workload:
    if timed is None:
        return msgspec.structs.replace(asked, weights=None)
    return msgspec.structs.replace(asked, clock=timed.clock, marks=timed.style, threads=timed.threads)


def chosen(series: Sequence[timing.Series], most: int = sampling.MOST_SAMPLES) -> list[int]:
    """The rounds that are recorded, `most` at most, the same of every series, so that what was paired stays so.

    Of more, consecutive blocks are cut and from each one round is kept whole: the one whose forwards together are the
    block's median. Of two middle ones, the lower and the upper are taken in turn; always the lower would make every
    time too short.
    """
    sums = [sum(times) for times in zip(*(s for kept in series for s in (kept.bare_ns, kept.totals_ns)), strict=True)]
    rounds = []
    for number, block in enumerate(sampling.blocks(len(sums), most)):
        ranked = sorted(block, key=lambda i: sums[i])
        rounds.append(ranked[(len(ranked) - 1 + number % 2) // 2])
    return rounds


def kept_of(series: timing.Series, rounds: Sequence[int]) -> Kept:
    """These rounds of a series, rounded so that the parts still sum to their total."""
    instrumented: Samples = []
    end_to_end: Samples = []
    rows: dict[Owner, Samples] = {owner: [] for owner in series.owned_ns}
    for i in rounds:
        end_to_end.append(_ms(max(1, round(series.bare_ns[i] / _TICK_NS))))
        # Rounding the running sum, not each row, keeps the rounded rows' sum the rounded total.
        running = ticks = 0
        for owner, samples in series.owned_ns.items():
            running += samples[i]
            reached = round(running / _TICK_NS)
            rows[owner].append(_ms(reached - ticks))
            ticks = reached
        instrumented.append(_ms(max(1, ticks)))
    return Kept(instrumented, end_to_end, rows)


def p95_of(series: timing.Series) -> float | None:
    """The 95th percentile of all bare forwards, in ms; what is kept of many rounds are those in the middle."""
    if len(series.bare_ns) < sampling.FEWEST_OF_P95:
        return None
    return _ms(round(sampling.quantile(series.bare_ns, 0.95) / _TICK_NS))


def yardstick_of(series: timing.Series, rounds: Sequence[int]) -> dict[Component, Samples]:
    """These rounds of the yardstick by component, without the call of the layer as such."""
    parts = series.by_component()
    return {
        component: [_ms(round(parts[component][i] / _TICK_NS)) for i in rounds]
        for component in sorted(parts, key=COMPONENT_ORDER.__getitem__)
        if component is not Component.OTHER
    }


def _ms(ticks: int) -> float:
    return round(ticks * _TICK_NS / 1e6, 4)


def _costs(counted: Counted, kept: Kept | None, beside: Found) -> list[Cost]:
    """One row for each unit and component that has parameters, FLOPs or time."""
    owners = {*counted.operators, *counted.storage, *counted.traffic}
    keys: set[Key] = {owner.key for owner in owners}
    times: dict[Key, Samples] = {}
    if kept is not None:
        for owner, samples in kept.rows.items():
            before = times.get(owner.key, [0.0] * len(samples))
            times[owner.key] = [round(a + b, 4) for a, b in zip(before, samples, strict=True)]
        keys |= times.keys()
    costs = []
    for key in keys:
        mine = [owner for owner in owners if owner.key == key]
        storage = total_storage(counted.storage[owner] for owner in mine if owner in counted.storage)
        traffic = [counted.traffic[owner] for owner in mine if owner in counted.traffic]
        operators: dict[str, Operator] = {}
        for owner in mine:
            for name, operator in counted.operators.get(owner, {}).items():
                total = operators.setdefault(name, Operator(calls=0, macs=0, flops=0))
                total.calls += operator.calls
                total.macs += operator.macs
                total.flops += operator.flops
        cost = Cost(
            unit=key[0],
            component=key[1],
            parameters=storage.parameters,
            nonzero_parameters=storage.nonzero_parameters,
            parameter_bytes=storage.parameter_bytes,
            macs=sum(operator.macs for operator in operators.values()),
            useful_macs=None if counted.useful is None else counted.useful.get(key, 0),
            flops=sum(operator.flops for operator in operators.values()),
            bytes_moved=sum(t.moved_bytes for t in traffic),
            activation_bytes=sum(t.activation_bytes for t in traffic),
            activation_peak_bytes=counted.alive_bytes.get(key),
            allocated_peak_bytes=beside.allocated_bytes.get(key),
            operators=operators,
            time_ms=None if kept is None else times.get(key, [0.0] * len(kept.instrumented)),
            device_time_ms=_row(beside.device_ms, key),
            energy_mj=_row(beside.energy_mj, key),
        )
        if cost.parameters or cost.flops or cost.bytes_moved or any(cost.time_ms or []):
            costs.append(cost)
    return sorted(costs, key=sort_key)


def _row(rows: Mapping[Key, Samples], key: Key) -> Samples | None:
    """A row's samples: none where no row has some, zeros where only this one has none."""
    zeros = [0.0] * len(next(iter(rows.values()), []))
    return list(rows.get(key, zeros)) or None


def _with_times(modules: list[Module], kept: Kept | None) -> list[Module]:
    """The modules with their own time where they carry marks: their share × the median forward, so that they add up."""
    if kept is None:
        return modules
    scale = sampling.median(kept.instrumented) / math.fsum(kept.instrumented)
    own: dict[str, list[float]] = {}
    for owner, samples in kept.rows.items():
        before = own.get(owner.path, [0.0] * len(samples))
        own[owner.path] = [a + b for a, b in zip(before, samples, strict=True)]
    return [
        msgspec.structs.replace(module, time_ms=round(scale * math.fsum(own[module.path]), 6))
        if module.path in own
        else module
        for module in modules
    ]


def _unplaced(counted: Counted, kept: Kept | None) -> list[Caveat]:
    """A caveat on modules with parameters or products that are of no component, and what they hold of the model."""
    parameters = {owner: size.parameters for owner, size in counted.storage.items()}
    macs = {owner: sum(o.macs for o in operators.values()) for owner, operators in counted.operators.items()}
    held = {
        o.path: None for o in (*parameters, *macs) if o.component is Component.OTHER and _holds(o, parameters, macs)
    }
    if not held:
        return []
    times = {} if kept is None else {owner: math.fsum(samples) for owner, samples in kept.rows.items()}
    shares = []
    for name, amounts in (("parameters", parameters), ("MACs", macs), ("time", times)):
        whole = sum(amounts.values())
        mine = sum(n for o, n in amounts.items() if o.component is Component.OTHER and o.path in held)
        if whole:
            shares.append(f"{100 * mine / whole:.1f} % of the {name}")
    paths = [path or "(model)" for path in held]
    shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if paths[3:] else "")
    text = f"not recognised, and so in other: {shown}; they hold {', '.join(shares)}"
    return [Caveat(code="unrecognised-modules", component=Component.OTHER, text=text, value=float(len(paths)))]


def _holds(owner: Owner, *amounts: Mapping[Owner, float]) -> bool:
    return any(found.get(owner, 0) for found in amounts)
