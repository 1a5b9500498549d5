"""The survey's methods as they are measured here, each beside BERT-base, as typed data with one JSON form.

What each is and what runs for it is in `bertprof.survey.approaches`; `bertprof.session.survey_methods` and
`survey_table1` measure. The document is one, of which there are two views: the methods one by one, and the survey's
Table 1 (`bertprof.survey.table1`). Reading imports no torch.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from bertprof import schema
from bertprof.components import Component
from bertprof.conditions import dequantised
from bertprof.difference import Change, Diff, Latency, Ratio, odd_change
from bertprof.files import write_whole
from bertprof.quantities import Count, Positive
from bertprof.record import GPU_STATES, Caveat, Host, Workload
from bertprof.survey.approaches import Approach
from bertprof.survey.later import Later, Sure
from bertprof.validity import odd_segments

if TYPE_CHECKING:
    import matplotlib.figure

SCHEMA = schema.METHODS
SCHEMA_VERSION = "1.1"

_ADDED = {f"$.{field}": (1, 1) for field in GPU_STATES}
"""The version that added a field, by its path."""

View = Literal["methods", "table1"]

Metric = Literal["size", "parameters", "macs", "time"]
"""size is bytes as stored. Of parameters, those that are not zero count where that is known."""

_KEPT = ("parameters", "nonzero_parameters", "bytes", "macs", "time")
"""The metrics of a diff that are kept."""


class Part(msgspec.Struct, kw_only=True):
    """One component of BERT-base and of a method: its metrics by the names of a diff, see `bertprof.difference`."""

    component: Component
    metrics: dict[str, Change]


class Measured(msgspec.Struct, kw_only=True):
    """A method beside BERT-base. `total` and `parts` are before (BERT-base) and after (the method).

    Components' times sum to the forward with marks, `total`'s time is the bare forward's, as in a diff. `before` and
    `after` are the latencies, null where nothing was timed, `samples` the rounds of both together. `no_kernel`: no
    kernel runs the weights as they are stored, so that they are executed dequantised, in the time of the float model.
    """

    total: dict[str, Change]
    parts: list[Part]
    units_before: Count
    units_after: Count
    before: Latency | None
    after: Latency | None
    samples: Count | None
    no_kernel: bool
    workload: Workload
    caveats: list[Caveat]

    def of(self, *components: Component) -> list[Part]:
        """The parts that are of some components."""
        return [part for part in self.parts if part.component in components]

    def percent(self, metric: Metric, parts: Sequence[Part] | None = None) -> float | None:
        """What some components, or all, cost in % of all that BERT-base costs; None where that is not known.

        A component's time is its share of the forward with marks, of the time of the bare one, so that the components
        add up to the whole.
        """
        if metric == "time":
            return self._time(parts)
        whole = self.total["bytes" if metric == "size" else metric].before
        assert whole
        return 100 * sum(after(part.metrics, metric) for part in (self.parts if parts is None else parts)) / whole

    def _time(self, parts: Sequence[Part] | None) -> float | None:
        ratio = None if self.no_kernel or "time" not in self.total else self.total["time"].ratio
        if ratio is None or parts is None:
            return None if ratio is None else 100 * ratio
        own, whole = (sum(_timed(part) for part in some) for some in (parts, self.parts))
        return 100 * ratio * own / whole if whole else None


def after(metrics: dict[str, Change], metric: Metric) -> float:
    """A count of a method. Of parameters, those that are not zero where that is known."""
    nonzero = metrics.get("nonzero_parameters")
    if metric == "parameters" and nonzero is not None and nonzero.after is not None:
        return nonzero.after
    return metrics["bytes" if metric == "size" else metric].after or 0


def _timed(part: Part) -> float:
    change = part.metrics.get("time")
    return 0.0 if change is None or change.after is None else change.after


class Row(msgspec.Struct, kw_only=True):
    """One method; see `bertprof.survey.approaches.Approach`.

    `failed` says what went wrong, of one that was to run; what had been found until then is there.
    """

    name: str
    paper: str
    section: str
    columns: list[str]
    sure: Sure
    runs: str
    model: str | None
    settings: list[str]
    segments: list[Positive] | None
    apart: str | None
    why_not: str | None
    published: str
    later: Later | None
    notes: list[str]
    measured: Measured | None
    failed: str | None


class Methods(msgspec.Struct, kw_only=True):
    """All methods. `base` is BERT-base beside itself, under `workload` and on `host`, and so all 100 %.

    `view` is what it was made for: "methods" or "table1". `timed` says whether time was asked for; `margin` is the
    relative change of a time that counts as none. `command` is how to make it again.
    """

    schema: str = SCHEMA
    schema_version: str = SCHEMA_VERSION
    bertprof_version: str
    created: str
    command: str | None = None
    view: View
    timed: bool
    margin: Ratio
    workload: Workload
    host: Host
    base: Row
    rows: list[Row]
    notes: list[str]

    def text(self, width: int = 100) -> str:
        """What the command line prints, `width` columns wide."""
        if self.view == "table1":
            from bertprof.report import table1_renderers

            return table1_renderers.terminal(self, width)
        from bertprof.report import survey_methods_renderers

        return survey_methods_renderers.terminal(self, width)

    def figure(self, width_mm: float | None = None) -> "matplotlib.figure.Figure":
        """Size, MACs and time of every method, stacked by component, as a matplotlib Figure."""
        from bertprof.report.figure import draw

        return draw([self], width_mm=width_mm)

    def _repr_html_(self) -> str:
        if self.view == "table1":
            from bertprof.report import table1_renderers

            return table1_renderers.fragment(self)
        from bertprof.report import survey_methods_renderers

        return survey_methods_renderers.fragment(self)

    def __str__(self) -> str:
        return self.text()

    def save(self, path: str | Path) -> None:
        """Writes it (.json) or a report of it, by the suffix, whole or not at all.

        Raises:
            UsageError: the suffix is none of .json, .html, .png, .svg, .csv, .md.
            OutputError: the file cannot be written.
        """
        from bertprof.report import render

        write_whole(Path(path), render(self, Path(path)))


# From measurements ----------------------------------------------------------------------------------------------------


def measured_of(diff: Diff) -> Measured:
    """What a diff of BERT-base and a method says."""
    return Measured(
        total=_kept(diff.row("total").metrics),
        parts=[
            Part(component=row.component, metrics=_kept(row.metrics))
            for row in diff.at("component")
            if row.component is not None
        ],
        units_before=diff.before.units,
        units_after=diff.after.units,
        before=diff.before.latency,
        after=diff.after.latency,
        samples=diff.after.samples or None,
        no_kernel=dequantised(diff.after),
        workload=diff.after.workload,
        caveats=[*diff.after.caveats, *diff.caveats],
    )


def _kept(metrics: dict[str, Change]) -> dict[str, Change]:
    return {name: metrics[name] for name in _KEPT if name in metrics}


def row_of(approach: Approach, measured: Measured | None = None, failed: str | None = None) -> Row:
    """A row of what a method is and what was found.

    Args:
        approach: the method.
        measured: what it costs beside BERT-base.
        failed: why there is no more.
    """
    return Row(
        name=approach.name,
        paper=approach.paper,
        section=approach.section,
        columns=list(approach.columns),
        sure=approach.sure,
        runs=approach.runs,
        model=approach.model,
        settings=list(approach.settings),
        segments=None if approach.segments is None else list(approach.segments),
        apart=approach.apart,
        why_not=approach.why_not,
        published=approach.published,
        later=approach.later,
        notes=list(approach.notes),
        measured=measured,
        failed=failed,
    )


# From a file ----------------------------------------------------------------------------------------------------------


def of(head: dict[str, Any], where: str) -> Methods:
    """Reads a document of any minor version from its JSON object; what comes back is of this one.

    Raises:
        RecordError: it is no such document, of a newer major version, or a field is missing, wrongly typed or at odds
            with another.
    """
    schema.expect(head, where, SCHEMA)
    found = schema.convert(head, where, Methods, SCHEMA_VERSION, _ADDED)
    for problem in _odd(found):
        raise schema.invalid(where, problem)
    found.schema_version = SCHEMA_VERSION
    return found


def _odd(document: Methods) -> Iterator[str]:
    """Figures at odds with one another."""
    if not document.rows:
        yield "no rows - at `$.rows`"
    if document.base.measured is None:
        yield "BERT-base without figures - at `$.base.measured`"
    wrong = odd_segments(document.workload)
    if wrong:
        yield f"{wrong} - at `$.workload.segments`"
    places = {"$.base": document.base, **{f"$.rows[{i}]": row for i, row in enumerate(document.rows)}}
    for place, row in places.items():
        if row.measured is not None:
            for problem, where in _odd_measured(row.measured):
                yield f"{problem} - at `{place}.measured.{where}`"
            wrong = odd_segments(row.measured.workload)
            if wrong:
                yield f"{wrong} - at `{place}.measured.workload.segments`"
            if row.segments is not None and row.measured.workload.segments != row.segments:
                yield f"other segments than those of the row - at `{place}.measured.workload.segments`"
            if document.base.measured is not None and _weights(row) != _weights(document.base):
                yield f"another BERT-base than `$.base` - at `{place}.measured.total`"


def _weights(row: Row) -> list[float | None]:
    """What BERT-base beside a method has and weighs, which no workload changes."""
    return [] if row.measured is None else [row.measured.total[of].before for of in ("parameters", "bytes")]


def _odd_measured(measured: Measured) -> Iterator[tuple[str, str]]:
    """What is wrong, and where."""
    scopes = {"total": measured.total, **{f"parts[{i}].metrics": p.metrics for i, p in enumerate(measured.parts)}}
    for where, metrics in scopes.items():
        for metric, changed in metrics.items():
            problem = odd_change(changed)
            if problem:
                yield problem, f"{where}.{metric}"
            if any(side is not None and side < 0 for side in (changed.before, changed.after)):
                yield "less than nothing", f"{where}.{metric}"
        for count in ("parameters", "bytes", "macs"):
            change = metrics.get(count)
            if change is None or not _whole(change.before) or not _whole(change.after):
                yield f"no count of {count}", where
            elif where == "total" and not change.before:
                yield f"a BERT-base without {count}", where
        if after(metrics, "parameters") > (metrics["parameters"].after or 0):
            yield "more that are not zero than parameters", f"{where}.nonzero_parameters"
    if len({part.component for part in measured.parts}) < len(measured.parts):
        yield "a component stands twice", "parts"
    for count in ("parameters", "bytes", "macs"):
        for side in ("before", "after"):
            found = [getattr(metrics[count], side) for metrics in scopes.values() if count in metrics]
            if found and None not in found and found[0] != sum(found[1:]):
                yield f"{count} of the components do not add up to the total", "total"


def _whole(value: float | None) -> bool:
    return isinstance(value, int) and value >= 0


def load(path: str | Path) -> Methods:
    """Reads a document from a file.

    Raises:
        RecordError: the file cannot be read or is not a valid document.
    """
    return of(schema.head_of(schema.read(Path(path)), str(path)), str(path))
