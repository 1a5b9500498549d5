"""Pairs: the two breakdowns that are to be compared, measured together, read, or one of each."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from bertprof import sides
from bertprof.errors import UsageError
from bertprof.measurement import Plan, Progress, of_subjects, run, silent
from bertprof.record import Breakdown
from bertprof.sides import Asked, Side

if TYPE_CHECKING:
    from torch import nn

UNTIL_AT_MOST_S = 60.0
"""Seconds after which sampling until a precision is given up."""

Changes = tuple[Sequence[str], Sequence[str]]
"""For each side, what is asked of it otherwise, as KEY=VALUE."""


def interleaved(
    before: "nn.Module | str | Path",
    after: "nn.Module | str | Path",
    inputs: Any = None,
    *,
    plan: Plan,
    changes: Changes = ((), ()),
    processes: int = 1,
    progress: Progress = silent,
    **asked: Unpack[Asked],
) -> tuple[Breakdown, Breakdown]:
    """Two models measured together, whose repeats are paired; arguments as in `bertprof.compare`.

    Args:
        plan: how to measure both.
        changes: see `Changes`.

    Raises:
        BertprofError: one of its kinds, with one line that says what is wrong and what to do.
        TypeError: there is no such argument.
    """
    expect_known(asked, Asked, "compare")
    if plan.until is not None:
        if not 0 < plan.until < 1:
            raise UsageError(f"until is {plan.until}; it is a share above 0 and below 1: 0.02 for ± 2 %")
        if plan.max_time_s is None:
            plan = plan._replace(max_time_s=max(UNTIL_AT_MOST_S, plan.min_time_s))
    names: list[Side] = []
    any_own = any(isinstance(model, str) and sides.is_reference(model) for model in (before, after))
    for model, pairs, option in ((before, changes[0], "--before"), (after, changes[1], "--after")):
        if isinstance(model, str | Path):
            # A teacher by name makes its own inputs, beside a student of one's own.
            own = inputs if sides.is_reference(str(model)) or not any_own else None
            names.append(sides.changed(sides.asked_of(str(model), own, asked), pairs, option))
    if len(names) == 2:
        first, second = run(names, plan, processes, progress)
        return first, second
    if names or processes != 1:
        raise UsageError("both sides must be live modules, or both names; only names can be measured in processes")
    unused = set(asked) - {"anatomy"}
    if unused:
        named = ", ".join(sorted(unused))
        raise UsageError(f"{named}: a live module is measured as it is, on the inputs that you give")
    sides.check(plan.threads, plan.min_time_s)
    from bertprof.measure import live

    anatomy = asked.get("anatomy")
    subjects = [live.from_module(model, inputs, None, anatomy) for model in (before, after)]  # type: ignore[arg-type]
    first, second = of_subjects(subjects, plan, progress)
    return first, second


def expect_known(given: Mapping[str, object], known: type, function: str) -> None:
    """Makes sure that every argument is one: what is misspelt would else pass in silence.

    Raises:
        TypeError: a key is none of the fields of `known`, a TypedDict.
    """
    for key in given:
        if key not in known.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {key!r}")


def found(
    before: str,
    after: str,
    inputs: str | None = None,
    *,
    plan: Plan,
    changes: Changes = ((), ()),
    processes: int | None = None,
    progress: Progress = silent,
    **asked: Unpack[Asked],
) -> tuple[Breakdown, Breakdown]:
    """What a command line names: records are read, models measured; arguments as in `interleaved`.

    Two models are measured together. A model beside a record is measured under the record's workload, in as many
    processes as the record was.

    Raises:
        UsageError: options that have nothing to apply to.
        BertprofError: a side can be neither read nor measured.
    """
    first, second = sides.find(before), sides.find(after)
    if isinstance(first, str) and isinstance(second, str):
        return interleaved(
            first, second, inputs, plan=plan, changes=changes, processes=processes or 1, progress=progress, **asked
        )
    # What a record fixes already: everything but how long to measure.
    given = [key for key in asked if key not in ("overrides", "weights", "anatomy", "recipes")]
    given += [name for name, value in (("threads", plan.threads), ("until", plan.until)) if value is not None]
    beside = isinstance(first, str) or isinstance(second, str)
    if not beside:
        applied: dict[str, object] = {
            "overrides": asked.get("overrides") or None,
            "weights": asked.get("weights"),
            "inputs": inputs,
            "processes": processes,
            "max_time": plan.max_time_s,
            "no_time": None if plan.time else True,
        }
        given += [name for name, value in applied.items() if value is not None]
    if given:
        what = "a MODEL beside a record takes the record's workload" if beside else "both sides are records"
        named = ", ".join(_option(key) for key in given)
        raise UsageError(f"{named}: {what}; measure it otherwise with `breakdown -o`")
    for side, pairs, option in ((first, changes[0], "--before"), (second, changes[1], "--after")):
        if pairs and not isinstance(side, str):
            raise UsageError(f"{option} {pairs[0]}: that side is a record, which is as it was measured")

    def measured(model: str, record: Breakdown, pairs: Sequence[str], option: str) -> Breakdown:
        side = sides.like(record, model)
        side["overrides"], side["anatomy"] = sides.texts(asked.get("overrides")), dict(asked.get("anatomy", {}))
        side["weights"], side["inputs"] = asked.get("weights"), inputs
        if plan.time and record.timed:
            # Where the record's machine had more, the mismatch of threads says so.
            own = plan._replace(threads=min(record.workload.threads or 1, os.cpu_count() or 1))
        else:
            own, side["device"] = plan._replace(time=False), "cpu"
        return run([sides.changed(side, pairs, option)], own, processes or record.processes, progress)[0]

    if isinstance(first, str):
        assert isinstance(second, Breakdown)
        return measured(first, second, changes[0], "--before"), second
    return first, measured(second, first, changes[1], "--after") if isinstance(second, str) else second


def _option(key: str) -> str:
    return {"sequence_length": "--seq-length", "overrides": "--set"}.get(key, f"--{key.replace('_', '-')}")
