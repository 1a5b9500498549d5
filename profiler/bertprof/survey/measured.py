"""Models beside BERT-base, each counted and measured on the same work; and so the rows of the survey's Table 2."""

from collections.abc import Mapping
from typing import NamedTuple

from bertprof import comparison, record, sides
from bertprof.errors import BertprofError
from bertprof.measurement import Plan, Progress, run
from bertprof.record import Breakdown
from bertprof.sides import Asked, Side
from bertprof.survey import systems
from bertprof.survey import table2 as tables
from bertprof.survey.systems import System
from bertprof.survey.table2 import Run, Speed, Table2

Bases = Mapping[tuple[int, ...] | None, Breakdown]
"""BERT-base as it was counted, by the segments of the work; None: the work that was asked for."""


class Wanted(NamedTuple):
    """A model that is to be measured beside BERT-base, and at what work.

    Attributes:
        model: with its recipes.
        settings: what is asked of it alone.
        segments: of what lengths the sequences of both are made; None: as asked.
    """

    model: str
    settings: tuple[str, ...]
    segments: tuple[int, ...] | None


class Found(NamedTuple):
    """BERT-base and a model as they were measured together, or as far as that went.

    Attributes:
        before: BERT-base; None where nothing was timed.
        after: the model; None where it cannot even be counted.
        failed: why there is no more.
    """

    before: Breakdown | None = None
    after: Breakdown | None = None
    failed: str | None = None


class AllFound(NamedTuple):
    """What was found of several models.

    Attributes:
        bases: BERT-base, counted.
        models: of each model.
        seen: BERT-base with the machine and the work as they were when something was timed.
    """

    bases: Bases
    models: Mapping[Wanted, Found]
    seen: Breakdown


def all_beside(baseline: str, wanted: Mapping[Wanted, str], asked: Asked, plan: Plan, progress: Progress) -> AllFound:
    """Several models, each beside BERT-base on the same work.

    Args:
        baseline: BERT-base.
        wanted: the models, and what to call them.
        asked: the workload and the device, of all but those with segments of their own.
        plan: how to measure each together with BERT-base; or that they are only counted.
        progress: is told which model is at what step, and how far the whole is.

    Raises:
        BertprofError: BERT-base itself can be neither counted nor, on that device, measured.
    """
    bare = sides.asked_of(baseline, None, asked)
    sides.checked(bare, plan.threads, plan.min_time_s, plan.time)
    if plan.time:
        from bertprof.measure import subject

        subject.find_device(bare["device"])
    bases: dict[tuple[int, ...] | None, Breakdown] = {None: _counted(bare, plan)}
    found: dict[Wanted, Found] = {}
    for i, (one, name) in enumerate(wanted.items()):

        def told(step: str, fraction: float, name: str = name, done: int = i) -> None:
            progress(f"{name}: {step}", (done + (fraction if step == "timing" else 0.0)) / len(wanted))

        work: Asked = asked if one.segments is None else {**asked, "segments": one.segments}
        base = sides.asked_of(baseline, None, work)
        if one.segments not in bases:
            bases[one.segments] = _counted(base, plan)
        side = sides.changed(sides.asked_of(one.model, None, work), one.settings, "--after")
        found[one] = beside(base, side, plan, told)
    timed = (each.before for one, each in found.items() if each.before is not None and one.segments is None)
    return AllFound(bases, found, next(timed, bases[None]))


def table2(asked: Asked, plan: Plan, command: str | None, progress: Progress) -> Table2:
    """The whole table.

    Args:
        asked: the workload and the device, of all rows but those with segments of their own.
        plan: how to measure each row together with BERT-base; or that sizes alone are counted.
        command: how to make the table again.
        progress: is told which row is at what step, and how far the whole is.

    Raises:
        BertprofError: BERT-base itself can be neither counted nor, on that device, measured.
    """
    # A system of two rows is measured once.
    wanted = {one: name for system in systems.SYSTEMS for one, name in _wanted(system)}
    bases, found, seen = all_beside(systems.BASELINE, wanted, asked, plan, progress)
    return Table2(
        bertprof_version=seen.bertprof_version,
        created=record.now(),
        command=command,
        timed=plan.time,
        margin=comparison.MARGIN,
        workload=seen.workload,
        host=seen.host,
        baseline=tables.size_of(bases[None], bases[None]),
        rows=[_row(system, bases, found) for system in systems.SYSTEMS],
        notes=list(systems.NOTES),
    )


def _wanted(system: System) -> list[tuple[Wanted, str]]:
    """What is to be measured of a row, and what to call it; BERT-base itself runs beside each."""
    models = {system.model: system.name, system.uncached: f"{system.name} uncached"}
    return [
        (Wanted(model, system.settings, system.segments), name)
        for model, name in models.items()
        if model not in (None, systems.BASELINE)
    ]


def _counted(bare: Side, plan: Plan) -> Breakdown:
    return run([bare], plan._replace(time=False))[0]


def beside(bare: Side, side: Side, plan: Plan, progress: Progress) -> Found:
    """BERT-base and a model timed together; the model only counted where that fails or is not asked for."""
    progress("counting", 0.0)
    failed = None
    if plan.time:
        try:
            before, after = run([bare, side], plan, progress=progress)
            return Found(before, after)
        except BertprofError as error:
            failed = str(error)
    try:
        return Found(None, run([side], plan._replace(time=False), progress=progress)[0], failed)
    except BertprofError as error:
        return Found(failed=failed or str(error))


def _row(system: System, bases: Bases, found: Mapping[Wanted, Found]) -> tables.Row:
    """A row, beside BERT-base as it was counted at the same work."""
    base = bases.get(system.segments, bases[None])

    def run_of(model: str | None) -> Run | None:
        if model is None:
            return None
        if model == systems.BASELINE:
            return Run(model=model, size=tables.size_of(base, base), macs=tables.macs_of(base, base))
        one = found[Wanted(model, system.settings, system.segments)]
        if one.after is None:
            return Run(model=model, failed=one.failed)
        size = tables.size_of(one.after, base, system.pruned)
        return Run(model=model, size=size, macs=tables.macs_of(one.after, base), speed=_speed(one), failed=one.failed)

    return tables.row_of(system, systems.SYSTEMS[0].printed, run_of(system.model), run_of(system.uncached))


def _speed(found: Found) -> Speed | None:
    if found.before is None or found.after is None:
        return None
    return tables.speed_of(comparison.Comparison(found.before, found.after).diff(), found.after)
