"""Several: records side by side, each figure against that of the first, before it is formatted."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from bertprof import formatting
from bertprof.components import GROUPS, Component
from bertprof.conditions import dequantised, mismatches
from bertprof.record import Breakdown
from bertprof.report import lines, rows, tabular
from bertprof.report.rows import Row


@dataclass(frozen=True)
class Cell:
    """One figure of one record: as text, its share of the record's total, and as often as in the first record.

    `remark` stands where no ratio does. `value` is the figure itself, None where it is not known.
    """

    figure: str
    share: float | None = None
    ratio: float | None = None
    remark: str = ""
    value: float | None = None

    @property
    def parts(self) -> tuple[str, str, str]:
        """Figure, share and ratio as text; empty where there is none."""
        share = "" if self.share is None else f"{100 * self.share:.1f} %"
        return self.figure, share, self.remark if self.ratio is None else formatting.times(self.ratio)


@dataclass(frozen=True)
class Section:
    """Lines of one kind: a label and a cell for each record."""

    title: str
    lines: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Metric:
    """What a row has of one cost.

    Attributes:
        header: what it is called, with its unit.
        field: of `tabular.figures`.
        text: how a figure is written.
    """

    header: str
    field: str
    text: Callable[[float], str]

    def figure(self, row: Row) -> float | None:
        """A row's figure."""
        if self.field == "time_ms":
            return None if row.time_ms is None else row.time_ms.value
        value: int | None = getattr(row, {"parameter_bytes": "bytes"}.get(self.field, self.field))
        return value

    def share(self, breakdown: Breakdown, row: Row) -> float | None:
        """That as a share of the whole record."""
        match self.field:
            case "time_ms":
                return None if row.time_share is None else row.time_share.value
            case "parameters":
                return row.parameters_share
            case "macs":
                return row.macs_share
            case "flops":
                return row.flops_share
        whole = breakdown.total(self.field)
        return None if row.bytes is None else row.bytes / whole if whole else 0.0


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "time": Metric("time ms", "time_ms", formatting.measured),
        "parameters": Metric("parameters", "parameters", formatting.count),
        "bytes": Metric("bytes", "parameter_bytes", formatting.size),
        "MACs": Metric("MACs", "macs", formatting.count),
        "FLOPs": Metric("FLOPs", "flops", formatting.count),
    }
)
"""What can be shown of each row, by what it is called where it is chosen."""


def names(breakdowns: Sequence[Breakdown]) -> list[str]:
    """What to call each; those of the same name are told apart by number, none of which another has in its name."""
    own = [formatting.line(breakdown.name, 60) for breakdown in breakdowns]
    found: list[str] = []
    for name in own:
        numbered = (f"{name} ({number})" for number in itertools.count(1))
        free = (each for each in numbered if each not in (*own, *found))
        found.append(next(free) if own.count(name) > 1 else name)
    return found


def described(breakdowns: Sequence[Breakdown]) -> tuple[str, list[str]]:
    """The workload and the machine: what all have in common, and what is special about each."""
    parts = []
    for breakdown in breakdowns:
        w = breakdown.workload
        recipes = {"recipes": f"recipes {', '.join(w.recipes)}"} if w.recipes else {}
        kernel = {"kernel": lines.NO_KERNEL} if breakdown.timed and dequantised(breakdown) else {}
        workload = {**lines.workload_parts(w, breakdown.timed), "backend": w.backend, **kernel, **recipes}
        parts.append({**workload, "host": lines.host_line(breakdown)})
    common, own = lines.told_apart(parts)
    return formatting.line(common), [formatting.line(text) for text in own]


def caveats(breakdowns: Sequence[Breakdown]) -> list[str]:
    """The caveats with the names of the records that have them."""
    texts: dict[str, list[str]] = {}
    for name, breakdown in zip(names(breakdowns), breakdowns, strict=True):
        for text in dict.fromkeys(lines.caveat_lines(breakdown)):
            texts.setdefault(text, []).append(name)
    return [f"{'all' if len(whose) == len(breakdowns) else ', '.join(whose)}: {text}" for text, whose in texts.items()]


_MOST_TOLD = 3


def headline(breakdowns: Sequence[Breakdown]) -> str:
    """The answer in a sentence a record: its parameters, FLOPs and time against those of the first.

    FLOPs are told of the same work, and times where both were taken under the same conditions; see
    `bertprof.conditions`.
    """
    own = names(breakdowns)
    found = [
        _compared(name, own[0], breakdowns[0], breakdown)
        for name, breakdown in zip(own[1 : _MOST_TOLD + 1], breakdowns[1:], strict=False)
    ]
    more = len(breakdowns) - 1 - len(found)
    return " ".join([*found, *([f"{more} more below."] if more else [])])


