"""What torch.profiler recorded: its events, and the forwards among them.

Read from the Chrome trace that torch exports, and not from its event objects: of these, torch 2.8 tells neither a
kernel's launch nor what kind an event is of, while the trace says both, in the same words from torch 2.8 to 2.13. The
same text is the source of the trace that bertprof writes. This file knows no torch.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from bertprof.attribution import Crossing, Owner, Region, Walker
from bertprof.errors import DeviceError

RANGE = "bertprof::range::"
"""What the names of our own ranges begin with; the code of the mark that begins the range follows."""

BEGIN = -1
"""The code of the range with which a forward begins."""

OPERATOR = "cpu_op"
LAUNCHES = ("cuda_runtime", "cuda_driver")
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_KINDS = frozenset((OPERATOR, "user_annotation", *LAUNCHES, *DEVICE))


class Event(NamedTuple):
    """One slice of a trace.

    Attributes:
        kind: torch's category: an operator, a user's range, a call of the CUDA runtime or driver, work of the device.
        name: of the operator, the call or the kernel.
        start_ns, end_ns: since some moment that all events share.
        place: process and thread, or device and stream.
        external: the number of an operator; of a launch and a kernel, that of the operator that made it; 0: none.
        correlation: the number that a kernel and its launch share; 0: none.
        args: whatever else torch tells.
    """

    kind: str
    name: str
    start_ns: int
    end_ns: int
    place: tuple[int, int]
    external: int = 0
    correlation: int = 0
    args: Mapping[str, Any] = {}

    @property
    def is_range(self) -> bool:
        """Whether it is one of our own ranges."""
        return self.name.startswith(RANGE)


def read(content: bytes) -> list[Event]:
    """The slices of a Chrome trace, by start; where several start together, the longest first.

    Raises:
        DeviceError: it cannot be read.
    """
    try:
        # To the nanosecond: a float of 16 digits would not hold what torch writes.
        document = json.loads(content.decode(errors="replace"), parse_float=Decimal, strict=False)
        slices = [item for item in document["traceEvents"] if item.get("ph") == "X" and item.get("cat") in _KINDS]
        events = [_event(item) for item in slices]
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise DeviceError(f"the trace that torch.profiler wrote cannot be read: {error}") from None
    return sorted(events, key=lambda event: (event.start_ns, -event.end_ns))


def _event(item: Mapping[str, Any]) -> Event:
    args = item.get("args") or {}
    start_ns, lasting_ns = (int(Decimal(item[key]) * 1000) for key in ("ts", "dur"))
    return Event(
        kind=item["cat"],
        name=str(item["name"]),
        start_ns=start_ns,
        end_ns=start_ns + lasting_ns,
        place=(int(item["pid"]), int(item["tid"])),
        external=int(args.get("External id", 0)),
        correlation=int(args.get("correlation", 0)),
        args=args,
    )


@dataclass(frozen=True)
class Forward:
    """One forward, cut into intervals by the starts of our ranges: each goes from one mark to the next.

    Attributes:
        place: process and thread in which it ran.
        codes: the marks, in order.
        bounds_ns: two more than marks: where it starts, each mark, where it ends.
    """

    place: tuple[int, int]
    codes: list[int]
    bounds_ns: list[int]

    @property
    def start_ns(self) -> int:
        """When it starts."""
        return self.bounds_ns[0]

    @property
    def end_ns(self) -> int:
        """When it ends on the CPU."""
        return self.bounds_ns[-1]

    @property
    def intervals_ns(self) -> list[int]:
        """How long each interval takes. Their sum is the whole."""
        return [end - start for start, end in pairwise(self.bounds_ns)]

    def interval_at(self, moment_ns: int) -> int:
        """The interval in which a moment of this forward lies."""
        return min(bisect_right(self.bounds_ns, moment_ns), len(self.bounds_ns) - 1) - 1

    def owners(self, crossings: Sequence[Crossing], regions: Mapping[str, Region]) -> list[Owner]:
        """The owner of each interval, by the rule by which the clocks' tapes are attributed."""
        walker = Walker(regions)
        found = [walker.owner]
        for code in self.codes:
            walker.cross(crossings[code])
            found.append(walker.owner)
        return found


def forwards(events: Sequence[Event]) -> list[Forward]:
    """The forwards that our ranges tell of, in order."""
    # One that takes no time starts in the same nanosecond as the next; torch numbers them in order.
    ranges = sorted((e for e in events if e.is_range), key=lambda event: (event.start_ns, event.external))
    found: list[Forward] = []
    for event in ranges:
        code = int(event.name.removeprefix(RANGE))
        if code == BEGIN:
            found.append(Forward(event.place, [], [event.start_ns, event.end_ns]))
        elif found:
            found[-1].codes.append(code)
            found[-1].bounds_ns[-1:] = [event.start_ns, event.end_ns]
    return found


@dataclass(frozen=True)
class Recorded:
    """What one session recorded of a model.

    Attributes:
        events: all of them, by start.
        forwards: those that count, without the warm-up.
        owners: of each forward, the owner of each interval.
    """

    events: list[Event]
    forwards: list[Forward]
    owners: list[list[Owner]]

    def within(self, forward: Forward) -> Sequence[Event]:
        """The events that start while a forward runs on the CPU, by start."""
        first, behind = (
            bisect_right(self.events, moment_ns, key=lambda event: event.start_ns)
            for moment_ns in (forward.start_ns - 1, forward.end_ns)
        )
        return self.events[first:behind]

    def operators(self, forward: Forward) -> Iterator[Event]:
        """The operators that a forward calls itself, in order: not those that they call in turn."""
        reached_ns = forward.start_ns
        for event in self.within(forward):
            is_operator = event.kind == OPERATOR and not event.is_range and event.place == forward.place
            if is_operator and event.start_ns >= reached_ns:
                reached_ns = event.end_ns
                yield event
