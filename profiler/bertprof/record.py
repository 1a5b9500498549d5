"""The record: what a measurement leaves, as typed data with one JSON form.

Raw samples are stored; medians, shares and intervals are derived on reading. A field that could not be filled is null,
never 0. Reading imports no torch.
"""

import datetime
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

import msgspec

from bertprof import sampling, schema, validity
from bertprof.components import COMPONENT_ORDER, Component
from bertprof.files import write_whole
from bertprof.observations import Energy, Fit, GpuState, OtherClock, Peaks
from bertprof.quantities import Count, Forwards, Milliseconds, Positive, Samples, Size, Unit
from bertprof.sampling import Estimate

if TYPE_CHECKING:
    import matplotlib.figure
    import pandas as pd

SCHEMA = schema.BREAKDOWN
SCHEMA_VERSION = "1.6"

GPU_STATES = ("host.gpu_before", "host.gpu_after")
"""Fields of a host that came with record 1.5, wherever a document holds one."""

_ADDED: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "$.checkpoint": (1, 1),
        "$.end_to_end_p95_ms": (1, 2),
        "$.run": (1, 2),
        "$.kept_units": (1, 3),
        "$.workload.segments": (1, 4),
        **dict.fromkeys(
            (
                *("$.costs[].activation_peak_bytes", "$.costs[].allocated_peak_bytes", "$.resident_peak_bytes"),
                *("$.clocks", "$.peaks", "$.memory_limit_bytes", "$.fits", "$.energy"),
                *(f"$.{field}" for field in GPU_STATES),
            ),
            (1, 5),
        ),
        "$.command": (1, 6),
    }
)
"""The version that added a field, by its path. A record older than that may lack it; one of that version may not."""


class Workload(msgspec.Struct, kw_only=True):
    """What was asked for: the model and the work it was given.

    `config_sha256` tells two models of one name apart. `sequence_length` is in tokens, null where the inputs of a live
    module show none. `segments` are the lengths of the parts of which each sequence is made, as question and passage;
    null where it is not said. `padding` is the share of padded tokens, null where a mask does not tell. `clock`,
    `marks` and `weights` are null where no time was measured. `weights` is "module" for a live module, whatever it
    holds.
    """

    model: str
    config_sha256: str
    recipes: list[str] = []
    task: str | None = None
    batch_size: Size
    sequence_length: Size | None
    segments: list[Size] | None = None
    padding: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = 0.0
    mask: Literal["none", "2d", "4d"] = "none"
    dtype: str
    attention: str
    backend: str = "torch"
    device: str
    clock: str | None = None
    marks: Literal["hooks", "wrappers"] | None = None
    threads: Positive | None = None
    weights: Literal["random", "checkpoint", "module"] | None = None


class Host(msgspec.Struct, kw_only=True):
    """What was seen: the machine and the versions. Clocks are in MHz.

    `gpu_before` and `gpu_after` are the GPU's state before sampling, once it is warm, and behind it.
    """

    cpu: str
    cores: Positive
    memory_bytes: Count | None = None
    os: str
    gpu: str | None = None
    gpu_memory_bytes: Count | None = None
    driver: str | None = None
    clocks: dict[str, Count] | None = None
    gpu_before: GpuState | None = None
    gpu_after: GpuState | None = None
    python: str
    torch: str
    transformers: str
    fvcore: str


class Checkpoint(msgspec.Struct, kw_only=True):
    """The files on disk from which the weights come.

    `format` is the files' kind, as "safetensors"; `file_bytes` the size of all of them; `load_time_ms` the time from
    the files to a model in memory, null where none was built.
    """

    format: str
    files: Positive
    file_bytes: Count
    load_time_ms: Milliseconds | None


class Operator(msgspec.Struct, kw_only=True):
    """How often an operator ran, and its multiply-accumulates and FLOPs in all these calls."""

    calls: Count
    macs: Count
    flops: Count = 0