def _compared(name: str, of: str, first: Breakdown, other: Breakdown) -> str:
    differ = {mismatch.affects for mismatch in mismatches(first, other)}
    counts = ["parameters"] if "counts" in differ else ["parameters", "FLOPs"]
    pairs = [(metric, ratios([b.total(METRICS[metric].field) for b in (first, other)])[1]) for metric in counts]
    if all(ratio == 1 for _, ratio in pairs):
        text = f"{name} has as many {' and '.join(counts)} as {of}"
    else:
        said = [f"{formatting.times(ratio)} the {metric}" for metric, ratio in pairs if ratio is not None]
        text = f"{name} has {' and '.join(said)} of {of}" if said else f"{name} stands beside {of}"
    time = ratios([latency_ms(first), latency_ms(other)])[1]
    if time is None or differ & {"counts", "times"}:
        return f"{text}."
    return f"{text} and takes {formatting.times(time)} its time."


def note(breakdowns: Sequence[Breakdown]) -> str:
    """What the ratios are, and what they do not say."""
    text = f"× is against {names(breakdowns)[0]}"
    if any(breakdown.timed for breakdown in breakdowns):
        text += "; whether a difference of times is more than chance, `bertprof diff` says"
    return text


def sections(breakdowns: Sequence[Breakdown], by: str, wide: bool = False) -> list[Section]:
    """The totals, then the rows of a view: their time, or MACs where a record has no times.

    Args:
        breakdowns: the records.
        by: the view; see `bertprof.report.rows.table`.
        wide: the rows' parameters, MACs and FLOPs as well.

    Raises:
        UsageError: there is no such view, or a record holds no modules.
    """
    timed = [breakdown.timed for breakdown in breakdowns]
    shown = {
        "time": any(timed),
        "parameters": wide,
        "MACs": wide or not all(timed),
        "FLOPs": wide,
    }
    found = of_metrics(breakdowns, by, [metric for metric, is_shown in shown.items() if is_shown])
    return [totals(breakdowns), *found.values()]


def of_metrics(breakdowns: Sequence[Breakdown], by: str, metrics: Sequence[str]) -> dict[str, Section]:
    """The rows of a view by each of these metrics.

    Args:
        breakdowns: the records.
        by: the view; see `bertprof.report.rows.table`.
        metrics: names in METRICS.

    Raises:
        UsageError: there is no such view, or a record holds no modules.
    """
    labels, tables = aligned(breakdowns, by)
    found = {}
    for name in metrics:
        lines_ = [
            (formatting.line(label, 80), cells(breakdowns, METRICS[name], [table.get(label) for table in tables]))
            for label in labels
        ]
        found[name] = Section(f"{METRICS[name].header} by {by}", lines_)
    return found


def cells(breakdowns: Sequence[Breakdown], metric: Metric, of_row: Sequence[Row | None]) -> list[Cell]:
    """A metric of one row of each record, None for a record that does not have the row."""
    values = [None if row is None else metric.figure(row) for row in of_row]
    pairs = zip(breakdowns, of_row, strict=True)
    shares = [None if row is None else metric.share(breakdown, row) for breakdown, row in pairs]
    of_times = metric.field == "time_ms"
    against = _ratios_of_times(breakdowns, values) if of_times else ratios(values)
    return _cells(values, against, metric.text, shares)


