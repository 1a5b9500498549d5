"""The survey's Table 2 beside what is computed and measured here, as typed data with one JSON form.

Ganesh et al. 2020, arXiv 2002.11985v1. What is printed, and what runs for each row, is in `bertprof.survey.systems` and
`bertprof.survey.later`; `bertprof.session.survey_table2` measures. Reading imports no torch.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import msgspec

from bertprof import formatting, schema
from bertprof.components import Component
from bertprof.conditions import dequantised
from bertprof.difference import Change, Diff, Latency, Ratio, Verdict
from bertprof.evidence import FURTHEST
from bertprof.files import write_whole
from bertprof.quantities import Count, Positive
from bertprof.record import GPU_STATES, Breakdown, Caveat, Host, Workload
from bertprof.survey.later import Later, Sure
from bertprof.survey.systems import Printed, System
from bertprof.validity import odd_segments

SCHEMA = schema.TABLE2
SCHEMA_VERSION = "1.2"

_ADDED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("$.workload.segments", "$.rows[].speed.workload.segments"),
                *("$.rows[].segments", "$.rows[].macs", "$.rows[].later", "$.rows[].uncached"),
            ),
            (1, 1),
        ),
        **dict.fromkeys((f"$.{field}" for field in GPU_STATES), (1, 2)),
    }
)
"""The version that added a field, by its path."""

Percent = Annotated[float, msgspec.Meta(ge=0, le=FURTHEST)]
Finite = Annotated[float, msgspec.Meta(ge=-FURTHEST, le=FURTHEST)]


class Size(msgspec.Struct, kw_only=True):
    """What a model weighs. `percent` and its kind are of BERT-base, by bytes as stored.

    `nonzero_parameters` and `nonzero_percent`, of BERT-base's parameters, are null where nothing is pruned.
    `printed_rule_percent` is what the rule of the printed size gives: the same, but for rows of which the survey counts
    something else. `arithmetic` says how it comes about.
    """

    parameters: Count
    nonzero_parameters: Count | None
    bytes: Count
    embedding_bytes: Count
    percent: Percent
    percent_without_embedding: Percent
    nonzero_percent: Percent | None
    printed_rule_percent: Percent
    arithmetic: str


class Macs(msgspec.Struct, kw_only=True):
    """Multiply-accumulates of one forward of BERT-base, and of the model at the same work."""

    before: Positive
    after: Positive

    @property
    def factor(self) -> float:
        """How many times fewer the model has: its speed-up, if time followed them."""
        return self.before / self.after


class Speed(msgspec.Struct, kw_only=True):
    """How fast a model ran beside BERT-base, interleaved round by round: latencies, and how often it was faster.

    `speedup` is the time of BERT-base over that of the model, with its 95 % interval, paired by round; null where no
    kernel runs the weights as they are stored (`no_kernel`), so that they are executed dequantised. `verdict` is by
    the interval, see `bertprof.difference.Verdict`.
    """

    before: Latency
    after: Latency
    samples: Positive
    speedup: Ratio | None
    low: Ratio | None
    high: Ratio | None
    verdict: Verdict
    no_kernel: bool
    workload: Workload
    caveats: list[Caveat]


class Run(msgspec.Struct, kw_only=True):
    """What was found of a model; fields as in `Row`."""

    model: str
    size: Size | None = None
    macs: Macs | None = None
    speed: Speed | None = None
    failed: str | None = None


class Row(msgspec.Struct, kw_only=True):
    """One printed row.

    `label` as printed, `system` which one it is, `sure` how sure that is and `known_by` by what. `printed_size` is the
    arithmetic of the printed size. `model` is what was run; null where nothing was, for the reason in `why_not`.
    `failed` says what went wrong, of a row that was to run; what had been found until then is there.
    `size_per_accuracy` is ΔMS/ΔA computed from the printed size and the printed MNLI. `segments` are the lengths of
    which the sequences of the row are made, those of BERT-base beside it too; null where they are as the table's
    workload says. `uncached` is of the same model without what `model` computes beforehand; null where that is nothing.
    `later` is what the survey's later edition prints of the system; null in all but the first of its rows.
    """

    label: str
    system: str
    paper: str
    sure: Sure
    known_by: str
    printed: Printed
    printed_size: str
    model: str | None
    settings: list[str]
    segments: list[Positive] | None = None
    why_not: str | None
    size: Size | None
    macs: Macs | None = None
    speed: Speed | None
    failed: str | None
    uncached: Run | None = None
    later: Later | None = None
    size_per_accuracy: Finite | None
    notes: list[str]

    @property
    def misprinted(self) -> bool:
        """Whether the printed ΔMS/ΔA is not what its own figures give, rounded or cut off."""
        printed, own = self.printed.size_per_accuracy, self.size_per_accuracy
        return printed is not None and own is not None and abs(printed - own) > _LAST_DIGIT * max(1.0, abs(own))


_LAST_DIGIT = 0.01
"""Some of the printed ratios are rounded to the second decimal, some cut off there."""


class Table2(msgspec.Struct, kw_only=True):
    """The table. `baseline` is BERT-base; `workload` and `host` are those under which and on which it was counted or
    timed. `timed` says whether speed was asked for. `command` is how to make the table again."""

    schema: str = SCHEMA
    schema_version: str = SCHEMA_VERSION
    bertprof_version: str
    created: str
    command: str | None = None
    timed: bool
    margin: Ratio
    workload: Workload
    host: Host
    baseline: Size
    rows: list[Row]
    notes: list[str]

    def text(self, width: int = 100) -> str:
        """The table that the command line prints, `width` columns wide."""
        from bertprof.report.table2_renderers import terminal

        return terminal(self, width)

    def _repr_html_(self) -> str:
        from bertprof.report.table2_renderers import fragment

        return fragment(self)

    def __str__(self) -> str:
        return self.text()

    def save(self, path: str | Path) -> None:
        """Writes it (.json) or a report of it, by the suffix, whole or not at all.

        Raises:
            UsageError: the suffix is none of .json, .html, .csv, .md.
            OutputError: the file cannot be written.
        """
        from bertprof.report import render

        write_whole(Path(path), render(self, Path(path)))


# From measurements ----------------------------------------------------------------------------------------------------


def size_of(model: Breakdown, base: Breakdown, pruned: float | None = None) -> Size:
    """The size of a model beside BERT-base.

    Args:
        model: its record; times do not matter.
        base: that of BERT-base.
        pruned: of a row whose printed size is 1 − pruned · (1 − BERT-base's embedding share); see `System`.
    """
    whole, embedding = _bytes(base)
    own, own_embedding = _bytes(model)
    percent = 100 * own / whole
    parameters, base_parameters = model.total("parameters"), base.total("parameters")
    nonzero = model.total("nonzero_parameters")
    nonzero = None if nonzero == parameters else nonzero
    if own * base_parameters == parameters * whole:  # as many bytes a weight
        figures = f"{formatting.exact(parameters)} / {formatting.exact(base_parameters)} parameters"
    else:
        figures = f"{formatting.size(own)} / {formatting.size(whole)}"
    arithmetic = f"{figures} = {percent:.{1 if percent >= 0.995 else 2}f} %"
    rule = percent
    if pruned is not None:
        share = embedding / whole
        rule = 100 * (1 - pruned * (1 - share))
        arithmetic = (
            f"by the printed rule 1 − {pruned:g} × (1 − {100 * share:.1f} %) = {rule:.1f} %; in truth stored dense "
            f"{arithmetic}"
        )
    if nonzero is not None:
        arithmetic += f", not zero {formatting.exact(nonzero)} = {100 * nonzero / base_parameters:.1f} %"
    return Size(
        parameters=parameters,
        nonzero_parameters=nonzero,
        bytes=own,
        embedding_bytes=own_embedding,
        percent=percent,
        percent_without_embedding=100 * (own - own_embedding) / (whole - embedding),
        nonzero_percent=None if nonzero is None else 100 * nonzero / base_parameters,
        printed_rule_percent=rule,
        arithmetic=arithmetic,
    )


def _bytes(breakdown: Breakdown) -> tuple[int, int]:
    """Stored bytes of all parameters, and of those of the embedding."""
    embedding = sum(cost.parameter_bytes for cost in breakdown.of(Component.EMBEDDING))
    return breakdown.total("parameter_bytes"), embedding


def macs_of(model: Breakdown, base: Breakdown) -> Macs | None:
    """The multiply-accumulates of a model and of BERT-base at the same work; None where one of them has none."""
    before, after = base.total("macs"), model.total("macs")
    return Macs(before=before, after=after) if before and after else None


def speed_of(diff: Diff, model: Breakdown) -> Speed:
    """How fast a model ran beside BERT-base.

    Args:
        diff: of BERT-base and the model, measured together.
        model: the model's record.
    """
    before, after, change = diff.before, diff.after, diff.row("total").metrics["time"]
    assert before.latency is not None
    assert after.latency is not None
    no_kernel = dequantised(model)
    speedup, low, high = (None, None, None) if no_kernel else _inverse(change)
    return Speed(
        before=before.latency,
        after=after.latency,
        samples=after.samples or 1,
        speedup=speedup,
        low=low,
        high=high,
        verdict=change.verdict,
        no_kernel=no_kernel,
        workload=after.workload,
        caveats=[*after.caveats, *diff.caveats],
    )


def _inverse(change: Change) -> tuple[float | None, float | None, float | None]:
    """before / after with its interval, from after / before with its own."""
    ratio, low, high = (None if x is None or x == 0 else 1 / x for x in (change.ratio, change.high, change.low))
    return ratio, low, high


def row_of(
    system: System,
    baseline: Printed,
    found: Run | None = None,
    uncached: Run | None = None,
) -> Row:
    """A row of what is printed and what was found.

    Args:
        system: the row.
        baseline: what is printed for BERT-base.
        found: what was found of its model; None: nothing was run.
        uncached: the same of its `uncached`.
    """
    own = found or Run(model="")
    return Row(
        label=system.label,
        system=system.name,
        paper=system.paper,
        sure=system.sure,
        known_by=system.known_by,
        printed=system.printed,
        printed_size=system.printed_size,
        model=system.model,
        settings=list(system.settings),
        segments=None if system.segments is None else list(system.segments),
        why_not=system.why_not,
        size=own.size,
        macs=own.macs,
        speed=own.speed,
        failed=own.failed,
        uncached=uncached,
        later=system.later,
        size_per_accuracy=size_per_accuracy(system.printed, baseline),
        notes=list(system.notes),
    )


def size_per_accuracy(printed: Printed, baseline: Printed) -> float | None:
    """ΔMS/ΔA: what a row saves of the size, in points of BERT-base's, for each point that it loses on MNLI.

    None where MNLI is not printed or is not lost.
    """
    if printed.mnli is None or baseline.mnli is None:
        return None
    # As floats 84.6 − 81.6 is 2.9999999999999858.
    lost = round(baseline.mnli - printed.mnli, 9)
    return (baseline.size - printed.size) / lost if lost > 0 else None


# From a file ----------------------------------------------------------------------------------------------------------


def of(head: dict[str, Any], where: str) -> Table2:
    """Reads a table of any minor version from its JSON object; what comes back is of this one.

    Raises:
        RecordError: it is no such table, of a newer major version, or a field is missing, wrongly typed or at odds
            with another.
    """
    schema.expect(head, where, SCHEMA)
    table = schema.convert(head, where, Table2, SCHEMA_VERSION, _ADDED)
    for problem in _odd(table):
        raise schema.invalid(where, problem)
    table.schema_version = SCHEMA_VERSION
    return table


def _odd(table: Table2) -> Iterator[str]:
    """Figures at odds with one another."""
    if not table.rows:
        yield "no rows - at `$.rows`"
    problem = odd_segments(table.workload)
    if problem:
        yield f"{problem} - at `$.workload.segments`"
    if not table.baseline.bytes > table.baseline.embedding_bytes:
        yield "the embedding is as large as the model - at `$.baseline.embedding_bytes`"
        return
    for i, row in enumerate(table.rows):
        for run, where in ((row, f"$.rows[{i}]"), (row.uncached, f"$.rows[{i}].uncached")):
            if run is None:
                continue
            problem = None if run.size is None else _odd_size(run.size, table.baseline)
            if problem:
                yield f"{problem} - at `{where}.size`"
            if run.speed is None:
                continue
            if not _in_order(run.speed):
                yield f"half an interval, or a ratio outside of it - at `{where}.speed`"
            if row.segments is not None and run.speed.workload.segments != row.segments:
                yield f"other segments than those of the row - at `{where}.speed.workload.segments`"
            problem = odd_segments(run.speed.workload)
            if problem:
                yield f"{problem} - at `{where}.speed.workload.segments`"


def _in_order(speed: Speed) -> bool:
    """Whether a ratio stands in its interval, where it has one."""
    if speed.low is None or speed.high is None or speed.speedup is None:
        return speed.low is None and speed.high is None
    return speed.low <= speed.speedup <= speed.high


def _odd_size(size: Size, base: Size) -> str | None:
    if size.embedding_bytes > size.bytes:
        return "the embedding is larger than the model"
    rest = (size.bytes - size.embedding_bytes) / (base.bytes - base.embedding_bytes)
    for percent, share in ((size.percent, size.bytes / base.bytes), (size.percent_without_embedding, rest)):
        if abs(percent - 100 * share) > 1e-6 * max(1.0, 100 * share):
            return f"{percent} % where the bytes give {100 * share} %"
    return None


def load(path: str | Path) -> Table2:
    """Reads a table from a file.

    Raises:
        RecordError: the file cannot be read or is not a valid table.
    """
    return of(schema.head_of(schema.read(Path(path)), str(path)), str(path))