class Cost(msgspec.Struct, kw_only=True):
    """What one component of one unit costs by itself. `unit` null: outside the encoder, or weights shared by units.

    `parameters` and `nonzero_parameters` are logical scalars, `parameter_bytes` the bytes in which they are stored.
    `useful_macs` are the MACs spent on tokens that are no padding. `bytes_moved` are the bytes that operators read and
    write, `activation_bytes` those of what they produce, both in one forward. `activation_peak_bytes` are the most
    bytes of activations alive at a time while it runs, in theory, inputs included; `allocated_peak_bytes` the most that
    was allocated on the GPU while it ran, weights included. Peaks do not add: that of several rows is the largest.
    `time_ms` and `device_time_ms` are in milliseconds, `energy_mj` in millijoules, one sample a repeat.
    """

    unit: Unit | None
    component: Component
    parameters: Count
    nonzero_parameters: Count | None = None
    parameter_bytes: Count
    macs: Count
    useful_macs: Count | None = None
    flops: Count
    bytes_moved: Count | None = None
    activation_bytes: Count | None = None
    activation_peak_bytes: Count | None = None
    allocated_peak_bytes: Count | None = None
    operators: dict[str, Operator] = {}
    time_ms: Samples | None = None
    device_time_ms: Samples | None = None
    energy_mj: Samples | None = None


class Module(msgspec.Struct, kw_only=True):
    """One module of the tree, all figures its own (children excluded).

    `time_ms` is its share of all repeats × the median instrumented forward, so that modules add up; null where the
    module carries no mark, its time then being in the nearest module above that does. `unit` is null where several
    units call the module.
    """

    path: str
    type: str
    unit: Unit | None
    component: Component
    calls: Count
    parameters: Count
    macs: Count
    flops: Count = 0
    time_ms: Milliseconds | None = None


class Caveat(msgspec.Struct, kw_only=True):
    """Something that a reader must know to read the numbers rightly. Shown in every report."""

    code: str
    text: str
    component: Component | None = None
    unit: Unit | None = None
    value: float | None = None


