"""The survey's methods as they are counted and measured here, each beside BERT-base on the same work."""

from bertprof import comparison, record, sides
from bertprof.measurement import Plan, Progress, run
from bertprof.record import Breakdown
from bertprof.sides import Asked, Side
from bertprof.survey import approaches
from bertprof.survey import methods as documents
from bertprof.survey.approaches import Approach
from bertprof.survey.measured import Found, beside
from bertprof.survey.methods import Measured, Methods, Row, View

_Key = tuple[str, tuple[str, ...], tuple[int, ...] | None]


def methods(asked: Asked, plan: Plan, view: View, command: str | None, progress: Progress) -> Methods:
    """All methods.

    Args:
        asked: the workload and the device, of all methods but those that have segments of their own.
        plan: how to measure each together with BERT-base; or that it is only counted.
        view: what it is made for.
        command: how to make it again.
        progress: is told which method is at what step, and how far the whole is.

    Raises:
        BertprofError: BERT-base itself can be neither counted nor, on that device, measured.
    """
    bare = _side(approaches.BASE, asked)
    sides.checked(bare, plan.threads, plan.min_time_s, plan.time)
    if plan.time:
        from bertprof.measure import subject

        subject.find_device(bare["device"])
    base = _counted(bare, plan)
    # A model that stands for two methods is measured once.
    runs: dict[_Key, Approach] = {}
    for each in approaches.APPROACHES:
        if each.model is not None:
            runs.setdefault(_key(each), each)
    found: dict[_Key, tuple[Found, Measured | None]] = {}
    for i, (key, approach) in enumerate(runs.items()):

        def told(step: str, fraction: float, name: str = approach.name, done: int = i) -> None:
            progress(f"{name}: {step}", (done + (fraction if step == "timing" else 0.0)) / len(runs))

        found[key] = _measured(approach, asked, plan, told)
    # The machine and the work as they were when something was timed.
    timed = (one.before for key, (one, _) in found.items() if one.before is not None and key[2] is None)
    seen = next(timed, base)
    return Methods(
        bertprof_version=base.bertprof_version,
        created=record.now(),
        command=command,
        view=view,
        timed=plan.time,
        margin=comparison.MARGIN,
        workload=seen.workload,
        host=seen.host,
        base=documents.row_of(approaches.BASE, _compared(seen, seen)),
        rows=[_row(each, found.get(_key(each))) for each in approaches.APPROACHES],
        notes=list(approaches.NOTES),
    )


def _key(approach: Approach) -> _Key:
    return approach.model or "", approach.settings, approach.segments


def _measured(approach: Approach, asked: Asked, plan: Plan, progress: Progress) -> tuple[Found, Measured | None]:
    """A method and BERT-base on the work that it needs; what was found of both, compared."""
    own: Asked = asked if approach.segments is None else {**asked, "segments": approach.segments}
    bare = _side(approaches.BASE, own)
    found = beside(bare, _side(approach, own), plan, progress)
    if found.after is None:
        return found, None
    return found, _compared(found.before or _counted(bare, plan), found.after)


def _side(approach: Approach, asked: Asked) -> Side:
    return sides.changed(sides.asked_of(approach.model or "", None, asked), approach.settings, "--after")


def _counted(side: Side, plan: Plan) -> Breakdown:
    return run([side], plan._replace(time=False))[0]


def _compared(before: Breakdown, after: Breakdown) -> Measured:
    return documents.measured_of(comparison.Comparison(before, after).diff())


def _row(approach: Approach, found: tuple[Found, Measured | None] | None) -> Row:
    if found is None:
        return documents.row_of(approach)
    return documents.row_of(approach, found[1], found[0].failed)
