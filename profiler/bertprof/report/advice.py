"""Advice: why the time did or did not follow the size of a model, from the figures of a Diff alone.

What a method is called is not asked: what it did to each row is. Weights cost time by the work that is done with them,
and by the kernels that do it: a smaller model is a faster one only where that work became less, or its kernels others.
Of times only sure verdicts are used; where that of the latency is not known, nothing is said.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bertprof import formatting
from bertprof.comparison import SHARE
from bertprof.components import GROUPS, Component
from bertprof.conditions import dequantised
from bertprof.difference import Change, Diff, Row
from bertprof.report import changes
from bertprof.report.changes import CHANGED, relative

MOST = 0.8
"""Rows are named until they explain as much, MOST_NAMED at most."""

MOST_NAMED = 3

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
    sides did other work.
    """
    time, macs = (diff.row("total").metrics.get(metric) for metric in ("time", "macs"))
    if diff.times not in ("rounds", "processes") or time is None or time.verdict not in SURE or time.ratio is None:
        return None
    if macs is None or macs.verdict == "n/a" or not macs.ratio:
        return None
    size = _size(diff)
    if size is None and diff.before.workload.recipes == diff.after.workload.recipes:
        return None
    if size is None and macs.verdict == "same" and time.verdict == "same":
        return None
    if not 1 / (1 + diff.margin) <= macs.ratio <= 1 + diff.margin:
        return _by_work(diff, time, macs, size)
    if time.verdict == "faster":
        return _by_kernels(diff, macs)
    return _in_spite(diff, time, macs, size)


# What became of the size ----------------------------------------------------------------------------------------------


class _Size(NamedTuple):
    """A figure of a model's size that changed: by which metric and what to call it, and both sides' totals."""

    metric: str
    name: str
    before: float
    after: float

    @property
    def shrank(self) -> bool:
        return self.after < self.before

    @property
    def ratio(self) -> float:
        return self.after / self.before

    @property
    def change(self) -> str:
        return formatting.relative(self.ratio)


def _size(diff: Diff) -> _Size | None:
    """The bytes as stored; the weights that are not zero, or all of them, where these changed and the bytes did not."""
    names = {"bytes": "bytes", "nonzero_parameters": "weights that are not zero", "parameters": "parameters"}
    for metric, name in names.items():
        figures = _figures(diff, diff.row("total"), metric)
        if figures is not None and figures[0] and figures[0] != figures[1]:
            return _Size(metric, name, *figures)
    return None


def _figures(diff: Diff, row: Row, metric: str) -> tuple[float, float] | None:
    """Before and after; None where one is not known. Of random weights none is zero, which records leave open."""
    change = row.metrics.get(metric)
    before, after = (None, None) if change is None else (change.before, change.after)
    if before is None and metric == "nonzero_parameters" and diff.before.workload.weights == "random":
        every = row.metrics.get("parameters")
        before = None if every is None else every.before
    return None if before is None or after is None else (before, after)


def _ratio(diff: Diff, row: Row, metric: str) -> float | None:
    """After / before; None where one is not known or there is nothing before."""
    figures = _figures(diff, row, metric)
    return None if figures is None or not figures[0] else figures[1] / figures[0]


# The same work --------------------------------------------------------------------------------------------------------


def _by_kernels(diff: Diff, macs: Change) -> str:
    """The same MACs in less time."""
    gained = _moved(diff, "faster", "removed")
    kernels, work = _kernels(diff), _as_many(macs)
    narrower = [row for row in gained if _bytes_a_weight(row) is not None]
    if kernels:
        text = f"{work} by other kernels, {kernels}"
    elif narrower:
        text = f"{work} with weights of fewer bytes"
    else:
        text = f"{work} by the same kernels, as far as the records tell: the counts do not say why"
    return f"{text}{_named(gained)}{_kept(diff)}"


def _in_spite(diff: Diff, time: Change, macs: Change, size: _Size | None) -> str:
    """The same MACs in as much time or in more, whatever became of the size."""
    kernels, work = _kernels(diff), _as_many(macs)
    if time.verdict == "slower" and kernels:
        return f"{work} by kernels that take longer, {kernels}{_named(_moved(diff, 'slower', 'new'))}"
    if size is None:
        return f"{work}{f' by other kernels, {kernels}' if kernels else ''}{_named(_moved(diff, 'slower', 'new'))}"
    return "; ".join([f"{size.name} {size.change}, but {work}", *_causes(diff, size)])


