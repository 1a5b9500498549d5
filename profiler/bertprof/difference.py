"""The Diff: what changed between two breakdowns, as typed data with one JSON form that every report reads.

`bertprof.comparison` makes it from two records, `bertprof.gate` adds what the gates say. Reading it imports no torch.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from bertprof import evidence, schema
from bertprof.components import Component
from bertprof.files import write_whole
from bertprof.quantities import MOST, Count, Milliseconds, Positive, Unit
from bertprof.record import GPU_STATES, Caveat, Checkpoint, Host, Workload
from bertprof.validity import odd_segments

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

SCHEMA = schema.DIFF
SCHEMA_VERSION = "1.2"

_ADDED = {
    **{f"$.{side}.workload.segments": (1, 1) for side in ("before", "after")},
    **{f"$.{side}.{field}": (1, 2) for side in ("before", "after") for field in GPU_STATES},
}
"""The version that added a field, by its path."""

Whole = Annotated[int, msgspec.Meta(ge=-MOST, le=MOST)]
Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
Ratio = Annotated[float, msgspec.Meta(ge=0, le=evidence.FURTHEST)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]

Level = Literal["total", "group", "component", "unit", "cell"]

Times = Literal["rounds", "processes", "identical", "too few processes", "not comparable"]

Verdict = Literal["faster", "slower", "smaller", "larger", "same", "inconclusive", "new", "removed", "n/a"]
"""Of a count: smaller, larger or same, exactly. Of a time: faster or slower where its interval is beyond the margin,
and so surely that it is no chance hit among all rows of its level (Holm's correction); same where the interval is
inside; else inconclusive. Of energy and of shares of time, smaller and larger likewise. New and removed: what only one
side has. n/a: what one side does not know, or what is not comparable."""

Outcome = Literal["passed", "failed", "inconclusive", "not comparable"]


class Change(msgspec.Struct, kw_only=True):
    """One metric of one row. Counts are whole numbers, times in ms, energy in mJ, shares 0 to 1.

    `before` and `after` are null where that side does not know the metric, and 0 where it does not have the row;
    `change` is after − before where both are known. `ratio` is after / before: of counts, that of the two figures; of
    times, what the evidence says, with its 95 % interval `low` to `high`, which need not be the quotient of the two
    figures, since drift or the state of the machine is taken out. Where nothing is evident it is the quotient, without
    an interval. `share_of_change` is this row's part of the change of all rows together, the machine's own taken out;
    null where that change counts as none.
    """

    before: Whole | Finite | None
    after: Whole | Finite | None
    change: Whole | Finite | None
    ratio: Ratio | None
    low: Ratio | None = None
    high: Ratio | None = None
    share_of_change: Finite | None = None
    verdict: Verdict


class Row(msgspec.Struct, kw_only=True):
    """One row: a scope of both sides.

    `scope` names it as gates do: "total", "ffn", "attention-linear", "rest", "unit[3]", "outside", "unit[3].ffn",
    "outside.head". Where the sides' units do not correspond, those of the second are "after.unit[3]". `metrics` are by
    name, as in gates. Of every count and time, the rows of a level sum to the total, but for groups, of which those of
    one component have no row of their own; times sum to that of the forward with marks, the total's is the bare one's.
    """

    scope: str
    level: Level
    component: Component | None
    unit: Unit | None
    metrics: dict[str, Change]


class Latency(msgspec.Struct, kw_only=True):
    """The bare forward of one side, in ms: median with its 95 % interval within the run, and 95th percentile.

    `p95_ms` is null of fewer than 20 samples; `tokens_per_second` counts padding, and is null where the length of the
    sequences is not known.
    """

    median_ms: Milliseconds
    low_ms: Milliseconds
    high_ms: Milliseconds
    p95_ms: Milliseconds | None
    tokens_per_second: Finite | None


class Side(msgspec.Struct, kw_only=True):
    """One of the two breakdowns, in short. `samples` counts the repeats that its record holds."""

    name: str
    created: str
    bertprof_version: str
    workload: Workload
    host: Host
    checkpoint: Checkpoint | None
    units: Count
    processes: Positive
    samples: Count | None
    latency: Latency | None
    caveats: list[Caveat]


class Mismatch(msgspec.Struct, kw_only=True):
    """Something in which the sides differ so that figures cannot be compared.

    `affects`: "counts", all gates but those on parameters and bytes; "times", gates on time, memory and energy;
    "units", gates on single units. `allowed` where the user let it through.
    """

    key: str
    before: str
    after: str
    affects: Literal["counts", "times", "units"]
    allowed: bool


class Accuracy(msgspec.Struct, kw_only=True):
    """What the user says of accuracy, in points, and the survey's ratio of what was saved to what was lost.

    `size_drop_per_accuracy_drop` is ΔMS/ΔA as in Table 2 of Ganesh et al. 2020: points of model size (100 % before)
    saved for each point of accuracy lost; null where no accuracy was lost or the model grew.
    """

    metric: str | None
    before: Finite
    after: Finite
    size_drop: Finite
    size_drop_per_accuracy_drop: Finite | None


class Gate(msgspec.Struct, kw_only=True):
    """What one gate says of one row.

    `text` is the gate as it was written, `origin` where. `p_value` is adjusted for the number of time gates (Holm);
    null for exact counts. `reason` is one sentence for people.
    """

    kind: Literal["fail-on", "warn-on", "require", "budget"]
    text: str
    origin: str
    scope: str
    metric: str
    outcome: Outcome
    change: Change | None
    p_value: Probability | None = None
    reason: str


class Diff(msgspec.Struct, kw_only=True):
    """Two breakdowns compared.

    `times` says how: "rounds" (interleaved in one process), "processes" (three or more a side), "identical" (the same
    samples), "too few processes", "not comparable", or null where a side has no times. `yardstick_ratio` is how
    long the yardstick took beside `after` against beside `before`, where that was taken out. `margin` is the relative
    change of a time that counts as none. `command` is how to make it again.
    """

    schema: str = SCHEMA
    schema_version: str = SCHEMA_VERSION
    bertprof_version: str
    created: str
    command: str | None = None
    before: Side
    after: Side
    times: Times | None
    yardstick_ratio: Ratio | None = None
    margin: Ratio
    rows: list[Row]
    accuracy: Accuracy | None = None
    mismatches: list[Mismatch] = []
    gates: list[Gate] = []
    caveats: list[Caveat] = []

    def row(self, scope: str) -> Row:
        """The row of a scope.

        Raises:
            KeyError: there is none.
        """
        for row in self.rows:
            if row.scope == scope:
                return row
        raise KeyError(f"{scope}; there is {', '.join(row.scope for row in self.rows if row.level != 'cell')}")

    def at(self, level: str) -> list[Row]:
        """The rows of a level: "total", "group", "component", "unit" or "cell"."""
        return [row for row in self.rows if row.level == level]

    def exit_code(self, *, strict: bool = False) -> int:
        """What the command line exits with: 1 a gate failed, 3 a gate could not be compared, else 0.

        A failed gate outweighs one that could not be compared. What only warns does neither.

        Args:
            strict: what is inconclusive has failed.
        """
        outcomes = {gate.outcome for gate in self.gates if gate.kind != "warn-on"}
        if "failed" in outcomes or (strict and "inconclusive" in outcomes):
            return 1
        return 3 if "not comparable" in outcomes else 0

    # What it shows itself as.

    def frame(self, by: str = "component") -> "pd.DataFrame":
        """A tidy pandas DataFrame, one row a `by` ("group", "component", "unit" or "cell") and metric."""
        from bertprof.report.frame import diff_frame

        return diff_frame(self, by)

    def figure(self, figure: str | None = None, width_mm: float | None = None) -> "matplotlib.figure.Figure":
        """A matplotlib Figure: "pairs", before beside after, "stack", "units" or "waterfall"; `width_mm` in print.

        Raises:
            UsageError: there is no such figure.
        """
        from bertprof.report.figure import draw

        return draw([self], figure, width_mm)

    def text(self, by: str = "component", width: int = 100, wide: bool = False) -> str:
        """The table that the command line prints, `width` columns wide."""
        from bertprof.report.terminal import render_diff

        return render_diff(self, by=by, width=width, wide=wide)

    def _repr_html_(self) -> str:
        from bertprof.report.page import diff_fragment

        return diff_fragment(self)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Diff of {self.before.name!r} and {self.after.name!r}: {len(self.rows)} rows, {len(self.gates)} gates>"

    def save(
        self,
        path: str | Path,
        *,
        by: str = "component",
        wide: bool = False,
        figure: str | None = None,
        width_mm: float | None = None,
    ) -> None:
        """Writes it (.json) or a report of it, by the suffix, whole or not at all.

        Args:
            path: the file.
            by: the view of its tables.
            wide: tables with all that is known.
            figure: which figure, as .png or .svg; see `figure`.
            width_mm: how wide that is in print.

        Raises:
            UsageError: the suffix is none of .json, .html, .png, .svg, .csv, .md, or there is no such view or figure.
            OutputError: the file cannot be written.
        """
        from bertprof.report import render

        content = render(self, Path(path), by, wide=wide, figure=figure, width_mm=width_mm)
        write_whole(Path(path), content)


def decode(content: bytes, where: str) -> Diff:
    """Reads a diff of any minor version; what comes back is of this one.

    Args:
        content: the JSON.
        where: what to call the file in an error.

    Raises:
        RecordError: it is not JSON, no diff, of a newer major version, or a field is missing or wrongly typed.
    """
    return of(schema.head_of(content, where), where)


def of(head: dict[str, Any], where: str) -> Diff:
    """The same from the JSON object."""
    schema.expect(head, where, SCHEMA)
    diff = schema.convert(head, where, Diff, SCHEMA_VERSION, _ADDED)
    for problem in _odd(diff):
        raise schema.invalid(where, problem)
    diff.schema_version = SCHEMA_VERSION
    return diff


def _odd(diff: Diff) -> Iterator[str]:
    """Rows that stand twice, without their component or without a total; figures at odds with one another."""
    for name, side in (("before", diff.before), ("after", diff.after)):
        problem = odd_segments(side.workload)
        if problem:
            yield f"{problem} - at `$.{name}.workload.segments`"
    seen = set()
    for i, row in enumerate(diff.rows):
        if row.scope in seen:
            yield f"a second row of {row.scope!r} - at `$.rows[{i}]`"
        seen.add(row.scope)
        if row.component is None and row.level in ("component", "cell"):
            yield f"null in a row of a component - at `$.rows[{i}].component`"
        for metric, change in row.metrics.items():
            problem = odd_change(change)
            if problem:
                yield f"{problem} - at `$.rows[{i}].metrics.{metric}`"
    if "total" not in seen:
        yield "no row of the total - at `$.rows`"
    for i, gate in enumerate(diff.gates):
        problem = odd_change(gate.change) if gate.change is not None else None
        if problem:
            yield f"{problem} - at `$.gates[{i}].change`"


def odd_change(change: Change) -> str | None:
    """What is wrong with a change, if anything is."""
    if (change.change is None) != (change.before is None or change.after is None):
        return "a change is known where both sides are, and only there"
    if change.change is None and (change.ratio is not None or change.verdict != "n/a"):
        return "a ratio or verdict of what one side does not know"
    if (change.low is None) != (change.high is None):
        return "half an interval"
    if change.low is not None and change.high is not None:
        inside = change.ratio is not None and change.low <= change.ratio <= change.high
        return None if inside else "a ratio outside of its interval"
    return None


def load(path: str | Path) -> Diff:
    """Reads a diff from a file.

    Raises:
        RecordError: the file cannot be read or is not a valid diff.
    """
    return decode(schema.read(Path(path)), str(path))
