"""The wiring: what a user asks for in Python or on the command line, from the question to the Breakdown.

Everything heavy is imported inside the functions, after what was asked has been checked as far as it can be without.
"""

import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertprof import catalog, configuration
from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.survey import claims

if TYPE_CHECKING:
    from torch import nn

MOST_TOKENS = 10**9
"""Tokens in a batch; more is a slip of the keyboard."""

LONGEST_S = 86400.0
"""The longest least time of sampling: a day."""

_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

Progress = Callable[[str, float], None]


def _silent(step: str, fraction: float) -> None:
    pass


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
    overrides: Mapping[str, str] | None = None,
    weights: bool | None = None,
    anatomy: Mapping[str, str] | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    label: str | None = None,
    progress: Progress = _silent,
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
        overrides: configuration field → new value, as text.
        weights: load the checkpoint's weights (True), random ones (False), or the checkpoint's where `model` is a
            folder that holds some (None).
        anatomy: regular expression on a module's full path → component, or "unit", over what is found by itself.
        time: measure time; otherwise nothing runs and no weights are built.
        min_time_s: seconds of sampling at least.
        label: what to call the result in reports.
        progress: is told what is being done and how far that is, 0 to 1.

    Returns:
        the Breakdown, which shows itself in a notebook and has `.save()`, `.frame()`, `.figure()` and `.text()`.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
    """
    _check(threads, min_time_s, batch_size=batch_size, sequence_length=sequence_length)
    if not 0 <= padding < 1:
        raise UsageError(f"padding is {padding}; it is a share of the sequence, at least 0 and below 1")
    own_code = _is_reference(str(model))
    if inputs is not None and not own_code:
        raise UsageError(f"--inputs goes with a model of the form package.module:callable; {model} makes its own")
    found = None if own_code else configuration.resolve(str(model))
    if found is not None and weights and not time and found.origin != "folder":
        raise UsageError("weights are loaded to be timed: --weights and --no-time exclude each other")

    from bertprof.measure import build, profiler, subject

    _one_of("dtype", dtype, build.DTYPES)
    _one_of("attention", attention, ("sdpa", "eager"))
    if task is not None:
        _one_of("task", task, build.TASKS)
    request = subject.Request(
        batch_size=batch_size,
        sequence_length=sequence_length,
        padding=padding,
        dtype=dtype,
        attention=attention,
        task=task,
        # What only counts need not wake a GPU.
        device=subject.find_device("cpu" if device == "auto" and not time else device),
        weights=weights,
        anatomy=anatomy or {},
    )
    options = profiler.Options(time=time, min_time_s=min_time_s, threads=threads, label=label, progress=progress)
    if found is None:
        given = {
            "--padding": bool(padding),
            "--task": task is not None,
            "--set": bool(overrides),
            "--weights or --no-weights": weights is not None,
            "--attention": attention != "sdpa",
        }
        if any(given.values()):
            named = ", ".join(option for option, is_given in given.items() if is_given)
            raise UsageError(f"{named}: {model} is your own code, in which that is to be set")
        from bertprof.measure import live

        return profiler.measure([live.from_reference(str(model), inputs, request)], options)[0]
    return profiler.measure([subject.from_configuration(found, overrides or {}, request)], options)[0]


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
    progress: Progress = _silent,
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
    _check(threads, min_time_s)

    from bertprof.measure import live, profiler

    options = profiler.Options(time=time, min_time_s=min_time_s, threads=threads, label=label, progress=progress)
    return profiler.measure([live.from_module(model, inputs, name, anatomy)], options)[0]


def survey_figure2(
    *,
    device: str = "auto",
    sequence_length: int = claims.SEQUENCE_LENGTH,
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    progress: Progress = _silent,
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


def _check(threads: int | None, min_time_s: float, **sizes: int) -> None:
    """What can be checked of the options before anything is loaded."""
    for name, value in sizes.items():
        if value < 1:
            raise UsageError(f"{name} is {value}; it must be at least 1")
    if math.prod(sizes.values()) > MOST_TOKENS:
        raise UsageError(f"{' × '.join(f'{n} {v}' for n, v in sizes.items())} is more than {MOST_TOKENS:,} tokens")
    cores = os.cpu_count() or 1
    if threads is not None and not 1 <= threads <= cores:
        raise UsageError(f"threads is {threads}; it must be from 1 to the {cores} cores of this machine")
    if not 0 <= min_time_s <= LONGEST_S:
        raise UsageError(f"the least time is {min_time_s} s; it must be from 0 to {LONGEST_S:.0f} s")


def _is_reference(model: str) -> bool:
    """Whether a model is named as package.module:callable; a path or a known name of that form wins."""
    return bool(_REFERENCE.fullmatch(model)) and not Path(model).exists() and catalog.find(model) is None


def _one_of(option: str, value: str, known: Any) -> None:
    if value not in known:
        raise UsageError(f"{option} {value!r} is unknown; use one of {', '.join(known)}")
