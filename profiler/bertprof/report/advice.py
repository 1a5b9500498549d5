"""Advice: why the time did or did not follow the size of a model, from the figures of a Diff alone.

What a method is called is not asked: what it did to each row is. Weights cost time by the work that is done with them,
and by the kernels that do it: a smaller model is a faster one only where that work became less, or its kernels others.
Of times only sure verdicts are used; where that of the latency is not known, nothing is said.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bertprof import formatting
from bertprof.comparison import SHARE
from bertprof.components import Component
from bertprof.conditions import dequantised, has_cache
from bertprof.difference import Change, Diff, Row
from bertprof.report import changes
from bertprof.report.causes import (
    MOST,
    MOST_NAMED,
    Size,
    bytes_a_weight,
    causes_of,
    kernels_of,
    listed,
    percentage,
    ratio_of,
    size_of,
    time_share,
)
from bertprof.report.changes import CHANGED, relative

MEMORY_BOUND = 4.0
"""FLOP per byte moved, below which a row waits for memory: processors of today balance at 5 to 200 of them
(Williams et al. 2009, Roofline: peak FLOP/s by peak byte/s)."""

FOLLOWS = 0.1
"""A time follows a count where its whole interval is as near, as a share of the count's own change."""

VAGUE = 0.05
"""A change of a time is told with its interval where that is wider than ± so much."""

LEAST_KEPT = 0.1
"""Rows that took as long as before are named from that share of the time on."""

SURE = (*CHANGED, "same")


def why(diff: Diff) -> str | None:
    """One sentence on why the latency did or did not follow the size of the model.

    None where it is not surely known whether the latency changed, where neither it nor the model did, and where the
    sides did other work. Of a smaller model with as many MACs it is enough that it is surely not faster.
    """
    time, macs = (diff.row("total").metrics.get(metric) for metric in ("time", "macs"))
    if diff.times not in ("rounds", "processes") or time is None or time.ratio is None or time.low is None:
        return None
    if macs is None or macs.verdict == "n/a" or not macs.ratio:
        return None
    size = size_of(diff)
    if size is None and diff.before.workload.recipes == diff.after.workload.recipes:
        return None
    if size is None and macs.verdict == "same" and time.verdict == "same":
        return None
    as_many = 1 / (1 + diff.margin) <= macs.ratio <= 1 + diff.margin
    spared_nothing = as_many and size is not None and size.shrank and time.low >= 1 / (1 + diff.margin)
    if time.verdict not in SURE and not spared_nothing:
        return None
    if not as_many:
        told = _by_work(diff, time, macs, size)
        return told and told + _beforehand(diff)
    if time.verdict == "faster":
        return _by_kernels(diff, macs)
    return _in_spite(diff, time, macs, size)


# The same work --------------------------------------------------------------------------------------------------------


_UNTOLD = "by the same kernels, as far as the records tell: the counts do not say why"


def _by_kernels(diff: Diff, macs: Change) -> str:
    """The same MACs in less time."""
    gained = _moved(diff, "faster", "removed")
    kernels, work = kernels_of(diff), _as_many(macs)
    narrower = not dequantised(diff.after) and any(bytes_a_weight(row) is not None for row in gained)
    if kernels:
        text = f"{work} by other kernels, {kernels}"
    elif narrower:
        text = f"{work} with weights of fewer bytes"
    else:
        text = f"{work} {_UNTOLD}"
    return f"{text}{_named(gained)}{_kept(diff)}"


def _in_spite(diff: Diff, time: Change, macs: Change, size: Size | None) -> str:
    """The same MACs in as much time or in more, whatever became of the size."""
    kernels, work = kernels_of(diff), _as_many(macs)
    if time.verdict == "slower" and kernels:
        return f"{work} by kernels that take longer, {kernels}{_named(_moved(diff, 'slower', 'new'))}"
    if size is None:
        return f"{work}{f' by other kernels, {kernels}' if kernels else ''}{_named(_moved(diff, 'slower', 'new'))}"
    if time.verdict == "slower" and not size.shrank:
        return f"{size.name} {size.change}, {work} {_UNTOLD}{_named(_moved(diff, 'slower', 'new'))}"
    return "; ".join([f"{size.name} {size.change}, but {work}", *causes_of(diff, size)])