def aligned(breakdowns: Sequence[Breakdown], by: str) -> tuple[list[str], list[dict[str, Row]]]:
    """The labels of the rows that any of them has, in order of display, and each one's rows by label."""
    tables = [{row.label: row for row in rows.table(breakdown, by)} for breakdown in breakdowns]
    if by == "module":
        return _merged([list(table) for table in tables]), tables
    units = [f"unit {unit}" for unit in range(max(breakdown.units for breakdown in breakdowns))]
    order = {"group": [*GROUPS], "component": [*map(str, Component)]}.get(by, [*units, "outside the units"])
    return [label for label in order if any(label in table for table in tables)], tables


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All labels, each after the one that it follows where it is."""
    merged: list[str] = []
    for order in orders:
        at = 0
        for label in order:
            if label in merged:
                at = merged.index(label) + 1
            else:
                merged.insert(at, label)
                at += 1
    return merged


def _cells(
    values: Sequence[float | None],
    against: Sequence[float | None],
    text: Callable[[float], str],
    shares: Sequence[float | None],
) -> list[Cell]:
    return [
        Cell("–" if value is None else text(value), share, ratio, value=value)
        for value, share, ratio in zip(values, shares, against, strict=True)
    ]


def ratios(values: Sequence[float | None]) -> list[float | None]:
    """Each figure against the first one; None for the first and where there is nothing to divide."""
    first = values[0]
    return [None, *(None if value is None or not first else value / first for value in values[1:])]


def _ratios_of_times(breakdowns: Sequence[Breakdown], values: Sequence[float | None]) -> list[float | None]:
    """The same of times; None as well where weights of one of both had to be dequantised and of the other not."""
    first = dequantised(breakdowns[0])
    return [
        ratio if dequantised(breakdown) == first else None
        for breakdown, ratio in zip(breakdowns, ratios(values), strict=True)
    ]


def totals(breakdowns: Sequence[Breakdown]) -> Section:
    """What each record takes as a whole; its latency is that of the bare forward."""
    nothing = [None] * len(breakdowns)
    figures: list[tuple[str, list[float | None], Callable[[float], str]]] = [
        ("parameters", [b.total("parameters") for b in breakdowns], formatting.count),
        ("bytes", [b.total("parameter_bytes") for b in breakdowns], formatting.size),
        ("MACs", [b.total("macs") for b in breakdowns], formatting.count),
        ("FLOPs", [b.total("flops") for b in breakdowns], formatting.count),
        ("latency ms", [latency_ms(b) for b in breakdowns], formatting.measured),
        ("tokens/s", [b.tokens_per_second for b in breakdowns], lambda value: formatting.exact(round(value))),
        ("peak memory", [b.peak_memory_bytes for b in breakdowns], formatting.size),
        ("resident peak", [b.resident_peak_bytes for b in breakdowns], formatting.size),
    ]
    found = []
    for label, values, text in figures:
        if all(value is None for value in values):
            continue
        of_times = label in ("latency ms", "tokens/s")
        own = _cells(values, _ratios_of_times(breakdowns, values) if of_times else ratios(values), text, nothing)
        if label == "latency ms":
            own = [
                replace(cell, remark=lines.NO_KERNEL if b.timed and dequantised(b) else "")
                for cell, b in zip(own, breakdowns, strict=True)
            ]
        found.append((label, own))
    return Section("total", found)


def latency_ms(breakdown: Breakdown) -> float | None:
    """The median of the bare forward."""
    return None if breakdown.end_to_end_time_ms is None else breakdown.end_to_end_time_ms.value


def records(breakdowns: Sequence[Breakdown], by: str) -> list[dict[str, object]]:
    """One entry a record and row for a program to read, the totals first; None for what is not known.

    What was asked of each record stands in every entry of it, so that entries can be grouped by it. `by` is the view,
    or "total"; then follow the row as in `bertprof.report.tabular.records`, what is known of the whole alone, and each
    figure against that of the first record. The time of a total is that of the forward with marks, to which the rows
    add up; `latency_ms` is the bare one.
    """
    labels, tables = aligned(breakdowns, by)
    found: list[dict[str, object]] = []
    for label in (None, *labels):
        of_row = [rows.total(b) for b in breakdowns] if label is None else [table.get(label) for table in tables]
        own = [None if row is None else tabular.record(row, by) for row in of_row]
        wholes = [_of_whole(b if label is None else None) for b in breakdowns]
        # The record of a row has words as well.
        values: dict[str, list[Any]] = {
            name: [None if row is None else row[name] for row in own]
            for name in ("parameters", "parameter_bytes", "macs", "flops", "time_ms")
        }
        values["latency_ms"] = [whole["latency_ms"] for whole in wholes]
        against = {
            f"{name.removesuffix('_ms')}_ratio": (
                _ratios_of_times(breakdowns, of_name) if name.endswith("_ms") else ratios(of_name)
            )
            for name, of_name in values.items()
        }
        found += [
            {
                "record": name,
                **_asked(breakdown),
                "by": "total" if label is None else by,
                **row,
                **whole,
                **{key: each[i] for key, each in against.items()},
            }
            for i, (name, breakdown, row, whole) in enumerate(
                zip(names(breakdowns), breakdowns, own, wholes, strict=True)
            )
            if row is not None
        ]
    return found


def _asked(breakdown: Breakdown) -> dict[str, object]:
    w = breakdown.workload
    return {
        "model": w.model,
        "recipes": "+".join(w.recipes) or "none",
        "task": w.task,
        "batch_size": w.batch_size,
        "sequence_length": w.sequence_length,
        "padding": w.padding,
        "dtype": w.dtype,
        "attention": w.attention,
        "backend": w.backend,
        "device": w.device,
        "threads": w.threads,
    }


def _of_whole(breakdown: Breakdown | None) -> dict[str, float | None]:
    """What is known of a whole record alone; of a row, None, nothing is."""
    return {
        "latency_ms": None if breakdown is None else latency_ms(breakdown),
        "tokens_per_second": None if breakdown is None else breakdown.tokens_per_second,
        "peak_memory_bytes": None if breakdown is None else breakdown.peak_memory_bytes,
        "resident_peak_bytes": None if breakdown is None else breakdown.resident_peak_bytes,
    }
