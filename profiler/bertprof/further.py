"""What a user asks for beside counts and times, from the words of Python and the command line to what is measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from bertprof import formatting
from bertprof.errors import UsageError
from bertprof.files import check_writable
from bertprof.observations import CLOCKS, Beside
from bertprof.quantities import MOST


class Further(TypedDict, total=False):
    """What `breakdown` and `profile` find out beside counts and times.

    Attributes:
        clocks: on a CUDA device, other clocks beside `events`: "graph", "kernels"; a list, or joined by commas.
        cross_check: on a CPU, time the same forward by torch.profiler's clock as well, and compare the shares.
        trace: the file for a Chrome or Perfetto trace of one forward, with the components as tracks.
        roofline: say of each component what it is bound by; needs the device's peaks, which are measured once and
            kept in the user's cache.
        peaks: measure the device's peaks again.
        memory_limit: say which batch sizes fit into so much memory, as "32GB" or in bytes.
        training: say it of training with Adam in mixed precision as well.
        energy: measure energy, on a CUDA device whose driver tells it.
    """

    clocks: str | Sequence[str]
    cross_check: bool
    trace: str | Path | None
    roofline: bool
    peaks: bool
    memory_limit: str | int | None
    training: bool
    energy: bool


def beside(further: Further, *, time: bool, processes: int = 1) -> Beside:
    """What to find out, checked before anything is loaded.

    Raises:
        UsageError: there is no such clock, the limit is no size, or something needs what was not asked for.
        OutputError: the trace cannot be written where it is to be.
    """
    named = further.get("clocks", ())
    clocks = tuple(part.strip() for part in named.split(",")) if isinstance(named, str) else tuple(named)
    for clock in clocks:
        if clock not in CLOCKS:
            raise UsageError(f"--clock {clock}: there is no such clock; use {', '.join(CLOCKS)}, joined by commas")
    trace = further.get("trace")
    if trace is not None:
        check_writable(Path(trace))
    timed = {
        "--clock": clocks,
        "--cross-check": further.get("cross_check"),
        "a trace": trace,
        "--peaks": further.get("peaks"),
        "--energy": further.get("energy"),
    }
    if not time:
        for option in (option for option, value in timed.items() if value):
            raise UsageError(f"{option} runs the model: --no-time excludes it")
    if trace is not None and processes != 1:
        raise UsageError("a trace is of one process: --processes excludes it")
    if further.get("peaks") and not further.get("roofline", True):
        raise UsageError("--peaks measures what a roofline needs: --no-roofline excludes it")
    limit = further.get("memory_limit")
    if further.get("training") and limit is None:
        raise UsageError("--training says what fits into a limit: give one, as --memory-limit 32GB")
    return Beside(
        clocks=tuple(dict.fromkeys(clocks)),
        cross_check=further.get("cross_check", False),
        trace=None if trace is None else str(trace),
        peaks="again" if further.get("peaks") else "cached" if time and further.get("roofline", True) else None,
        memory=True,
        memory_limit_bytes=None if limit is None else _bytes(limit),
        training=further.get("training", False),
        energy=further.get("energy", False),
    )


LEAST_BYTES = 10**6
"""No memory is smaller: who writes 32 means GB."""


def _bytes(limit: str | int) -> int:
    try:
        found = formatting.bytes_of(limit) if isinstance(limit, str) else int(limit)
        if isinstance(limit, bool) or (not isinstance(limit, str) and found != limit):
            raise ValueError(limit)
    except (ValueError, TypeError, OverflowError):
        raise UsageError(f"--memory-limit {limit}: not a size; write 32GB, 16GiB or 512MB") from None
    if not LEAST_BYTES <= found <= MOST:
        raise UsageError(f"--memory-limit {limit}: that is {formatting.size(found)}; write 32GB, 16GiB or 512MB")
    return found
