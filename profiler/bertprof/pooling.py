"""Pooling: several records of the same work, one a process, as one.

What changes from process to process (where memory lies, which core, what else runs) does not average out within one, so
only several tell how far it goes. A pooled record holds as many repeats of each process, one process after another.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from bertprof import record, sampling
from bertprof.attribution import Key
from bertprof.components import COMPONENT_ORDER, Component
from bertprof.errors import RecordError
from bertprof.observations import Bandwidth, ClockPart, Energy, OtherClock, Peaks
from bertprof.quantities import Samples
from bertprof.record import Breakdown, Caveat, Cost, Module, sort_key

FEWEST_OF_PROCESS = 5
"""Repeats kept of a process at least, however many processes there are."""

MOST_PROCESSES = 100
"""More are a slip of the keyboard."""


def repeats_of_each(processes: int) -> int:
    """How many repeats a pooled record keeps of each of that many processes."""
    return max(sampling.MOST_SAMPLES // processes, FEWEST_OF_PROCESS)


def load(folder: Path) -> Breakdown:
    """The records of a folder, pooled in the order of their names.

    Raises:
        RecordError: it holds no records, one is not valid, two are of one process, or they are of different work.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except OSError as error:
        raise RecordError(f"cannot read {folder}: {error.strerror or error}") from None
    if not paths:
        raise RecordError(f"{folder} holds no records (*.json); `bertprof breakdown -o` makes one")
    return pooled([record.load(path) for path in paths], [str(path) for path in paths])


def pooled(records: Sequence[Breakdown], names: Sequence[str]) -> Breakdown:
    """Several records of the same work as one: the counts of the first, and the repeats of all.

    Of what stands beside them, what was measured is of all (peaks of memory the largest, those of the device the best),
    and null, or unavailable, where it is so in one. What is exact is kept where it is the same in all.

    Every process gives as many repeats as the one with fewest, `repeats_of_each` at most. Of one with more, those in
    the middle of consecutive blocks are kept: chosen by place alone, so that what was paired stays so. Where all belong
    to a run, so does what comes of them: to that one, or to all of theirs in this order.

    Args:
        records: of one process each, or pooled ones.
        names: what to call each in an error.

    Raises:
        RecordError: they are of different work, machines or counts, two are of one process, or there are none.
    """
    if not records:
        raise RecordError("there are no records to pool")
    first = records[0]
    for other, name in zip(records[1:], names[1:], strict=True):
        differ = [
            _said(key, value, _kind(other)[key]) for key, value in _kind(first).items() if _kind(other)[key] != value
        ]
        if differ:
            raise RecordError(f"{name} cannot be pooled with {names[0]}: they differ in {', '.join(differ)}")
    if len(records) == 1:
        return first
    processes = sum(one.processes for one in records)
    if first.timed:
        _expect_independent(records, names)
        if processes > MOST_PROCESSES:
            raise RecordError(f"{processes} processes are more than the {MOST_PROCESSES} that one record holds")
    energy = _energy(records)
    fitting = all((one.memory_limit_bytes, one.fits) == (first.memory_limit_bytes, first.fits) for one in records)
    counted = msgspec.structs.replace(
        first,
        costs=_costs(records, with_energy=energy is not None and energy.unavailable is None),
        memory_limit_bytes=first.memory_limit_bytes if fitting else None,
        fits=first.fits if fitting else None,
        caveats=_caveats(records),
    )
    if not first.timed:
        return counted
    instrumented = _joined(records, [one.instrumented_ms for one in records])
    runs = [one.run for one in records]
    peaks = [one.peaks for one in records if one.peaks is not None]
    return msgspec.structs.replace(
        counted,
        host=msgspec.structs.replace(first.host, gpu_after=records[-1].host.gpu_after),
        modules=None if first.modules is None else _modules(records, sampling.median(instrumented or [0.0])),
        instrumented_ms=instrumented,
        end_to_end_ms=_joined(records, [one.end_to_end_ms for one in records]),
        end_to_end_p95_ms=_middle(records, [one.p95_ms for one in records]),
        yardstick_ms=_yardstick(records),
        processes=processes,
        peak_memory_bytes=_largest([one.peak_memory_bytes for one in records]),
        resident_peak_bytes=_largest([one.resident_peak_bytes for one in records]),
        clocks=_clocks(records, by_row=all(cost.device_time_ms is not None for cost in counted.costs)),
        peaks=best_peaks(peaks) if peaks else None,
        energy=energy,
        run=None if None in runs else "+".join(str(run) for run in (runs if len(set(runs)) > 1 else runs[:1])),
    )


