"""The wiring: what a user asks for in Python or on the command line, from the question to the Breakdown.

Everything heavy is imported inside the functions, after what was asked has been checked as far as it can be without.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from bertprof import record, sides
from bertprof.difference import Diff
from bertprof.errors import UsageError
from bertprof.measurement import MOST_COMPARED, Progress, options_of, run, silent
from bertprof.record import Breakdown
from bertprof.sides import Side
from bertprof.survey import claims

if TYPE_CHECKING:
    from torch import nn

    from bertprof import limits, readiness

UNTIL_AT_MOST_S = 60.0
"""Seconds after which sampling until a precision is given up."""


def breakdown(
    model: str | Path,
    *,
    inputs: str | None = None,
    device: str = "auto",
    batch_size: int = 1,
    sequence_length: int = 128,
    padding: float = 0.0,
    dtype: str = "float32",
    attention: str = "sdpa",
    task: str | None = None,
    threads: int | None = None,
    overrides: Mapping[str, Any] | None = None,
    weights: bool | None = None,
    anatomy: Mapping[str, str] | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    processes: int = 1,
    label: str | None = None,
    progress: Progress = silent,
) -> Breakdown:
    """Breaks a model down into components: parameters, MACs, FLOPs and measured time of each.

    Args:
        model: a known name (`bertprof models` lists them), a folder with config.json, a name on the hub, or
            `package.module:callable` that returns a torch module.
        inputs: `package.module:callable` that returns what such a module's forward takes; known families need none.
        device: auto (CUDA where there is some), cpu, cuda or cuda:N.
        batch_size: sequences in a batch.
        sequence_length: tokens in a sequence.
        padding: share of each sequence that is padding, 0 to below 1, hidden by one prebuilt mask.
        dtype: float32, float16, bfloat16 or float64.
        attention: sdpa (fused) or eager.
        task: the head to build on the base model, such as masked-lm; None: none.
        threads: torch's threads within operators on the CPU; None: as they are.
        overrides: configuration field → new value, also as text.
        weights: load the checkpoint's weights (True), random ones (False), or the checkpoint's where `model` is a
            folder that holds some (None).
        anatomy: regular expression on a module's full path → component, or "unit", over what is found by itself.
        time: measure time; otherwise nothing runs and no weights are built.
        min_time_s: seconds of sampling at least, in each process.
        processes: measure in so many fresh processes, one after another, and pool them: only several tell how far one
            differs from the next. 1: in this process.
        label: what to call the result in reports.
        progress: is told what is being done and how far that is, 0 to 1.

    Returns:
        the Breakdown, which shows itself in a notebook and has `.save()`, `.frame()`, `.figure()` and `.text()`.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
    """
    side = Side(
        model=str(model),
        inputs=inputs,
        device=device,
        batch_size=batch_size,
        sequence_length=sequence_length,
        padding=padding,
        dtype=dtype,
        attention=attention,
        task=task,
        overrides=_texts(overrides),
        weights=weights,
        anatomy=dict(anatomy or {}),
    )
    options = {"threads": threads, "time": time, "min_time_s": min_time_s, "label": label}
    return run([side], options, processes, progress)[0]


class Asked(TypedDict, total=False):
    """What is asked of models by name in a comparison; as in `breakdown`."""

    device: str
    batch_size: int
    sequence_length: int
    padding: float
    dtype: str
    attention: str
    task: str | None
    overrides: Mapping[str, Any]
    weights: bool | None
    anatomy: Mapping[str, str]


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
        asked: what the diff is checked against, as in `diff`, and the workload of models by name, as in `breakdown`.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
        TypeError: there is no such argument.
    """
    gates: Gates = {key: value for key, value in asked.items() if key in Gates.__annotations__}  # type: ignore[assignment]
    workload: Asked = {key: value for key, value in asked.items() if key not in gates}  # type: ignore[assignment]
    specs = _specs(gates)
    pair = interleaved(
        before,
        after,
        inputs,
        threads=threads,
        time=time,
        min_time_s=min_time_s,
        max_time_s=max_time_s,
        until=until,
        processes=processes,
        progress=progress,
        **workload,
    )
    return _diff(*pair, specs, gates, until)


def interleaved(
    before: "nn.Module | str | Path",
    after: "nn.Module | str | Path",
    inputs: Any = None,
    *,
    changes: tuple[Sequence[str], Sequence[str]] = ((), ()),
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    max_time_s: float | None = None,
    until: float | None = None,
    processes: int = 1,
    progress: Progress = silent,
    **asked: Unpack[Asked],
) -> tuple[Breakdown, Breakdown]:
    """The two Breakdowns that `compare` compares, whose repeats are paired; arguments as there.

    Args:
        changes: for each side, what is asked of it otherwise, as KEY=VALUE.
    """
    _only(asked, Asked, "compare")
    if until is not None and not 0 < until < 1:
        raise UsageError(f"until is {until}; it is a share above 0 and below 1: 0.02 for ± 2 %")
    limit = max_time_s
    if limit is None and until is not None:
        limit = max(UNTIL_AT_MOST_S, min_time_s)
    names: list[Side] = []
    any_own = any(isinstance(model, str) and sides.is_reference(model) for model in (before, after))
    for model, pairs, option in ((before, changes[0], "--before"), (after, changes[1], "--after")):
        if isinstance(model, str | Path):
            # A teacher by name makes its own inputs, beside a student of one's own.
            own = inputs if sides.is_reference(str(model)) or not any_own else None
            side: Side = {**_side(asked), "model": str(model), "inputs": own}
            names.append(sides.changed(side, pairs, option))
    options = {
        "threads": threads,
        "time": time,
        "min_time_s": min_time_s,
        "max_time_s": limit,
        "until": until,
    }
    if len(names) == 2:
        first, second = run(names, options, processes, progress)
        return first, second
    if names or processes != 1:
        raise UsageError("both sides must be live modules, or both names; only names can be measured in processes")
    unused = set(asked) - {"anatomy"}
    if unused:
        named = ", ".join(sorted(unused))
        raise UsageError(f"{named}: a live module is measured as it is, on the inputs that you give")
    sides.check(threads, min_time_s)
    from bertprof.measure import live, profiler

    anatomy = asked.get("anatomy")
    subjects = [live.from_module(model, inputs, None, anatomy) for model in (before, after)]  # type: ignore[arg-type]
    first, second = profiler.measure(
        subjects, options_of(threads, time, min_time_s, None, progress, limit, until, MOST_COMPARED)
    )
    return first, second


