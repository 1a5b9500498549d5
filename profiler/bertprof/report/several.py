"""Several: records side by side, each figure against that of the first, before it is formatted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bertprof import formatting
from bertprof.components import GROUPS, Component
from bertprof.conditions import dequantised
from bertprof.record import Breakdown
from bertprof.report import lines, rows
from bertprof.report.rows import Row


@dataclass(frozen=True)
class Cell:
    """One figure of one record: as text, its share of the record's total, and as often as in the first record.

    `remark` stands where no ratio does.
    """

    figure: str
    share: float | None = None
    ratio: float | None = None
    remark: str = ""

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


def names(breakdowns: Sequence[Breakdown]) -> list[str]:
    """What to call each; those of the same name are told apart by number."""
    found = [formatting.line(breakdown.name, 60) for breakdown in breakdowns]
    return [f"{name} ({1 + found[:i].count(name)})" if found.count(name) > 1 else name for i, name in enumerate(found)]


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
    found = [_totals(breakdowns)]
    labels, tables = aligned(breakdowns, by)
    timed = [breakdown.timed for breakdown in breakdowns]

    def section(title: str, figure: Callable[[Row], float | None], share: Callable[[Row], float | None]) -> Section:
        of_times = title.startswith("time")
        found = []
        for label in labels:
            of_row = [table.get(label) for table in tables]
            values = [None if row is None else figure(row) for row in of_row]
            shares = [None if row is None else share(row) for row in of_row]
            against = _ratios_of_times(breakdowns, values) if of_times else ratios(values)
            cells = _cells(values, against, formatting.measured if of_times else formatting.count, shares)
            found.append((formatting.line(label, 80), cells))
        return Section(f"{title} by {by}", found)

    if any(timed):
        found.append(
            section(
                "time ms",
                lambda row: None if row.time_ms is None else row.time_ms.value,
                lambda row: None if row.time_share is None else row.time_share.value,
            )
        )
    if wide:
        found.append(section("parameters", lambda row: row.parameters, lambda row: row.parameters_share))
    if wide or not all(timed):
        found.append(section("MACs", lambda row: row.macs, lambda row: row.macs_share))
    if wide:
        found.append(section("FLOPs", lambda row: row.flops, lambda row: row.flops_share))
    return found


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
        Cell("–" if value is None else text(value), share, ratio)
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


def _totals(breakdowns: Sequence[Breakdown]) -> Section:
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
        cells = _cells(values, _ratios_of_times(breakdowns, values) if of_times else ratios(values), text, nothing)
        if label == "latency ms":
            cells = [
                replace(cell, remark=lines.NO_KERNEL if b.timed and dequantised(b) else "")
                for cell, b in zip(cells, breakdowns, strict=True)
            ]
        found.append((label, cells))
    return Section("total", found)


def latency_ms(breakdown: Breakdown) -> float | None:
    """The median of the bare forward."""
    return None if breakdown.end_to_end_time_ms is None else breakdown.end_to_end_time_ms.value


def records(breakdowns: Sequence[Breakdown], by: str) -> list[dict[str, object]]:
    """One entry a record and row for a program to read, the totals first; None for what is not known.

    The time of a total is that of the forward with marks, to which the rows add up; `latency_ms` is the bare one.
    """
    labels, tables = aligned(breakdowns, by)
    found: list[dict[str, object]] = []
    for label in ("total", *labels):
        of_row = [rows.total(b) for b in breakdowns] if label == "total" else [table.get(label) for table in tables]
        figures = [None if row is None else rows.figures(row) for row in of_row]
        against = {
            f"{name}_ratio": ratios([None if f is None else f[name] for f in figures])
            for name in ("parameters", "macs", "flops")
        }
        against["time_ratio"] = _ratios_of_times(breakdowns, [None if f is None else f["time_ms"] for f in figures])
        for i, (name, breakdown) in enumerate(zip(names(breakdowns), breakdowns, strict=True)):
            own = figures[i]
            if own is not None:
                whole = label == "total"
                found.append(
                    {
                        "record": name,
                        by: label,
                        "latency_ms": latency_ms(breakdown) if whole else None,
                        "tokens_per_second": breakdown.tokens_per_second if whole else None,
                        **own,
                        **{key: values[i] for key, values in against.items()},
                    }
                )
    return found
