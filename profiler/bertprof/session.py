"""The wiring: what a user asks for in Python or on the command line, from the question to the Breakdown.

Everything heavy is imported inside the functions, after what was asked has been checked as far as it can be without.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from bertprof import record, sides
from bertprof.difference import Diff
from bertprof.further import Further
from bertprof.further import beside as beside_of
from bertprof.measurement import Plan, Progress, of_subjects, run, silent
from bertprof.pairs import expect_known, interleaved
from bertprof.record import Breakdown
from bertprof.sides import Asked
from bertprof.survey import claims
from bertprof.survey.methods import Methods, View
from bertprof.survey.table2 import Table2

if TYPE_CHECKING:
    from torch import nn

    from bertprof import limits, readiness
    from bertprof.survey import measured_methods


def breakdown(
    model: str | Path,
    *,
    inputs: str | None = None,
    device: str = "auto",
    batch_size: int = 1,
    sequence_length: int = 128,
    segments: Sequence[int] | None = None,
    padding: float = 0.0,
    dtype: str = "float32",
    attention: str = "sdpa",
    task: str | None = None,
    threads: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    weights: bool | None = None,
    anatomy: Mapping[str, str] | None = None,
    recipes: str | Sequence[str] = (),
    time: bool = True,
    min_time_s: float = 2.0,
    processes: int = 1,
    label: str | None = None,
    progress: Progress = silent,
    **further: Unpack[Further],
) -> Breakdown:
    """Breaks a model down into components: parameters, MACs, FLOPs and measured time of each.

    Args:
        model: a known name (`bertprof models` lists them), a folder with config.json, a name on the hub, or
            `package.module:callable` that returns a torch module; recipes may follow: "bert-base-uncased+heads=6+int8".
        inputs: `package.module:callable` that returns what such a module's forward takes; known families need none.
        device: auto (CUDA where there is some), cpu, cuda or cuda:N.
        batch_size: sequences in a batch.
        sequence_length: tokens in a sequence.
        segments: the lengths of the parts of each sequence, as question and passage, for methods that tell them apart;
            they overrule sequence_length.
        padding: share of each sequence that is padding, 0 to below 1, hidden by one prebuilt mask.
        dtype: float32, float16, bfloat16 or float64.
        attention: sdpa (fused) or eager.
        task: the head to build on the base model, such as masked-lm; None: none.
        threads: torch's threads within operators on the CPU; None: as they are.
        overrides: configuration field → new value, also as text.
        weights: load the checkpoint's weights (True), random ones (False), or the checkpoint's where `model` is a
            folder that holds some (None).
        anatomy: regular expression on a module's full path → component, or "unit", over what is found by itself.
        recipes: compression methods to apply, one after another, behind those in the model's name: "heads=6+int8", or
            a list of such; `bertprof methods` lists them, docs/methods.md says what each does.
        time: measure time; otherwise nothing runs and no weights are built.
        min_time_s: seconds of sampling at least, in each process.
        processes: measure in so many fresh processes, one after another, and pool them: only several tell how far one
            differs from the next. 1: in this process.
        label: what to call the result in reports.
        progress: is told what is being done and how far that is, 0 to 1.
        further: what to find out beside counts and times: other clocks, the device's peaks, memory, energy; see
            `bertprof.further.Further`.

    Returns:
        the Breakdown, which shows itself in a notebook and has `.save()`, `.frame()`, `.figure()` and `.text()`.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
        TypeError: there is no such argument.
    """
    expect_known(further, Further, "breakdown")
    asked = Asked(
        device=device,
        batch_size=batch_size,
        sequence_length=sequence_length,
        segments=segments,
        padding=padding,
        dtype=dtype,
        attention=attention,
        task=task,
        overrides=overrides or {},
        weights=weights,
        anatomy=anatomy or {},
        recipes=recipes,
    )
    beside = beside_of(further, time=time, processes=processes)
    plan = Plan(threads=threads, time=time, min_time_s=min_time_s, label=label, beside=beside)
    return run([sides.asked_of(str(model), inputs, asked)], plan, processes, progress)[0]


class Gates(TypedDict, total=False):
    """What a diff is checked against.

    Attributes:
        fail_on: what fails, as `[SCOPE.]METRIC:+N%`; see `bertprof.limits`.
        warn_on: what only warns.
        require: least gains, as `ffn.time:-30%` or `time:1.5x`.
        budget: ceilings of the second side, as `total.bytes:100MB`.
        allow_mismatch: in what the sides may differ and be compared all the same.
        min_samples: repeats a side below which no gate on a time says anything.
        accuracy: before and after, in points, for the survey's ΔMS/ΔA.
        accuracy_metric: what they are of, as MNLI.
    """

    fail_on: str | Sequence[str]
    warn_on: str | Sequence[str]
    require: str | Sequence[str]
    budget: str | Sequence[str]
    allow_mismatch: Sequence[str]
    min_samples: int
    accuracy: tuple[float, float] | None
    accuracy_metric: str | None


class Compared(Asked, Gates, total=False):
    """What `compare` takes of both."""


def compare(
    before: "nn.Module | str | Path",
    after: "nn.Module | str | Path",
    inputs: Any = None,
    *,
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    max_time_s: float | None = None,
    until: float | None = None,
    processes: int = 1,
    progress: Progress = silent,
    **asked: Unpack[Compared],
) -> Diff:
    """Measures two models together, interleaved round by round in random order, and compares them.

    Args:
        before: a live module, or a model by name as in `breakdown`.
        after: the same.
        inputs: what the forward of live modules takes; for models of the form `package.module:callable`, one that
            returns it. The same for both.
        threads, time, progress: as in `breakdown`.
        min_time_s: seconds of sampling at least, for both together.
        max_time_s: seconds at most, but for ten rounds; three times the least otherwise, or 60 s with `until`.
        until: sample until the change of the latency, and of every component that matters to it, is known to that
            share (0.02: ± 2 %) or the time is up; a caveat of the diff says where it was not reached.
        processes: measure both together in each of so many fresh processes; for models by name.
        asked: what the diff is checked against, as in `diff`, and the workload of models by name, as in `breakdown`;
            `recipes` are for both sides, those behind a model's name for that side alone.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
        TypeError: there is no such argument.
    """
    gates: Gates = {key: value for key, value in asked.items() if key in Gates.__annotations__}  # type: ignore[assignment]
    workload: Asked = {key: value for key, value in asked.items() if key not in gates}  # type: ignore[assignment]
    specs = _specs(gates)
    plan = Plan(threads, time, min_time_s, max_time_s, until)
    pair = interleaved(before, after, inputs, plan=plan, processes=processes, progress=progress, **workload)
    return _diff(*pair, specs, gates, until)


def diff(before: Breakdown | str | Path, after: Breakdown | str | Path, **gates: Unpack[Gates]) -> Diff:
    """Compares two breakdowns: exactly on counts, by evidence on times.

    Args:
        before: one side, or the file in which its record is.
        after: the other.
        gates: what the diff is checked against; see `Gates`. `Diff.exit_code()` sums their outcomes up.

    Returns:
        the Diff, which shows itself in a notebook and has `.save()`, `.frame()`, `.figure()` and `.text()`.

    Raises:
        UsageError: a gate cannot be read, or its scope or metric matches nothing.
        TypeError: there is no such argument.
    """
    found = [record.load(side) if isinstance(side, str | Path) else side for side in (before, after)]
    return _diff(found[0], found[1], _specs(gates), gates, None)


def _specs(gates: Gates) -> "list[limits.Spec]":
    """The gates, read.

    Raises:
        TypeError: a key is none of `Gates`: what is misspelt would else pass in silence.
    """
    from bertprof import limits

    expect_known(gates, Gates, "diff")
    kinds: Mapping[limits.Kind, str | Sequence[str] | None] = {
        "fail-on": gates.get("fail_on"),
        "warn-on": gates.get("warn_on"),
        "require": gates.get("require"),
        "budget": gates.get("budget"),
    }
    return limits.parse_all(kinds, limits.PYTHON)


def _diff(
    before: Breakdown, after: Breakdown, specs: "Sequence[limits.Spec]", gates: Gates, until: float | None
) -> Diff:
    from bertprof import gate

    return checked_diff(
        before,
        after,
        specs,
        allowed=gates.get("allow_mismatch", ()),
        min_samples=gates.get("min_samples", gate.FEWEST_SAMPLES),
        accuracy=gates.get("accuracy"),
        accuracy_metric=gates.get("accuracy_metric"),
        until=until,
    )


def checked_diff(
    before: Breakdown,
    after: Breakdown,
    specs: "Sequence[limits.Spec]",
    *,
    allowed: Sequence[str] = (),
    min_samples: int,
    accuracy: tuple[float, float] | None = None,
    accuracy_metric: str | None = None,
    until: float | None = None,
    command: str | None = None,
) -> Diff:
    """The same with gates that were read already; `until` was asked for, `command` makes the diff again."""
    from bertprof import comparison, gate

    compared = comparison.Comparison(before, after, [sides.plain(key) for key in allowed])
    result = compared.diff(None if accuracy is None else comparison.accuracy(before, after, accuracy, accuracy_metric))
    result.gates = gate.check(specs, compared, min_samples=min_samples)
    result.caveats.extend(comparison.caveats_of_precision(result, until))
    result.command = command
    return result


def profile(
    model: "nn.Module",
    inputs: Any,
    *,
    name: str | None = None,
    anatomy: Mapping[str, str] | None = None,
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    label: str | None = None,
    progress: Progress = silent,
    **further: Unpack[Further],
) -> Breakdown:
    """Breaks a live model down, as it is and where it is, and leaves it as it was.

    It runs in eval mode under `torch.inference_mode`; its own modes come back afterwards.

    Args:
        model: any torch module: a transformers model, a pipeline around one, quantised or pruned or with adapters, or
            one of your own, whose components are then found by what it computes.
        inputs: what its forward takes, on the model's device: a tensor, a tuple of positional arguments, a dict of
            keyword arguments, or a tokenizer's output.
        name: what to call the model.
        anatomy: regular expression on a module's full path → component (or "unit"), over what is found by itself:
            `{r"blocks\\.\\d+\\.mixer": "softmax-attention"}`. `b.text("module")` shows the paths.
        threads, time, min_time_s, label, progress, further: as in `breakdown`.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
        TypeError: there is no such argument.
    """
    expect_known(further, Further, "profile")
    beside = beside_of(further, time=time)
    sides.check(threads, min_time_s)

    from bertprof.measure import live

    plan = Plan(threads=threads, time=time, min_time_s=min_time_s, label=label, beside=beside)
    return of_subjects([live.from_module(model, inputs, name, anatomy)], plan, progress)[0]


def survey_figure2(
    *,
    device: str = "auto",
    sequence_length: int = claims.SEQUENCE_LENGTH,
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    progress: Progress = silent,
) -> Breakdown:
    """Breaks BERT-base down as the survey's Figure 2 does; `bertprof.survey.claims.check` then checks its claims.

    Arguments as in `breakdown`; the default length is the one that the survey's later edition states.
    """
    return breakdown(
        claims.MODEL,
        device=device,
        sequence_length=sequence_length,
        threads=threads,
        time=time,
        min_time_s=min_time_s,
        progress=progress,
    )


def survey_table2(
    *,
    device: str = "auto",
    batch_size: int = 1,
    sequence_length: int = 128,
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    command: str | None = None,
    progress: Progress = silent,
) -> Table2:
    """Counts and measures what stands in the rows of the survey's Table 2, each beside BERT-base.

    A row that fails, as for want of memory, says why, and the others go on.

    Args:
        device, batch_size, sequence_length, threads: as in `breakdown`, for all rows but DeFormer's, which is of a
            question and a passage.
        time: measure speeds; otherwise only sizes are counted.
        min_time_s: seconds of sampling at least, for each row together with BERT-base.
        command: how to make the table again, which it records.
        progress: is told which row is at what step, and how far the whole is.

    Raises:
        BertprofError: BERT-base itself can be neither counted nor, on that device, measured.
    """
    from bertprof.survey import measured

    asked = Asked(device=device, batch_size=batch_size, sequence_length=sequence_length)
    plan = Plan(threads=threads, time=time, min_time_s=min_time_s)
    return measured.table2(asked, plan, command, progress)


class Surveyed(TypedDict, total=False):
    """What `survey_methods` and `survey_table1` take: device, batch_size, sequence_length and threads as in
    `breakdown`, for all methods but those that have segments of their own.

    Attributes:
        time: measure times; otherwise nothing runs, and all is counted.
        min_time_s: seconds of sampling at least, for each method together with BERT-base.
        command: how to make it again, which the document records.
        progress: is told which method is at what step, and how far the whole is.
        told: is given every method (an `Approach`) and its Diff, of which the document keeps the figures alone.
    """

    device: str
    batch_size: int
    sequence_length: int
    threads: int | None
    time: bool
    min_time_s: float
    command: str | None
    progress: Progress
    told: "measured_methods.Told"


def survey_methods(**asked: Unpack[Surveyed]) -> Methods:
    """Counts and measures every method of the survey's Sections 3.1 to 3.4, each beside BERT-base on the same work.

    A method that fails, as for want of memory, says why, and the others go on.

    Raises:
        BertprofError: BERT-base itself can be neither counted nor, on that device, measured.
        TypeError: there is no such argument.
    """
    return _surveyed("methods", asked)


def survey_table1(**asked: Unpack[Surveyed]) -> Methods:
    """The same, shown as the survey's Table 1: what each branch of compression changes of each component."""
    return _surveyed("table1", asked)