# Other work -----------------------------------------------------------------------------------------------------------


def _by_work(diff: Diff, time: Change, macs: Change, size: Size | None) -> str | None:
    """More MACs or fewer, and whether the time followed them; None where the time is not known well enough to say."""
    assert time.ratio is not None
    assert macs.ratio is not None
    kernels = f", by other kernels, {kernels_of(diff)}" if kernels_of(diff) else ""
    if _follows(diff, time, macs.ratio):
        against = (
            f", not the {size.name} ({size.change})" if size is not None and _apart(diff, time, size.ratio) else ""
        )
        return f"the time follows the MACs ({relative(macs)}){against}{kernels}"
    if not _apart(diff, time, macs.ratio):
        return None
    text = f"MACs {relative(macs)}, {_said(time)}{kernels}"
    launching = _launching(diff, time)
    if launching:
        return f"{text}: {launching}"
    reasons = _reasons(diff, time.ratio, macs)
    return f"{text}{': ' if reasons else ''}{'; '.join(reasons)}"


def _beforehand(diff: Diff) -> str:
    """That the one side does less because some of it is done beforehand."""
    cached = [name for name, side in (("BEFORE", diff.before), ("AFTER", diff.after)) if has_cache(side)]
    return f"; what {cached[0]} has in its cache is computed beforehand, not spared" if len(cached) == 1 else ""


def _follows(diff: Diff, time: Change, ratio: float) -> bool:
    """Whether the whole interval of a time is near a ratio."""
    near = max(diff.margin, FOLLOWS * abs(1 - ratio))
    return time.low is not None and time.high is not None and ratio - near <= time.low and time.high <= ratio + near


def _apart(diff: Diff, time: Change, ratio: float) -> bool:
    """Whether the whole interval of a time is beyond the margin of a ratio."""
    if time.low is None or time.high is None:
        return False
    return time.low > ratio * (1 + diff.margin) or time.high < ratio / (1 + diff.margin)


def _said(time: Change) -> str:
    return "the time is the same" if time.verdict == "same" else f"time {_percent(time)}"


def _launching(diff: Diff, time: Change) -> str | None:
    """That a GPU does its part in less time and waits for launches; None where that was not measured or is not so."""
    own = diff.row("total").metrics.get("device_time")
    if own is None or own.verdict != "faster" or own.high is None or time.low is None or own.high >= time.low:
        return None
    return f"the device itself takes {relative(own)}, and waits for what launches its kernels"


class _Reason(NamedTuple):
    """By how much a row keeps the time off the MACs, in shares of the whole time before.

    `own`: its time did not follow its own work. `mix`: it has another share of the time than of the MACs.
    """

    row: Row
    own: float
    mix: float


def _reasons(diff: Diff, ratio: float, macs: Change) -> list[str]:
    """The rows that keep the time from following the MACs, in words.

    With s and m a row's shares of the time and of the MACs before, t and w the ratios of its time and of its work, and
    M that of all MACs, the time is off M by Σ s·(t − w) + (s − m)·(w − M), since the shares sum to 1; what is new adds
    what it takes less what its MACs would. A row whose time is not sure is left out.
    """
    whole, wanted, total = macs.before or 1.0, macs.ratio or 0.0, diff.row("total").metrics["time"].before or 1.0
    found = []
    for row in changes.parts(diff):
        time, share, own = (row.metrics.get(metric) for metric in ("time", SHARE, "macs"))
        if time is None or time.verdict not in SURE or share is None or share.before is None or own is None:
            continue
        s, m, work = share.before, (own.before or 0.0) / whole, _work(diff, row)
        t = 0.0 if time.ratio is None else time.ratio
        new = (time.after or 0.0) / total - (own.after or 0.0) / whole if time.verdict == "new" else 0.0
        found.append(_Reason(row, s * (t - work) + new, (s - m) * (work - wanted)))
    gap = ratio - wanted
    along = sorted((r for r in found if (r.own + r.mix) * gap > 0), key=lambda r: -abs(r.own + r.mix))
    texts, covered = [], 0.0
    for reason in along[:MOST_NAMED]:
        if covered >= MOST * abs(gap):
            break
        covered += abs(reason.own + reason.mix)
        texts.append(_reason(diff, reason, whole))
    return texts