def _causes(diff: Diff, size: _Size) -> list[str]:
    """What the change of size is made of, where the work stayed, the largest part first."""
    kinds: dict[str, list[tuple[float, Row]]] = {}
    for row in changes.parts(diff):
        before, after = _figures(diff, row, size.metric) or (0.0, 0.0)
        part = (after - before) / (size.after - size.before)
        if part > 0:
            kinds.setdefault(_kind(diff, row, size), []).append((part, row))
    texts: list[str] = []
    covered = 0.0
    for kind, rows in sorted(kinds.items(), key=lambda item: -sum(part for part, _ in item[1])):
        if covered >= MOST or len(texts) == MOST_NAMED:
            break
        own = sum(part for part, _ in rows)
        covered += own
        telling = [row for part, row in sorted(rows, key=lambda pair: -pair[0]) if part >= own / 10]
        texts.append(_cause(diff, kind, telling[:MOST_NAMED], size))
    return texts


def _kind(diff: Diff, row: Row, size: _Size) -> str:
    """What happened to a row's weights: "shared", "zeros", "width", or "other"."""
    parameters, stored, rest = (_ratio(diff, row, metric) for metric in ("parameters", "bytes", "nonzero_parameters"))
    if _sharing(diff, row):
        return "shared"
    if parameters != 1.0 or not size.shrank:
        return "other"
    # Quantising makes a few zeros as well, and far fewer bytes.
    if rest is not None and rest < 1.0 and (stored is None or rest <= stored):
        return "zeros"
    return "width" if stored is not None and stored < 1.0 else "other"


def _cause(diff: Diff, kind: str, rows: Sequence[Row], size: _Size) -> str:
    names, kernels = _listed(rows), _kernels(diff)
    if kind == "shared":
        units = max(_sharing(diff, row) for row in rows)
        return f"the weights of {names} stand once for {units} units, and each unit multiplies by them as before"
    if kind == "zeros":
        zeros = ", ".join(
            f"{_percentage(1 - (_ratio(diff, row, 'nonzero_parameters') or 0.0))} of {changes.label(row)}"
            for row in rows
        )
        how = f"by other kernels, {kernels}" if kernels else "by the same kernels"
        return f"the new zeros ({zeros}) are multiplied as any number, {how}"
    if kind == "width":
        widths = ", ".join(f"{changes.label(row)} {_bytes_a_weight(row)}" for row in rows)
        how = f"by other kernels that are no faster, {kernels}" if kernels else "by the same kernels"
        if dequantised(diff.before) and dequantised(diff.after):
            how = "dequantised on both sides"
        return f"weights of fewer bytes ({widths}) are multiplied {how}"
    side = 0 if size.shrank else 1
    known = [figures[side] for row in rows if (figures := _figures(diff, row, size.metric)) is not None]
    shares = [f"{_percentage(sum(known) / (size.before, size.after)[side])} of the {size.name}"]
    time = _time_share(rows, after=not size.shrank)
    if time is not None:
        shares.append(f"{_percentage(time)} of the time")
    verb = "is" if len(rows) == 1 else "are"
    return f"what {'shrank' if size.shrank else 'grew'} {verb} {names}: {', '.join(shares)}"


def _sharing(diff: Diff, row: Row) -> int:
    """In how many units a row has no weights of its own any more, and multiplies as much as before."""
    members = GROUPS[row.scope] if row.component is None else (row.component,)
    return sum(
        bool(
            cell.unit is not None
            and cell.component in members[:1]
            and (parameters := cell.metrics.get("parameters")) is not None
            and (macs := cell.metrics.get("macs")) is not None
            and parameters.before
            and parameters.after == 0
            and macs.before
            and macs.verdict == "same"
        )
        for cell in diff.at("cell")
    )


