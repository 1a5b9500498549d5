"""From what is asked of models to their records: in this process, or in several fresh ones."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertprof import sampling, sides
from bertprof.configuration import Configuration
from bertprof.errors import UsageError
from bertprof.record import Breakdown
from bertprof.sides import Side

if TYPE_CHECKING:
    from bertprof.measure import profiler, subject

MOST_COMPARED = 1000
"""Rounds kept of models that are measured together: the precision that `until` asks for is that of all rounds."""

Progress = Callable[[str, float], None]
"""Is told what is being done and how far that is, 0 to 1."""


def silent(step: str, fraction: float) -> None:
    """No progress."""


def run(asked: Sequence[Side], options: Mapping[str, Any], processes: int, progress: Progress) -> list[Breakdown]:
    """Measures sides together, in this process or, where there are to be several, in fresh ones.

    Args:
        asked: the sides.
        options: of `measured`, without progress.
        processes: how many.
        progress: see `measured`.
    """
    if processes == 1:
        return measured(asked, **options, progress=progress)
    for side in asked:
        sides.checked(side, options["threads"], options["min_time_s"], options["time"])
    from bertprof import processes as fresh

    return fresh.measured(asked, options, processes, progress)


def measured(
    asked: Sequence[Side],
    *,
    threads: int | None = None,
    time: bool = True,
    min_time_s: float = 2.0,
    max_time_s: float | None = None,
    until: float | None = None,
    label: str | None = None,
    most_samples: int | None = None,
    progress: Progress = silent,
) -> list[Breakdown]:
    """Measures models in this process, several of them interleaved; `breakdown` and `compare` explain the options.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
    """
    found = [sides.checked(side, threads, min_time_s, time) for side in asked]
    from bertprof.measure import profiler

    subjects = [_subject(side, known, time) for side, known in zip(asked, found, strict=True)]
    most = most_samples or (MOST_COMPARED if len(asked) > 1 else sampling.MOST_SAMPLES)
    options = options_of(threads, time, min_time_s, label, progress, max_time_s, until, most)
    return profiler.measure(subjects, options)


def options_of(
    threads: int | None,
    time: bool,
    min_time_s: float,
    label: str | None,
    progress: Progress,
    max_time_s: float | None = None,
    until: float | None = None,
    most_samples: int = sampling.MOST_SAMPLES,
) -> "profiler.Options":
    """The profiler's options; see `measured`."""
    from bertprof.measure import profiler, timing

    return profiler.Options(
        time=time,
        goal=timing.Goal(min_time_s, max_time_s, until),
        most_samples=most_samples,
        threads=threads,
        label=label,
        progress=progress,
    )


def _subject(side: Side, found: Configuration | None, time: bool) -> "subject.Subject":
    from bertprof.measure import build, live, subject

    _one_of("dtype", side["dtype"], build.DTYPES)
    _one_of("attention", side["attention"], ("sdpa", "eager"))
    if side["task"] is not None:
        _one_of("task", side["task"], build.TASKS)
    request = subject.Request(
        batch_size=side["batch_size"],
        sequence_length=side["sequence_length"],
        padding=side["padding"],
        dtype=side["dtype"],
        attention=side["attention"],
        task=side["task"],
        # What only counts need not wake a GPU.
        device=subject.find_device("cpu" if side["device"] == "auto" and not time else side["device"]),
        weights=side["weights"],
        anatomy=side["anatomy"],
    )
    if found is None:
        return live.from_reference(side["model"], side["inputs"], request)
    return subject.from_configuration(found, side["overrides"], request)


def _one_of(option: str, value: str, known: Any) -> None:
    if value not in known:
        raise UsageError(f"{option} {value!r} is unknown; use one of {', '.join(known)}")
