"""Conditions: in what two breakdowns differ so that their figures do not compare, or compare with care."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from bertprof import alignment
from bertprof.components import Component
from bertprof.difference import Mismatch, Side
from bertprof.errors import UsageError
from bertprof.record import Breakdown, Caveat

Affects = Literal["counts", "times", "units"]

_CONDITIONS: Mapping[str, tuple[Affects, Callable[[Breakdown], object]]] = {
    "batch_size": ("counts", lambda side: side.workload.batch_size),
    "sequence_length": ("counts", lambda side: side.workload.sequence_length),
    "segments": ("counts", lambda side: _segments(side.workload.segments)),
    "padding": ("counts", lambda side: side.workload.padding),
    "task": ("counts", lambda side: side.workload.task),
    "units": ("units", lambda side: side.units),
    # Which of several GPUs it is does not matter: their model does.
    "device": ("times", lambda side: side.workload.device.partition(":")[0]),
    "threads": ("times", lambda side: side.workload.threads),
    "cpu": ("times", lambda side: side.host.cpu),
    "gpu": ("times", lambda side: side.host.gpu),
    "torch": ("times", lambda side: side.host.torch),
    "kernel": ("times", lambda side: "none, dequantised" if dequantised(side) else "as stored"),
}

MISMATCHES: tuple[str, ...] = tuple(_CONDITIONS)
"""The keys that `--allow-mismatch` knows."""


def mismatches(before: Breakdown, after: Breakdown, allowed: Collection[str] = ()) -> list[Mismatch]:
    """In what two records differ so that figures cannot be compared. What only times depend on, where both have some.

    Raises:
        UsageError: `allowed` has a key that is none of MISMATCHES.
    """
    for key in allowed:
        if key not in MISMATCHES:
            raise UsageError(f"--allow-mismatch {key}: there is no such key; use one of {', '.join(MISMATCHES)}")
    given = {"counts"}
    if before.timed and after.timed:
        given.add("times")
    if alignment.correspond(before, after) is None:
        given.add("units")
    return [
        Mismatch(key=key, before=_said(of(before)), after=_said(of(after)), affects=affects, allowed=key in allowed)
        for key, (affects, of) in _CONDITIONS.items()
        if of(before) != of(after)
        and affects in given
        # What a model that knows no segments does is the same for all of one length.
        and not (key == "segments" and None in (of(before), of(after)))
    ]


def dequantised(side: Breakdown | Side) -> bool:
    """Whether weights are stored in a width that no kernel here runs: their times are those of the float model."""
    return any(caveat.code == "no-kernel" for caveat in side.caveats)


def has_cache(side: Breakdown | Side) -> bool:
    """Whether a segment of each sequence is computed beforehand: what that takes is neither counted nor timed."""
    return any(caveat.code == "cached-segment" for caveat in side.caveats)


def _segments(lengths: Sequence[int] | None) -> str | None:
    return None if lengths is None else " + ".join(map(str, lengths))


def _said(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def entangled(side: Breakdown) -> frozenset[Component]:
    """Components whose times a record cannot tell apart, since one function does the work of all.

    They are that in which its time stands, and those that somewhere multiply without taking any.
    """
    found = {caveat.component for caveat in side.caveats if caveat.code == "time-not-split" and caveat.component}
    if found:
        found |= {cost.component for cost in side.costs if cost.macs and not any(cost.time_ms or ())}
    return frozenset(found & {cost.component for cost in side.costs})


def caveats(before: Breakdown, after: Breakdown, found: Sequence[Mismatch]) -> list[Caveat]:
    """What a reader of a comparison must know of the conditions."""
    told = []
    for m in found:
        if m.affects == "units" and not m.allowed:
            continue  # what is common: a student has fewer; single units are then not compared
        text = f"{m.key} differs: {m.before} before, {m.after} after"
        text += "; compared all the same, as you asked" if m.allowed else "; figures that depend on it do not compare"
        told.append(Caveat(code="mismatch", text=text))
    if not (before.timed and after.timed):
        return told
    a, b = before.workload, after.workload
    if a.mask != b.mask:
        text = f"mask differs: {a.mask} before, {b.mask} after; attention runs by other kernels with one than without"
        told.append(Caveat(code="mask", text=text))
    overheads = before.overhead, after.overhead
    if a.marks != b.marks and overheads[0] is not None and overheads[1] is not None:
        cost = [f"{100 * (overhead.value - 1):+.1f} %" for overhead in overheads if overhead is not None]
        text = (
            f"marks were made by {a.marks} before ({cost[0]} of the forward) and by {b.marks} after ({cost[1]}): "
            "a row's time may differ by as much; the total is that of bare forwards"
        )
        told.append(Caveat(code="marks", text=text))
    if entangled(before) != entangled(after):
        rows = ", ".join(component for component in Component if component in entangled(before) | entangled(after))
        text = f"of one side the times of {rows} cannot be told apart, and so do not compare"
        told.append(Caveat(code="time-not-split", text=text))
    return told