def _expect_independent(records: Sequence[Breakdown], names: Sequence[str]) -> None:
    """Refuses records of one run, and copies of one record: they would pass for processes that do not differ.

    Raises:
        RecordError: there are two of these; the text names both.
    """
    runs: dict[str, str] = {}
    measured: dict[bytes, str] = {}
    for one, name in zip(records, names, strict=True):
        of_runs = set() if one.run is None else set(one.run.split("+"))
        samples = msgspec.json.encode(
            (one.end_to_end_ms, [(c.unit, c.component, c.time_ms, c.device_time_ms, c.energy_mj) for c in one.costs])
        )
        same = next((runs[run] for run in of_runs if run in runs), None) or measured.get(samples)
        if same is not None:
            raise RecordError(
                f"{name} cannot be pooled with {same}: they are of one process, and only several tell how far "
                "processes differ; make each by a `bertprof breakdown` of its own, or all by --processes"
            )
        runs |= dict.fromkeys(of_runs, name)
        measured[samples] = name


def _joined(records: Sequence[Breakdown], series: Sequence[Samples | None]) -> Samples | None:
    """What is kept of a series of each record, one process after another; None where a record does not have it."""
    known = [samples for samples in series if samples is not None]
    if len(known) < len(series):
        return None
    fewest = min(len(samples) // one.processes for one, samples in zip(records, known, strict=True))
    each = min(fewest, repeats_of_each(sum(one.processes for one in records)))
    kept: Samples = []
    for one, samples in zip(records, known, strict=True):
        for process in sampling.parts(samples, one.processes):
            kept += [process[block[len(block) // 2]] for block in sampling.blocks(len(process), each)]
    return kept


def _costs(records: Sequence[Breakdown], *, with_energy: bool) -> list[Cost]:
    """The rows of all, the first's counts with the samples of all and the peaks that hold of all."""
    rows = [{(cost.unit, cost.component): cost for cost in one.costs} for one in records]
    every: dict[Key, Cost] = {key: cost for of_one in reversed(rows) for key, cost in of_one.items()}
    costs = []
    for key, cost in every.items():
        samples = {
            field: _joined(
                records, [_samples(one, own.get(key), field) for one, own in zip(records, rows, strict=True)]
            )
            for field in ("time_ms", "device_time_ms", *(("energy_mj",) if with_energy else ()))
        }
        same = [own[key] for own in rows if key in own]
        in_theory = {row.activation_peak_bytes for row in same}
        costs.append(
            msgspec.structs.replace(
                cost,
                **{"energy_mj": None, **samples},
                activation_peak_bytes=cost.activation_peak_bytes if len(in_theory) == 1 else None,
                allocated_peak_bytes=_largest([row.allocated_peak_bytes for row in same]),
            )
        )
    return sorted(costs, key=sort_key)


def _samples(one: Breakdown, cost: Cost | None, field: str) -> Samples | None:
    """A row's samples. A row that had neither counts nor time in some process is not in its record: it took none."""
    if cost is not None:
        found: Samples | None = getattr(cost, field)
        return found
    others = getattr(one.costs[0], field)
    return None if others is None else [0.0] * len(others)


def _modules(records: Sequence[Breakdown], whole_ms: float) -> list[Module]:
    """The first's modules, their times those of all: the mean share × the median forward, so that they still add up."""
    scale = whole_ms / math.fsum(one.processes * sampling.median(one.instrumented_ms or [0.0]) for one in records)
    modules = []
    for same in zip(*(one.modules or [] for one in records), strict=True):
        times = [one.processes * (module.time_ms or 0.0) for one, module in zip(records, same, strict=True)]
        carries = any(module.time_ms is not None for module in same)
        modules.append(
            msgspec.structs.replace(same[0], time_ms=round(scale * math.fsum(times), 6) if carries else None)
        )
    return modules


def _yardstick(records: Sequence[Breakdown]) -> dict[Component, Samples] | None:
    """The components that the yardstick of each record has; None where there are none."""
    found: dict[Component, Samples] = {}
    for component in records[0].yardstick_ms or {}:
        samples = _joined(records, [(one.yardstick_ms or {}).get(component) for one in records])
        if samples is not None:
            found[component] = samples
    return found or None


# What stands beside counts and times ---------------------------------------------------------------------------------


def _clocks(records: Sequence[Breakdown], *, by_row: bool) -> list[OtherClock] | None:
    """The clocks that all were asked for. Without samples `by_row` the graph clock would say what no row bears out."""
    found = []
    for name in [clock.clock for clock in records[0].clocks or ()]:
        same = [clock for one in records for clock in one.clocks or () if clock.clock == name]
        if len(same) < len(records):
            continue
        why = next((clock.unavailable for clock in same if clock.unavailable is not None), None)
        if why is None and name == "graph" and not by_row:
            why = "not every process has its times by row"
        found.append(_clock(records, same) if why is None else OtherClock(clock=name, unavailable=why))
    return found or None


def _clock(records: Sequence[Breakdown], same: Sequence[OtherClock]) -> OtherClock:
    """One clock that told something in each: the mean shares × the median total, so that parts still add up."""
    total_ms = _middle(records, [clock.total_ms for clock in same]) or 0.0
    whole_ms = math.fsum(one.processes * (clock.total_ms or 0.0) for one, clock in zip(records, same, strict=True))

    def scaled(amounts: Sequence[float | None]) -> float | None:
        known = [one.processes * ms for one, ms in zip(records, amounts, strict=True) if ms is not None]
        if len(known) < len(amounts):
            return None
        return round(math.fsum(known) / whole_ms * total_ms, 6) if whole_ms > 0 else 0.0

    # What a process has no part of took no time there, and launched nothing.
    none = ClockPart(component=Component.OTHER, time_ms=0.0, busy_ms=0.0, idle_ms=0.0, launches=0)
    tables = [{part.component: part for part in clock.parts} for clock in same]
    parts = []
    for component in sorted({component for own in tables for component in own}, key=COMPONENT_ORDER.__getitem__):
        each = [own.get(component, none) for own in tables]
        launches = _middle(records, [part.launches for part in each])
        parts.append(
            ClockPart(
                component=component,
                time_ms=scaled([part.time_ms for part in each]) or 0.0,
                busy_ms=scaled([part.busy_ms for part in each]),
                idle_ms=scaled([part.idle_ms for part in each]),
                launches=None if launches is None else round(launches),
            )
        )
    rest = [clock.unattributed_ms for clock in same]
    return OtherClock(
        clock=same[0].clock,
        forwards=sum(clock.forwards for clock in same),
        total_ms=total_ms,
        parts=parts,
        unattributed_ms=scaled([ms or 0.0 for ms in rest]) if any(ms is not None for ms in rest) else None,
    )


def best_peaks(several: Sequence[Peaks]) -> Peaks:
    """Several measurements of a device's peaks as one: of each figure the best, since nothing makes a machine faster.

    Args:
        several: at least one; those of another dtype or number of threads than the first are left out.
    """
    first = several[0]
    alike = [peaks for peaks in several if (peaks.dtype, peaks.threads) == (first.dtype, first.threads)]
    speeds: dict[int, float] = {}
    for point in (point for peaks in alike for point in peaks.bandwidths):
        speeds[point.working_set_bytes] = max(point.bytes_per_s, speeds.get(point.working_set_bytes, 0.0))
    return Peaks(
        dtype=first.dtype,
        threads=first.threads,
        flops_per_s=max(peaks.flops_per_s for peaks in alike),
        bandwidths=[Bandwidth(working_set_bytes=size, bytes_per_s=speeds[size]) for size in sorted(speeds)],
        launch_ns=min(peaks.launch_ns for peaks in alike),
        measured=max(peaks.measured for peaks in alike),
    )


def _energy(records: Sequence[Breakdown]) -> Energy | None:
    """The energy of all, its trials in the order of the rows'; where the methods differ, the less exact one's name.

    Where some forwards could be replayed and others not, the whole is that of each as its user runs it.
    """
    known = [one.energy for one in records if one.energy is not None]
    if len(known) < len(records):
        return None
    why = next((energy.unavailable for energy in known if energy.unavailable is not None), None)
    if why is not None:
        return Energy(unavailable=why)
    least = next((energy for energy in known if energy.method == "busy-share"), known[0])
    replayed = all(energy.eager_mj is not None for energy in known)
    wholes = [(energy.total_mj, energy.total_power_mw) for energy in known]
    as_run = [(energy.eager_mj, energy.eager_power_mw) for energy in known]
    if not replayed:
        wholes = [whole if own[0] is None else own for whole, own in zip(wholes, as_run, strict=True)]
    return Energy(
        method=least.method,
        reason=least.reason,
        counter_period_ms=_middle(records, [energy.counter_period_ms for energy in known]),
        total_mj=_joined(records, [samples for samples, _ in wholes]),
        eager_mj=_joined(records, [samples for samples, _ in as_run]),
        power_mw=_powers(records, [energy.power_mw for energy in known]),
        total_power_mw=_power(records, [power for _, power in wholes]),
        eager_power_mw=_power(records, [power for _, power in as_run]) if replayed else None,
    )


def _powers(records: Sequence[Breakdown], tables: Sequence[dict[Component, int] | None]) -> dict[Component, int] | None:
    """The power of each component that all know; None where one knows none."""
    known = [table for table in tables if table is not None]
    if len(known) < len(tables):
        return None
    powers = {component: _power(records, [table.get(component) for table in known]) for component in known[0]}
    return {component: power for component, power in powers.items() if power is not None}


def _power(records: Sequence[Breakdown], figures: Sequence[int | None]) -> int | None:
    power_mw = _middle(records, figures)
    return None if power_mw is None else round(power_mw)


def _largest(figures: Sequence[int | None]) -> int | None:
    """The largest; None where one is not known."""
    known = [figure for figure in figures if figure is not None]
    return max(known) if len(known) == len(figures) else None


def _middle(records: Sequence[Breakdown], figures: Sequence[float | None]) -> float | None:
    """The median of the processes' own figures; None where one does not know it."""
    known = [
        figure for one, figure in zip(records, figures, strict=True) if figure is not None for _ in range(one.processes)
    ]
    return sampling.median(known) if None not in figures else None


# What records are of, and what is said of them ----------------------------------------------------------------------


def _kind(one: Breakdown) -> Mapping[str, object]:
    """What records must have in common to be pooled."""
    h, files = one.host, one.checkpoint
    rows = [(c.unit, c.component, c.parameters, c.parameter_bytes, c.macs, c.flops) for c in one.costs]
    modules = [(m.path, m.unit, m.component, m.calls, m.parameters, m.macs, m.flops) for m in one.modules or ()]
    return {
        **msgspec.structs.asdict(msgspec.structs.replace(one.workload, marks=None)),
        "label": one.label,
        "the units that were kept": one.kept_units,
        **{f"the machine's {field}": getattr(h, field) for field in ("cpu", "cores", "gpu")},
        **{f"the version of {field}": getattr(h, field) for field in ("python", "torch", "transformers")},
        "the checkpoint": None if files is None else (files.format, files.files, files.file_bytes),
        "the counts": [row for row in rows if any(row[2:])],
        "the modules": modules,
        "whether time was measured": one.timed,
    }


def _said(key: str, value: object, other: object) -> str:
    """What differs, and in what where that is short."""
    return key if isinstance(value, list | tuple | bool) else f"{key} ({value} and {other})"


def _caveats(records: Sequence[Breakdown]) -> list[Caveat]:
    """Those of the first, and those of the others of which it has no kind; of one kind in each, the larger."""
    found = list(records[0].caveats)
    for caveat in (caveat for one in records[1:] for caveat in one.caveats):
        same = [i for i, other in enumerate(found) if _of(other) == _of(caveat)]
        if not same:
            found.append(caveat)
        elif len(same) == 1 and (caveat.value or 0) > (found[same[0]].value or 0):
            found[same[0]] = caveat
    return found


def _of(caveat: Caveat) -> tuple[str, Component | None, int | None]:
    return caveat.code, caveat.component, caveat.unit