def _surveyed(view: View, asked: Surveyed) -> Methods:
    expect_known(asked, Surveyed, f"survey_{view}")
    from bertprof.survey import measured_methods

    plan = Plan(asked.get("threads"), asked.get("time", True), asked.get("min_time_s", 2.0))
    workload = Asked(
        device=asked.get("device", "auto"),
        batch_size=asked.get("batch_size", 1),
        sequence_length=asked.get("sequence_length", 128),
    )
    progress = asked.get("progress", silent)
    return measured_methods.methods(workload, plan, view, asked.get("command"), progress, asked.get("told"))


def doctor(
    *,
    device: str = "auto",
    threads: int | None = None,
    processes: int = 5,
    min_time_s: float = 2.0,
    progress: Progress = silent,
) -> "list[readiness.Check]":
    """Examines whether this machine is fit to measure on, and how small a change can be seen on it.

    Args:
        device, threads, progress: as in `breakdown`.
        processes: fresh processes for the noise between them, at least 3; 0 leaves that out.
        min_time_s: seconds of sampling for each measurement of noise.
    """
    sides.check(threads, min_time_s)
    from bertprof.measure import readiness, subject

    return readiness.examine(
        subject.find_device(device), threads=threads, processes=processes, min_time_s=min_time_s, progress=progress
    )
