"""The survey's methods as they are counted and measured here, each beside BERT-base on the same work."""

from collections.abc import Callable

from bertprof import comparison, record
from bertprof.difference import Diff
from bertprof.measurement import Plan, Progress
from bertprof.sides import Asked
from bertprof.survey import approaches
from bertprof.survey import methods as documents
from bertprof.survey.approaches import Approach
from bertprof.survey.measured import AllFound, Wanted, all_beside
from bertprof.survey.methods import Measured, Methods, Row, View

Told = Callable[[Approach, Diff], None]
"""Is given a method, and BERT-base compared with it in full."""


def methods(
    asked: Asked, plan: Plan, view: View, command: str | None, progress: Progress, told: Told | None = None
) -> Methods:
    """All methods.

    Args:
        asked: the workload and the device, of all methods but those that have segments of their own.
        plan: how to measure each together with BERT-base; or that it is only counted.
        view: what it is made for.
        command: how to make it again.
        progress: is told which method is at what step, and how far the whole is.
        told: is given every method's diff, of which the document keeps the figures alone.

    Raises:
        BertprofError: BERT-base itself can be neither counted nor, on that device, measured.
    """
    # A model that stands for two methods is measured once, by the name of the first.
    wanted: dict[Wanted, str] = {}
    for each in approaches.APPROACHES:
        if (one := _wanted(each)) is not None:
            wanted.setdefault(one, each.name)
    found = all_beside(approaches.BASE.model or "", wanted, asked, plan, progress)
    diffs = {one: diff for one in wanted if (diff := _compared(one, found)) is not None}
    compared = {one: documents.measured_of(diff) for one, diff in diffs.items()}
    for each in approaches.APPROACHES:
        one = _wanted(each)
        if told is not None and one in diffs:
            told(each, diffs[one])
    seen = found.seen
    return Methods(
        bertprof_version=seen.bertprof_version,
        created=record.now(),
        command=command,
        view=view,
        timed=plan.time,
        margin=comparison.MARGIN,
        workload=seen.workload,
        host=seen.host,
        base=documents.row_of(approaches.BASE, documents.measured_of(comparison.Comparison(seen, seen).diff())),
        rows=[_row(each, found, compared) for each in approaches.APPROACHES],
        notes=list(approaches.NOTES),
    )


def _wanted(approach: Approach) -> Wanted | None:
    return None if approach.model is None else Wanted(approach.model, approach.settings, approach.segments)


def _compared(one: Wanted, found: AllFound) -> Diff | None:
    """BERT-base and a model on the same work, compared; None where that cannot even be counted."""
    before, after, _ = found.models[one]
    if after is None:
        return None
    return comparison.Comparison(before or found.bases[one.segments], after).diff()


def _row(approach: Approach, found: AllFound, compared: dict[Wanted, Measured]) -> Row:
    one = _wanted(approach)
    if one is None:
        return documents.row_of(approach)
    return documents.row_of(approach, compared.get(one), found.models[one].failed)