def _bytes_a_weight(row: Row) -> str | None:
    """4.00 → 1.00 bytes each, where they became fewer."""
    size, parameters = row.metrics.get("bytes"), row.metrics.get("parameters")
    if size is None or parameters is None:
        return None
    if not (parameters.before and parameters.after and size.before and size.after):
        return None
    before, after = size.before / parameters.before, size.after / parameters.after
    return f"{before:.2f} → {after:.2f} bytes each" if after < 0.99 * before else None


# Other work -----------------------------------------------------------------------------------------------------------


def _by_work(diff: Diff, time: Change, macs: Change, size: _Size | None) -> str | None:
    """More MACs or fewer, and whether the time followed them; None where the time is not known well enough to say."""
    assert time.ratio is not None
    assert macs.ratio is not None
    kernels = f", by other kernels, {_kernels(diff)}" if _kernels(diff) else ""
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
        texts.append(_reason(reason, whole))
    return texts


def _work(diff: Diff, row: Row) -> float:
    """How a row's work changed: its MACs; where it has none, its FLOPs; 1 where nothing of it is counted."""
    ratios = (_ratio(diff, row, metric) for metric in ("macs", "flops"))
    return next((ratio for ratio in ratios if ratio is not None), 1.0)


def _reason(reason: _Reason, whole: float) -> str:
    row, name = reason.row, changes.label(reason.row)
    time, share, macs = row.metrics["time"], row.metrics[SHARE], row.metrics["macs"]
    if time.verdict in ("new", "removed"):
        return f"{name} is {time.verdict}"
    took = "kept its time" if time.verdict == "same" else f"takes {_percent(time)}"
    now = "" if share.after is None else f", now {_percentage(share.after)} of the time"
    if not macs.before and not macs.after:
        return f"{name}, without MACs, {took}{_bound(row)}{now}"
    if abs(reason.own) >= abs(reason.mix):
        work = "as many MACs" if macs.verdict == "same" else f"{relative(macs)} MACs"
        return f"{name} {took} for {work}{_bound(row)}{now}"
    of_macs, of_time = _percentage((macs.before or 0.0) / whole), _percentage(share.before or 0.0)
    return f"{name} had {of_macs} of the MACs but {of_time} of the time"


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


def _kernels(diff: Diff) -> str:
    """In what the sides' kernels differ, as far as records tell; empty where in nothing."""
    a, b = diff.before.workload, diff.after.workload
    pairs = (("", a.dtype, b.dtype), ("", a.backend, b.backend), ("attention ", a.attention, b.attention))
    return ", ".join(f"{name}{_other(formatting.line(x), formatting.line(y))}" for name, x, y in pairs if x != y)


def _other(before: str, after: str) -> str:
    """What came to what was there before, or stands in its place: "int8 by onednn", "float32 → float16"."""
    return after.removeprefix(f"{before}, ") if after.startswith(f"{before}, ") else f"{before} → {after}"


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
    share = _time_share(rows, after=True)
    if share is None or share < LEAST_KEPT:
        return ""
    rows.sort(key=lambda row: -(row.metrics[SHARE].after or 0.0))
    return f"; {_listed(rows[:MOST_NAMED])} kept {'its' if len(rows) == 1 else 'their'} time, now {_percentage(share)}"


def _time_share(rows: Sequence[Row], after: bool) -> float | None:
    """What rows have of the time of one side together; None where that is not known of one."""
    known = [row.metrics[SHARE] for row in rows if SHARE in row.metrics]
    shares = [share.after if after else share.before for share in known]
    return sum(s or 0.0 for s in shares) if shares and len(known) == len(rows) and None not in shares else None


def _percent(change: Change) -> str:
    """A change of a time, without its interval where that is narrow; it stands in the table."""
    if change.verdict in ("new", "removed") or change.ratio is None:
        return change.verdict
    if change.low is not None and change.high is not None and change.high - change.low > 2 * VAGUE:
        return formatting.relative_interval(change.ratio, change.low, change.high)
    return f"{100 * (change.ratio - 1):+.0f} %"


def _percentage(share: float) -> str:
    """22 %, 0.3 %."""
    value = 100 * share
    return f"{value:.{0 if value >= 9.95 or value == 0 else 1}f} %"


def _listed(rows: Sequence[Row]) -> str:
    *first, last = [changes.label(row) for row in rows]
    return f"{', '.join(first)} and {last}" if first else last
