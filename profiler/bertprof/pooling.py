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
from bertprof.components import Component
from bertprof.errors import RecordError
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
    if not first.timed:
        return msgspec.structs.replace(first, caveats=_caveats(records))
    _expect_independent(records, names)
    processes = sum(one.processes for one in records)
    if processes > MOST_PROCESSES:
        raise RecordError(f"{processes} processes are more than the {MOST_PROCESSES} that one record holds")
    instrumented = _joined(records, [one.instrumented_ms for one in records])
    peaks = [one.peak_memory_bytes for one in records]
    runs = [one.run for one in records]
    return msgspec.structs.replace(
        first,
        costs=_costs(records),
        modules=None if first.modules is None else _modules(records, sampling.median(instrumented or [0.0])),
        instrumented_ms=instrumented,
        end_to_end_ms=_joined(records, [one.end_to_end_ms for one in records]),
        end_to_end_p95_ms=_middle([one.p95_ms for one in records]),
        yardstick_ms=_yardstick(records),
        processes=processes,
        peak_memory_bytes=None if None in peaks else max(peak for peak in peaks if peak is not None),
        run=None if None in runs else "+".join(str(run) for run in (runs if len(set(runs)) > 1 else runs[:1])),
        caveats=_caveats(records),
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


def _costs(records: Sequence[Breakdown]) -> list[Cost]:
    """The rows of all, the first's counts with the samples of all."""
    rows = [{(cost.unit, cost.component): cost for cost in one.costs} for one in records]
    every: dict[Key, Cost] = {key: cost for of_one in reversed(rows) for key, cost in of_one.items()}
    costs = []
    for key, cost in every.items():
        samples = {
            field: _joined(
                records, [_samples(one, own.get(key), field) for one, own in zip(records, rows, strict=True)]
            )
            for field in ("time_ms", "device_time_ms", "energy_mj")
        }
        costs.append(msgspec.structs.replace(cost, **samples))
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


def _middle(figures: Sequence[float | None]) -> float | None:
    """The median of the processes' own figures; None where one does not know it."""
    known = [figure for figure in figures if figure is not None]
    return sampling.median(known) if len(known) == len(figures) else None


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