def _work(diff: Diff, row: Row) -> float:
    """How a row's work changed: its MACs; where it has none, its FLOPs; 1 where nothing of it is counted."""
    ratios = (ratio_of(diff, row, metric) for metric in ("macs", "flops"))
    return next((ratio for ratio in ratios if ratio is not None), 1.0)


def _reason(diff: Diff, reason: _Reason, whole: float) -> str:
    row, name = reason.row, changes.label(reason.row)
    time, share, macs = row.metrics["time"], row.metrics[SHARE], row.metrics["macs"]
    if time.verdict in ("new", "removed"):
        return f"{name} is {time.verdict}"
    took = "kept its time" if time.verdict == "same" else f"takes {_percent(time)}"
    now = "" if share.after is None else f", now {percentage(share.after)} of the time"
    if not macs.before and not macs.after:
        return f"{name}, without MACs, {took}{_bound(row)}{now}"
    if abs(reason.own) >= abs(reason.mix):
        work = "as many MACs" if macs.verdict == "same" else f"{relative(macs)} MACs"
        return f"{name} {took} for {work}{_each(diff, row)}{_bound(row)}{now}"
    of_macs, of_time = percentage((macs.before or 0.0) / whole), percentage(share.before or 0.0)
    return f"{name} had {of_macs} of the MACs but {of_time} of the time"


def _each(diff: Diff, row: Row) -> str:
    """What a MAC now takes, where others do fewer or more of them: kernels that skip zeros take longer for the rest."""
    time, macs = row.metrics["time"], row.metrics["macs"]
    if not kernels_of(diff) or macs.verdict == "same" or not macs.ratio or not time.ratio:
        return ""
    return f", {formatting.times(time.ratio / macs.ratio)} the time for each"


def _bound(row: Row) -> str:
    """What else than its arithmetic a row's time is spent on, where its counts say so."""
    flops, moved = (row.metrics.get(metric) for metric in ("flops", "bytes_moved"))
    if flops is not None and flops.after == 0 and row.component is Component.OTHER:
        return " (no FLOPs: glue and launches)"
    if flops is None or not flops.after or moved is None or not moved.after:
        return ""
    intensity = flops.after / moved.after
    return f" ({formatting.intensity(intensity)} FLOP/B: memory-bound)" if intensity < MEMORY_BOUND else ""


# Words ----------------------------------------------------------------------------------------------------------------


def _as_many(macs: Change) -> str:
    return "the same MACs" if macs.verdict == "same" else f"nearly the same MACs ({relative(macs)})"


def _moved(diff: Diff, *verdicts: str) -> list[Row]:
    """The rows of these verdicts on their time, the largest change first."""
    rows = [row for row in changes.parts(diff) if "time" in row.metrics and row.metrics["time"].verdict in verdicts]
    return sorted(rows, key=lambda row: -abs(changes.moved(row.metrics["time"]) or 0.0))


def _named(rows: Sequence[Row]) -> str:
    names = ", ".join(f"{changes.label(row)} {_percent(row.metrics['time'])}" for row in rows[:MOST_NAMED])
    return f": {names}" if names else ""


def _kept(diff: Diff) -> str:
    """What now limits the model: the rows that surely took as long as before."""
    rows = _moved(diff, "same")
    share = time_share(rows, after=True)
    if share is None or share < LEAST_KEPT:
        return ""
    rows.sort(key=lambda row: -(row.metrics[SHARE].after or 0.0))
    return f"; {listed(rows[:MOST_NAMED])} kept {'its' if len(rows) == 1 else 'their'} time, now {percentage(share)}"


def _percent(change: Change) -> str:
    """A change of a time, without its interval where that is narrow; it stands in the table."""
    if change.verdict in ("new", "removed") or change.ratio is None:
        return change.verdict
    if change.low is not None and change.high is not None and change.high - change.low > 2 * VAGUE:
        return formatting.relative_interval(change.ratio, change.low, change.high)
    return f"{100 * (change.ratio - 1):+.0f} %"