def _side(asked: Asked) -> Side:
    """What is asked of a model, and the defaults of what is not."""
    found: dict[str, Any] = {**sides.DEFAULTS, **asked}
    found |= {"overrides": _texts(found["overrides"]), "anatomy": dict(found["anatomy"])}
    return cast(Side, found)


def _texts(overrides: Mapping[str, Any] | None) -> dict[str, str]:
    """New values of configuration fields as text, as the command line has them."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in (overrides or {}).items()}


def sides_of(
    before: str,
    after: str,
    inputs: str | None = None,
    *,
    changes: tuple[Sequence[str], Sequence[str]] = ((), ()),
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    max_time_s: float | None = None,
    until: float | None = None,
    processes: int | None = None,
    progress: Progress = silent,
    **asked: Unpack[Asked],
) -> tuple[Breakdown, Breakdown]:
    """The two breakdowns that a command line names: records are read, models measured; arguments as in `interleaved`.

    Two models are measured together. A model beside a record is measured under the record's workload, in as many
    processes as the record was.

    Raises:
        UsageError: options that have nothing to apply to.
        BertprofError: a side can be neither read nor measured.
    """
    found = (sides.find(before), sides.find(after))
    names = [side for side in found if isinstance(side, str)]
    if len(names) == 2:
        return interleaved(
            names[0],
            names[1],
            inputs,
            changes=changes,
            threads=threads,
            time=time,
            min_time_s=min_time_s,
            max_time_s=max_time_s,
            until=until,
            processes=processes or 1,
            progress=progress,
            **asked,
        )
    # What a record fixes already: everything but how long to measure.
    given = [key for key in asked if key not in ("overrides", "weights", "anatomy")]
    given += [name for name, value in (("threads", threads), ("until", until)) if value is not None]
    if not names:
        applied: dict[str, object] = {
            "overrides": asked.get("overrides") or None,
            "weights": asked.get("weights"),
            "inputs": inputs,
        }
        applied |= {"processes": processes, "max_time": max_time_s, "no_time": None if time else True}
        given += [name for name, value in applied.items() if value is not None]
    if given:
        what = "a MODEL beside a record takes the record's workload" if names else "both sides are records"
        raise UsageError(
            f"{', '.join(_option(key) for key in given)}: {what}; measure it otherwise with `breakdown -o`"
        )
    for side, pairs, option in zip(found, changes, ("--before", "--after"), strict=True):
        if pairs and not isinstance(side, str):
            raise UsageError(f"{option} {pairs[0]}: that side is a record, which is as it was measured")
    pair: list[Breakdown] = []
    for i, (side, option) in enumerate(zip(found, ("--before", "--after"), strict=True)):
        if isinstance(side, str):
            other = found[1 - i]
            assert isinstance(other, Breakdown)
            like = sides.like(other, side)
            like["overrides"], like["anatomy"] = _texts(asked.get("overrides")), dict(asked.get("anatomy", {}))
            like["weights"], like["inputs"] = asked.get("weights"), inputs
            options: dict[str, Any] = {"threads": None, "time": False, "min_time_s": min_time_s}
            if time and other.timed:
                # Where the record's machine had more, the mismatch of threads says so.
                most = min(other.workload.threads or 1, os.cpu_count() or 1)
                options |= {"threads": most, "time": True, "max_time_s": max_time_s}
            else:
                like["device"] = "cpu"
            side = run([sides.changed(like, changes[i], option)], options, processes or other.processes, progress)[0]
        pair.append(side)
    return pair[0], pair[1]


def _option(key: str) -> str:
    return {"sequence_length": "--seq-length", "overrides": "--set"}.get(key, f"--{key.replace('_', '-')}")


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

    _only(gates, Gates, "diff")
    kinds: Mapping[limits.Kind, str | Sequence[str]] = {
        "fail-on": gates.get("fail_on", ()),
        "warn-on": gates.get("warn_on", ()),
        "require": gates.get("require", ()),
        "budget": gates.get("budget", ()),
    }
    return [
        limits.parse(kind, text, limits.PYTHON)
        for kind, texts in kinds.items()
        for text in ([texts] if isinstance(texts, str) else texts)
    ]


def _only(given: Mapping[str, object], known: type, function: str) -> None:
    for key in given:
        if key not in known.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {key!r}")


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

    allowed = [sides.plain(key) for key in allowed]
    unknown = set(allowed) - set(comparison.MISMATCHES)
    if unknown:
        known = ", ".join(comparison.MISMATCHES)
        raise UsageError(f"--allow-mismatch {', '.join(sorted(unknown))}: unknown; use one of {known}")
    compared = comparison.Comparison(before, after, allowed)
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
        threads, time, min_time_s, label, progress: as in `breakdown`.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
    """
    sides.check(threads, min_time_s)

    from bertprof.measure import live, profiler

    options = options_of(threads, time, min_time_s, label, progress)
    return profiler.measure([live.from_module(model, inputs, name, anatomy)], options)[0]


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
