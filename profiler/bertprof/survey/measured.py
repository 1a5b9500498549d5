"""The rows of the survey's Table 2 as they are counted and measured here, each beside BERT-base."""

from typing import NamedTuple

from bertprof import comparison, record, sides
from bertprof.errors import BertprofError
from bertprof.measurement import Plan, Progress, run
from bertprof.record import Breakdown
from bertprof.sides import Asked, Side
from bertprof.survey import systems
from bertprof.survey import table2 as tables
from bertprof.survey.systems import System
from bertprof.survey.table2 import Row, Speed, Table2


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


def table2(asked: Asked, plan: Plan, command: str | None, progress: Progress) -> Table2:
    """The whole table.

    Args:
        asked: the workload and the device, of all rows.
        plan: how to measure each row together with BERT-base; or that sizes alone are counted.
        command: how to make the table again.
        progress: is told which row is at what step, and how far the whole is.

    Raises:
        BertprofError: BERT-base itself can be neither counted nor, on that device, measured.
    """
    bare = sides.asked_of(systems.BASELINE, None, asked)
    sides.checked(bare, plan.threads, plan.min_time_s, plan.time)
    if plan.time:
        from bertprof.measure import subject

        subject.find_device(bare["device"])
    base = run([bare], plan._replace(time=False))[0]
    # A system of two rows is measured once.
    runs = {_key(s): s for s in systems.SYSTEMS if s.model is not None and s.model != systems.BASELINE}
    found = {_key(systems.SYSTEMS[0]): Found(None, base)}
    for i, (key, system) in enumerate(runs.items()):

        def told(step: str, fraction: float, name: str = system.name, done: int = i) -> None:
            progress(f"{name}: {step}", (done + (fraction if step == "timing" else 0.0)) / len(runs))

        side = sides.changed(sides.asked_of(key[0], None, asked), system.settings, "--after")
        found[key] = beside(bare, side, plan, told)
    # The machine and the work as they were when something was timed.
    seen = next((one.before for one in found.values() if one.before is not None), base)
    return Table2(
        bertprof_version=base.bertprof_version,
        created=record.now(),
        command=command,
        timed=plan.time,
        margin=comparison.MARGIN,
        workload=seen.workload,
        host=seen.host,
        baseline=tables.size_of(base, base),
        rows=[_row(system, base, found.get(_key(system), Found())) for system in systems.SYSTEMS],
        notes=list(systems.NOTES),
    )


def _key(system: System) -> tuple[str, tuple[str, ...]]:
    return system.model or "", system.settings


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


def _row(system: System, base: Breakdown, found: Found) -> Row:
    size = None if found.after is None else tables.size_of(found.after, base, system.pruned)
    return tables.row_of(system, systems.SYSTEMS[0].printed, size, _speed(found), found.failed)


def _speed(found: Found) -> Speed | None:
    if found.before is None or found.after is None:
        return None
    return tables.speed_of(comparison.Comparison(found.before, found.after).diff(), found.after)