class Breakdown(msgspec.Struct, kw_only=True):
    """One model under one workload, broken down. Times are in milliseconds, one sample a repeat.

    In every repeat the `time_ms` of all costs sum to `instrumented_ms`. `end_to_end_ms` is the bare forward, without
    any mark, taken in the same repeat, and `end_to_end_p95_ms` the 95th percentile of all that ran, kept or not
    (of several processes, the median of theirs).
    `yardstick_ms` is what a small BERT layer took in that repeat, by component (see
    `bertprof.measure.yardstick`). With several `processes` each gave as many repeats, one process after another.
    `command` is the command line that measured it, null where Python did. `run` names the measurement: records of the
    same one were interleaved, and are paired by repeat.
    `kept_units` are the indices, in the model as it was, of the units that a recipe kept, one for each unit; null where
    none dropped any.
    `peak_memory_bytes` is what one forward takes on a GPU at most, `resident_peak_bytes` by how much the process grows
    in one on a CPU, both with the model and its inputs. `clocks` are other ways to time the same forward, `peaks` what
    the device can do at most. `fits` says of batch sizes whether they are within `memory_limit_bytes`. `energy` says
    how the `energy_mj` of the rows was measured.
    """

    schema: str = SCHEMA
    schema_version: str = SCHEMA_VERSION
    bertprof_version: str
    created: str
    command: str | None = None
    label: str | None = None
    workload: Workload
    host: Host
    checkpoint: Checkpoint | None = None
    kept_units: Annotated[list[Unit], msgspec.Meta(min_length=1)] | None = None
    costs: list[Cost]
    modules: list[Module] | None = None
    instrumented_ms: Forwards | None = None
    end_to_end_ms: Forwards | None = None
    end_to_end_p95_ms: Milliseconds | None = None
    yardstick_ms: dict[Component, Samples] | None = None
    processes: Positive = 1
    run: str | None = None
    peak_memory_bytes: Count | None = None
    resident_peak_bytes: Count | None = None
    clocks: list[OtherClock] | None = None
    peaks: Peaks | None = None
    memory_limit_bytes: Count | None = None
    fits: list[Fit] | None = None
    energy: Energy | None = None
    caveats: list[Caveat] = []

    # What is derived on reading.

    @property
    def name(self) -> str:
        """The label where one was given, else the model with its recipes."""
        return self.label or "+".join([self.workload.model, *self.workload.recipes])

    @property
    def timed(self) -> bool:
        """Whether time was measured."""
        return self.instrumented_ms is not None

    @property
    def units(self) -> int:
        """The number of encoder units."""
        return 1 + max((c.unit for c in self.costs if c.unit is not None), default=-1)

    @overload
    def total(self, metric: Literal["parameters", "parameter_bytes", "macs", "flops"]) -> int: ...

    @overload
    def total(self, metric: str) -> int | None: ...

    def total(self, metric: str) -> int | None:
        """The sum over all costs of a count, by its name in `Cost`; None where one of them is null."""
        return added(getattr(cost, metric) for cost in self.costs)

    @property
    def instrumented_time_ms(self) -> Estimate | None:
        """Median of the forward with marks."""
        return None if self.instrumented_ms is None else sampling.median_estimate(self.instrumented_ms)

    @property
    def end_to_end_time_ms(self) -> Estimate | None:
        """Median of the bare forward: the model's latency."""
        return None if self.end_to_end_ms is None else sampling.median_estimate(self.end_to_end_ms)

    @property
    def p95_ms(self) -> float | None:
        """The 95th percentile of the bare forwards; None where they were few, or were not all kept."""
        samples = self.end_to_end_ms or ()
        if self.end_to_end_p95_ms is not None or not sampling.FEWEST_OF_P95 <= len(samples) < sampling.MOST_SAMPLES:
            return self.end_to_end_p95_ms
        return sampling.quantile(samples, 0.95)

    @property
    def tokens_per_second(self) -> float | None:
        """Throughput by the median bare forward, padding included; None without times or a sequence length."""
        latency, w = self.end_to_end_time_ms, self.workload
        if latency is None or w.sequence_length is None:
            return None
        return 1000 * w.batch_size * w.sequence_length / latency.value

    @property
    def overhead(self) -> Estimate | None:
        """Median of instrumented / bare, paired by repeat; 1.0 is none."""
        if self.instrumented_ms is None or self.end_to_end_ms is None:
            return None
        return sampling.median_estimate([a / b for a, b in zip(self.instrumented_ms, self.end_to_end_ms, strict=True)])

    @property
    def residual(self) -> float | None:
        """Sum of the components' times relative to the bare forward, minus 1."""
        whole, bare = self.instrumented_time_ms, self.end_to_end_time_ms
        return None if whole is None or bare is None else whole.value / bare.value - 1

    def time_share(self, costs: Iterable[Cost]) -> Estimate | None:
        """The share of these costs in the instrumented time; null where no time was measured."""
        if self.instrumented_ms is None:
            return None
        rows = [cost.time_ms for cost in costs if cost.time_ms is not None]
        part = [sum(samples) for samples in zip(*rows, strict=True)] if rows else [0.0] * len(self.instrumented_ms)
        return sampling.share_estimate(part, self.instrumented_ms)

    def time_of(self, costs: Iterable[Cost]) -> Estimate | None:
        """The time of these costs in ms: their share × the median instrumented forward, so that rows add up."""
        share, whole = self.time_share(costs), self.instrumented_time_ms
        return None if share is None or whole is None else sampling.product_estimate(share, whole)

    @property
    def activation_peak_bytes(self) -> int | None:
        """The most bytes of activations alive at a time, in theory; None where that was not followed."""
        known = [cost.activation_peak_bytes for cost in self.costs if cost.activation_peak_bytes is not None]
        return max(known, default=None)

    def median_of(self, costs: Iterable[Cost], field: Literal["device_time_ms", "energy_mj"]) -> float | None:
        """Their share of all samples of a field × the median of the whole, so that rows add up; None without any."""
        every = [samples for cost in self.costs if (samples := getattr(cost, field)) is not None]
        whole = [math.fsum(repeat) for repeat in zip(*every, strict=True)]
        if not whole:
            return None
        all_of_it, own = math.fsum(whole), math.fsum(value for cost in costs for value in getattr(cost, field) or ())
        return own / all_of_it * sampling.median(whole) if all_of_it else 0.0

    def of(self, *components: Component) -> list[Cost]:
        """The costs of these components, over all units."""
        return [cost for cost in self.costs if cost.component in components]

    # What it shows itself as.

    def frame(self, by: str = "component") -> "pd.DataFrame":
        """A tidy pandas DataFrame, one row a `by`, units in the names of the columns.

        Args:
            by: "group", "component", "unit", "cost" (each component of each unit) or "module".

        Raises:
            UsageError: there is no such view, or the record holds no modules.
        """
        from bertprof.report.frame import frame

        return frame(self, by)

    def figure(self, figure: str | None = None, width_mm: float | None = None) -> "matplotlib.figure.Figure":
        """A matplotlib Figure: "figure2", that of the survey, "stack", "units" or "roofline"; `width_mm` in print.

        Raises:
            UsageError: there is no such figure.
        """
        from bertprof.report.figure import draw

        return draw([self], figure, width_mm)

    def text(self, by: str = "component", width: int = 100, wide: bool = False) -> str:
        """The table that the command line prints, `width` columns wide; with `wide`, traffic and intensity as well."""
        from bertprof.report.terminal import render

        return render(self, by=by, width=width, wide=wide)

    def _repr_html_(self) -> str:
        from bertprof.report.page import fragment

        return fragment(self)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        figures = [f"{self.units} units", f"{self.total('parameters'):,} parameters", f"{self.total('macs'):,} MACs"]
        latency = self.end_to_end_time_ms
        figures += [] if latency is None else [f"{latency.value:.4g} ms"]
        return f"<Breakdown of {self.name!r}: {', '.join(figures)}>"

    def save(
        self,
        path: str | Path,
        *,
        by: str = "component",
        wide: bool = False,
        figure: str | None = None,
        width_mm: float | None = None,
    ) -> None:
        """Writes the record (.json) or a report of it, by the suffix, whole or not at all.

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


def added(counts: Iterable[int | None]) -> int | None:
    """The sum of counts; None where one of them is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def sort_key(cost: Cost) -> tuple[int, int]:
    """The order of costs in a record: outside the encoder first, then by unit; within, by component."""
    return (-1 if cost.unit is None else cost.unit, COMPONENT_ORDER[cost.component])


