"""From what is asked of models to their records: in this process, or in several fresh ones."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bertprof import sampling, sides
from bertprof.configuration import Configuration
from bertprof.errors import UsageError
from bertprof.observations import Beside
from bertprof.record import Breakdown
from bertprof.sides import Side

if TYPE_CHECKING:
    from bertprof.measure import subject

MOST_COMPARED = 1000
"""Rounds kept of models that are measured together: the precision that `until` asks for is that of all rounds."""

Progress = Callable[[str, float], None]
"""Is told what is being done and how far that is, 0 to 1."""


def silent(step: str, fraction: float) -> None:
    """No progress."""


class Plan(NamedTuple):
    """How to measure; plain data, which another process can read.

    Attributes:
        threads: torch's threads within operators on the CPU; None: as they are.
        time: measure time; otherwise only count.
        min_time_s: seconds of sampling at least.
        max_time_s: seconds at most; None: some times the least.
        until: of two models, the precision of their change to sample for, as a share.
        label: what to call the result.
        most_samples: the rounds that a record keeps; None: MOST_COMPARED of several models, else the usual.
        beside: what to find out beside counts and times.
    """

    threads: int | None = None
    time: bool = True
    min_time_s: float = 2.0
    max_time_s: float | None = None
    until: float | None = None
    label: str | None = None
    most_samples: int | None = None
    beside: Beside = Beside()


def run(asked: Sequence[Side], plan: Plan, processes: int = 1, progress: Progress = silent) -> list[Breakdown]:
    """Measures sides together, in this process or, where there are to be several, in fresh ones.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
    """
    if processes == 1:
        return measured(asked, plan, progress)
    for side in asked:
        sides.checked(side, plan.threads, plan.min_time_s, plan.time)
    from bertprof import processes as fresh

    return fresh.measured(asked, plan, processes, progress)


def measured(asked: Sequence[Side], plan: Plan, progress: Progress = silent) -> list[Breakdown]:
    """Measures models in this process, several of them interleaved.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
    """
    found = [sides.checked(side, plan.threads, plan.min_time_s, plan.time) for side in asked]
    subjects = [_subject(side, known, plan.time) for side, known in zip(asked, found, strict=True)]
    return of_subjects(subjects, plan, progress)


def of_subjects(subjects: "Sequence[subject.Subject]", plan: Plan, progress: Progress) -> list[Breakdown]:
    """The same of models that stand ready to be measured."""
    from bertprof.measure import profiler, timing

    options = profiler.Options(
        time=plan.time,
        goal=timing.Goal(plan.min_time_s, plan.max_time_s, plan.until),
        most_samples=plan.most_samples or (MOST_COMPARED if len(subjects) > 1 else sampling.MOST_SAMPLES),
        threads=plan.threads,
        label=plan.label,
        beside=plan.beside,
        progress=progress,
    )
    return profiler.measure(subjects, options)


def _subject(side: Side, found: Configuration | None, time: bool) -> "subject.Subject":
    from bertprof.compress import recipe
    from bertprof.measure import build, live, subject

    _one_of("dtype", side["dtype"], build.DTYPES)
    _one_of("attention", side["attention"], ("sdpa", "eager"))
    if side["task"] is not None:
        _one_of("task", side["task"], build.TASKS)
    request = subject.Request(
        batch_size=side["batch_size"],
        sequence_length=side["sequence_length"],
        segments=side["segments"],
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
        made = live.from_reference(side["model"], side["inputs"], request)
    else:
        made = subject.from_configuration(found._replace(name=side["model"]), side["overrides"], request)
    if not side["recipes"]:
        return made
    from bertprof.compress import application

    return application.apply(made, recipe.parse_all(side["recipes"]))


def _one_of(option: str, value: str, known: Any) -> None:
    if value not in known:
        raise UsageError(f"{option} {value!r} is unknown; use one of {', '.join(known)}")