def now() -> str:
    """The time of day for `created`: ISO 8601, UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def encode(breakdown: Breakdown) -> bytes:
    """The record as JSON: one line a field, a cost and a module, so that two records can be compared line by line."""
    return schema.encode(breakdown)


def decode(content: bytes, where: str) -> Breakdown:
    """Reads a record of any minor version; what comes back is of this one.

    Args:
        content: the JSON.
        where: what to call the file in an error.

    Raises:
        RecordError: it is not JSON, no breakdown, of a newer major version, or a field is missing, wrongly typed or
            at odds with another; the text names the field.
    """
    return of(schema.head_of(content, where), where)


def of(head: dict[str, Any], where: str) -> Breakdown:
    """The same from the JSON object."""
    schema.expect(head, where, SCHEMA)
    breakdown = schema.convert(head, where, Breakdown, SCHEMA_VERSION, _ADDED)
    # The first is told; what comes after it may rest on what it denies.
    for problem in validity.problems(breakdown):
        raise schema.invalid(where, problem)
    breakdown.schema_version = SCHEMA_VERSION
    return breakdown


def load(path: str | Path) -> Breakdown:
    """Reads a record from a file.

    Raises:
        RecordError: the file cannot be read or is not a valid record.
    """
    return decode(schema.read(Path(path)), str(path))
